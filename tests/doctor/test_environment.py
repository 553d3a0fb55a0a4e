"""The environment check: what it finds here, and what it says of broken environments."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from broken_environments import BROKEN, GPU, OK, changed

from mmact_tiny import hardware_machine as machine
from mmact_tiny.doctor import decoders, diagnosis, environment

ROOT = Path(__file__).parents[2]


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
