"""A messy folder is prepared, trained on for an epoch and tested, without a hand's help."""

import json

import pytest
from jobs import run_python
from messy_folder import make_messy


@pytest.mark.slow
def test_prepare_train_test(tmp_path):
    make_messy(tmp_path / "src")
    data, work_dir = tmp_path / "data", tmp_path / "run"
    done = run_python("tools/prepare_data.py", tmp_path / "src", "--out", data)
    last = done.stdout.splitlines()[-1]
    assert last == f"next: python tools/train.py configs/tsn_tiny.py --data {data}"
    config, flags = "configs/tsn_tiny.py", ("--data", data, "--work-dir", work_dir)
    short = ("--epochs", 1, "--pretrained", "none", "--device", "cpu")
    run_python("tools/train.py", config, *flags, *short, timeout=None)
    scores = tmp_path / "scores.json"
    more = ("--protocol", "val", "--out", scores, "--device", "cpu")
    run_python("tools/test.py", config, *flags, *more, timeout=None)
    num_val = len((data / "val.txt").read_text().splitlines())
    assert len(json.loads(scores.read_text())["videos"]) == num_val
