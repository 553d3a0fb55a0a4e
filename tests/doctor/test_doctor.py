"""The environment check: what it finds here, and what it says of broken environments."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from broken_environments import BROKEN, GOOD, GOOD_VERSIONS, GPU, Broken

from mmact_tiny import hardware
from mmact_tiny.doctor import diagnosis
from tools import check_env as check_env_tool

ROOT = Path(__file__).parents[2]
MACHINE = hardware.Machine(platform="Linux", cpu="a CPU", cores=2, usable_cores=2, memory_gib=16.0)
STORAGE = dict(folder="here", is_writable=True, free=50.0, shared=8.0)


@pytest.fixture
def diagnose(monkeypatch: pytest.MonkeyPatch):
    """Returns what diagnoses an environment that is well but for what is given."""

    def diagnose_broken(case: Broken) -> diagnosis.Diagnosis:
        versions = {**dict.fromkeys(hardware.PACKAGES, "1.0"), **GOOD_VERSIONS, **case.versions}

        def examine(name: str, words: str = "works") -> str:
            assert name not in case.fails, case.fails[name]
            return words

        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        monkeypatch.setattr("platform.python_version", lambda: case.python)
        monkeypatch.setattr("platform.machine", lambda: case.machine)
        monkeypatch.setattr(hardware, "describe_machine", lambda: MACHINE)
        monkeypatch.setattr(hardware, "cpu_flags", lambda: frozenset({"avx2"}))
        monkeypatch.setattr(hardware, "version", versions.get)
        for name, found in {
            "describe_storage": lambda: tuple((STORAGE | case.storage).values()),
            "list_gpus": lambda: case.gpus,
            "check_requirements": lambda: case.requirements,
            "examine_torch": lambda: examine("torch", case.torch),
            "find_cuda": lambda: case.cuda,
            "convolve": examine,
            "suppress_boxes": lambda: examine("torchvision"),
            "import_module": examine,
            "decode": examine,
        }.items():
            monkeypatch.setattr(diagnosis, name, found)
        return diagnosis.diagnose()

    return diagnose_broken


@pytest.mark.parametrize("name", BROKEN)
def test_each_broken_environment_has_one_problem_and_its_fix(name: str, diagnose) -> None:
    problems = diagnose(BROKEN[name]).problems
    assert len(problems) == 1, problems
    what, fix = problems[0]
    assert BROKEN[name].what in what
    assert BROKEN[name].fix in fix


def test_a_good_environment_has_no_problem(diagnose) -> None:
    for name, good in GOOD.items():
        found = diagnose(good)
        assert found.problems == [], name
        assert str(found).endswith("\n\nall well")


def test_gpus_hidden_on_purpose_are_no_problem(monkeypatch, diagnose) -> None:
    hidden = Broken("", "", gpus=[GPU])
    assert len(diagnose(hidden).problems) == 1
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert diagnosis.diagnose().problems == []


def test_report(diagnose) -> None:
    lines = str(diagnose(BROKEN["CPU build beside a GPU"])).splitlines()
    assert "CPU                    a CPU, 2 of 2 cores" in lines
    assert f"GPU                    {GPU}" in lines
    assert "torch                  2.14.1+cpu, CUDA build None" in lines
    assert "mmengine               1.0, works" in lines
    assert "numpy                  1.0" in lines
    assert lines[-4:-1] == [
        "",
        "what is wrong (1):",
        "- 1 GPU(s), but PyTorch 2.14.1+cpu, CUDA build None is a build without CUDA",
    ]
    assert lines[-1].startswith("  fix: reinstall both from one place")


def test_gpus_are_read_from_nvidia_smi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "nvidia-smi"
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    program.write_text("#!/bin/sh\necho 'NVIDIA H100 80GB HBM3, 81559 MiB, 550.54.15'\n")
    program.chmod(0o755)
    assert diagnosis.list_gpus() == ["NVIDIA H100 80GB HBM3, 81559 MiB, 550.54.15"]
    program.write_text("#!/bin/sh\necho 'NVIDIA-SMI has failed'\nexit 9\n")
    assert diagnosis.list_gpus() == []
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    assert diagnosis.list_gpus() == []


def test_every_decoder_tells_a_video_from_a_broken_file(tmp_path: Path) -> None:
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no video")
    for name in ("decord", "av", "opencv"):
        assert diagnosis.decode(name) == "50 frames, 160 x 128"
        with pytest.raises(Exception, match=r"\w"):
            diagnosis.decode(name, broken)


def test_without_psutil_the_rest_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    line = "mmact-tiny 0.1.0 requires psutil, which is not installed."
    monkeypatch.setitem(sys.modules, "psutil", None)
    monkeypatch.setattr(diagnosis, "check_requirements", lambda: [line])
    found = diagnosis.diagnose()
    assert [what for what, fix in found.problems] == [
        "psutil is not installed, which mmact-tiny requires"
    ]
    assert found.found["machine"].startswith("FAILS: import of psutil halted")
    assert found.found["mmaction2"] == "1.2.0, imports with the repairs"


def check_env(tmp_path: Path, *flags: str) -> subprocess.CompletedProcess:
    env = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}
    command = [sys.executable, str(ROOT / "tools" / "check_env.py"), *flags]
    return subprocess.run(command, env=env, cwd=tmp_path, capture_output=True, text=True)


def test_tool_finds_this_environment_well(tmp_path: Path) -> None:
    done = check_env(tmp_path, "--json")
    answer = json.loads(done.stdout)
    assert answer["problems"] == []
    assert done.returncode == 0
    found = answer["environment"]
    assert found["torchvision"].endswith(", torchvision::nms works")
    assert found["mmaction2"] == "1.2.0, imports with the repairs"
    assert found["decord"] == "0.6.0, 50 frames, 160 x 128"


def test_tool_tells_of_a_broken_pytorch_and_opencv(tmp_path: Path) -> None:
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch" / "__init__.py").write_text("raise OSError('libcudart.so.12: no file')\n")
    (tmp_path / "cv2.py").write_text("raise ImportError('libGL.so.1: cannot open shared object')\n")
    done = check_env(tmp_path)
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    wrong = done.stdout[done.stdout.index("what is wrong") :]
    assert "- PyTorch cannot be imported: OSError: libcudart.so.12: no file" in wrong
    assert "- OpenCV lacks a library of the system: ImportError: libGL.so.1" in wrong
    assert wrong.startswith("what is wrong (2):")


def test_tool_tells_what_pip_check_finds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    info = tmp_path / "packages" / "torchcodec-9.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: torchcodec\nVersion: 9\n"
        "Requires-Dist: numpy>=99\nRequires-Dist: nothing-like-this\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(info.parent))
    assert check_env_tool.main([]) == 2
    printed = capsys.readouterr().out
    wrong = printed[printed.index("what is wrong") :].splitlines()
    assert wrong[:3] == [
        "what is wrong (2):",
        "- nothing-like-this is not installed, which torchcodec requires",
        "  fix: pip install nothing-like-this",
    ]
    assert re.fullmatch(r"- numpy [\d.]+: torchcodec 9 expected numpy>=99", wrong[3])
    assert wrong[4] == "  fix: pip install 'numpy>=99'"


def test_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    limit = tmp_path / "memory.max"
    monkeypatch.setattr(hardware, "MEMORY_LIMITS", (str(limit), str(tmp_path / "none")))
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    for text, gib in ((str(3 << 29), 1.5), ("max", round(pages / (1 << 30), 2))):
        limit.write_text(f"{text}\n")
        machine = hardware.describe_machine()
        assert machine["memory_gib"] == gib
        assert machine["platform"].startswith("Linux")
        assert machine["usable_cores"] == len(os.sched_getaffinity(0))
