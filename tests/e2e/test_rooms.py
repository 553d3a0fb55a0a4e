"""An optional room can be deleted: its tool goes with it, and everything else still works."""

import shutil
import subprocess
import sys
from argparse import Namespace

import pytest
from conftest import OPTIONAL_ROOMS, ROOT

from benchmarks import zoo

TOOLS = {
    "doctor": ["check_env"],
    "export": ["export", "quantize"],
    "features": ["extract", "probe"],
    "prepare": ["prepare_data"],
    "report": ["report"],
    "scale": [],
    "serve": ["serve"],
    "view": ["browse", "describe"],
}
# The packages are imported once, by the process that the job of each room is forked from.
JOBS = """
import json, os, shutil, sys
from pathlib import Path

# An editable installation finds in the project's folder what the copy lacks.
sys.meta_path[:] = [finder for finder in sys.meta_path if "Editable" not in str(finder)]
root, projects, video = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
sys.path.insert(0, str(root))
from mmact_tiny import compat

for name in compat._homes():
    getattr(compat, name)
sys.path.remove(str(root))
for name in [name for name in sys.modules if name.startswith("mmact_tiny")]:
    del sys.modules[name]


def job(room):
    os.chdir(projects / room)
    sys.path.insert(0, str(projects / room))
    from tools import infer, test, train

    assert train.__file__ == str(projects / room / "tools/train.py")
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
            assert str(error) == "this installation has no mmact_tiny/view, which draws pictures"
        else:
            raise AssertionError("it was drawn")
    assert not [name for name in sys.modules if name.startswith("mmact_tiny." + room)]


for room in map(str.strip, sys.stdin):
    pid = os.fork()
    if pid == 0:
        log = os.open(projects / room / "output.txt", os.O_CREAT | os.O_WRONLY)
        os.dup2(log, 1)
        os.dup2(log, 2)
        job(room)
        break
    print(os.waitpid(pid, 0)[1], flush=True)
"""


@pytest.fixture(scope="module")
def parent(tmp_path_factory):
    """The folder of the projects, a dataset in it, and the process that runs their jobs."""
    folder = tmp_path_factory.mktemp("projects")
    zoo.subset(ROOT / "data/tiny", folder / "data/tiny", Namespace(num_train=2, num_val=1))
    video = str(ROOT / "data/tiny/val/waving_flag1.mp4")
    command = [sys.executable, "-c", JOBS, str(ROOT), str(folder), video]
    environ = {"PATH": "/usr/bin:/bin", "HOME": str(folder)}
    pipes = dict(stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    with subprocess.Popen(command, env=environ, **pipes) as process:
        yield folder, process
        process.stdin.close()


def test_every_optional_room_is_tried():
    assert sorted(TOOLS) == sorted(OPTIONAL_ROOMS)


@pytest.mark.parametrize("room", OPTIONAL_ROOMS)
def test_everything_else_works_without_it(room, parent):
    folder, process = parent
    project = folder / room
    for name in ("mmact_tiny", "tools", "configs"):
        shutil.copytree(ROOT / name, project / name, ignore=shutil.ignore_patterns("__pycache__"))
    (project / "data").symlink_to(folder / "data")
    shutil.copy(ROOT / "tests/support/run_0_1_0/config.py", project / "config.py")
    shutil.rmtree(project / "mmact_tiny" / room)
    for tool in TOOLS[room]:
        (project / "tools" / f"{tool}.py").unlink()
    print(room, file=process.stdin, flush=True)
    assert process.stdout.readline() == "0\n", (project / "output.txt").read_text()
