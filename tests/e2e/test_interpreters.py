"""The other Python versions that the project claims, where the machine has one."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

# render_tiny.py draws with NumPy and is for the project, which installs first.
TOOLS = sorted(
    {path.name for path in (ROOT / "tools").glob("*.py")} - {"render_tiny.py", "__init__.py"}
)


def other_interpreters() -> dict[str, str]:
    """Returns `{version: path}` of Python 3.11 to 3.13 without the one that runs the tests."""
    found = {}
    for minor in (11, 12, 13):
        if minor == sys.version_info.minor:
            continue
        installed = sorted((Path.home() / ".pyenv" / "versions").glob(f"3.{minor}.*/bin/python"))
        for candidate in (shutil.which(f"python3.{minor}"), *map(str, installed)):
            if candidate and subprocess.run([candidate, "-c", ""], check=False).returncode == 0:
                found[f"3.{minor}"] = candidate
                break
    return found


OTHERS = other_interpreters() or {"none": ""}


def skip_without(version: str) -> None:
    if version == "none":
        pytest.skip("this machine has no other Python of 3.11 to 3.13")


@pytest.mark.parametrize("version", OTHERS)
def test_tools_answer_in_another_interpreter(version):
    """Without any package: `--help` needs the standard library alone, as `make` promises."""
    skip_without(version)
    environ = {"PYTHONPATH": str(ROOT), "PATH": os.environ["PATH"]}
    for tool in TOOLS:
        command = [OTHERS[version], "-S", f"tools/{tool}", "--help"]
        done = subprocess.run(
            command, cwd=ROOT, env=environ, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{tool}: {done.stderr}"
        assert done.stdout.startswith("usage: ")


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("version", OTHERS)
def test_the_user_commands_run_in_another_interpreter(version, tmp_path):
    """A virtual environment of its own, the pinned packages, then train, test and infer."""
    skip_without(version)
    shutil.copytree(
        ROOT, tmp_path / "clone", ignore=shutil.ignore_patterns(".venv*", ".git", "work_dirs")
    )
    clone = tmp_path / "clone"
    environ = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}

    def run(*command: str) -> str:
        done = subprocess.run(
            command, cwd=clone, env=environ, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
        return done.stdout

    run("make", "setup", f"PYTHON={OTHERS[version]}")
    python = str(clone / ".venv" / "bin" / "python")
    run(python, "tools/train.py", "configs/tsn_tiny.py", "--epochs", "1", "--pretrained", "none")
    assert "top-1: " in run(python, "tools/test.py", "--protocol", "val")
    answer = run(python, "tools/infer.py", "data/tiny/val/waving_flag1.mp4", "--protocol", "val")
    assert "The top-4 labels with corresponding scores are:\n" in answer
