"""An optional room can be deleted: its tool goes with it, and everything else still works."""

import shutil
import subprocess
import sys

import pytest
from conftest import OPTIONAL_ROOMS, ROOT

VIDEO = "data/tiny/val/waving_flag1.mp4"
TOOLS = {
    "doctor": ["check_env"],
    "export": ["export", "quantize"],
    "features": ["extract", "probe"],
    "prepare": ["prepare_data"],
    "report": ["report"],
    "serve": ["serve"],
    "view": ["browse", "describe"],
}
# One process trains, tests and infers: to start three would take most of the time.
JOB = f"""
import sys
from pathlib import Path

# An editable installation finds in the project's folder what the copy lacks.
sys.meta_path[:] = [finder for finder in sys.meta_path if "Editable" not in str(finder)]
import mmact_tiny
from tools import infer, test, train

flags = ["--work-dir", "run", "--device", "cpu"]
assert train.main(["config.py", *flags, "--pretrained", "none", "--epochs", "1"]) == 0
assert test.main([*flags, "--protocol", "val"]) == 0
(best,) = Path("run").glob("best_*.pth")
assert infer.main(["{VIDEO}", "--checkpoint", str(best), "--protocol", "val"]) == 0
assert Path("run/report.html").is_file() is (ROOM != "report")
if ROOM == "view":
    assert infer.main(["{VIDEO}", "--checkpoint", str(best), "--window", "1"]) == 2
    try:
        mmact_tiny.Recognizer(best, protocol="val").show("{VIDEO}")
    except mmact_tiny.UserError as error:
        assert str(error) == "this installation has no mmact_tiny/view, which draws pictures"
    else:
        raise AssertionError("it was drawn")
print(*[name for name in sys.modules if name.startswith("mmact_tiny." + ROOM)], "done")
"""


def test_every_optional_room_is_tried():
    assert sorted(TOOLS) == sorted(OPTIONAL_ROOMS)


@pytest.mark.parametrize("room", OPTIONAL_ROOMS)
def test_everything_else_works_without_it(room, tmp_path):
    project = tmp_path / "project"
    for name in ("mmact_tiny", "tools", "configs"):
        shutil.copytree(ROOT / name, project / name, ignore=shutil.ignore_patterns("__pycache__"))
    (project / "data").symlink_to(ROOT / "data")
    shutil.copy(ROOT / "tests/support/run_0_1_0/config.py", project / "config.py")
    shutil.rmtree(project / "mmact_tiny" / room)
    for tool in TOOLS[room]:
        (project / "tools" / f"{tool}.py").unlink()
    done = subprocess.run(
        [sys.executable, "-c", f"ROOM = {room!r}\n{JOB}"],
        cwd=project,
        env={"PYTHONPATH": str(project), "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1] == "done", "and nothing of it was imported"
