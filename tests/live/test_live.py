"""Live streams, from real servers on loopback: what is scored and when, and what a fault does."""

import json
import re
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from live_servers import FPS, other_server, read_clock, serving
from pattern_videos import make_video
from small_recognizer import small_recognizer
from torch import Tensor

from mmact_tiny.compat import Compose, init_default_scope
from mmact_tiny.errors import UserError
from mmact_tiny.live import frames
from mmact_tiny.live.frames import Frames
from mmact_tiny.live.source import Reader
from mmact_tiny.live.watch import Answer, Settings, Watch
from mmact_tiny.recognizer import Recognizer
from mmact_tiny.video.files import upright
from mmact_tiny.video.packets import decode

WINDOW, STRIDE = 1.0, 0.25
PIPELINE = [
    dict(type="PacketInit"),
    dict(type="SampleFrames", clip_len=1, frame_interval=1, num_clips=25, test_mode=True),
    dict(type="PacketDecode"),
    dict(type="Resize", scale=(-1, 64)),
    dict(type="FormatShape", input_format="NCHW"),
    dict(type="PackActionInputs"),
]


class ClockReader:
    """A recognizer that reads the clock of the newest frame, and may take its time.

    `ages` are the seconds from when that frame was made to the answer.
    """

    steps, labels, thresholds = PIPELINE, ["nothing", "running"], None
    top_k, compose = Recognizer.top_k, Compose

    def __init__(self, seconds: float = 0.0) -> None:
        init_default_scope("mmaction")
        self.seconds = seconds
        self.ages: list[float] = []
        self.sizes: list[tuple[int, ...]] = []

    def score_samples(self, samples: Sequence[dict[str, Any]]) -> Iterator[np.ndarray]:
        views: Tensor = samples[0]["inputs"]
        made = read_clock(views[-1].permute(1, 2, 0).numpy())
        self.sizes.append(tuple(views.shape[2:]))
        time.sleep(self.seconds)
        self.ages.append(time.monotonic() % 2**32 - made / 1000)
        yield np.array([0.1, 0.9], np.float32)


def watch(
    source: str, recognizer: Any, *, seconds: float, then: Sequence[Callable] = (), **settings: Any
) -> tuple[Watch, list[Answer]]:
    """Watches for some seconds of answers; calls `then`, each after an equal part of them."""
    reader = Reader(source, first_pause=0.2, silent_seconds=settings.pop("silent_seconds", 5.0))
    own = dict(window=WINDOW, stride=STRIDE)
    watch = Watch(reader, recognizer, Settings(**(own | settings)))
    answers, start, steps = [], time.monotonic(), [*then]
    part = seconds / (len(steps) + 1)
    for answer in watch:
        answers.append(answer)
        if steps and time.monotonic() - start > part * (len(then) - len(steps) + 1):
            steps.pop(0)()
        if time.monotonic() - start > seconds:
            break
    watch.reader.close()
    return watch, answers


def usual(values: Sequence[float]) -> float:
    """Returns the median: another job on the machine may delay a few."""
    return float(np.median(values))


@pytest.mark.parametrize(("kind", "most"), [("http", 0.4), ("rtsp", 0.4), ("hls", 1.9)])
def test_the_newest_window_is_scored_at_once(kind, most, tmp_path):
    """HLS gives a segment, of a second here, when it is whole."""
    recognizer = ClockReader()
    with serving(kind, tmp_path) as (source, _, _):
        _, answers = watch(source, recognizer, seconds=3)
    ends = np.array([answer.end for answer in answers])
    assert len(ends) >= 5 and ends[0] >= WINDOW
    assert usual(ends[1:] % STRIDE) < 1.5 / FPS and usual(np.diff(ends)) < STRIDE + 1.5 / FPS
    assert usual(recognizer.ages) < most


HAS = {
    "gstreamer": "/usr/bin/python3 -c __import__('gi').require_version('GstRtspServer','1.0')",
    "ffmpeg": "ffmpeg -version",
}


@pytest.mark.parametrize("kind", HAS)
def test_servers_that_others_wrote(kind):
    try:
        subprocess.run(HAS[kind].split(), check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip(f"no {kind} here; Debian has it: ffmpeg, gir1.2-gst-rtsp-server-1.0")
    recognizer = ClockReader()
    with other_server(kind) as source:
        for _ in range(100):
            with suppress(UserError):
                _, answers = watch(source, recognizer, seconds=2)
                break
            time.sleep(0.1)
    assert len(answers) >= 3 and {*recognizer.sizes} == {(64, 114)}


def test_a_model_that_is_too_slow_loses_frames_not_time(tmp_path, caplog):
    """It takes longer than a stride: windows are left out, and the delay does not grow."""
    recognizer = ClockReader(seconds=0.6)
    with serving("http", tmp_path) as (source, _, _):
        _, answers = watch(source, recognizer, seconds=5)
    ends = np.array([answer.end for answer in answers])
    assert 0.55 < np.diff(ends).mean() < 0.9
    assert usual(recognizer.ages) < STRIDE + 0.6 + 0.3
    assert usual([answer.delay for answer in answers]) < STRIDE + 0.6


def test_a_decoder_that_is_too_slow_loses_frames_not_time(tmp_path):
    """What waited for longer than a stride is not kept; after 2 s all to a keyframe are gone."""

    def resize(image: np.ndarray) -> np.ndarray:
        time.sleep(pause)
        return image

    pause = 0.1
    with serving("http", tmp_path) as (source, _, _):
        reader = Reader(source)
        found = Frames(reader, resize, window=WINDOW, late_seconds=STRIDE)
        time.sleep(3)
        ages = []
        for _ in range(3):
            newest = found.newest(0.0, 1.0)[-1]
            ages.append(time.monotonic() - read_clock(newest.image) / 1000)
            time.sleep(0.3)
        assert 0.2 < found.num_kept / reader.num_read < 0.6
        assert min(ages) < STRIDE + pause + 0.2
        pause, before = 3.0, reader.num_read
        time.sleep(4)
        pause = 0.0
        time.sleep(2.5)
        assert reader.num_read - before > 5 * FPS
        age = time.monotonic() - read_clock(found.newest(0.0, 1.0)[-1].image) / 1000
        assert age < 0.4
        reader.close()


def test_a_long_window_is_thinned_out_evenly(tmp_path, monkeypatch):
    monkeypatch.setattr(frames, "MAX_BYTES", 10 * 180 * 320 * 3)
    with serving("http", tmp_path) as (source, _, _):
        reader = Reader(source)
        kept = Frames(reader, lambda image: image, window=2.0, late_seconds=1.0).newest(0.0, 9.0)
        reader.close()
    assert np.diff([frame.time for frame in kept]) == pytest.approx(0.2, abs=0.05)
    assert 9 <= len(kept) <= 11


# what happens to the camera, and the sizes of what is scored
CHANGES = {
    "its time jumps ahead": (dict(offset=3600), {(64, 114)}),
    "its time jumps back": (dict(offset=-900), {(64, 114)}),
    "another size": (dict(size=(240, 240)), {(64, 114), (64, 64)}),
    "it gets slow": (dict(fps=12), {(64, 114)}),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_in_mid_stream(name, tmp_path):
    changes, sizes = CHANGES[name]
    recognizer = ClockReader()
    with serving("rtsp", tmp_path) as (source, camera, _):
        watched, answers = watch(
            source, recognizer, seconds=3.5, then=[lambda: vars(camera).update(changes)]
        )
    assert {*recognizer.sizes} == sizes and not watched.reader.losses
    ends = np.array([answer.end for answer in answers])
    assert (np.diff(ends) > 0).all() and 1.4 < np.ptp(ends) < 4
    assert usual(recognizer.ages) < 0.6


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.parametrize(
    ("kind", "fault", "reason", "tries"),
    [
        ("http", "cut", "Input/output error", 2),
        ("rtsp", "cut", "it ended", 2),
        ("http", "mute", "nothing came in time", 1),
    ],
)
def test_a_lost_stream_is_tried_again(kind, fault, reason, tries, tmp_path, caplog):
    """The event before ends with the last window; the pauses grow from try to try."""
    out, recognizer = tmp_path / "events.jsonl", ClockReader()
    with serving(kind, tmp_path) as (source, camera, _):
        break_it = threading.Thread(target=getattr(camera, fault), args=(1.0,)).start
        _, answers = watch(
            source, recognizer, seconds=5.5, then=[break_it], out=out, silent_seconds=0.8
        )
    found = rows(out)  # on a busy machine nothing may come for so long, which ends an event too
    lost = next(row for row in found if "lost" in row)
    (*_, first), (second, *_) = found[: (n := found.index(lost))], found[n + 1 :]
    assert lost["lost"] == reason and 0.5 < lost["end"] - lost["start"] < 4.5
    assert first["start"] < 3 and first["end"] == pytest.approx(lost["start"], abs=1)
    assert lost["end"] < second["start"] < second["end"]
    assert found[-1]["end"] == pytest.approx(answers[-1].end, abs=0.1)
    assert [row["label"] for row in (first, second)] == ["running"] * 2
    pauses = re.findall(r"trying again in ([\d.]+) s", caplog.text)
    assert pauses == ["0.2", "0.4", "0.8", "1.6"][: len(pauses)] and len(pauses) >= tries
    assert "is back after" in caplog.text
    assert datetime.fromisoformat(first["clock"]) < datetime.fromisoformat(second["clock"])
    assert usual(recognizer.ages) < 0.6


def test_a_file_at_an_address_is_played_and_ends(tmp_path):
    """It takes as long as the video; a window has the scores of a video of its frames."""
    path = make_video(tmp_path / "a.mp4", num_frames=60)
    recognizer = small_recognizer()
    with serving("http", tmp_path) as (source, _, server):
        server.files["/a.mp4"] = path.read_bytes()
        began = time.monotonic()
        file = source.replace("live.ts", "a.mp4")
        _, answers = watch(file, recognizer, seconds=60, smooth=1, threshold=0.01)
    assert time.monotonic() - began > 2.2
    assert answers[-1].end == pytest.approx(59 / 25, abs=0.01)
    images = [upright(frame) for _, frame in decode(path)]
    for start, end, predictions, _ in answers:
        part = [one for number, one in enumerate(images) if start + 1e-3 < number / 25 < end + 1e-3]
        assert predictions == recognizer.predict(np.stack(part))[:5]


@pytest.mark.parametrize("seconds", [6, pytest.param(240, marks=pytest.mark.slow)])
def test_the_delay_and_the_memory_stay(seconds, tmp_path):
    """From when a frame was made to the answer: a stride and a forward pass; `-s` shows all."""
    recognizer = ClockReader(seconds=0.1)
    process, sizes = psutil.Process(), []
    with serving("rtsp", tmp_path) as (source, _, _):
        steps = [lambda: sizes.append(process.memory_info().rss / 1e6)] * 5
        _, answers = watch(source, recognizer, seconds=seconds, then=steps)
    ages = np.array(recognizer.ages)
    counts, edges = np.histogram(ages, np.arange(0, 0.61, 0.02))
    for count, edge in zip(counts, edges, strict=False):
        print(f"{edge:.2f} to {edge + 0.02:.2f} s: {count}")
    print(f"{len(ages)} windows, most {ages.max():.3f} s; MB: {sizes}")
    share = 0.95 if seconds > 60 else 0.5  # of so few windows on a busy machine
    assert len(answers) > (0.8 if seconds > 60 else 0.5) * (seconds - WINDOW) / STRIDE
    assert np.quantile(ages, share) < STRIDE + 0.1 and ages.max() < STRIDE + 0.1 + 1
    assert sizes[-1] - sizes[0] < (40 if seconds > 60 else 150)
