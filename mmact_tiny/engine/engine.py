"""Computes a recognizer's class scores from the uint8 views of videos, fast.

The scores are those of stock's `model.test_step`. What differs is the way there: BatchNorm is
folded into the convolutions, the views go through the network in chunks (uint8 until then: 250
views never stand in memory in float32), convolutions run in channels_last, in bf16 or fp16 where
asked, or in OpenVINO. A recognizer that is not known to allow this goes through `test_step`.
Chunks of features are joined where the head takes a whole video (TSN), else chunks of scores.
"""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from .. import hardware
from ..compat import (
    ActionDataPreprocessor,
    BaseHead,
    MobileNetV2,
    Recognizer2D,
    Recognizer3D,
    ResNet,
)
from ..errors import UserError
from ..files import user_cache
from .openvino import SINGLE_FRAMES, OpenVinoBackbone, OpenVinoClips, why_not

ENGINES = ("auto", "torch", "openvino")
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
# Frames of 224 x 224 in one forward pass: more did not run faster on a CPU, and takes memory.
CHUNK_FRAMES = {"cpu": 25, "cuda": 250}
FRAME_PIXELS = 224 * 224
LAYOUTS = {4: torch.channels_last, 5: torch.channels_last_3d}  # of a tensor, by its dimensions


class Engine:
    """A recognizer made ready for inference; it owns the model, whose weights it may change.

    Args:
        model: A recognizer with its weights, in evaluation mode, on its device.
        precision: `fp32` (TF32 off), `bf16`, `fp16` (CUDA), `int8` (OpenVINO, see `quantize`),
            or `auto`: the fastest of the others for the device.
        engine: `torch`; `openvino`, on a CPU; or `auto`: OpenVINO where it is installed and can
            run the model.
        cache_dir: Where OpenVINO's exported model is kept; by default nowhere.

    Raises:
        UserError: an engine that is not installed or cannot run this model, or a precision that
            the device does not have.
    """

    def __init__(
        self,
        model: Any,
        *,
        precision: str = "fp32",
        engine: str = "torch",
        cache_dir: str | Path | None = None,
    ) -> None:
        self.model = model
        self.device = next(model.parameters()).device
        self.frames_together = frames_together(model)
        self.takes_clips = takes_clips(model)
        self._scores_views = self.takes_clips or bool((model.test_cfg or {}).get("fcn_test"))
        self.precision = choose_precision(precision, self.device)
        backbone = type(model.backbone).__name__
        # What TIN shifts comes out in float32; nn.MultiheadAttention is slower in bf16 on a CPU.
        slow = backbone == "TimeSformer" and precision == "auto" and self.device.type == "cpu"
        if backbone == "ResNetTIN" or slow:
            self.precision = "fp32"
        if (precision, engine) == ("int8", "auto"):
            engine = "openvino"  # or say why not
        if precision == "int8" and (self.takes_clips or self.frames_together != 1):
            raise UserError(f"precision int8: {SINGLE_FRAMES}")
        self.name = self._choose_engine(engine)
        if precision == "int8" and self.name != "openvino":
            raise UserError(f"precision int8 needs the engine openvino, not {engine}")
        self._chunk_pixels = CHUNK_FRAMES.get(self.device.type, CHUNK_FRAMES["cpu"]) * FRAME_PIXELS
        self.before_chunk: Callable[[], None] = lambda: None  # may raise, to give a video up
        self._compute: Callable[[Tensor], Tensor] = self._torch_features
        if self.frames_together is None and not self.takes_clips:
            self.name, self.precision = "stock", "fp32"
        elif self.name == "openvino":
            compute = OpenVinoClips if self.takes_clips else OpenVinoBackbone
            self._compute = compute(model, precision=self.precision, cache_dir=cache_dir)
        else:
            fold_batchnorm(model)
            to_channels_last(model)
            if self._scores_views:
                self._compute = self._torch_scores
            else:
                model.backbone.to(DTYPES[self.precision])

    def __str__(self) -> str:
        exact = "" if self.precision == "fp32" else " (--precision fp32 is exact)"
        return f"{self.name}, {self.precision}{exact}"

    def test_step(self, data: dict[str, Any]) -> list[Any]:
        """Returns the data samples with `pred_score`, as stock's `model.test_step` does.

        Args:
            data: `inputs`, a uint8 tensor for each video, (views, 3, height, width) of images or
                (views, 3, frames, height, width) of clips, and their `data_samples`.
        """
        with torch.inference_mode():
            inputs = data["inputs"]
            if not self._takes(inputs):
                return self._stock_step(data)
            computed = torch.cat([self._compute(chunk).float() for chunk in self._chunks(inputs)])
            samples = [sample.to(self.device) for sample in data["data_samples"]]
            cls_head, num_segs = self.model.cls_head, inputs[0].shape[0]
            if self._scores_views:
                return cls_head.predict_by_feat(computed, samples)
            return cls_head.predict(computed, samples, num_segs=num_segs, fcn_test=False)

    def has_room(self, views: Tensor, num_videos: int) -> bool:
        """Returns whether one more video with as many views fits in one forward pass."""
        if not self._takes([views]):
            return False
        return views.shape[0] * (num_videos + 1) <= self._chunk_size(views)

    def _takes(self, inputs: Any) -> bool:
        """Returns whether the views are uint8, of a kind, and as many of one size a video."""
        if self.name == "stock":
            return False
        ndim = 5 if self.takes_clips else 4
        return (
            isinstance(inputs, (list, tuple))
            and all(views.ndim == ndim and views.dtype == torch.uint8 for views in inputs)
            and len({views.shape for views in inputs}) == 1
            and inputs[0].shape[0] % (self.frames_together or 1) == 0
        )

    def _stock_step(self, data: dict[str, Any]) -> list[Any]:
        self.before_chunk()
        test_step = type(self.model).test_step  # the model's own may be the engine's
        if self.name != "torch" or self._scores_views:
            return test_step(self.model, data)
        self.model.backbone.float()  # views of other kinds: rare, and stock's own precision
        samples = test_step(self.model, data)
        self.model.backbone.to(DTYPES[self.precision])
        return samples

    def _chunks(self, inputs: list[Tensor]) -> Iterator[Tensor]:
        """Yields uint8 views of consecutive videos, as many as fit, whole groups of frames."""
        size = self._chunk_size(inputs[0])
        together = max(1, size // inputs[0].shape[0])  # videos in one chunk
        for start in range(0, len(inputs), together):
            videos = [self._to_device(views) for views in inputs[start : start + together]]
            for chunk in (torch.cat(videos) if len(videos) > 1 else videos[0]).split(size):
                self.before_chunk()
                yield chunk

    def _chunk_size(self, views: Tensor) -> int:
        """Returns how many views fit in one forward pass, whole groups of frames."""
        unit = self.frames_together or 1
        pixels = views[0, 0].numel()  # of all frames of a clip
        return max(1, self._chunk_pixels // pixels // unit) * unit

    def _to_device(self, views: Tensor) -> Tensor:
        """Copies uint8 views, from pinned memory while the device still computes."""
        if self.device.type == "cuda":
            return views.pin_memory().to(self.device, non_blocking=True)
        return views.to(self.device)

    def _torch_features(self, chunk: Tensor) -> Tensor:
        dtype = DTYPES[self.precision]
        images = normalize(chunk, self.model.data_preprocessor).to(dtype)
        with exact_convolutions(self.precision == "fp32"):
            features, _ = self.model.extract_feat(images[None], stage="backbone")
        return pool(self.model.cls_head, features)

    def _torch_scores(self, chunk: Tensor) -> Tensor:
        """Returns the scores of each clip, or of each group of frames, before they are averaged."""
        images = normalize(chunk, self.model.data_preprocessor)
        dtype, exact = DTYPES[self.precision], self.precision == "fp32"
        mixed = torch.autocast(self.device.type, dtype=dtype, enabled=not exact)
        with exact_convolutions(exact), mixed:
            features, settings = self.model.extract_feat(images[None], test_mode=True)
        return self.model.cls_head(to_float32(features), **settings)

    def _choose_engine(self, engine: str) -> str:
        if engine not in ENGINES:
            raise UserError(f"engine {engine!r}: expected one of {', '.join(ENGINES)}")
        reason = why_not(self.device, self.frames_together, self.model, clips=self.takes_clips)
        if engine == "openvino" and reason:
            raise UserError(f"engine openvino: {reason}")
        return "openvino" if engine != "torch" and not reason else "torch"


def cache_dir_of(checkpoint: Path) -> Path:
    """Returns the folder of a checkpoint's exported model: beside it, else in the user's cache."""
    beside = checkpoint.with_suffix(".openvino")
    if os.access(checkpoint.resolve().parent, os.W_OK) or beside.is_dir():
        return beside
    return user_cache(beside.name)


def frames_together(model: Any) -> int | None:
    """Returns how many consecutive frames a backbone mixes, so that they stay in one chunk.

    1 for a backbone of single images (TSN); `num_segments` for one that shifts or aggregates
    over the segments of a view (TSM, TANet); None for clips and for everything that is stock's.
    """
    if type(model) is not Recognizer2D or not _is_plain(model, "NCHW"):
        return None
    test_cfg = model.test_cfg or {}
    if test_cfg.get("fcn_test"):  # the neck takes the frames of each group together
        num_segments = getattr(model.backbone, "num_segments", None)
        return num_segments if test_cfg.get("num_segs", num_segments) == num_segments else None
    if model.with_neck:  # it takes all frames of a video together
        return None
    if model.backbone_from in ("torchvision", "timm", "mmcls", "mmpretrain"):
        return 1
    if type(model.backbone) in (ResNet, MobileNetV2):
        return 1
    return getattr(model.backbone, "num_segments", None)


def takes_clips(model: Any) -> bool:
    """Returns whether a recognizer takes clips; Recognizer3D scores each clip by itself."""
    return type(model) is Recognizer3D and _is_plain(model, "NCTHW")


def _is_plain(model: Any, format_shape: str) -> bool:
    """Returns whether stock's preprocessor makes such views, and stock's head averages scores."""
    preprocessor = model.data_preprocessor
    return (
        type(preprocessor) is ActionDataPreprocessor
        and preprocessor.format_shape == format_shape
        and model.with_cls_head
        and type(model.cls_head).predict is BaseHead.predict
    )


def choose_precision(precision: str, device: torch.device) -> str:
    """Returns `fp32`, `bf16`, `fp16` or `int8` for inference on a device.

    Raises:
        UserError: a name of another kind, fp16 on a CPU, or another than fp32 on MPS.
    """
    if precision not in ("auto", "int8", *DTYPES):
        raise UserError(f"precision {precision!r}: expected auto, {', '.join(DTYPES)}, int8")
    if precision == "int8":
        return precision
    if device.type == "mps":
        if precision not in ("auto", "fp32"):
            raise UserError(f"precision {precision}: expected auto or fp32 on MPS")
        return "fp32"
    return hardware.choose_precision(precision, cuda=device.type == "cuda")[0]


def fold_batchnorm(module: nn.Module) -> None:
    """Folds each BatchNorm into the convolution before it, where the order of both is known.

    A ConvModule and a Conv2plus1d say which comes first; elsewhere that cannot be told from the
    modules. The outputs in evaluation mode stay the same but for rounding.
    """
    from torch.nn.utils.fusion import fuse_conv_bn_eval

    from ..compat import Conv2d, Conv3d

    convolutions = (nn.Conv2d, nn.Conv3d, Conv2d, Conv3d)
    for owner, conv_name, norm_owner, norm_name in list(_pairs(module)):
        conv, norm = getattr(owner, conv_name), getattr(norm_owner, norm_name)
        if type(conv) in convolutions and type(norm) in (nn.BatchNorm2d, nn.BatchNorm3d):
            setattr(owner, conv_name, fuse_conv_bn_eval(conv.eval(), norm.eval()))
            setattr(norm_owner, norm_name, nn.Identity())


def _pairs(module: nn.Module) -> Iterator[tuple[Any, str, Any, str]]:
    """Yields each convolution and the norm after it, as the owner and the name of both."""
    from ..compat import Conv2plus1d, ConvModule, TemporalShift

    last = {TemporalShift: "net", Conv2plus1d: "conv_t"}  # what they compute in the end
    block: Any
    for block in module.modules():
        if type(block) is Conv2plus1d:
            yield block, "conv_s", block, "bn_s"
        elif isinstance(block, ConvModule) and block.with_norm:
            inner = last.get(type(block.conv))
            if tuple(block.order[:2]) == ("conv", "norm"):
                owner, name = (block.conv, inner) if inner else (block, "conv")
                yield owner, name, block, block.norm_name


def to_channels_last(module: nn.Module) -> None:
    """Lays each weight out in the channels_last of its dimensions.

    `Module.to(memory_format=...)` has one layout for all, and raises where there are kernels of
    two and of three dimensions.
    """
    for weight in module.parameters():
        if weight.ndim in LAYOUTS:
            weight.data = weight.data.contiguous(memory_format=LAYOUTS[weight.ndim])


def normalize(chunk: Tensor, preprocessor: Any) -> Tensor:
    """Returns uint8 views (N, 3, ...) as stock's data preprocessor makes them, channels_last."""
    if preprocessor.to_rgb:
        chunk = chunk[:, [2, 1, 0]]
    images = chunk.to(torch.float32, memory_format=LAYOUTS[chunk.ndim])
    if preprocessor._enable_normalize:
        images.sub_(preprocessor.mean).div_(preprocessor.std)
    return images


def to_float32(features: Any) -> Any:
    """Returns features in float32: a tensor, or tuples and lists of them (SlowFast, MViT)."""
    if isinstance(features, Tensor):
        return features.float()
    return type(features)(map(to_float32, features))


def pool(cls_head: nn.Module, features: Tensor) -> Tensor:
    """Averages over space at once where the head would begin with it; 49 times less to keep."""
    average = getattr(cls_head, "avg_pool", None)
    if isinstance(average, nn.AdaptiveAvgPool2d) and average.output_size in (1, (1, 1)):
        return average(features.float())
    return features


def exact_convolutions(exact: bool) -> Any:
    """Returns a context in which cuDNN may, or may not, round float32 to TF32."""
    return torch.backends.cudnn.flags(enabled=True, benchmark=True, allow_tf32=not exact)
