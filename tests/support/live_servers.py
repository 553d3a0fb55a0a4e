"""Real servers of live video on loopback, over HTTP, HLS, RTSP, UDP and RTP, that fail as told.

Each frame shows when it was made: the milliseconds of `time.monotonic` in 32 black or white blocks.
"""

import socket
import socketserver
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from fractions import Fraction
from functools import partial
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler
from pathlib import Path
from typing import Any

import av
import numpy as np

FPS = 25
BLOCKS = 4, 8  # rows and columns of the clock
ZERO = {"preset": "ultrafast", "tune": "zerolatency"}
X264: dict[str, Any] = dict(name="libx264", pixels="yuv420p", options=ZERO)
JPEG: dict[str, Any] = dict(name="mjpeg", pixels="yuvj420p", options={})
LIVE = {"/live.ts": "mpegts", "/live.flv": "flv", "/live.mjpg": "mpjpeg"}
HLS = {"hls_time": "1", "hls_list_size": "4", "hls_flags": "delete_segments"}
# Answers of RTSP to DESCRIBE: MPEG-TS has the number 33 in RFC 3551, H.264 is described (RFC 6184).
SDP = "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=cam\r\nt=0 0\r\nm=video 0 RTP/AVP {}\r\na=control:0\r\n"
MPEG_TS = SDP.format(33)
H264 = SDP.format(96) + "a=rtpmap:96 H264/90000\r\na=fmtp:96 packetization-mode=1\r\n"


def clock_picture(milliseconds: int, size: tuple[int, int]) -> np.ndarray:
    """Returns a picture of (width, height) that shows a time, (height, width, 3)."""
    bits = (milliseconds % 2**32 >> np.arange(32)) & 1
    columns, rows = (
        np.arange(side) * n // side for side, n in zip(size, BLOCKS[::-1], strict=True)
    )
    blocks = (16 + 219 * bits.reshape(BLOCKS)).astype(np.uint8)[np.ix_(rows, columns)]
    return np.repeat(blocks[..., None], 3, axis=2)


def read_clock(picture: np.ndarray) -> int:
    """Returns the time that a picture (height, width, 3) shows, of whatever size it is now."""
    sides = zip(picture.shape, BLOCKS, strict=False)
    rows, columns = ((2 * np.arange(n) + 1) * side // (2 * n) for side, n in sides)
    bits = picture[np.ix_(rows, columns)][..., 0].ravel() > 128
    return int(bits.astype(np.int64) @ (1 << np.arange(32)))


class Camera:
    """Films the clock for each client, in real time; a test changes it while it films.

    `size` is of the picture; `fps` how many are made in a second, and `told_fps` what their time
    stamps say; `offset` seconds are added to these; `is_silent` stops all frames.
    """

    def __init__(self) -> None:
        self.size = 320, 180
        self.fps = self.told_fps = FPS
        self.offset = 0.0
        self.is_silent = self.is_away = False
        self.generation = 0

    def cut(self, seconds: float = 0.0) -> None:
        """Ends all connections, and answers no new ones for some seconds."""
        self.is_away = True
        self.generation += 1
        time.sleep(seconds)
        self.is_away = False

    def mute(self, seconds: float) -> None:
        """Sends nothing for some seconds, and keeps the connections."""
        self.is_silent = True
        time.sleep(seconds)
        self.is_silent = False

    def film(self, sink: Any, **muxer: Any) -> None:
        """Writes to a file until the connections are cut or the client is gone."""
        generation, index, due = self.generation, 0, time.monotonic()
        while self.generation == generation:
            state = self.size, self.offset
            with av.open(sink, "w", **({"format": "mpegts"} | muxer)) as container:
                codec = JPEG if container.format.name == "mpjpeg" else X264
                stream: Any = container.add_stream(codec["name"], rate=FPS)
                stream.pix_fmt, stream.options = codec["pixels"], codec["options"]
                stream.width, stream.height = self.size
                stream.gop_size = FPS
                while self.generation == generation and state == (self.size, self.offset):
                    time.sleep(max(0.0, due - time.monotonic()))
                    index, due = index + 1, due + 1 / self.fps
                    if not self.is_silent:
                        frame = self._picture(index)
                        container.mux(stream.encode(frame))

    def _picture(self, index: int) -> av.VideoFrame:
        picture = clock_picture(int(time.monotonic() * 1000), self.size)
        frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
        frame.pts = int((1000 + self.offset + index / self.told_fps) * 90000)
        frame.time_base = Fraction(1, 90000)
        return frame


class HttpHandler(BaseHTTPRequestHandler):
    """Live video at the addresses of `LIVE`; else what the server's `files` have."""

    server: Any

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        data = self.server.files.get(self.path)
        is_live = self.path in LIVE and not self.server.camera.is_away
        self.send_response(200 if is_live or data else 503)
        if data:
            self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        with suppress(OSError):  # the client has gone
            if is_live:
                self.server.camera.film(self.wfile, format=LIVE[self.path])
            elif data:
                self.wfile.write(data)


class RtpWriter:
    """A file whose MPEG-TS packets go as RTP over the connection of RTSP (RFC 2326, 10.12)."""

    def __init__(self, connection: Any) -> None:
        self.connection, self.number, self.left = connection, 0, b""

    def write(self, data: bytes) -> int:
        self.left += bytes(data)
        while len(self.left) >= 188:
            size = min(len(self.left) // 188, 7) * 188
            part, self.left = self.left[:size], self.left[size:]
            stamp = int(time.monotonic() * 90000) % 2**32
            head = b"\x80\x21" + (self.number % 2**16).to_bytes(2) + stamp.to_bytes(4) + b"clok"
            self.connection.write(b"$\x00" + (12 + len(part)).to_bytes(2) + head + part)
            self.number += 1
        self.connection.flush()
        return len(data)


class PacketWriter:
    """A file to which FFmpeg writes packets of RTP and RTCP, for the connection of RTSP."""

    def __init__(self, connection: Any) -> None:
        self.connection = connection

    def write(self, data: bytes) -> int:
        channel = b"\x01" if data[1] == 200 else b"\x00"  # a sender's report, RFC 3550, 6.4.1
        self.connection.write(b"$" + channel + len(data).to_bytes(2) + bytes(data))
        self.connection.flush()
        return len(data)


class RtspHandler(socketserver.StreamRequestHandler):
    """As much of RTSP as a player over TCP needs; sends MPEG-TS."""

    server: Any
    sdp, writer, format = MPEG_TS, RtpWriter, "mpegts"

    def handle(self) -> None:
        with suppress(OSError):
            while request := self.rfile.readline().decode().split():
                lines = iter(lambda: self.rfile.readline().decode().strip(), "")
                headers = dict(line.lower().split(": ", 1) for line in lines)
                method, body = request[0], self.sdp if request[0] == "DESCRIBE" else ""
                status = "503 Service Unavailable" if self.server.camera.is_away else "200 OK"
                answer = f"RTSP/1.0 {status}\r\nCSeq: {headers['cseq']}\r\nSession: 1\r\n"
                if method == "SETUP":
                    answer += f"Transport: {headers['transport']}\r\n"
                kind = "Content-Type: application/sdp\r\n" if body else ""
                answer += f"{kind}Content-Length: {len(body)}\r\n\r\n{body}"
                self.wfile.write(answer.encode())
                if method == "PLAY":
                    sink = self.writer(self.wfile)
                    return self.server.camera.film(sink, format=self.format)


class H264Handler(RtspHandler):
    """Sends H.264 itself, as cameras do."""

    sdp, writer, format = H264, PacketWriter, "rtp"


class Server(socketserver.ThreadingMixIn, socketserver.TCPServer):
    """A thread for each client; one that goes away is part of the tests."""

    daemon_threads = allow_reuse_address = True

    def __init__(self, handler: Any, camera: Camera) -> None:
        super().__init__(("127.0.0.1", 0), handler)
        self.camera = camera
        self.files: dict[str, bytes] = {}

    def handle_error(self, *_: object) -> None:
        pass


# Kinds of live video: the address, and what answers there; FFmpeg sends the others by itself.
KINDS: dict[str, tuple[str, Any]] = {
    "http": ("http://{}/live.ts", HttpHandler),
    "flv": ("http://{}/live.flv", HttpHandler),
    "mjpeg": ("http://{}/live.mjpg", HttpHandler),
    "hls": ("http://{}/live.m3u8", None),
    "rtsp": ("rtsp://{}/live", RtspHandler),
    "h264": ("rtsp://{}/live", H264Handler),
    "udp": ("udp://{}", None),
    "rtp": ("rtp://{}", None),
}


def free_port(kind: int = socket.SOCK_STREAM) -> int:
    with socket.socket(socket.AF_INET, kind) as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


@contextmanager
def serving(kind: str, folder: Path) -> Iterator[tuple[str, Camera, Server]]:
    """Gives the address of live video of one of `KINDS`, and what makes it."""
    camera, (address, handler) = Camera(), KINDS[kind]
    server = Server(handler or partial(QuietFiles, directory=folder), camera)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    is_datagram = kind in ("udp", "rtp")
    port = free_port(socket.SOCK_DGRAM) if is_datagram else server.server_address[1]
    source = address.format(f"127.0.0.1:{port}")
    sent: dict[str, tuple[str, dict[str, Any]]] = {
        "hls": (f"{folder}/live.m3u8", dict(format="hls", options=HLS)),
        "udp": (f"{source}?pkt_size=1316", {}),
        "rtp": (source, dict(format="rtp_mpegts")),
    }
    if kind in sent:
        sink, muxer = sent[kind]
        threading.Thread(target=partial(camera.film, sink, **muxer), daemon=True).start()
    while kind == "hls" and not (folder / "live.m3u8").exists():
        time.sleep(0.05)
    try:
        yield source, camera, server
    finally:
        camera.generation += 1
        server.shutdown()
        server.server_close()


class QuietFiles(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


GST = """
import gi
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtspServer
Gst.init(None)
factory = GstRtspServer.RTSPMediaFactory()
factory.set_launch(
    "( videotestsrc is-live=true ! video/x-raw,width=320,height=180,framerate=25/1 "
    "! x264enc tune=zerolatency key-int-max=25 ! rtph264pay name=pay0 )"
)
factory.set_shared(True)
server = GstRtspServer.RTSPServer(address="127.0.0.1", service="0")
server.get_mount_points().add_factory("/live", factory)
server.attach(None)
print(f"rtsp://127.0.0.1:{server.get_bound_port()}/live", flush=True)
GLib.MainLoop().run()
"""
FFMPEG = "ffmpeg -v error -re -f lavfi -i testsrc=size=320x180:rate=25 -c:v libx264 -g 25"
LISTENING = {  # the words that have FFmpeg wait for a client at an address
    "ffmpeg http": "-f mpegts -listen 1 http://127.0.0.1:{port}/live.ts",
    "ffmpeg rtmp": "-f flv -listen 1 rtmp://127.0.0.1:{port}/live/cam",
    "ffmpeg tcp": "-f mpegts tcp://127.0.0.1:{port}?listen=1",
}
OTHER_KINDS = ("gstreamer", *LISTENING)


@contextmanager
def other_server(kind: str) -> Iterator[str]:
    """Gives the address of a server that others wrote, from Debian: of `OTHER_KINDS`."""
    command, address = ["/usr/bin/python3", "-c", GST], ""
    if kind != "gstreamer":
        words = LISTENING[kind].format(port=free_port()).split()
        command = [*FFMPEG.split(), "-tune", "zerolatency", *words]
        address = words[-1].removesuffix("?listen=1")
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield address or process.stdout.readline().strip()
        finally:
            process.kill()


def main() -> None:
    """Serves until standard input ends: `python tests/support/live_servers.py rtsp`."""
    with (
        tempfile.TemporaryDirectory() as folder,
        serving(sys.argv[1], Path(folder)) as (source, *_),
    ):
        print(source, flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
