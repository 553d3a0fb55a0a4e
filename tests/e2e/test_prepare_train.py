"""A messy folder is prepared, trained on for an epoch and tested, without a hand's help."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from messy_folder import make_messy

ROOT = Path(__file__).resolve().parents[2]


def run_tool(name: str, *arguments: object) -> str:
    """Runs a tool as the user does; returns its standard output."""
    command = [sys.executable, f"tools/{name}.py", *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


@pytest.mark.slow
def test_prepare_train_test(tmp_path):
    make_messy(tmp_path / "src")
    data, work_dir = tmp_path / "data", tmp_path / "run"
    last = run_tool("prepare_data", tmp_path / "src", "--out", data).splitlines()[-1]
    assert last == f"next: python tools/train.py configs/tsn_tiny.py --data {data}"
    config, flags = "configs/tsn_tiny.py", ("--data", data, "--work-dir", work_dir)
    run_tool("train", config, *flags, "--epochs", 1, "--pretrained", "none", "--device", "cpu")
    scores = tmp_path / "scores.json"
    run_tool("test", config, *flags, "--protocol", "val", "--out", scores, "--device", "cpu")
    num_val = len((data / "val.txt").read_text().splitlines())
    assert len(json.loads(scores.read_text())["videos"]) == num_val
