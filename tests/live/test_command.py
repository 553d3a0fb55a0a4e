"""`infer.py` on streams: the real command, its events, its end, and what it refuses."""

import io
import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import warm
from conftest import ROOT
from jobs import run_python, wait_for
from live_servers import serving
from pattern_videos import make_video

from mmact_tiny.errors import EXIT_ERROR, EXIT_INTERRUPTED, EXIT_OK, UserError
from mmact_tiny.live import source as sources
from tools import infer

FLAGS = [
    *("--window", "0.8", "--stride", "0.2", "--protocol", "val"),
    *("--threshold", "0.01", "--engine", "torch"),
]


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_ctrl_c_writes_the_last_event(tiny_checkpoint, tmp_path):
    """A second command, which SIGTERM ends while nothing comes, appends to the same file."""
    out, script = tmp_path / "events.jsonl", ROOT / "tools/infer.py"
    with serving("http", tmp_path) as (source, camera, _):
        for number in (signal.SIGINT, signal.SIGTERM):
            said, logged = tmp_path / f"{number}.out", tmp_path / f"{number}.err"
            said.touch()
            words = [script, source, *FLAGS, "--checkpoint", tiny_checkpoint, "--out", out]
            process = warm.start([*words, "--device", "cpu"], stdout=said, stderr=logged)
            wait_for(lambda: " -     ... s  class " in said.read_text(), process, 60)  # noqa: B023
            camera.is_silent = number == signal.SIGTERM
            time.sleep(0.3)
            os.kill(process.pid, number)
            assert process.wait(20) == EXIT_INTERRUPTED
            assert "Traceback" not in logged.read_text()
            event, summary = said.read_text().splitlines()[-2:]
            assert "windows scored; delay: half within" in summary
            assert event.split(" s  ")[1].startswith("class ")
    assert len(rows(out)) >= 2
    for row in rows(out):
        assert row["label"].startswith("class ") and row["end"] > row["start"]


@contextmanager
def standard_input(number: int) -> Iterator[None]:
    """Has this process read a file as its standard input."""
    before = os.dup(0)
    os.dup2(number, 0)
    try:
        yield
    finally:
        os.dup2(before, 0)
        os.close(before)


def test_standard_input_is_a_stream(tiny_checkpoint, tmp_path, capsys):
    """It ends with its last frame; a file of known length is read at its own speed."""
    video = make_video(tmp_path / "a.mkv", size=(160, 90), num_frames=40)
    out = tmp_path / "events.jsonl"
    words = ["-", *FLAGS, "--checkpoint", str(tiny_checkpoint), "--out", str(out)]
    words += ["--stride", "0.8"]  # so late a frame may be and is kept
    with video.open("rb") as file, standard_input(file.fileno()):
        assert infer.main(words) == EXIT_OK
    assert "40 of 40 frames kept" in capsys.readouterr().out
    assert rows(out)[0]["start"] == 0 and rows(out)[-1]["end"] == pytest.approx(1.56, abs=0.01)


def test_a_video_that_cannot_be_read_in_order_ends_standard_input(
    tiny_checkpoint, tmp_path, capsys
):
    """Its index comes last: a pipe cannot be read again, so it is not tried again."""
    how = dict(codec="mjpeg", pix_fmt="yuvj420p", options={"qmin": "1", "qmax": "1"})
    video = make_video(tmp_path / "a.mp4", size=(640, 480), num_frames=50, **how)
    assert video.stat().st_size > 1 << 18, "FFmpeg looks back for less"
    with subprocess.Popen(["cat", video], stdout=subprocess.PIPE) as cat:
        with standard_input(cat.stdout.fileno()):
            assert infer.main(["-", *FLAGS, "--checkpoint", str(tiny_checkpoint)]) == EXIT_ERROR
        cat.kill()
    said, logged = capsys.readouterr()
    assert "error: -: " in logged and "trying again" not in said + logged


def test_a_pipe_that_gives_nothing_is_told(monkeypatch):
    monkeypatch.setattr(sources, "OPEN_SECONDS", 0.2)
    reading, writing = os.pipe()
    with (
        standard_input(reading),
        pytest.raises(UserError, match=r"^-: nothing came in 0\.2 s on standard input$"),
    ):
        sources.Opened("-")
    os.close(reading)
    os.close(writing)


# the source, as a template of the server's address, and the words of the one line
REFUSED = {
    "nobody is there": ("rtsp://user:secret@127.0.0.1:1/cam", "rtsp://127.0.0.1:1/cam: Connection"),
    "no such page": ("{server}/gone", "{server}/gone: Server returned 5XX"),
    "no video": ("{server}/page.html", "{server}/page.html: it is no video stream that can be"),
    "DASH": (
        "{server}/live.mpd",
        "{server}/live.mpd: it is no video stream that can be",
    ),
    "sound alone": ("{server}/sound.ts", "{server}/sound.ts: no video stream"),
    "it says nothing": ("{silent}", "{silent}: nothing came in time"),
    "a list of this machine's files": ("{server}/list.m3u8", "{server}/list.m3u8: "),
    "no camera": ("/dev/video77", "/dev/video77: No such file or directory"),
}


def sound(folder: Path) -> bytes:
    file = io.BytesIO()
    with av.open(file, "w", format="mpegts") as container:
        stream = container.add_stream("mp2", rate=48000)
        silence = np.zeros((1, 2 * 48000), np.int16)
        frame = av.AudioFrame.from_ndarray(silence, format="s16", layout="stereo")
        frame.sample_rate = 48000
        container.mux(stream.encode(frame) + stream.encode(None))
    return file.getvalue()


@pytest.mark.parametrize("name", REFUSED)
def test_a_source_that_cannot_be_used_is_a_line(name, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(sources, "OPEN_SECONDS", 0.5)
    video = make_video(tmp_path / "a.mp4", size=(64, 64), num_frames=5)
    playlist = f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile://{video}\n#EXT-X-ENDLIST\n"
    with serving("http", tmp_path) as (live, _, server), socket.create_server(("", 0)) as silent:
        files = {"/page.html": b"<p>no video</p>" * 99, "/sound.ts": sound(tmp_path)}
        files["/live.mpd"] = b'<?xml version="1.0"?><MPD type="dynamic"></MPD>'
        server.files = files | {"/list.m3u8": playlist.encode()}
        port = silent.getsockname()[1]
        names = dict(server=live.removesuffix("/live.ts"), silent=f"http://127.0.0.1:{port}/")
        source, message = (text.format(**names) for text in REFUSED[name])
        assert infer.main([source, "--window", "1"]) == EXIT_ERROR
    error = capsys.readouterr().err
    assert error.startswith(f"error: {message}") and error.count("\n") == 1, error
    assert ("PyAV's wheels read no DASH" in error) == (name == "DASH")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("rtsp://cam", "rtsp://cam: a stream is scored in windows; expected --window SECONDS"),
        ("rtsp://cam a.mp4 --window 1", "rtsp://cam: expected no other video beside a stream"),
        ("- --window 1 --render a.mp4", "--render: expected video files, not the stream -"),
        ("- --window 1 --for cvat", "--for: expected video files, not the stream -"),
        ("- --window 1 --out a.csv", "--out a.csv: expected a name that ends in .jsonl for a"),
        ("- --window 1 --stride 2", "--stride 2: expected 0.02 or more and at most --window 1"),
        ("- --window 1 --smooth 0", "--smooth 0: expected 1 window or more"),
        ("- --window 1 --threshold 2", "--threshold 2: expected a score above 0 and at most 1"),
        ("a.mp4 --smooth 3", "--smooth 3: expected a stream: docs/live.md"),
        ("http://cam/a.mp4 --out a/ --smooth 3", "--smooth 3: expected a stream: docs/live.md"),
    ],
)
def test_flags_of_streams_and_of_files(words, message, capsys):
    assert infer.main(words.split()) == EXIT_ERROR
    assert capsys.readouterr().err.startswith(f"error: {message}")


EARLY = """
import sys
from tools import infer, serve
for tool, words in ((infer, "- --window 1 --stride 2"), (infer, "rtsp://127.0.0.1:1/ --window 1"),
    (serve, "--live - --stride 3"), (serve, "--live rtsp://127.0.0.1:1/")):
    assert tool.main(words.split()) == 2
assert not {"torch", "mmengine", "fastapi"} & {*sys.modules}
"""


def test_a_mistake_is_told_before_pytorch_is_imported():
    """A wrong flag and a source that cannot be opened."""
    assert run_python("-c", EARLY).stderr.count("error: ") == 4
