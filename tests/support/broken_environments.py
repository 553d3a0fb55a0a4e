"""An environment that is well, and each way to break it, with what has to be said of it."""

import copy
from typing import Any

from mmact_tiny.doctor import environment

OK = {"ok": True, "detail": "works"}
GPU = {"name": "NVIDIA A100", "memory_gib": 40.0, "driver": "470.57"}
GOOD: dict[str, Any] = {
    "python": {"version": "3.12.1", "executable": "python", "requires": ">=3.11,<3.14"},
    "machine": {
        "platform": "Linux",
        "cpu": "a CPU",
        "cores": 2,
        "usable_cores": 2,
        "cpu_flags": ["avx2"],
        "memory_gib": 16.0,
        "shared_memory_gib": 8.0,
        "disk_free_gib": 50.0,
        "folder": "here",
        "folder_writable": True,
    },
    "gpus": [],
    "programs": {"nvcc": None, "gcc": "gcc 12", "ffmpeg": None},
    "requirements": [
        ["mmact-tiny", "torch>=2.6"],
        ["mmact-tiny", "mmcv-lite<2.2,>=2.1.0"],
        ["mmact-tiny", 'pywin32; sys_platform == "win32"'],
        ["torchvision", "torch==2.14.1"],
    ],
    "packages": {
        **dict.fromkeys(environment.PACKAGES),
        **{"torch": "2.14.1+cu130", "torchvision": "0.29.1", "mmengine": "0.10.7"},
        **{"mmcv-lite": "2.1.0", "mmaction2": "1.2.0", "numpy": "2.4.6", "decord": "0.6.0"},
        **{"av": "18.1.0", "opencv-python": "5.0.0", "opencv-contrib-python": "5.0.0"},
    },
    "torch": {
        "build": "2.14.1+cu130",
        "cuda_build": "13.0",
        "cuda_available": False,
        "cuda_warning": None,
        "visible_devices": None,
        "threads": 2,
        "gpus": {},
    },
    "checks": {
        **{name: OK for name in ("torchvision", "mmengine", "mmcv", "mmaction2", "opencv")},
        "mmcv.ops": {"ok": False, "detail": "No module named 'mmcv._ext'"},
        "pkg_resources": {"ok": False, "detail": "not there, not needed"},
    },
    "decoders": {
        **{name: OK for name in ("decord", "av", "opencv")},
        "torchcodec": {"ok": False, "detail": "No module named 'torchcodec'"},
    },
}


def failed(detail: str) -> dict[str, Any]:
    return {"ok": False, "detail": detail}


# Each: what differs from GOOD by dotted path, the words of the one problem, the words of its fix.
BROKEN: dict[str, tuple[dict[str, Any], str, str]] = {
    "old Python": ({"python/version": "3.10.9"}, "Python 3.10.9: expected >=3.11", "PYTHON="),
    "missing package": (
        {"packages/mmcv-lite": None},
        "mmcv-lite is not installed",
        "mmcv-lite<2.2",
    ),
    "version out of range": (
        {"packages/mmcv-lite": "2.2.0"},
        "mmcv-lite 2.2.0: expected mmcv-lite<2.2,>=2.1.0",
        "pip install 'mmcv-lite<2.2,>=2.1.0'",
    ),
    "compiled mmcv out of range": (
        {"packages/mmcv-lite": None, "packages/mmcv": "2.2.0", "checks/mmcv.ops": OK},
        "mmcv 2.2.0: expected mmcv-lite<2.2",
        "pip install 'mmcv-lite",
    ),
    "another release of torch": (
        {"packages/torch": "2.13.0"},
        "torch 2.13.0: torchvision 0.29.1 expected torch==2.14.1",
        "pytorch.org",
    ),
    "two mmcv": (
        {"packages/mmcv": "2.1.0", "checks/mmcv.ops": OK},
        "mmcv 2.1.0 and mmcv-lite 2.1.0 are both installed",
        "pip uninstall -y mmcv mmcv-lite",
    ),
    "mmcv of another torch": (
        {"packages/mmcv-lite": None, "packages/mmcv": "2.1.0"},
        "compiled operators do not fit",
        "mmcv-lite",
    ),
    "torchvision of another build": (
        {"checks/torchvision": failed("operator torchvision::nms does not exist")},
        "torchvision does not fit PyTorch (torch 2.14.1+cu130, torchvision 0.29.1): operator",
        "pytorch.org",
    ),
    "CPU build beside a GPU": (
        {"gpus": [GPU], "torch/cuda_build": None, "torch/build": "2.14.1+cpu"},
        "1 GPU(s), but PyTorch 2.14.1+cpu is a build without CUDA",
        "pytorch.org",
    ),
    "old driver": (
        {"gpus": [GPU, GPU], "torch/cuda_warning": "The NVIDIA driver is too old"},
        "2 GPU(s), but PyTorch cannot use them: driver 470.57, PyTorch built for CUDA 13.0: "
        "The NVIDIA driver is too old",
        "update the driver",
    ),
    "a GPU that PyTorch has no code for": (
        {"torch/cuda_available": True, "torch/gpus": {"cuda:0": failed("no kernel image")}},
        "cuda:0 fails at a convolution: no kernel image",
        "--device cpu",
    ),
    "no libGL": (
        {"checks/opencv": failed("ImportError: libGL.so.1: cannot open shared object file")},
        "OpenCV lacks a library of the system: ImportError: libGL.so.1",
        "opencv-contrib-python-headless",
    ),
    "decord": ({"decoders/decord": failed("DECORDError")}, "decord cannot decode", "decord"),
    "mmengine before mmaction2": (
        {"checks/mmengine": failed("no yapf"), "checks/mmaction2": failed("no yapf")},
        "mmengine cannot be imported: no yapf",
        "make clean setup",
    ),
    "read-only folder": (
        {"machine/folder_writable": False},
        "cannot write into here",
        "--work-dir",
    ),
    "full disk": ({"machine/disk_free_gib": 0.4}, "0.4 GiB free", "--work-dir"),
    "container": ({"machine/shared_memory_gib": 0.06}, "/dev/shm", "--shm-size"),
}


def changed(changes: dict[str, Any]) -> dict[str, Any]:
    env = copy.deepcopy(GOOD)
    for path, value in changes.items():
        *parents, leaf = path.split("/")
        node = env
        for part in parents:
            node = node[part]
        assert leaf in node
        node[leaf] = value
    return env
