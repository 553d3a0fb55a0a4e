"""What this installation is made of, and which parts of it work.

Tells what is there; `diagnosis` says what of it is wrong. MMEngine's `collect_env` is not used:
it cannot run where PyTorch or MMEngine cannot be imported, nor without setuptools (it imports
`distutils`), and it looks for nvcc only where PyTorch already sees a GPU.
"""

import importlib.metadata
import importlib.util
import os
import platform
import re
import sys
import tempfile
import tomllib
import warnings
from functools import partial
from pathlib import Path
from typing import Any

from ..hardware import PACKAGES, version
from ..hardware_machine import describe_machine, find_program, list_gpus
from .decoders import attempt, check_decoders, sample_clip

DISTRIBUTION = "mmact-tiny"


def environment() -> dict[str, Any]:
    """Returns the environment as plain values, ready for JSON; imports what it reports on.

    Keys: `python`, `machine`, `gpus` (as nvidia-smi lists them), `programs`, `requirements`
    (`[owner, requirement]`), `packages` (version or None by distribution), `torch`, `checks`
    (`{"ok", "detail"}` by name) and `decoders` (likewise).
    """
    required = requirements()
    names = [re.split(r"[^\w.-]", text, maxsplit=1)[0] for _, text in required]
    return {
        "python": {
            "version": platform.python_version(),
            "executable": sys.executable,
            "requires": requires_python(),
        },
        "machine": describe_machine(),
        "gpus": list_gpus(),
        "programs": {name: find_program(name) for name in ("nvcc", "gcc", "ffmpeg")},
        "requirements": required,
        "packages": {name: version(name) for name in dict.fromkeys([*PACKAGES, *names])},
        "torch": _torch(),
        "checks": _checks(),
        "decoders": _decoders(),
    }


def requirements() -> list[list[str]]:
    """Returns `[owner, requirement]` for what this project needs, and torchvision's own torch.

    torchvision's compiled operators fit one release of torch only. A checkout that is not
    installed is read from its pyproject.toml.
    """
    try:
        ours = importlib.metadata.requires(DISTRIBUTION) or []
    except importlib.metadata.PackageNotFoundError:
        ours = _pyproject().get("dependencies", [])
    try:
        theirs = importlib.metadata.requires("torchvision") or []
    except importlib.metadata.PackageNotFoundError:
        theirs = []
    pins = [text for text in theirs if re.match(r"torch\b", text)]
    return [
        [owner, text]
        for owner, texts in ((DISTRIBUTION, ours), ("torchvision", pins))
        for text in texts
        if not re.search(r"\bextra\s*==", text)
    ]


def requires_python() -> str:
    """Returns the range of Python versions that this project runs on."""
    try:
        return importlib.metadata.metadata(DISTRIBUTION)["Requires-Python"]
    except (importlib.metadata.PackageNotFoundError, KeyError):
        return _pyproject().get("requires-python", "")


def _pyproject() -> dict[str, Any]:
    path = Path(__file__).parents[2] / "pyproject.toml"
    return tomllib.loads(path.read_text())["project"] if path.is_file() else {}


def _torch() -> dict[str, Any]:
    """Returns PyTorch's build and the GPUs that it can use, each tried with a convolution."""
    try:
        import torch
    except Exception as error:  # a broken installation can raise anything
        return {"error": f"{type(error).__name__}: {error}"}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        available = torch.cuda.is_available()
    return {
        "build": torch.__version__,
        "cuda_build": torch.version.cuda,
        "cuda_available": available,
        "cuda_warning": " ".join(str(item.message) for item in caught) or None,
        "visible_devices": os.environ.get("CUDA_VISIBLE_DEVICES"),
        "threads": torch.get_num_threads(),
        "gpus": {
            f"cuda:{index}": attempt(partial(_convolve, f"cuda:{index}"))
            for index in range(torch.cuda.device_count() if available else 0)
        },
    }


def _convolve(device: str) -> str:
    import torch

    image = torch.ones(1, 3, 8, 8, device=device)
    value = torch.nn.functional.conv2d(image, torch.ones(1, 3, 3, 3, device=device)).sum().item()
    if value != 27 * 36:
        raise RuntimeError(f"a convolution gave {value} for {27 * 36}")
    return torch.cuda.get_device_name(device)


def _checks() -> dict[str, dict[str, Any]]:
    """Returns which packages can be imported and used, each in isolation."""
    found = importlib.util.find_spec("pkg_resources") is not None
    return {
        "torchvision": attempt(_nms),
        "mmengine": attempt(lambda: importlib.import_module("mmengine.runner").__name__),
        "mmcv": attempt(lambda: importlib.import_module("mmcv").__version__),
        "mmcv.ops": attempt(lambda: importlib.import_module("mmcv.ops").__name__),
        "mmaction2": attempt(_recognizers),
        "opencv": attempt(lambda: importlib.import_module("cv2").__version__),
        "pkg_resources": {"ok": found, "detail": "there" if found else "not there, not needed"},
    }


def _nms() -> str:
    """Runs torchvision's compiled operator, the first thing to miss in a mixed installation."""
    import torch
    import torchvision

    boxes = torch.tensor([[0.0, 0.0, 2.0, 2.0], [0.0, 0.0, 2.0, 2.0], [5.0, 5.0, 6.0, 6.0]])
    kept = torchvision.ops.nms(boxes, torch.tensor([0.9, 0.8, 0.7]), 0.5).tolist()
    if kept != [0, 2]:
        raise RuntimeError(f"torchvision::nms kept boxes {kept} for [0, 2]")
    return "torchvision::nms works"


def _recognizers() -> str:
    from .. import compat

    compat.repair()
    from ..compat.mm import MODELS

    importlib.import_module("mmaction.models")
    if "Recognizer2D" not in MODELS:
        raise RuntimeError("mmaction.models registers no Recognizer2D")
    return "imports with the repairs"


def _decoders() -> dict[str, dict[str, Any]]:
    with tempfile.TemporaryDirectory() as folder:
        clip: list[Path] = []
        made = attempt(lambda: clip.append(sample_clip(folder)))
        return check_decoders(clip[0]) if clip else {"av": made}
