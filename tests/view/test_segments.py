"""From windows to segments, and to files."""

import csv
import json
from pathlib import Path

import pytest
from h264_videos import write_video
from small_recognizer import small_recognizer

from mmact_tiny.errors import UserError
from mmact_tiny.view.segments import cells_of, merge, say_segments, window_rows, write_segments


def answer(start: float, end: float, label: str, score: float) -> dict:
    other = dict(label="other", score=round(1 - score, 3))
    return dict(start=start, end=end, predictions=[dict(label=label, score=score), other])


ROW = dict(
    video="v.mp4",
    duration=9.0,
    window=4.0,
    stride=2.0,
    windows=[
        answer(0, 4, "a", 0.9),
        answer(2, 6, "a", 0.7),
        dict(start=4, end=8, error="damaged"),
        answer(5, 9, "b", 0.6),
    ],
)
SEGMENTS = [
    dict(start=0.0, end=5.0, label="a", score=pytest.approx(0.8)),
    dict(start=6.5, end=9, label="b", score=0.6),
]


def test_the_nearest_window_counts() -> None:
    cells = cells_of(ROW)
    assert [(cell.start, cell.end) for cell in cells] == [(0, 3), (3, 5), (5, 6.5), (6.5, 9)]
    assert [cell.predictions[0] if cell.predictions else None for cell in cells] == [
        ("a", 0.9), ("a", 0.7), None, ("b", 0.6)
    ]  # fmt: skip
    assert merge(cells) == SEGMENTS


def test_a_whole_video_is_one_cell() -> None:
    row = dict(video="v.mp4", predictions=[dict(label="a", score=1.0)])
    assert cells_of(row) == [(0.0, float("inf"), [("a", 1.0)])]


def test_files(tmp_path: Path) -> None:
    rows = [dict(ROW, segments=merge(cells_of(ROW))), dict(video="bad.mp4", error="no, none")]
    for name in ("a.json", "a.jsonl", "a.csv"):
        write_segments(tmp_path / name, rows)
    assert json.loads((tmp_path / "a.json").read_text()) == rows
    assert [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()] == rows
    with (tmp_path / "a.csv").open(newline="") as file:
        table = [list(row.values()) for row in csv.DictReader(file)]
    assert table == [
        ["v.mp4", "window", "0", "4", "a", "0.9", ""],
        ["v.mp4", "window", "2", "6", "a", "0.7", ""],
        ["v.mp4", "window", "4", "8", "", "", "damaged"],
        ["v.mp4", "window", "5", "9", "b", "0.6", ""],
        ["v.mp4", "segment", "0.0", "5.0", "a", "0.8", ""],
        ["v.mp4", "segment", "6.5", "9", "b", "0.6", ""],
        ["bad.mp4", "video", "", "", "", "", "no, none"],
    ]
    with pytest.raises(UserError, match="cannot write"):
        write_segments(tmp_path / "a.csv" / "b.csv", rows)


def test_rows_of_videos(tmp_path: Path) -> None:
    video = write_video(tmp_path / "video.mp4", num_frames=75, milliseconds=(40, 41))
    good, bad = window_rows(
        small_recognizer(), [video, tmp_path / "gone.mp4"], 3, window=2, stride=1
    )
    assert [(one["start"], one["end"]) for one in good["windows"]] == [(0.0, 2.0), (1.0, 3.0)]
    assert all(len(one["predictions"]) == 3 for one in good["windows"])
    assert good["segments"][0]["start"] == 0.0
    assert good["segments"][-1]["end"] == good["duration"] == 3.0
    assert len(say_segments(good)) == len(good["segments"])
    assert bad["error"].startswith("cannot read video ") and set(bad) == {"video", "error"}
