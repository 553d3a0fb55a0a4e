"""The tool itself: a process that starts, says where, and ends without a trace."""

import http.client
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

pytest.importorskip("fastapi", reason="the web extra is not installed")

from bad_inputs import write_clip
from conftest import ROOT
from small_recognizer import write_checkpoint
from web_site import API, CLIP, PATIENCE, post, wait_until

from mmact_tiny.serve.server import find_examples
from tools import serve

OTHER = socket.create_server(("127.0.0.1", 0))  # another program
TAKEN = OTHER.getsockname()[1]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("model") / "random.pth")


class Tool:
    """`tools/serve.py` in a process, with a temporary folder of its own."""

    def __init__(self, folder: Path, *flags: str) -> None:
        self.temporary = folder / "tmp"
        self.temporary.mkdir()
        self.process = subprocess.Popen(
            [sys.executable, "tools/serve.py", "--port", "0", "--engine", "torch", *flags],
            cwd=ROOT,
            env=dict(os.environ, TMPDIR=str(self.temporary), PYTHONPATH=str(ROOT)),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            restore_signals=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler) and None,
        )
        assert self.process.stdout is not None
        self.printed = ""
        while not (found := re.search(r"page: http://\S+:(\d+) ", self.printed)):
            line = self.process.stdout.readline()
            assert line, self.printed
            self.printed += line
        self.port = int(found[1])

    def end(self, number: int) -> tuple[int, float]:
        """Sends a signal; returns the exit status and the seconds until then."""
        start = time.monotonic()
        self.process.send_signal(number)
        try:
            self.printed += self.process.communicate(timeout=PATIENCE)[0]
        finally:
            self.process.kill()
        return self.process.returncode, time.monotonic() - start


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_it_in_the_middle_of_work(
    checkpoint: Path, tmp_path: Path, number: int, status: int
) -> None:
    tool = Tool(tmp_path, "--checkpoint", str(checkpoint), "--device", "cpu")
    answers = []

    def ask() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", tool.port, timeout=PATIENCE)
        connection.request("POST", API, CLIP.read_bytes())
        answers.append(connection.getresponse().status)

    half = socket.create_connection(("127.0.0.1", tool.port))  # an upload that stops half-way
    half.sendall(post(b"x", length=99))
    clients = [threading.Thread(target=ask) for _ in range(8)]
    for client in clients:
        client.start()
    wait_until(lambda: list(tool.temporary.glob("mmact_tiny-uploads-*/*")))
    code, seconds = tool.end(number)
    for client in clients:
        client.join()
    half.close()
    assert code == status and seconds < 25, "30 s is the wait for an upload"
    assert list(tool.temporary.iterdir()) == []
    assert "Traceback" not in tool.printed
    assert set(answers) <= {200, 503} and len(answers) == 8


def test_a_host_beyond_loopback_is_said_and_keeps_to_its_names(
    checkpoint: Path, tmp_path: Path
) -> None:
    flags = ("--checkpoint", str(checkpoint), "--host", "0.0.0.0", "--protocol", "val")
    tool = Tool(tmp_path, *flags)
    statuses = []
    for host in ("127.0.0.1", "evil.example"):
        connection = http.client.HTTPConnection("127.0.0.1", tool.port, timeout=PATIENCE)
        connection.request("GET", "/api/health", headers={"Host": host})
        statuses.append(connection.getresponse().status)
        connection.close()
    code, _ = tool.end(signal.SIGINT)
    assert statuses == [200, 403] and code == 130
    assert tool.printed.count("lets anybody on the network use this server") == 1


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--port", "70000"], "--port 70000: expected 0 to 65535"),
        (["--host", "no.such.host.invalid"], "--host no.such.host.invalid: "),
        (["--host", "203.0.113.1"], "cannot serve on port 0 of 203.0.113.1: Cannot assign"),
        (["--max-mb", "0"], "--max-mb 0: expected a number above 0"),
        (["--max-seconds", "nan"], "--max-seconds nan: expected a number above 0"),
        (["--checkpoint", "gone.pth"], "gone.pth"),
        (["--stride", "2"], "--window and --stride: expected --live STREAM too"),
        (["--examples", "gone"], "error: no video file gone"),
        (["--port", "TAKEN"], "TAKEN of 127.0.0.1 is taken: another program serves there"),
        (["--port", "TAKEN"], "choose another: --port NEXT, or a free one"),
    ],
)
def test_what_cannot_be(
    flags: list[str], message: str, checkpoint: Path, capsys: pytest.CaptureFixture
) -> None:
    flags = [flag.replace("TAKEN", str(TAKEN)) for flag in flags]  # another one in each process
    message = message.replace("TAKEN", str(TAKEN)).replace("NEXT", str(TAKEN + 1))
    assert serve.main(["--port", "0", "--checkpoint", str(checkpoint), *flags]) == 2
    printed = capsys.readouterr().err
    assert printed.startswith("error: ") and message in printed and "Traceback" not in printed


def test_without_the_extra_the_error_names_it(tmp_path: Path) -> None:
    (tmp_path / "fastapi.py").write_text("raise ModuleNotFoundError(name='fastapi')")
    done = subprocess.run(
        [sys.executable, "tools/serve.py"],
        cwd=ROOT,
        env=dict(os.environ, PYTHONPATH=f"{tmp_path}:{ROOT}"),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert done.stderr == "error: fastapi is not installed: pip install 'mmact-tiny[web]'\n"


def test_examples_of_a_folder(
    checkpoint: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    from mmact_tiny.recognizer import Recognizer

    for number in range(9):
        write_clip(tmp_path / f"{number}.mp4")
    (tmp_path / "1.mp4").write_bytes(b"rubbish")
    with caplog.at_level("INFO", logger="mmact_tiny"):
        recognizer = Recognizer(checkpoint, protocol="val", engine="torch")
        found = list(find_examples(recognizer, tmp_path))
    assert [example.name for example in found] == ["0", "2", "3", "4", "5", "6", "7"]
    assert all(example.poster.startswith(b"\xff\xd8") for example in found)
    assert "examples: the first 8 of 9 videos" in caplog.text
    assert f"example {tmp_path / '1.mp4'} left out: it is not a video" in caplog.text
