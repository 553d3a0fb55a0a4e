"""What starts at once imports nothing heavy: module lists, not clocks."""

import gc
from pathlib import Path

import pytest
from conftest import ROOT
from jobs import run_python

from tools import infer

HEAVY = {
    *("torch", "numpy", "mmengine", "mmaction", "mmcv", "cv2", "av", "decord"),
    *("openvino", "rich", "PIL", "matplotlib", "jinja2", "fastapi"),
}
TOOLS = sorted(path.name for path in (ROOT / "tools").glob("[!_]*.py"))


def imported(*arguments: str) -> set[str]:
    """Returns the names of the top-level modules that a Python process imported."""
    environ = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"}
    done = run_python("-X", "importtime", *arguments, env=environ)
    lines = [line for line in done.stderr.splitlines() if line.startswith("import time:")]
    return {line.rsplit("|", 1)[1].strip().split(".")[0] for line in lines[1:]}


@pytest.mark.parametrize("tool", TOOLS)
def test_help_imports_nothing_heavy(tool):
    draws = {"numpy"} if tool == "render_tiny.py" else set()  # what it is made of
    assert imported(str(Path("tools") / tool), "--help").intersection(HEAVY) == draws


def test_the_list_of_tools_imports_nothing_heavy():
    assert not imported("-m", "tools").intersection(HEAVY)


def test_the_package_imports_nothing_heavy():
    modules = imported("-c", "import mmact_tiny")
    assert "mmact_tiny" in modules
    assert not modules.intersection(HEAVY)


def test_a_recognizer_needs_no_statistics():
    code = "import mmact_tiny.recognizer, mmact_tiny.engine.engine, mmact_tiny.video.frames, sys\n"
    code += "from mmaction.datasets.transforms import pose_transforms\n"
    code += "print('scipy.stats' in sys.modules, pose_transforms.get_mode([1, 2, 2])[0])"
    found = run_python("-c", code).stdout.split()
    assert found == ["False", "[2]"]  # and who needs it has the real one


@pytest.mark.parametrize("trains", [False, True])
def test_only_training_imports_what_shards_a_model(trains):
    code = "import argparse, sys\n"
    code += "from mmact_tiny import cli\n"
    code += f"cli.start(argparse.Namespace(), trains={trains})\n"
    code += "import mmact_tiny.infer, mmaction.visualization\n"
    code += "names = 'torch.distributed.fsdp', 'torch.distributed.optim', 'sympy'\n"
    code += "print(*[name in sys.modules for name in names])\n"
    code += "from mmengine.registry import MODEL_WRAPPERS\n"
    code += "print(MODEL_WRAPPERS.get('MMFullyShardedDataParallel') is not None)\n"
    assert run_python("-c", code).stdout.split() == [str(trains)] * 4


def test_infer_leaves_a_tracker_that_is_installed_alone(tmp_path):
    (tmp_path / "wandb.py").write_text("print('imported')")
    code = "import argparse\n"
    code += "from mmact_tiny import cli\n"
    code += "cli.start(argparse.Namespace(), trains=False)\n"
    code += "print('started')\n"
    code += "import wandb"
    environ = {"PYTHONPATH": f"{tmp_path}:{ROOT}", "PATH": "/usr/bin:/bin"}
    done = run_python("-c", code, env=environ)
    assert done.stdout.split() == ["started", "imported"], "and who asks for it has it"


def test_a_tool_that_ends_looks_for_no_cycles():
    code = "import atexit, gc, runpy, sys\n"
    code += "atexit.register(lambda: print(gc.get_freeze_count() > 0))\n"
    code += "sys.argv = ['infer.py', 'missing.mp4', '--top-k', 'x']\n"
    code += "runpy.run_path('tools/infer.py', run_name='__main__')\n"
    assert run_python("-c", code, status=2).stdout == "True\n"
    before = gc.get_freeze_count()
    with pytest.raises(SystemExit):
        infer.main(["missing.mp4", "--top-k", "x"])
    assert gc.get_freeze_count() == before, "but not in a program that calls its main"
