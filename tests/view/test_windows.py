"""Windows: where they begin and end, that each is scored as a clip by itself, and segments."""

import csv
import json

import decord
import numpy as np
import pytest
from h264_videos import rotate, write_video
from mmengine.dataset import Compose
from models import check_scores
from pattern_videos import make_video
from small_recognizer import PIPELINE, small_recognizer
from video_files import truncate

from mmact_tiny.errors import UserError
from mmact_tiny.pipeline import with_decoder
from mmact_tiny.recognizer import Recognizer
from mmact_tiny.video.files import sample_of
from mmact_tiny.video.times import FrameTimes, read_frame_times
from mmact_tiny.video.window import check_window
from mmact_tiny.view import windows
from mmact_tiny.view.windows import (
    Window,
    WindowViews,
    cells_of,
    cut_windows,
    merge,
    say_segments,
    score_windows,
    window_rows,
    write_segments,
)


@pytest.fixture(scope="module")
def recognizer() -> Recognizer:
    return small_recognizer()


def even_times(num_frames: int, fps: float) -> FrameTimes:
    return FrameTimes(np.arange(num_frames) / fps, num_frames / fps, fps, list(range(num_frames)))


# frames at 10 a second, window, stride: (start, end, first, last)
CASES = {
    "they fit exactly": (80, 4, 2, [(0, 4, 0, 40), (2, 6, 20, 60), (4, 8, 40, 80)]),
    "side by side": (80, 4, 4, [(0, 4, 0, 40), (4, 8, 40, 80)]),
    "frames are left": (50, 4, 2, [(0, 4, 0, 40), (1, 5, 10, 50)]),
    "shorter than a window": (25, 4, 2, [(0, 2.5, 0, 25)]),
    "as long as a window": (40, 4, 2, [(0, 4, 0, 40)]),
    "longer than the video by far": (30, 1000, 500, [(0, 3, 0, 30)]),
    "one frame": (1, 4, 2, [(0, 0.1, 0, 1)]),
    "a frame a window": (3, 0.1, 0.1, [(0, 0.1, 0, 1), (0.1, 0.2, 1, 2), (0.2, 0.3, 2, 3)]),
}


@pytest.mark.parametrize("case", CASES)
def test_windows_of_a_video(case):
    num_frames, window, stride, expected = CASES[case]
    cut = cut_windows(even_times(num_frames, 10.0), window=window, stride=stride)
    assert [(one.first, one.last) for one in cut] == [row[2:] for row in expected]
    assert np.allclose([(one.start, one.end) for one in cut], [row[:2] for row in expected])


def test_a_window_between_two_frames_has_the_one_on_the_screen():
    times = FrameTimes(np.array([0.0, 0.1, 5.0]), 5.1, 10.0, [0, 1, 50])
    cut = cut_windows(times, window=1, stride=1)
    assert [(one.first, one.last) for one in cut] == [
        (0, 2), (1, 2), (1, 2), (1, 2), (1, 2), (2, 3)
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("window", "stride", "message"),
    [
        (0, 1, "--window 0: expected seconds, 0.02 or more"),
        (-4, 2, "--window -4: expected"),
        (float("nan"), 2, "--window nan: expected"),
        (4, 0, "--stride 0: expected 0.02 or more and at most --window 4"),
        (4, 5, "--stride 5: expected 0.02 or more and at most --window 4"),
    ],
)
def test_windows_that_do_not_cover_a_video(window, stride, message):
    with pytest.raises(UserError, match=message):
        check_window(window, stride)


VIDEOS = {
    "B-frames": lambda path: write_video(path, num_frames=61),
    "variable frame rate": lambda path: write_video(path, num_frames=40, milliseconds=(10, 300)),
    "turned": lambda path: rotate(write_video(path, num_frames=30), 90),
    "one frame": lambda path: write_video(path, num_frames=1),
}


@pytest.mark.parametrize("kind", VIDEOS)
def test_a_window_over_the_whole_video_scores_as_the_video(kind, recognizer, tmp_path):
    video = VIDEOS[kind](tmp_path / "video.mp4")
    ((window, scores),) = score_windows(recognizer, video, window=1000, stride=500)
    times = read_frame_times(video)
    assert window == (0.0, times.duration, 0, len(times))
    assert np.abs(scores - recognizer.scores(video)).max() < 1e-5


def test_packets_without_times_are_counted_by_decoding(recognizer, tmp_path):
    """The same stream in a file that keeps times and in one that keeps none."""
    with_times, without = (
        make_video(tmp_path / name, size=(96, 64), num_frames=50) for name in ("v.mp4", "v.h264")
    )
    assert not read_frame_times(without).pts
    first, second = (
        score_windows(recognizer, video, window=1, stride=0.5) for video in (with_times, without)
    )
    assert [window for window, _ in first] == [window for window, _ in second]
    assert len(first) == 3
    check_scores([scores for _, scores in second], [scores for _, scores in first])


@pytest.mark.parametrize("clip_len", [1, 4])
def test_a_window_is_sampled_as_a_clip_of_its_length(clip_len, tmp_path):
    """The same pipeline on decord's frames of the window alone, as a video of that length."""
    video = write_video(tmp_path / "video.mp4", num_frames=90, milliseconds=(20, 60))
    sampler = dict(PIPELINE[1], clip_len=clip_len)
    shape = "NCHW" if clip_len == 1 else "NCTHW"
    pipeline = [PIPELINE[0], sampler, *PIPELINE[2:-2], dict(PIPELINE[-2], input_format=shape)]
    pipeline.append(PIPELINE[-1])
    times = read_frame_times(video)
    cut = cut_windows(times, window=1.0, stride=0.5)
    assert len(cut) > 5
    views = WindowViews(video, times, cut, with_decoder(pipeline, "packets"), Compose)
    frames = decord.VideoReader(str(video))
    for number, window in enumerate(cut):
        alone = dict(sample_of(video), total_frames=window.last - window.first)
        alone = Compose([sampler])(alone)
        taken = alone["frame_inds"] + window.first
        alone["imgs"] = list(frames.get_batch(taken.tolist()).asnumpy())
        alone["original_shape"] = alone["img_shape"] = alone["imgs"][0].shape[:2]
        expected = Compose(pipeline[3:])(alone)["inputs"]
        assert (views(number)["inputs"] == expected).all()


def test_each_frame_is_decoded_once(tmp_path, monkeypatch):
    video = write_video(tmp_path / "video.mp4", num_frames=100, x264="keyint=25:bframes=0")
    decoded = []
    decode = windows.decode
    monkeypatch.setattr(
        windows, "decode", lambda *a: (decoded.append(one[0]) or one for one in decode(*a))
    )
    times = read_frame_times(video)
    cut = cut_windows(times, window=1.0, stride=0.25)
    views = WindowViews(video, times, cut, with_decoder(PIPELINE, "packets"), Compose)
    for number in range(len(cut)):
        views(number)
        assert len(views._frames) <= 3 * 4  # what overlapping windows take, no more
    assert len(decoded) == len(set(decoded)) <= 100


def test_a_file_that_is_cut_off_has_the_windows_that_are_there(recognizer, tmp_path):
    whole = make_video(
        tmp_path / "v.mkv", size=(96, 64), num_frames=100, options={"g": "10", "bf": "0"}
    )
    scored = score_windows(recognizer, truncate(whole, 0.6), window=1, stride=1)
    assert 1 < scored[-1][0].end < 4
    assert all(isinstance(scores, np.ndarray) for _, scores in scored)


def test_a_frame_that_does_not_decode_costs_its_windows(tmp_path):
    """The index promises a last frame that the file does not have."""
    video = write_video(tmp_path / "video.mp4", num_frames=50)
    found = read_frame_times(video)
    times = FrameTimes(
        np.append(found.seconds, found.duration),
        found.duration + 0.04,
        found.fps,
        [*found.pts, found.pts[-1] + 10**6],
    )
    cut = [Window(0, 1, 0, 25), Window(1, 2, 50, 51), Window(0, 1, 0, 25)]
    views = WindowViews(video, times, cut, with_decoder(PIPELINE, "packets"), Compose)
    assert views(0)["inputs"].shape == (3, 3, 48, 48)
    with pytest.raises(UserError, match="1 of its frames cannot be decoded"):
        views(1)
    assert views(2)["inputs"].shape == (3, 3, 48, 48)


def test_a_lost_decoder_ends_the_windows_after_it(tmp_path):
    video = write_video(tmp_path / "video.mp4", num_frames=50)
    times = read_frame_times(video)
    cut = [Window(0, 1, 0, 25), Window(1, 2, 25, 50)]
    views = WindowViews(video, times, cut, with_decoder(PIPELINE, "packets"), Compose)
    with pytest.raises(UserError, match="the decoder was lost at an earlier window"):
        views(1)


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


def test_the_nearest_window_counts():
    cells = cells_of(ROW)
    assert [(cell.start, cell.end) for cell in cells] == [(0, 3), (3, 5), (5, 6.5), (6.5, 9)]
    assert [cell.predictions[0] if cell.predictions else None for cell in cells] == [
        ("a", 0.9), ("a", 0.7), None, ("b", 0.6)
    ]  # fmt: skip
    assert merge(cells) == SEGMENTS
    whole = dict(video="v.mp4", predictions=[dict(label="a", score=1.0)])
    assert cells_of(whole) == [(0.0, float("inf"), [("a", 1.0)])]


def test_files(tmp_path):
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


def test_rows_of_videos(recognizer, tmp_path):
    video = write_video(tmp_path / "video.mp4", num_frames=75, milliseconds=(40, 41))
    broken, gone = tmp_path / "broken.mp4", tmp_path / "gone.mp4"
    broken.write_bytes(b"not a video" * 100)
    good, *bad = window_rows(recognizer, [video, broken, gone], 3, window=2, stride=1)
    assert [(one["start"], one["end"]) for one in good["windows"]] == [(0.0, 2.0), (1.0, 3.0)]
    assert all(len(one["predictions"]) == 3 for one in good["windows"])
    assert good["segments"][0]["start"] == 0.0
    assert good["segments"][-1]["end"] == good["duration"] == 3.0
    assert len(say_segments(good)) == len(good["segments"])
    for row, path, reason in zip(
        bad, (broken, gone), ("Invalid data", "no such file"), strict=True
    ):
        assert row["error"].startswith(f"cannot read video {path}: {reason}")
        assert set(row) == {"video", "error"}
