"""Logs joined over resumes, time added up, lists counted, and folders that lack something."""

from pathlib import Path

import pytest
from run_folders import write_run

from mmact_tiny.errors import UserError
from mmact_tiny.report.records import (
    count_dataset,
    newest_folder,
    read_log,
    read_run,
    read_timing,
)


def train(*epochs: float, per_epoch: int = 4, loss: float = 1.0) -> list[dict]:
    """Returns what is logged after so many epochs; a half is in the middle of the next."""
    return [
        dict(epoch=int(-(-x // 1)), iter=int(x * per_epoch), loss=loss, lr=0.1, step=1)
        for x in epochs
    ]


def val(*epochs: int, top1: float = 0.5) -> list[dict]:
    return [{"acc/top1": top1, "step": epoch, "time": 1.0} for epoch in epochs]


@pytest.mark.parametrize(
    ("logs", "train_x", "val_x"),
    [
        ([], [], []),
        ([train(1, 2) + val(1, 2)], [1, 2], [1, 2]),
        # Exact resume: the log starts with what was logged before.
        ([train(1, 2), train(1, 2, 3)], [1, 2, 3], []),
        # Stock's resume: it goes on, and does again what the checkpoint had not.
        ([train(0.5, 1, 1.5) + val(1), train(1.5, 2) + val(2)], [0.5, 1, 1.5, 2], [1, 2]),
        ([train(1, 2, 3) + val(1, 2, 3), train(3) + val(3)], [1, 2, 3], [1, 2, 3]),
        # Killed before the validation was done again: the old one was of lost weights.
        ([train(1, 2) + val(1, 2), train(2)], [1, 2], [1]),
        # Killed before anything was logged.
        ([train(1) + val(1), []], [1], [1]),
    ],
)
def test_logs_are_joined(logs: list, train_x: list[float], val_x: list[int]) -> None:
    log = read_log(logs)
    assert [row["x"] for row in log["train"]] == train_x
    assert [row["x"] for row in log["val"]] == val_x
    assert log["unit"] == "epoch"
    again = read_log([train(1, 2, loss=9.0), train(2, 3, loss=1.0)])
    assert [row["loss"] for row in again["train"]] == [9.0, 1.0, 1.0]


@pytest.mark.parametrize(("per_epoch", "losses"), [(4, [0.2, 0.2, 0.2]), (44, [5.0, 5.0, 5.0])])
def test_the_means_of_an_epoch_take_the_place_of_what_reaches_into_others(
    per_epoch: int, losses: list[float]
) -> None:
    means = dict(epoch_loss=0.2, epoch_top1_acc=0.9, top1_acc=0.0)
    lines = [{**line, **means} for line in train(0.5, 1, 2, per_epoch=per_epoch, loss=5.0)]
    rows = read_log([lines])["train"]
    assert [row["loss"] for row in rows] == losses
    assert [row["top1_acc"] for row in rows] == [0.9] * 3


def test_a_run_without_epochs_counts_iterations() -> None:
    steps = [dict(iter=n, loss=1.0, step=n) for n in (10, 20)]
    log = read_log([[*steps, {"acc/top1": 1, "step": 20}]], num_val=2)
    assert log["unit"] == "iteration"
    assert [row["x"] for row in log["train"]] == [10, 20]
    interval = dict(low=pytest.approx(0.3424, abs=5e-5), high=1.0)  # Wilson's of 2 in 2
    assert log["val"] == [{"x": 20, "acc/top1": 1, **interval}]


def test_seconds_of_an_epoch_that_was_done_twice_add_up() -> None:
    row = dict(epoch=2, data=1.0, device=2.0, validation=0.0, checkpoint=0.5)
    timing = read_timing([[row, {"epoch": 3, "data": "?"}], [row]])
    assert timing["epochs"] == [dict(epoch=2, data=2.0, device=4.0, validation=0.0, checkpoint=1.0)]
    assert timing["seconds"] == 7.0
    assert timing["verdict"].startswith("data-bound: 29% of the epoch waited for videos (")
    advised = read_timing([[row, dict(row, hint="buy disks")], [dict(row, hint=None)]])
    assert "waited for videos; buy disks (" in advised["verdict"]


def epochs_and_losses(folder: Path) -> tuple[list, list]:
    rows = read_run(folder)[0]["log"]["train"]
    return [row["x"] for row in rows], [row["loss"] for row in rows]


def test_a_run_is_read(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "job")
    assert epochs_and_losses(folder) == ([1, 2, 3], [1, 1 / 2, 1 / 3])
    run, config, test_config, results = read_run(folder)
    assert config is not None and config["randomness"] == dict(seed=7)
    assert (run["name"], run["seed"], run["test"], results) == ("job", 7, None, None)
    assert test_config is config
    assert (run["checkpoint"], run["notes"]) == (None, [])
    assert run["starts"] == [dict(log="20260101_000000", resumed=False)]


def test_a_new_run_in_the_same_folder_hides_the_old_one(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "job", epochs=3)
    write_run(folder, epochs=1, time="20260102_000000")
    assert epochs_and_losses(folder)[0] == [1]
    write_run(folder, epochs=2, first_epoch=2, time="20260103_000000", resume=True)
    assert epochs_and_losses(folder)[0] == [1, 2, 3]
    assert [start["resumed"] for start in read_run(folder)[0]["starts"]] == [False, True]


def test_a_killed_process_leaves_half_a_line(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "job", epochs=2)
    log = folder / "20260101_000000" / "vis_data" / "scalars.json"
    with log.open("ab") as file:
        file.write(b'[1]\n\n\xff\xfe\n{"loss": NaN, "epoch": 3, "iter": 12}\n{"loss": 0.')
    assert epochs_and_losses(folder)[1] == [1, 0.5, None]


@pytest.mark.parametrize(
    ("file", "text", "note"),
    [
        ("test/results.json", "{", "cannot read"),
        ("test/results.json", '{"videos": 3}', "not what test.py writes"),
        ("test/results.json", '{"accuracies": [], "videos": [{"video": 1}]}', "not what test.py"),
        ("job.py", "import os\n", "not plain data"),
        ("bad_videos.json", "nonsense", "cannot read"),
    ],
)
def test_a_damaged_file_is_a_note_not_an_end(
    tmp_path: Path, file: str, text: str, note: str
) -> None:
    folder = write_run(tmp_path / "job")
    (folder / file).parent.mkdir(exist_ok=True)
    (folder / file).write_text(text)
    (found,) = read_run(folder)[0]["notes"]
    assert note in found
    assert file in found


def test_no_run_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"no run in .*empty: no config, no log and no test"):
        read_run(tmp_path / "empty")
    with pytest.raises(UserError, match=r"train: python tools/train\.py CONFIG"):
        newest_folder(tmp_path / "empty")


def test_videos_and_classes_are_counted(tmp_path: Path) -> None:
    """The training videos are repeated; of the 6 videos one is there; then a list is gone."""
    folder = write_run(tmp_path / "job")
    (folder / "data" / "val1.mp4").touch()
    config = read_run(folder)[1]
    assert config is not None
    loader = config["train_dataloader"]
    loader["dataset"] = dict(type="RepeatDataset", times=2, dataset=loader["dataset"])
    found = count_dataset(config)
    train, val = found["splits"]["train"], found["splits"]["val"]
    assert (train["videos"], train["missing"], train["counts"]) == (4, 4, {0: 2, 1: 2})
    assert (val["videos"], val["missing"], val["counts"]) == (2, 1, {0: 1, 1: 1})
    assert found["by_class"][1] == dict(name="run", train=2, val=1, test=1)
    (tmp_path / "job" / "data" / "val.txt").unlink()
    found = count_dataset(config)
    assert "cannot read annotation file" in found["splits"]["val"]["error"]
    assert found["by_class"][1] == dict(name="run", train=2)
