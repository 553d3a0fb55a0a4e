"""The environment check: what it finds here, and what it says of broken environments."""

import copy
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mmact_tiny import decoders, diagnosis, environment, machine

ROOT = Path(__file__).parents[1]
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


@pytest.mark.parametrize("name", BROKEN)
def test_each_broken_environment_has_one_problem_and_its_fix(name: str) -> None:
    changes, what, fix = BROKEN[name]
    problems = diagnosis.find_problems(changed(changes))
    assert len(problems) == 1, problems
    assert what in problems[0].what
    assert fix in problems[0].fix


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"gpus": [GPU], "torch/visible_devices": ""},  # hidden on purpose
        {"gpus": [GPU], "torch/cuda_available": True, "torch/gpus": {"cuda:0": OK}},
        {"packages/mmcv-lite": None, "packages/mmcv": "2.1.0", "checks/mmcv.ops": OK},
        {"packages/opencv-python": None},
        {"machine/shared_memory_gib": None},
    ],
)
def test_a_good_environment_has_no_problem(changes: dict[str, Any]) -> None:
    env = changed(changes)
    assert diagnosis.find_problems(env) == []
    assert diagnosis.report(env, []).endswith("\nall well")


def test_report_lists_what_is_wrong_last() -> None:
    env = changed({"gpus": [GPU], "torch/cuda_build": None, "torch/build": "2.14.1+cpu"})
    lines = diagnosis.report(env, diagnosis.find_problems(env)).splitlines()
    assert "GPU                 NVIDIA A100, 40.0 GiB, driver 470.57" in lines
    assert lines[-3:-1] == [
        "what is wrong (1):",
        "- 1 GPU(s), but PyTorch 2.14.1+cpu is a build without CUDA",
    ]
    assert lines[-1].startswith("  fix: ")


def add_distribution(folder: Path, name: str, version: str, *requires: str) -> None:
    info = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir(parents=True)
    lines = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
    lines += ["Requires-Python: <3.4", *(f"Requires-Dist: {text}" for text in requires)]
    (info / "METADATA").write_text("\n".join(lines) + "\n")


def test_requirements_come_from_the_metadata(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    extra = 'pytest>=8; extra == "test"'
    add_distribution(tmp_path, "mmact-tiny", "9", "numpy>=99", "nothing-like-this", extra)
    add_distribution(tmp_path, "torchvision", "9", "torch==1.0", "numpy")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert environment.requirements() == [
        ["mmact-tiny", "numpy>=99"],
        ["mmact-tiny", "nothing-like-this"],
        ["torchvision", "torch==1.0"],
    ]
    assert environment.requires_python() == "<3.4"
    assert environment.version("torchvision") == "9"
    assert environment.version("nothing-like-this") is None


def test_an_uninstalled_checkout_is_read_from_its_pyproject(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(environment, "DISTRIBUTION", "no-such-distribution")
    assert ["no-such-distribution", "torch>=2.6"] in environment.requirements()
    assert environment.requires_python() == ">=3.11,<3.14"


def test_gpus_are_read_from_nvidia_smi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "nvidia-smi"
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    program.write_text("#!/bin/sh\necho 'NVIDIA H100 80GB HBM3, 81559, 550.54.15'\n")
    program.chmod(0o755)
    assert machine.list_gpus() == [
        {"name": "NVIDIA H100 80GB HBM3", "memory_gib": 79.6, "driver": "550.54.15"}
    ]
    program.write_text("#!/bin/sh\necho 'NVIDIA-SMI has failed'\nexit 9\n")
    assert machine.list_gpus() == []
    assert machine.find_program("no-such-program") is None


def test_every_decoder_reads_the_clip_that_is_made(tmp_path: Path) -> None:
    found = decoders.check_decoders(decoders.write_clip(tmp_path / "clip.mp4"))
    for name in ("decord", "av", "opencv"):
        assert found[name] == {"ok": True, "detail": "24 frames, 96 x 64"}
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no video")
    found = decoders.check_decoders(broken)
    assert [name for name, check in found.items() if check["ok"]] == []


def check_env(tmp_path: Path, *flags: str, path: str = "") -> subprocess.CompletedProcess:
    env = {**os.environ, "PYTHONPATH": f"{path}{os.pathsep}{ROOT}"}
    command = [sys.executable, str(ROOT / "tools" / "check_env.py"), *flags]
    return subprocess.run(command, env=env, cwd=tmp_path, capture_output=True, text=True)


def test_tool_finds_this_environment_well(tmp_path: Path) -> None:
    done = check_env(tmp_path, "--json")
    answer = json.loads(done.stdout)
    assert answer["problems"] == []
    assert done.returncode == 0
    found = answer["environment"]
    assert found["checks"]["torchvision"] == {"ok": True, "detail": "torchvision::nms works"}
    assert found["checks"]["mmaction2"]["ok"]
    assert found["decoders"]["decord"] == {"ok": True, "detail": "24 frames, 96 x 64"}


def test_tool_tells_of_a_broken_pytorch_and_opencv(tmp_path: Path) -> None:
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch" / "__init__.py").write_text("raise OSError('libcudart.so.12: no file')\n")
    (tmp_path / "cv2.py").write_text("raise ImportError('libGL.so.1: cannot open shared object')\n")
    done = check_env(tmp_path, path=str(tmp_path))
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    wrong = done.stdout[done.stdout.index("what is wrong") :]
    assert "- PyTorch cannot be imported: OSError: libcudart.so.12: no file" in wrong
    assert "- OpenCV lacks a library of the system: ImportError: libGL.so.1" in wrong
    assert wrong.startswith("what is wrong (2):")
