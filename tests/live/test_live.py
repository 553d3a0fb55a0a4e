"""Live streams, from real servers on loopback: what is scored and when, and what a fault does."""

import json
import logging.handlers
import re
import subprocess
import threading
import time
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from live_servers import FPS, OTHER_KINDS, other_server, read_clock, serving
from live_watch import HELD, STRIDE, WINDOW, ClockReader, side_by_side, sleeper, watch
from pattern_videos import make_video
from small_recognizer import small_recognizer

from mmact_tiny.errors import UserError
from mmact_tiny.live import frames
from mmact_tiny.live import source as sources
from mmact_tiny.live.frames import Frames
from mmact_tiny.live.source import Reader
from mmact_tiny.video.files import upright
from mmact_tiny.video.packets import decode

HOPS = 5  # threads from camera to answer, each of which may wait as long as the sleeper did


def check_ages(recognizer: ClockReader, slept: np.ndarray, more: float = 0.0) -> None:
    """Checks that answers come within a stride and their own forward pass.

    One in five may be later by a second: a machine that is busy has the encoders of the cameras and
    the decoders, which work, wait for a core more than a process that sleeps.

    Args:
        recognizer: That gave them.
        slept: Of `sleeper`: by as much as the machine itself was late they may be.
        more: Seconds that the source takes by itself.
    """
    late, allowed = recognizer.lateness(), more + HOPS * slept[1].max(initial=0)
    told = recognizer.ages, recognizer.passes, allowed
    assert np.quantile(late, 0.8) < allowed and late.max() < allowed + 1, told


# the server, how long a forward pass takes, and what the source itself does: HLS gives a segment,
# of a second, when it is whole and the playlist was read again, RTP waits for whole packets
KINDS = {
    "http": ("http", 0.0, 0.0),
    "rtsp": ("rtsp", 0.0, 0.0),
    "rtsp, H.264": ("h264", 0.0, 0.0),
    "hls": ("hls", 0.0, 2.5),
    "MJPEG, without time stamps": ("mjpeg", 0.0, 0.0),
    "udp": ("udp", 0.0, 0.0),
    "rtp": ("rtp", 0.0, 0.2),
    "a pass longer than a stride": ("http", 0.6, 0.0),
}


@pytest.fixture(scope="module")
def watched(tmp_path_factory) -> dict[str, Any]:
    """The recognizer and the answers of each kind, and how late the machine itself was."""

    def watch_kind(kind: str, seconds: float, _: float) -> tuple[ClockReader, Any, np.ndarray]:
        recognizer = ClockReader(seconds)
        with serving(kind, tmp_path_factory.mktemp(kind)) as (source, *_), sleeper() as slept:
            answers = watch(source, recognizer, seconds=3)[1]
            return recognizer, answers, slept()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sources, "OPEN_SECONDS", 60.0)  # HLS waits for its segments
        return side_by_side(watch_kind, KINDS)


@pytest.mark.parametrize("name", KINDS)
def test_the_newest_window_is_scored_at_once(name, watched):
    """Of a pass longer than a stride windows are left out, and the delay does not grow."""
    (recognizer, answers, slept), (_, seconds, more) = watched[name], KINDS[name]
    ends = np.array([answer.end for answer in answers])
    assert len(ends) >= 3 and ends[0] >= WINDOW
    check_ages(recognizer, slept, more)
    if not seconds:
        assert np.median(ends[1:] % STRIDE) < 1.5 / FPS
        assert np.median(np.diff(ends)) < STRIDE + 1.5 / FPS


# the server, whether it is read at its own speed, and whether its end is the video's
READ = {
    "MPEG-TS": ("http", "", False, False),
    "FLV, which tells a length of 0": ("flv", "", False, False),
    "HLS": ("hls", "", True, False),
    "a file": ("http", "a.mp4", True, True),
}


def test_what_has_its_own_speed_and_an_end(tmp_path):
    video = make_video(tmp_path / "a.mp4", size=(64, 64), num_frames=5).read_bytes()

    def open_it(kind: str, file: str, *expected: bool) -> tuple[bool, ...]:
        with serving(kind, tmp_path) as (source, _, server):
            server.files["/a.mp4"] = video
            opened = sources.Opened(source.replace("live.ts", file or "live.ts"))
            opened.container.close()
            return opened.is_paced, opened.ends

    assert side_by_side(open_it, READ) == {name: case[2:] for name, case in READ.items()}


HAS = {
    "gstreamer": "/usr/bin/python3 -c __import__('gi').require_version('GstRtspServer','1.0')",
    "ffmpeg": "ffmpeg -version",
}
OTHERS = {kind: HAS["gstreamer" if kind == "gstreamer" else "ffmpeg"] for kind in OTHER_KINDS}


@pytest.fixture(scope="module")
def others() -> dict[str, Any]:
    """What became of each server that others wrote and that is here."""

    def watch_other(kind: str) -> tuple[ClockReader, Any]:
        recognizer = ClockReader()
        with other_server(kind) as source:
            for _ in range(100):
                with suppress(UserError):
                    return recognizer, *watch(source, recognizer, seconds=1.5)
                time.sleep(0.1)

    found = {}
    for kind, words in OTHERS.items():
        with suppress(OSError, subprocess.CalledProcessError):
            subprocess.run(words.split(), check=True, capture_output=True)
            found[kind] = (kind,)
    return side_by_side(watch_other, found) if found else {}


@pytest.mark.parametrize("kind", OTHERS)
def test_servers_that_others_wrote(kind, others):
    if kind not in others:
        pytest.skip(f"no {kind} here; Debian has it: ffmpeg, gir1.2-gst-rtsp-server-1.0")
    recognizer, watched, answers = others[kind]
    assert len(answers) >= 2 and {*recognizer.sizes} == {(64, 114)}
    assert not watched.reader.losses


def test_a_decoder_that_is_too_slow_loses_frames_not_time(tmp_path, monkeypatch):
    """What waited for longer than a stride is not kept; later all to a keyframe are gone."""
    monkeypatch.setattr(sources, "STALE_SECONDS", 0.6)

    def resize(image: np.ndarray) -> np.ndarray:
        time.sleep(pause)
        return image

    def age() -> float:
        return time.monotonic() - read_clock(found.newest(0.0, 1.0)[-1].image) / 1000

    pause = 0.1
    with serving("http", tmp_path) as (source, *_), sleeper() as slept:
        reader = Reader(source)
        found = Frames(reader, resize, window=WINDOW, late_seconds=STRIDE)
        time.sleep(1.5)
        ages = [age() for _ in range(8) if not time.sleep(pause)]
        assert 0.2 < found.num_kept / reader.num_read < 0.6
        assert max(ages) < STRIDE + 2 * pause + HELD + HOPS * slept()[1].max(initial=0)
        pause, before, began = 1.2, reader.num_read, time.monotonic()
        time.sleep(1.5)
        pause = 0.0
        while age() > 0.4:
            assert time.monotonic() - began < 10
        assert reader.num_read - before > 0.7 * FPS * (time.monotonic() - began)
        reader.close()


def test_a_long_window_is_thinned_out_evenly(tmp_path, monkeypatch):
    monkeypatch.setattr(frames, "MAX_BYTES", 10 * 180 * 320 * 3)
    with serving("http", tmp_path) as (source, _, _):
        reader = Reader(source)
        kept = Frames(reader, lambda image: image, window=1.0, late_seconds=1.0).newest(0.0, 9.0)
        reader.close()
    assert np.diff([frame.time for frame in kept]) == pytest.approx(0.1, abs=0.03)
    assert 9 <= len(kept) <= 11


# what happens to the camera, and the sizes of what is scored
CHANGES = {
    "its time jumps ahead": (dict(offset=3600), {(64, 114)}),
    "its time jumps back": (dict(offset=-900), {(64, 114)}),
    "another size": (dict(size=(240, 240)), {(64, 114), (64, 64)}),
    "it gets slow": (dict(fps=12), {(64, 114)}),
}


@pytest.fixture(scope="module")
def changed(tmp_path_factory) -> dict[str, Any]:
    """What became of each change half-way."""

    def watch_change(changes: dict[str, Any], _: Any) -> tuple[ClockReader, Any, Any, np.ndarray]:
        recognizer = ClockReader()
        with serving("rtsp", tmp_path_factory.mktemp("live")) as (source, camera, _):
            change = [lambda: vars(camera).update(changes)]
            with sleeper() as slept:
                found = watch(source, recognizer, seconds=3, then=change)
                return recognizer, *found, slept()

    return side_by_side(watch_change, CHANGES)


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_in_mid_stream(name, changed):
    recognizer, watched, answers, slept = changed[name]
    assert {*recognizer.sizes} == CHANGES[name][1] and not watched.reader.losses
    ends = np.array([answer.end for answer in answers])
    assert (np.diff(ends) > 0).all() and 1 < np.ptp(ends) < 4
    check_ages(recognizer, slept, 0.1)


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


# the server, what happens for how long, why it is lost, and at least so many tries
LOSSES = {
    "http is cut": ("http", "cut", 0.6, "Input/output error", 2),
    "rtsp is cut": ("h264", "cut", 0.6, "it ended", 2),
    "nothing comes": ("http", "mute", 1.2, "nothing came in time", 1),
}


@pytest.fixture(scope="module")
def lost(tmp_path_factory) -> dict[str, Any]:
    """What became of each loss half-way: its rows, what was logged, the recognizer, answers."""
    logged = logging.handlers.BufferingHandler(1000)
    logging.getLogger("mmact_tiny").addHandler(logged)

    def watch_loss(
        kind: str, fault: str, pause: float, *_: Any
    ) -> tuple[list, str, ClockReader, Any]:
        folder, recognizer = tmp_path_factory.mktemp("lost"), ClockReader()
        with serving(kind, folder) as (source, camera, _), sleeper() as slept:
            break_it = threading.Thread(target=getattr(camera, fault), args=(pause,)).start
            how = dict(window=0.6, out=folder / "events.jsonl", silent_seconds=0.8)
            _, answers = watch(source, recognizer, seconds=3.6, then=[break_it], **how)
            said = [record.getMessage() for record in logged.buffer]
            said = [line for line in said if line.startswith(source)]
            return rows(folder / "events.jsonl"), "\n".join(said), recognizer, answers, slept()

    found = side_by_side(watch_loss, LOSSES)
    logging.getLogger("mmact_tiny").removeHandler(logged)
    return found


@pytest.mark.parametrize("name", LOSSES)
def test_a_lost_stream_is_tried_again(name, lost):
    """The event before ends with the last window; the pauses grow from try to try."""
    found, said, recognizer, answers, slept = lost[name]
    *_, reason, tries = LOSSES[name]
    # On a busy machine nothing may come for so long, which ends an event too.
    loss = next(row for row in found if "lost" in row)
    (*_, first), (second, *_) = found[: (n := found.index(loss))], found[n + 1 :]
    assert loss["lost"] == reason and 0.2 < loss["end"] - loss["start"] < 4.5
    assert first["start"] < 3 and first["end"] == pytest.approx(loss["start"], abs=1)
    assert loss["end"] < second["start"] < second["end"]
    assert found[-1]["end"] == pytest.approx(answers[-1].end, abs=0.1)
    assert [row["label"] for row in (first, second)] == ["running"] * 2
    pauses = re.findall(r"trying again in ([\d.]+) s", said)
    assert pauses == ["0.2", "0.4", "0.8", "1.6"][: len(pauses)] and len(pauses) >= tries
    assert "is back after" in said
    assert datetime.fromisoformat(first["clock"]) < datetime.fromisoformat(second["clock"])
    check_ages(recognizer, slept, 0.1)


def test_a_file_at_an_address_is_played_and_ends(tmp_path):
    """It takes as long as the video; a window has the scores of a video of its frames."""
    path = make_video(tmp_path / "a.mp4", num_frames=40)
    recognizer = small_recognizer()
    with serving("http", tmp_path) as (source, _, server):
        server.files["/a.mp4"] = path.read_bytes()
        began = time.monotonic()
        file = source.replace("live.ts", "a.mp4")
        # A frame may be late by a stride, and is kept.
        how = dict(smooth=1, threshold=0.01, stride=WINDOW)
        _, answers = watch(file, recognizer, seconds=60, **how)
    assert time.monotonic() - began > 1.5
    assert answers[-1].end == pytest.approx(39 / 25, abs=0.01)
    images = [upright(frame) for _, frame in decode(path)]
    for start, end, predictions, _ in answers:
        part = [one for number, one in enumerate(images) if start + 1e-3 < number / 25 < end + 1e-3]
        assert predictions == recognizer.predict(np.stack(part))[:5]


@pytest.mark.parametrize("seconds", [3, pytest.param(240, marks=pytest.mark.slow)])
def test_the_delay_and_the_memory_stay(seconds, tmp_path):
    """From when a frame was made to the answer: `benchmarks/live.py` shows all."""
    recognizer = ClockReader(seconds=0.1)
    process, sizes = psutil.Process(), []
    with serving("rtsp", tmp_path) as (source, *_), sleeper() as slept:
        steps = [lambda: sizes.append(process.memory_info().rss / 1e6)] * 5
        _, answers = watch(source, recognizer, seconds=seconds, then=steps)
        check_ages(recognizer, slept())
    assert len(answers) > 0.5 * (seconds - WINDOW) / STRIDE
    assert sizes[-1] - sizes[0] < (40 if seconds > 60 else 150)
