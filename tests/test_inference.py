"""Inference with windows, labelled videos and pictures, through the tool."""

import csv
import json
import shutil
from pathlib import Path

import av
import numpy as np
import pytest
from conftest import ROOT
from h264_videos import write_video
from video_files import write_audio

from mmact_tiny.errors import EXIT_ERROR, EXIT_OK, EXIT_PARTIAL
from mmact_tiny.recognizer import Recognizer
from mmact_tiny.view.windows import score_windows
from tools import infer

VIDEO = ROOT / "data/tiny/val/waving_flag1.mp4"


def run(*arguments: str | Path) -> int:
    flags = ("--protocol", "val", "--engine", "torch")
    return infer.main([str(argument) for argument in (*arguments, *flags)])


def test_windows_and_a_labelled_video(
    tiny_checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    video = write_video(tmp_path / "long.mp4", num_frames=150, milliseconds=(40, 41))
    flags = ["--checkpoint", tiny_checkpoint, "--window", "2", "--stride", "1"]
    out, table = tmp_path / "labelled.mp4", tmp_path / "segments.csv"
    assert run(video, *flags, "--render", out, "--out", table) == EXIT_OK
    with av.open(str(out)) as container:
        assert len(list(container.decode(video=0))) == 150
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    windows = [row for row in rows if row["kind"] == "window"]
    assert [float(row["start"]) for row in windows] == [0, 1, 2, 3, 4]
    segments = [row for row in rows if row["kind"] == "segment"]
    assert float(segments[0]["start"]) == 0 and float(segments[-1]["end"]) == 6.0
    printed = capsys.readouterr().out
    assert printed.count(" s  class ") == len(segments)


def test_half_a_window_is_the_stride_and_a_broken_video_a_row(
    tiny_checkpoint: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    write_video(folder / "good.mp4", num_frames=75)
    (folder / "bad.mp4").write_bytes(b"rubbish")
    out = tmp_path / "out.json"
    flags = ["--checkpoint", tiny_checkpoint, "--window", "2", "--out", out]
    assert run(folder, *flags) == EXIT_PARTIAL
    bad, good = json.loads(out.read_text())
    assert "cannot read video" in bad["error"]
    assert (good["window"], good["stride"], len(good["windows"])) == (2, 1, 2)


@pytest.mark.parametrize("protocol", ["val", pytest.param("full", marks=pytest.mark.slow)])
def test_a_window_over_all_scores_as_the_video(protocol: str, tiny_checkpoint: Path) -> None:
    """With the real protocols of the config: 3 views, and 25 clips of 10 crops."""
    recognizer = Recognizer(tiny_checkpoint, protocol=protocol, engine="torch")
    ((_, scores),) = score_windows(recognizer, VIDEO, window=3600, stride=1800)
    assert np.abs(scores - recognizer.scores(VIDEO)).max() < 1e-5


WRONG = {
    "a folder to render": ([VIDEO.parent, "--render", "o.mp4"], "expected one video, not 16"),
    "another container": ([VIDEO, "--render", "o.avi"], "--render o.avi: expected a name that"),
    "another picture": ([VIDEO, "--cam", "o.jpg"], "--cam o.jpg: expected a name that ends in"),
    "a stride alone": ([VIDEO, "--stride", "2"], "--stride 2: expected --window SECONDS too"),
    "no window": ([VIDEO, "--window", "0"], "--window 0: expected seconds, 0.02 or more"),
    "holes": ([VIDEO, "--window", "1", "--stride", "2"], "at most --window 1"),
    "itself": ([VIDEO, "--render", VIDEO], "that is the video itself; name another file"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_flag_is_told_before_any_work(
    case: str, capsys: pytest.CaptureFixture[str]
) -> None:
    flags, message = WRONG[case]
    assert run(*flags, "--checkpoint", "gone.pth") == EXIT_ERROR
    assert message in capsys.readouterr().err


def test_a_link_to_the_video_is_the_video(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    video = Path(shutil.copy(VIDEO, tmp_path / "v.mp4"))
    (tmp_path / "link.mp4").symlink_to(video)
    (tmp_path / "hard.mp4").hardlink_to(video)
    for name in ("link.mp4", "hard.mp4"):
        flags = ["--render", tmp_path / name, "--checkpoint", "gone.pth"]
        assert run(video, *flags) == EXIT_ERROR
        assert "that is the video itself" in capsys.readouterr().err


def test_what_cannot_be_read_is_not_rendered(tiny_checkpoint: Path, tmp_path: Path) -> None:
    sound = write_audio(tmp_path / "sound.mp4")
    out = tmp_path / "out.mp4"
    for more in ([], ["--window", "4"]):
        flags = ["--checkpoint", tiny_checkpoint, "--render", out, *more]
        assert run(sound, *flags) == EXIT_ERROR
        assert not out.exists()
