"""Cross-validation by train.py: a run for each fold, resumable, and one result of all videos."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from jobs import output, wait_for

from benchmarks import small_job as job
from mmact_tiny.errors import EXIT_ERROR, EXIT_OK
from mmact_tiny.metrics import wilson_interval
from tools import report, train


def words(config: Path, work_dir: Path, *flags: str) -> list[str]:
    places = ["--work-dir", str(work_dir), "--device", "cpu", "--folds", "2"]
    return [str(config), *places, "--epochs", "2", *flags]


def scores(work_dir: Path) -> dict[str, list[float]]:
    rows = json.loads((work_dir / "test/results.json").read_text())["videos"]
    return {row["video"]: row["scores"] for row in rows}


def test_a_killed_cross_validation_goes_on(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Killed in the second fold: the first is kept as it is, and the end is the undisturbed one.

    What an earlier run has left in the folder, all done, is not taken for the new one's.
    """
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert train.main(words(config, whole)) == EXIT_OK
    shutil.copytree(whole, killed)
    (killed / "test/results.json").unlink()
    (process,) = job.fork_ranks(train.main, (words(config, killed),), killed, 1)
    wait_for(lambda: [*killed.glob("fold_2/iter_*.pth")], process)
    process.kill()
    process.join()
    first = killed / "fold_1/test/results.json"
    before, printed = first.stat().st_mtime_ns, capsys.readouterr().out
    assert not (killed / "test/results.json").exists() and "fold 2 of 2: 10 videos" in printed
    assert train.main(words(config, killed, "--resume")) == EXIT_OK
    printed = capsys.readouterr().out
    assert f"done before: {first}" in printed and printed.count("done before") == 1
    assert "no checkpoint" not in printed and [*killed.glob("fold_2/earlier/*/epoch_2.pth")]
    assert first.stat().st_mtime_ns == before
    assert scores(killed) == scores(whole)

    record = json.loads((whole / "test/results.json").read_text())
    assert len(record["videos"]) == 20 and len({*scores(whole)}) == 20, "each video once"
    top1 = record["accuracies"][0]
    right = sum(int(np.argmax(row["scores"]) == row["label"]) for row in record["videos"])
    assert top1["counts"] == f"{right} of 20 videos"
    assert (top1["low"], top1["high"]) == pytest.approx(wilson_interval(right / 20, 20))
    assert [fold["name"] for fold in record["folds"]] == ["fold_1", "fold_2"]
    for fold in ("fold_1", "fold_2"):
        lists = [(whole / fold / f"{name}.txt").read_text() for name in ("train", "val")]
        assert not {*lists[0].splitlines()} & {*lists[1].splitlines()}
        own = json.loads((whole / fold / "test/results.json").read_text())
        assert own["checkpoint"].endswith("epoch_2.pth"), "not the one that these videos chose"
    page = (whole / "report.html").read_text()
    assert "A cross-validation: 2 runs" in page and "fold_2" in page

    assert report.main([str(whole), str(killed), "--out", str(tmp_path / "both.html")]) == EXIT_OK
    said = "whole and killed are right on the same videos: no difference is seen.\n"
    assert said in capsys.readouterr().out and said.strip() in (tmp_path / "both.html").read_text()

    (killed / "fold_1/val.txt").write_text("train/0.mp4 0\n")
    assert train.main(words(config, killed, "--resume")) == EXIT_ERROR
    said = capsys.readouterr()
    assert said.err == (
        f"error: {killed}/fold_1 is of other videos or folds: start without --resume\n"
    )
    assert said.out == ""
    assert (killed / "fold_1/val.txt").read_text() == "train/0.mp4 0\n"  # which stay


def test_folds_in_two_processes(config: Path, tmp_path: Path) -> None:
    """Each fold trains in both; each video is tested once."""
    folder = tmp_path / "run"
    arguments = (words(config, folder, "--launcher", "pytorch"),)
    processes = job.fork_ranks(train.main, arguments, folder, 2)
    for process in processes:
        process.join(300)
    text = output(folder)
    assert [process.exitcode for process in processes] == [0, 0], text
    assert len(scores(folder)) == 20 and "error" not in text, text
    assert text.count("all folds: top-1: ") == 1 and (folder / "report.html").is_file()
    facts = json.loads((folder / "test/results.json").read_text())
    assert facts["num_processes"] == 2 and len(facts["folds"]) == 2


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (
            ["--folds", "1"],
            "--folds 1: 20 videos in 20 groups cannot be divided so\n  expected 2 to 10",
        ),
        (["--folds", "21"], "--folds 21: 20 videos in 20 groups cannot be divided so"),
        (["--resume", "x.pth"], "--folds has a checkpoint for each fold: --resume without a file"),
    ],
)
def test_what_cannot_be_is_said(
    flags: list[str], said: str, config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        status = train.main(words(config, tmp_path / "run", *flags))
    except SystemExit as end:
        status = end.code
    assert status == EXIT_ERROR and said in capsys.readouterr().err
