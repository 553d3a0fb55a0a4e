"""Draws Grad-CAM overlays: which places of the frames raise the score of a label.

Selvaraju et al. 2017, https://arxiv.org/abs/1610.02391, computed by the package grad-cam
(https://github.com/jacobgil/pytorch-grad-cam), which is an extra.
"""

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..checkpoints.load import load_checkpoint
from ..checkpoints.weights import load_weights
from ..compat.mm import Compose
from ..errors import UserError
from ..pipeline import CROPS
from ..recognizer import Recognizer
from ..video.files import sample_of
from .sampling import run_transforms

VIEWS_TOGETHER = 8  # in one pass forward and back


def check_cam_extra() -> None:
    """Raises a UserError that names the command where the extra is not installed."""
    if importlib.util.find_spec("pytorch_grad_cam") is None:
        raise UserError(
            "--cam needs the package grad-cam, which is not installed: pip install -e '.[cam]'"
        )


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
        best: The best label and its score, as the recognizer's protocol gives them.
        out: The PNG to write.

    Raises:
        UserError: a model that mixes frames, a video that cannot be read, a picture that cannot
            be written.
    """
    from pytorch_grad_cam.utils.image import show_cam_on_image

    from ..engine.engine import normalize
    from .sheet import Panel, lay_out, write_picture

    label, score = best
    model = _exact_model(recognizer)
    transforms = Compose(centre_crops(recognizer.steps)).transforms
    sample, frames = run_transforms(transforms, sample_of(video))
    views = sample["inputs"]
    device = next(model.parameters()).device
    images = normalize(views.to(device), model.data_preprocessor)
    maps, scores = class_activations(model, images, recognizer.labels.index(label))
    pictures = [view.permute(1, 2, 0).numpy() for view in views]
    overlays = [
        show_cam_on_image(picture.astype(np.float32) / 255, one, use_rgb=True, image_weight=0.6)
        for picture, one in zip(pictures, maps, strict=True)
    ]
    panel = Panel(
        title=f"{label}: {score:.2f} for the video ({recognizer.protocol})",
        subtitle=str(video),
        pictures=[part for pair in zip(pictures, overlays, strict=True) for part in pair],
        notes=[
            note
            for frame, one in zip(frames, scores, strict=True)
            for note in (f"frame {frame}", f"{label} {one:.2f}")
        ],
    )
    heading = [
        f"Where the score of {label!r} comes from (Grad-CAM)",
        "red: most, blue: nothing; under each overlay the score of the frame alone",
    ]
    write_picture(lay_out([panel], heading=heading, thumb=224), out)


def centre_crops(steps: Sequence[Any]) -> list[Any]:
    """Returns a pipeline that takes the centre where it takes several crops."""
    return [
        dict(type="CenterCrop", crop_size=step["crop_size"]) if step["type"] in CROPS else step
        for step in steps
    ]


def _exact_model(recognizer: Recognizer) -> Any:
    """Returns the model anew, in float32: the engine's may be in bf16, or in OpenVINO."""
    from ..compat.mm import MODELS

    if recognizer.engine.frames_together != 1:
        kinds = f"{recognizer.cfg.model.type} with {recognizer.cfg.model.backbone.type}"
        raise UserError(f"--cam: expected a recognizer of single frames (TSN), not {kinds}")
    model = MODELS.build(recognizer.cfg.model)
    load_weights(model, load_checkpoint(recognizer.checkpoint), path=recognizer.checkpoint)
    return model.to(recognizer.engine.device).eval()
