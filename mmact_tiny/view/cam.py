"""Draws which places of a video's frames raise the score of its best label: Grad-CAM overlays.

Selvaraju et al. 2017, https://arxiv.org/abs/1610.02391. The package grad-cam computes them, an
extra (https://github.com/jacobgil/pytorch-grad-cam).
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..checkpoints.load import load_checkpoint, load_weights
from ..compat import MODELS, Compose
from ..engine.engine import normalize
from ..errors import UserError
from ..pipeline import CROPS
from ..recognizer import Recognizer
from ..video.files import sample_of
from .sampling import run_transforms
from .sheet import Panel, lay_out, write_picture

VIEWS_TOGETHER = 8  # in one pass forward and back


class ViewScores(nn.Module):
    """A recognizer of single frames as Grad-CAM takes it: normalized images in, logits out."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.backbone, self.cls_head = model.backbone, model.cls_head

    def forward(self, images: Tensor) -> Tensor:
        """Returns the logits of each image by itself, (images, classes)."""
        return self.cls_head(self.backbone(images), 1)


def class_activations(model: Any, images: Tensor, label: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns which places of each image raise the score of a class, and that score.

    Args:
        model: A Recognizer2D of single frames (TSN), in evaluation mode, in float32.
        images: As its preprocessor makes them, (images, 3, height, width).
        label: The class's index.

    Returns:
        Maps from 0 to 1 (each by its own maximum), (images, height, width); and the softmax
        score of the class, (images,).
    """
    from pytorch_grad_cam import GradCAM
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    scored = ViewScores(model).eval()
    maps, scores = [], []
    with torch.enable_grad(), GradCAM(scored, [model.backbone]) as grad_cam:
        for chunk in images.split(VIEWS_TOGETHER):
            chunk = chunk.clone().requires_grad_()  # frozen stages would pass no gradient
            maps.append(grad_cam(chunk, [ClassifierOutputTarget(label)] * len(chunk)))
            scores.append(grad_cam.outputs.detach().softmax(1)[:, label].cpu().numpy())
    return np.concatenate(maps), np.concatenate(scores)


def draw_cam(
    recognizer: Recognizer, video: str | Path, best: tuple[str, float], out: str | Path
) -> None:
    """Writes the frames that the recognizer saw of a video, each beside its activations.

    Of ten crops, which show the same place over and over, the centre alone is drawn.

    Args:
        recognizer: What answered.
        video: A file that it can read.
        best: The best label and its score in that answer.
        out: The PNG to write.

    Raises:
        UserError: a model that mixes frames, a video that cannot be read, a picture that cannot
            be written.
    """
    from pytorch_grad_cam.utils.image import show_cam_on_image

    label, score = best
    if recognizer.engine.frames_together != 1:
        kind = recognizer.kind.replace(",", " with")
        raise UserError(f"--cam: expected a recognizer of single frames (TSN), not {kind}")
    # anew, in float32: the engine's model may be in bf16, or in OpenVINO
    model = MODELS.build(recognizer.cfg.model)
    load_weights(model, load_checkpoint(recognizer.checkpoint), path=recognizer.checkpoint)
    model = model.to(recognizer.engine.device).eval()
    steps = [
        dict(type="CenterCrop", crop_size=step["crop_size"]) if step["type"] in CROPS else step
        for step in recognizer.steps
    ]
    sample, frames = run_transforms(Compose(steps).transforms, sample_of(video))
    views = sample["inputs"]
    images = normalize(views.to(recognizer.engine.device), model.data_preprocessor)
    maps, scores = class_activations(model, images, recognizer.labels.index(label))
    pictures = []
    for view, places, frame, alone in zip(views, maps, frames, scores, strict=True):
        picture = view.permute(1, 2, 0).numpy()
        colors = np.float32(picture / 255)
        overlay = show_cam_on_image(colors, places, use_rgb=True, image_weight=0.6)
        pictures += [(picture, f"frame {frame}"), (overlay, f"{label} {alone:.2f}")]
    title = f"{label}: {score:.2f} for the video ({recognizer.protocol})"
    panel = Panel(title=title, subtitle=str(video), pictures=pictures)
    heading = [
        f"Where the score of {label!r} comes from (Grad-CAM)",
        "red: most, blue: nothing; under each overlay the score of the frame alone",
    ]
    write_picture(lay_out([panel], heading=heading, thumb=224), out)
