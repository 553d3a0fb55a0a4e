"""Runs a backbone in OpenVINO on a CPU: exports it once and keeps that until the weights change.

An extra: `pip install 'mmact-tiny[openvino]'`. Eager PyTorch is the reference that it is tested
against.
"""

import functools
import hashlib
import importlib.util
import logging
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import UserError

INT8 = "-int8"
# Of clips, those whose export was compared with stock. MViT's is refused (OpenVINO 2026.4).
CLIP_BACKBONES = (
    *("C2D", "C3D", "ResNet2Plus1d", "ResNet3d", "ResNet3dCSN", "ResNet3dSlowFast"),
    *("ResNet3dSlowOnly", "SwinTransformer3D", "TimeSformer", "UniFormer", "UniFormerV2"),
    *("VisionTransformer", "X3D"),
)
FORMAT = 1  # raised when what is exported changes
# What is not int8 in a quantized model stays float32: little beside the convolutions.
PRECISION_HINTS = {"fp32": "f32", "bf16": "bf16", "int8": "f32"}
SINGLE_FRAMES = "it runs 2D recognizers whose backbone takes each frame by itself, such as TSN"
logger = logging.getLogger("mmact_tiny")


def why_not(
    device: torch.device, frames_together: int | None, model: Any = None, *, clips: bool = False
) -> str | None:
    """Returns why OpenVINO cannot run a recognizer on a device; None where it can.

    Args:
        device: Of the model.
        frames_together: Of a recognizer of images.
        model: The recognizer; one of clips has to be given.
        clips: Whether it takes clips.
    """
    if device.type != "cpu":
        return f"it runs on a CPU, not on {device.type}"
    kind = type(getattr(model, "backbone", None)).__name__
    if clips:
        if model.with_neck or kind not in CLIP_BACKBONES:
            return f"it does not convert {kind}{' with a neck' * model.with_neck}"
    elif frames_together != 1:
        return SINGLE_FRAMES
    if importlib.util.find_spec("openvino") is None:
        return "it is not installed\n  pip install 'mmact-tiny[openvino]'"
    return "it does not trace DenseNet alike twice" if kind == "DenseNet" else None


def import_openvino() -> Any:
    """Returns the module `openvino` without its telemetry, and the time that takes to import.

    OpenVINO reports conversions to Google Analytics unless the user declined in another tool; it
    does without where its telemetry package is not there.
    """
    sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
    import openvino

    return openvino


@functools.cache
def core() -> Any:
    """Returns the one OpenVINO core of this process, which stays until its end.

    A core gives its thread a stack for signal handlers and takes it away when it goes. The second
    of two that go in the order in which they came puts back the first one's, which is gone: the
    next signal, Ctrl-C too, is a SIGSEGV. Seen with OpenVINO 2026.4 (`SigAltStackSetup` of its CPU
    plugin, openvino pull request 11894).
    """
    return import_openvino().Core()


class OpenVinoBackbone:
    """Normalization, backbone and pooling of a recognizer, from uint8 views to features.

    Args:
        model: The recognizer, on the CPU.
        precision: fp32, bf16, or int8, which `quantize` has to have made.
        cache_dir: Folder of the exported model, or None to keep none.

    Raises:
        UserError: int8, and no int8 model of these weights is in `cache_dir`.
    """

    def __init__(self, model: Any, *, precision: str, cache_dir: str | Path | None) -> None:
        load = load_int8 if precision == "int8" else load_exported
        self._compiled = compiled(load(model, cache_dir), precision)

    def __call__(self, chunk: Tensor) -> Tensor:
        """Returns the features of uint8 views (N, 3, H, W)."""
        images = chunk.permute(0, 2, 3, 1).contiguous()  # no copy where they are channels_last
        return torch.from_numpy(self._compiled(images.numpy())[0].copy())


class OpenVinoClips:
    """A recognizer of clips, from uint8 clips to scores, exported anew for each size of clip.

    Transformers are traced with the size of their input in them.

    Args:
        model: The recognizer, on the CPU.
        precision: fp32 or bf16.
        cache_dir: Folder of the exported model of the last size, or None to keep none.
    """

    def __init__(self, model: Any, *, precision: str, cache_dir: str | Path | None) -> None:
        self._model, self._precision, self._cache_dir = model, precision, cache_dir
        self._compiled: dict[tuple[int, ...], Any] = {}

    def __call__(self, chunk: Tensor) -> Tensor:
        """Returns the scores of uint8 clips (N, 3, T, H, W)."""
        clips, size = chunk.permute(0, 2, 3, 4, 1).contiguous(), tuple(chunk.shape[2:])
        if size not in self._compiled:
            graph = load_exported(self._model, self._cache_dir, size)
            self._compiled[size] = compiled(graph, self._precision)
        return torch.from_numpy(self._compiled[size](clips.numpy())[0].copy())


def compiled(graph: Any, precision: str) -> Any:
    """Returns an exported model ready to run in a precision, with PyTorch's number of threads."""
    settings = {
        "INFERENCE_PRECISION_HINT": PRECISION_HINTS[precision],
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
    }
    return core().compile_model(graph, "CPU", settings)


def load_exported(model: Any, cache_dir: str | Path | None, size: tuple[int, ...] = ()) -> Any:
    """Returns the exported model from the cache, or exports it and keeps it there.

    Args:
        model: The recognizer.
        cache_dir: Where it is kept; None for nowhere.
        size: Frames, height and width of clips; empty for images, of any size.
    """
    if cache_dir is None:
        return export(model, size)
    path = exported_path(model, cache_dir, size=size)
    if path.is_file():
        try:
            return core().read_model(path)
        except RuntimeError as error:
            logger.warning("exporting again: cannot read %s: %s", path, error)
    graph = export(model, size)
    keep(graph, path)
    return graph


def load_int8(model: Any, cache_dir: str | Path | None) -> Any:
    """Returns the int8 model that `quantize` has left in the cache.

    Raises:
        UserError: there is none of these weights, or it cannot be read.
    """
    make = "\n  make it from some of your videos: python tools/quantize.py FOLDER --checkpoint FILE"
    if cache_dir is None:
        raise UserError("precision int8: the checkpoint is not a local file" + make)
    path = exported_path(model, cache_dir, int8=True)
    if not path.is_file():
        raise UserError(f"precision int8: no int8 model of these weights in {cache_dir}" + make)
    try:
        return core().read_model(path)
    except RuntimeError as error:
        raise UserError(f"precision int8: cannot read {path}: {error}" + make) from None


def exported_path(
    model: Any, cache_dir: str | Path, *, int8: bool = False, size: tuple[int, ...] = ()
) -> Path:
    """Returns where the exported model of these weights is kept."""
    return Path(cache_dir) / f"openvino-{fingerprint(model, size)}{INT8 if int8 else ''}.xml"


def export(model: Any, size: tuple[int, ...] = ()) -> Any:
    """Returns the OpenVINO model of uint8 images (N, H, W, 3) or clips (N, T, H, W, 3).

    Of images it has normalization, backbone and pooling; of clips of one size, the head too.
    """
    openvino = import_openvino()
    example = torch.zeros(1, *(size or (224, 224)), 3, dtype=torch.uint8)
    network = (_Scores if size else _Features)(model).eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # OpenVINO 2026.4 traces with torch.jit, deprecated there
        shape = [-1, *(size or (-1, -1)), 3]
        return openvino.convert_model(network, example_input=example, input=shape)


class _Network(nn.Module):
    """What is exported: stock's modules in stock's order."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model: Any = model

    def normalized(self, views: Tensor) -> Tensor:
        """Returns the input of stock's network (1, N, 3, ...) of uint8 views (N, ..., 3)."""
        preprocessor: Any = self.model.data_preprocessor
        images = views.movedim(-1, 1).float()
        if preprocessor.to_rgb:
            images = images[:, [2, 1, 0]]
        if preprocessor._enable_normalize:
            images = (images - preprocessor.mean) / preprocessor.std
        return images[None]


class _Features(_Network):
    def forward(self, views: Tensor) -> Tensor:
        features, _ = self.model.extract_feat(self.normalized(views), stage="backbone")
        average = getattr(self.model.cls_head, "avg_pool", None)
        return average(features) if average is not None else features


class _Scores(_Network):
    def forward(self, views: Tensor) -> Tensor:
        scores, _ = self.model.extract_feat(self.normalized(views), stage="head")
        return scores


def fingerprint(model: Any, size: tuple[int, ...] = ()) -> str:
    """Returns a hash of the weights and settings of what is exported, and of OpenVINO's version."""
    preprocessor: Any = model.data_preprocessor
    digest = hashlib.sha256()
    settings = (
        FORMAT,
        import_openvino().__version__,
        preprocessor.to_rgb,
        preprocessor._enable_normalize,
        str(getattr(model.cls_head, "avg_pool", None)),
        str(model.backbone),
        *((size, str(model.cls_head)) if size else ()),
    )
    digest.update(repr(settings).encode())
    tensors = {**model.backbone.state_dict(), **dict(preprocessor.named_buffers())}
    if size:  # of clips, the head is exported with the rest
        tensors.update({f"cls_head.{k}": v for k, v in model.cls_head.state_dict().items()})
    for name, tensor in tensors.items():
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy())
    return digest.hexdigest()[:24]


def keep(graph: Any, path: Path) -> None:
    """Writes an exported model, whole or not at all, in the place of those of other weights."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:
            fresh = Path(folder) / path.name
            import_openvino().save_model(graph, fresh, compress_to_fp16=False)
            fresh.with_suffix(".bin").replace(path.with_suffix(".bin"))
            fresh.replace(path)
    except OSError as error:
        logger.warning("the exported model is not kept: %s", error)
        return
    for old in path.parent.glob("openvino-*.*"):
        if old.stem.removesuffix(INT8) != path.stem.removesuffix(INT8):
            old.unlink(missing_ok=True)
