"""Training and testing on a dataset with broken videos, through the stock Runner."""

import json
import time
from pathlib import Path
from typing import Any

import pytest
from jobs import output, run

from mmact_tiny.errors import EXIT_ERROR, EXIT_PARTIAL
from mmact_tiny.video.frames import PacketDecode
from tools import infer, test


@pytest.fixture(scope="module")
def trained(config: Path) -> tuple[Path, Path]:
    """The config and the work directory of a run with a broken training and validation video."""
    for path in ("train/5.mp4", "val/2.mp4"):
        (config.parent / "data" / path).write_text("not a video")
    changes = {"schedule": {"max_epochs": 1}, "data_guard": {"max_bad_fraction": 0.25}}
    return config, run(config, config.parent / "run", changes)


def test_training_goes_on_names_and_records_them(trained):
    config, work_dir = trained
    rows = json.loads((work_dir / "bad_videos.json").read_text())
    data = config.parent / "data"
    assert [(row["split"], row["video"], row["times"]) for row in rows] == [
        ("train", str(data / "train/5.mp4"), 1),
        ("val", str(data / "val/2.mp4"), 1),
    ]
    text = output(work_dir)
    assert text.count(f"cannot read {data / 'train/5.mp4'}: ") == 1
    assert "(train: replaced by another)" in text and "(val: left out)" in text
    assert "1 train video(s) could not be read, met 1 time(s), recorded in " in text
    assert text.count("Epoch(train)") == 4, "no batch was lost"


def test_testing_gives_a_row_with_the_error_and_status_3(trained, tmp_path, capsys):
    _, work_dir = trained
    out = tmp_path / "test.json"
    arguments = ["--work-dir", str(work_dir), "--protocol", "val", "--device", "cpu"]
    assert test.main([*arguments, "--out", str(out)]) == EXIT_PARTIAL
    assert "1 of 4 videos could not be read" in capsys.readouterr().out
    rows: list[dict[str, Any]] = json.loads(out.read_text())["videos"]
    assert [Path(row["video"]).name for row in rows if "scores" in row] == [
        "0.mp4",
        "1.mp4",
        "3.mp4",
    ]
    (error,) = [row for row in rows if "error" in row]
    assert Path(error["video"]).name == "2.mp4" and error["error"]


def test_a_run_with_too_many_is_stopped_with_the_list(trained, tmp_path):
    text = output(
        run(trained[0], tmp_path / "run", {"data_guard": {"max_bad_fraction": 0.0}}, status=2)
    )
    error = text[text.index("error: ") :]
    assert "1 of 16 train videos cannot be read, more than max_bad_fraction=0 allows" in error
    assert "5.mp4: " in error and "Traceback" not in error


@pytest.mark.usefixtures("dead_workers_noticed_at_once")
def test_a_video_that_takes_too_long_is_a_row_with_the_reason(
    trained, tmp_path, capsys, monkeypatch
):
    """The readers, which are forks of this process, take 5 s for a video."""
    transform = PacketDecode.transform
    slow = lambda self, results: time.sleep(5) or transform(self, results)  # noqa: E731
    monkeypatch.setattr(PacketDecode, "transform", slow)
    config, work_dir = trained
    videos = [str(config.parent / "data" / "val" / name) for name in ("0.mp4", "1.mp4")]
    out = tmp_path / "answers.json"
    arguments = ["--checkpoint", str(next(work_dir.glob("best_*.pth"))), "--protocol", "val"]
    options = ["--engine", "torch", "--device", "cpu", "--out", str(out)]
    assert infer.main([*videos, *arguments, *options, "--time-limit", "0.1"]) == EXIT_ERROR
    rows = json.loads(out.read_text())
    assert [row["error"] for row in rows] == [
        f"cannot read video {video}: timed out after 0.1 s" for video in videos
    ]
    arguments = ["--work-dir", str(work_dir), "--protocol", "val", "--device", "cpu"]
    assert test.main([*arguments, "--time-limit", "0.1"]) == EXIT_ERROR
    assert "timed out after 0.1 s" in capsys.readouterr().err
    for wrong in ("0", "-1", "nan", "inf", "soon"):
        with pytest.raises(SystemExit) as caught:
            infer.main([*videos, "--time-limit", wrong])
        assert caught.value.code == EXIT_ERROR


def test_without_workers_the_run_says_what_it_risks(trained, tmp_path):
    changes: dict[str, Any] = {"schedule": {"max_epochs": 1}, "hardware": {"num_workers": 0}}
    changes["data_guard"] = {"max_bad_fraction": 0.25}
    text = output(run(trained[0], tmp_path / "run", changes))
    for split in ("train", "val"):
        risk = f"{split}_dataloader.num_workers=0: videos are decoded in this process"
        assert text.count(risk) == 1
    assert text.count("5.mp4: ") > 0, "a file that is refused costs itself here too"
