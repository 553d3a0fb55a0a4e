"""The answers for videos: printed, written, and with windows and pictures through the tool."""

import csv
import json
import shutil
from pathlib import Path

import av
import pytest
from conftest import ROOT
from h264_videos import write_video
from small_recognizer import small_recognizer
from video_files import write_audio

from mmact_tiny import hardware
from mmact_tiny.errors import EXIT_ERROR, EXIT_OK, EXIT_PARTIAL, UserError
from mmact_tiny.infer import Inference, video_lines
from mmact_tiny.infer import infer as infer_videos
from mmact_tiny.recognizer import Recognizer
from tools import infer

VIDEO = ROOT / "data/tiny/val/waving_flag1.mp4"


def run(*arguments: str | Path) -> int:
    flags = ("--protocol", "val", "--engine", "torch")
    return infer.main([str(argument) for argument in (*arguments, *flags)])


@pytest.fixture(scope="module")
def checkpoint() -> Path:
    """Of 7 classes."""
    return small_recognizer().checkpoint


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two videos, and between them a file that is none."""
    folder = tmp_path_factory.mktemp("videos")
    good = [write_video(folder / f"{i}.mp4", num_frames=9, seed=i) for i in (0, 2)]
    (folder / "1.mp4").write_text("no video")
    return [good[0], folder / "1.mp4", good[1]]


@pytest.mark.parametrize(
    ("failed", "status"),
    [
        *(([], 0), ([False], 0), ([False, False], 0)),
        *(([True], 2), ([True, True], 2)),
        *(([True, False], 3), ([False, True, False], 3)),
    ],
)
def test_the_status_says_whether_all_some_or_none_were_read(failed, status, checkpoint):
    rows = [dict(video="v.mp4", **(dict(error="gone") if each else {})) for each in failed]
    assert Inference(Recognizer(checkpoint), rows).status == status


def test_answers_are_printed_and_returned(checkpoint, videos, capsys):
    result = infer_videos([videos[0].parent], checkpoint=checkpoint, engine="torch", top_k=2)
    assert result.status == EXIT_PARTIAL
    scored = result.recognizer.score_videos(videos)  # in the same batches
    best = [result.recognizer.top_k(each, 2) for each in list(scored)[::2]]
    predictions = [[dict(label=label, score=score) for label, score in each] for each in best]
    error = result.rows[1]["error"]
    assert result.rows == [
        dict(video=str(videos[0]), predictions=predictions[0]),
        dict(video=str(videos[1]), error=error),
        dict(video=str(videos[2]), predictions=predictions[1]),
    ]
    assert predictions[0] != predictions[1] and error.startswith("cannot read video ")
    blocks = capsys.readouterr().out.split("\n\n")
    for block, video, row in zip(blocks, videos, result.rows, strict=True):
        named, *lines = block.strip().split("\n")
        assert named == str(video)
        assert lines == [f"error: {error}"] if "error" in row else video_lines(row)
    infer_videos(videos[:1], checkpoint=checkpoint, engine="torch")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "The top-5 labels with corresponding scores are:"
    assert lines[1].startswith(f"{predictions[0][0]['label']}: 0.") and len(lines) == 6


def test_answers_are_written_in_each_format(checkpoint, videos, tmp_path):
    rows = None
    for name in ("out.json", "out.jsonl", "out.csv"):
        flags = dict(checkpoint=checkpoint, engine="torch", precision="fp32", top_k=2)
        rows = infer_videos(videos, **flags, out=tmp_path / name).rows
    assert json.loads((tmp_path / "out.json").read_text()) == rows
    lines = (tmp_path / "out.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == rows
    with (tmp_path / "out.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    assert [(line["video"], line["rank"]) for line in table] == [
        *((str(videos[0]), rank) for rank in "12"),
        (str(videos[1]), ""),
        *((str(videos[2]), rank) for rank in "12"),
    ]
    assert [float(line["score"]) for line in table[:2]] == [
        each["score"] for each in rows[0]["predictions"]
    ]
    assert (table[2]["error"], table[2]["label"]) == (rows[1]["error"], "")


def test_as_many_labels_as_asked_for(checkpoint, tiny_checkpoint):
    def count(checkpoint: Path, top_k: int | None) -> int:
        flags = dict(checkpoint=checkpoint, protocol="val", engine="torch", top_k=top_k)
        return len(infer_videos([VIDEO], **flags).rows[0]["predictions"])

    assert [count(checkpoint, k) for k in (None, 1, 7)] == [5, 1, 7]
    assert count(tiny_checkpoint, None) == 4  # of four classes all
    for wrong in (0, -1, 8):
        with pytest.raises(UserError, match=f"--top-k {wrong}: the checkpoint has 7 classes"):
            infer_videos([VIDEO], checkpoint=checkpoint, top_k=wrong)


def test_defaults(checkpoint, monkeypatch, caplog):
    """The fastest precision of the device, and two minutes for a video."""
    monkeypatch.setattr(hardware, "cpu_flags", lambda: frozenset({"amx_bf16"}))
    with caplog.at_level("INFO", logger="mmact_tiny"):
        recognizer = infer_videos([VIDEO], checkpoint=checkpoint, engine="torch").recognizer
    assert caplog.messages == [
        f"checkpoint: {checkpoint}",
        f"protocol: {recognizer.protocol}",
        "engine: torch, bf16 (--precision fp32 is exact)",
    ]
    assert recognizer._pipeline.video_seconds == 120
    limited = infer_videos([VIDEO], checkpoint=checkpoint, time_limit=7).recognizer
    assert limited._pipeline.video_seconds == 7


def test_a_wrong_name_to_write_is_told_before_any_work(tmp_path):
    for out, said in (
        ("a.txt", r"--out a\.txt: expected a name that ends in \.json, "),
        ("/proc/a.json", "cannot write /proc/a.json: "),
    ):
        with pytest.raises(UserError, match=said):
            infer_videos([VIDEO], checkpoint=tmp_path / "gone.pth", out=out)


def test_windows_and_a_labelled_video(tiny_checkpoint, tmp_path, capsys):
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


def test_half_a_window_is_the_stride_and_a_broken_video_a_row(tiny_checkpoint, tmp_path):
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


WRONG = {
    "a folder to render": ([VIDEO.parent, "--render", "o.mp4"], "expected one video, not 16"),
    "another container": ([VIDEO, "--render", "o.avi"], "--render o.avi: expected a name that"),
    "another picture": ([VIDEO, "--cam", "o.jpg"], "--cam o.jpg: expected a name that ends in"),
    "a stride alone": ([VIDEO, "--stride", "2"], "--stride 2: expected --window SECONDS too"),
    "no window": ([VIDEO, "--window", "0"], "--window 0: expected seconds, 0.02 or more"),
    "itself": ([VIDEO, "--render", VIDEO], "that is the video itself; name another file"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_flag_is_told_before_any_work(case, capsys):
    flags, message = WRONG[case]
    assert run(*flags, "--checkpoint", "gone.pth") == EXIT_ERROR
    assert message in capsys.readouterr().err


def test_a_link_to_the_video_is_the_video(tmp_path, capsys):
    video = Path(shutil.copy(VIDEO, tmp_path / "v.mp4"))
    (tmp_path / "link.mp4").symlink_to(video)
    (tmp_path / "hard.mp4").hardlink_to(video)
    for name in ("link.mp4", "hard.mp4"):
        flags = ["--render", tmp_path / name, "--checkpoint", "gone.pth"]
        assert run(video, *flags) == EXIT_ERROR
        assert "that is the video itself" in capsys.readouterr().err


def test_what_cannot_be_read_is_not_rendered(tiny_checkpoint, tmp_path):
    sound = write_audio(tmp_path / "sound.mp4")
    out = tmp_path / "out.mp4"
    for more in ([], ["--window", "4"]):
        flags = ["--checkpoint", tiny_checkpoint, "--render", out, *more]
        assert run(sound, *flags) == EXIT_ERROR
        assert not out.exists()
