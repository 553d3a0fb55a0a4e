"""Examines parts of this installation: each function says what it found, or raises what is wrong.

What a broken package raises when it is imported can be anything; `diagnosis` puts it in words.
"""

import contextlib
import importlib
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

CLIPS = Path(__file__).parents[2] / "data/tiny"
COLLECTED = ("GCC", "CUDA_HOME", "NVCC")  # of MMEngine's collect_env, what nothing else here tells


def list_gpus() -> list[str]:
    """Returns name, memory and driver of the NVIDIA GPUs, also of those that PyTorch cannot use."""
    fields = "--query-gpu=name,memory.total,driver_version"
    return _run("nvidia-smi", fields, "--format=csv,noheader").splitlines()


def check_requirements() -> list[str] | None:
    """Returns the lines of `pip check`: what is missing or of a release that does not fit.

    None where it does not run, as without pip.
    """
    lines = _run(sys.executable, "-P", "-m", "pip", "check", good=(0, 1)).splitlines()
    return [line for line in lines if not line.startswith("No broken")] if lines else None


def _run(*command: str, good: tuple[int, ...] = (0,)) -> str:
    """Returns what a program printed; nothing where it is missing, fails or hangs."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout if done.returncode in good else ""


def examine_torch() -> str:
    """Imports PyTorch."""
    import torch

    return f"{torch.__version__}, CUDA build {torch.version.cuda}"


def find_cuda() -> tuple[int, str]:
    """Returns how many GPUs PyTorch can use, and what it warns of while it looks for them."""
    import torch

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    return count, " ".join(str(item.message) for item in caught)


def convolve(device: str) -> str:
    """Runs a convolution on a GPU; returns its name."""
    import torch

    image = torch.ones(1, 3, 8, 8, device=device)
    value = torch.nn.functional.conv2d(image, torch.ones(1, 3, 3, 3, device=device)).sum().item()
    if value != 27 * 36:
        raise RuntimeError(f"a convolution gave {value} for {27 * 36}")
    return torch.cuda.get_device_name(device)


def suppress_boxes() -> str:
    """Runs torchvision's compiled operator, the first thing to miss in a mixed installation."""
    import torch
    import torchvision

    boxes = torch.tensor([[0.0, 0.0, 2.0, 2.0], [0.0, 0.0, 2.0, 2.0], [5.0, 5.0, 6.0, 6.0]])
    kept = torchvision.ops.nms(boxes, torch.tensor([0.9, 0.8, 0.7]), 0.5).tolist()
    if kept != [0, 2]:
        raise RuntimeError(f"torchvision::nms kept boxes {kept} for [0, 2]")
    return f"{torchvision.__version__}, torchvision::nms works"


def import_module(name: str) -> str:
    """Imports a module."""
    importlib.import_module(name)
    return "imports"


def find_recognizers() -> str:
    """Imports MMAction2's models."""
    from ..compat.mm import MODELS

    importlib.import_module("mmaction.models")
    if "Recognizer2D" not in MODELS:
        raise RuntimeError("mmaction.models registers no Recognizer2D")
    return "imports with the repairs"


def collect() -> dict[str, str]:
    """Returns what MMEngine collects on compilers; nothing where that does not run."""
    with contextlib.suppress(Exception):  # why not is told by the imports of what it stands on
        from mmengine.utils.dl_utils import collect_env

        found = collect_env()
        return {name: str(found[name]) for name in COLLECTED if name in found}
    return {}


def decode(decoder: str, clip: Path | None = None) -> str:
    """Decodes the first frame of a clip, by default of one that comes with this project."""
    clip = clip or min(CLIPS.rglob("*.mp4"))
    num_frames, height, width = DECODERS[decoder](str(clip))
    return f"{num_frames} frames, {width} x {height}"


def _decord(clip: str) -> tuple[int, int, int]:
    import decord

    reader = decord.VideoReader(clip, num_threads=1)
    return len(reader), *reader[0].asnumpy().shape[:2]


def _av(clip: str) -> tuple[int, int, int]:
    import av

    with av.open(clip) as container:
        frame = next(container.decode(video=0))
        return container.streams.video[0].frames, frame.height, frame.width


def _opencv(clip: str) -> tuple[int, int, int]:
    import cv2

    capture = cv2.VideoCapture(clip)
    found, image = capture.read()
    if not found:
        raise RuntimeError("decodes no frame")
    height, width = image.shape[:2]
    return int(capture.get(cv2.CAP_PROP_FRAME_COUNT)), height, width


def _torchcodec(clip: str) -> tuple[int, int, int]:
    from torchcodec.decoders import VideoDecoder

    decoder = VideoDecoder(clip)
    height, width = decoder[0].shape[-2:]
    return len(decoder), height, width


# By the distribution that brings it; torchcodec is optional, nothing here needs it.
DECODERS: dict[str, Callable[[str], tuple[int, int, int]]] = {
    "decord": _decord,
    "av": _av,
    "opencv": _opencv,
    "torchcodec": _torchcodec,
}
