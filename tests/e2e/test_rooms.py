"""An optional room can be deleted: its tool goes with it, and everything else still works."""

import shutil
from argparse import Namespace

import pytest
import warm
from conftest import OPTIONAL_ROOMS, ROOT

from benchmarks import zoo

TOOLS = {
    "doctor": ["check_env"],
    "export": ["export", "quantize"],
    "features": ["extract", "probe"],
    "live": [],
    "portable": [],
    "prepare": ["prepare_data"],
    "report": ["report"],
    "scale": [],
    "serve": ["serve"],
    "view": ["browse", "describe"],
}
JOB = """
import sys
from pathlib import Path

# An editable installation finds in the project's folder what the copy lacks.
sys.meta_path[:] = [finder for finder in sys.meta_path if "Editable" not in str(finder)]
from tools import infer, test, train

room, video = sys.argv[1:]
assert Path(train.__file__) == Path.cwd() / "tools/train.py"
flags = ["--work-dir", "run", "--device", "cpu"]
assert train.main(["config.py", *flags, "--pretrained", "none", "--epochs", "1"]) == 0
assert test.main([*flags, "--protocol", "val"]) == 0
best = str(next(Path("run").glob("best_*.pth")))
assert infer.main([video, "--checkpoint", best, "--protocol", "val"]) == 0
assert Path("run/report.html").is_file() is (room != "report")
if room == "view":
    assert infer.main([video, "--checkpoint", best, "--window", "1"]) == 2
    import mmact_tiny

    try:
        mmact_tiny.Recognizer(best, protocol="val").show(video)
    except mmact_tiny.UserError as error:
        assert str(error) == "show: this installation has no mmact_tiny/view, which that needs"
    else:
        raise AssertionError("it was drawn")
assert not [name for name in sys.modules if name.startswith("mmact_tiny." + room)]
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The folder of the projects, with a dataset."""
    made = tmp_path_factory.mktemp("projects")
    zoo.subset(ROOT / "data/tiny", made / "data/tiny", Namespace(num_train=2, num_val=1))
    return made


def test_every_optional_room_is_tried():
    assert sorted(TOOLS) == sorted(OPTIONAL_ROOMS)


@pytest.mark.parametrize("room", OPTIONAL_ROOMS)
def test_everything_else_works_without_it(room, folder):
    project = folder / room
    for name in ("mmact_tiny", "tools", "configs"):
        shutil.copytree(ROOT / name, project / name, ignore=shutil.ignore_patterns("__pycache__"))
    (project / "data").symlink_to(folder / "data")
    shutil.copy(ROOT / "tests/support/run_0_1_0/config.py", project / "config.py")
    shutil.rmtree(project / "mmact_tiny" / room)
    for tool in TOOLS[room]:
        (project / "tools" / f"{tool}.py").unlink()
    environ = {"PATH": "/usr/bin:/bin", "HOME": str(folder)}
    video = ROOT / "data/tiny/val/waving_flag1.mp4"
    warm.run("-c", JOB, room, video, cwd=project, env=environ)
