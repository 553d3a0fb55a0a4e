"""A real HTTP server on loopback that cuts, lies and forgets as the tests tell it to."""

import re
import stat
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


class FileServer(ThreadingHTTPServer):
    """Serves `files` (path -> bytes) with Range, If-Range and a date; notes each request."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.ranges: list[str | None] = []  # the Range header of each request
        self.if_ranges: list[str | None] = []  # the If-Range header of each request
        self.statuses: list[int] = []  # the status of each answer
        self.cuts: list[int] = []  # after so many bytes, for one answer each
        self.errors: list[int] = []  # statuses to answer with first
        self.with_range = True
        self.with_length = True
        self.date: str | None = "Sun, 13 Sep 2020 12:26:40 GMT"  # Last-Modified
        self.honest_if_range = True
        self.chunk_pause = 0.0
        self.url = f"http://127.0.0.1:{self.server_port}"

    def __enter__(self) -> "FileServer":
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()

    def handle_error(self, *_: object) -> None:
        """A client that went away is part of the tests."""


class Handler(BaseHTTPRequestHandler):
    server: FileServer

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        server = self.server
        asked = self.headers.get("Range")
        server.ranges.append(asked)
        server.if_ranges.append(self.headers.get("If-Range"))
        data = server.files.get(self.path)
        if server.errors or data is None:
            return self.answer(server.errors.pop(0) if server.errors else 404, {}, b"")
        headers = {"Last-Modified": server.date} if server.date else {}
        start = 0
        fresh = self.headers.get("If-Range") in (None, server.date) or not server.honest_if_range
        if asked and server.with_range and fresh:
            start = int(re.fullmatch(r"bytes=(\d+)-", asked)[1])
            if start >= len(data):
                return self.answer(416, {"Content-Range": f"bytes */{len(data)}"}, b"")
            headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
            return self.answer(206, headers, data[start:])
        return self.answer(200, headers, data)

    def answer(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.server.statuses.append(status)
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if self.server.with_length:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        cut = self.server.cuts.pop(0) if self.server.cuts else len(body)
        self.wfile.write(body[:cut])
        self.wfile.flush()
        if self.server.chunk_pause:
            threading.Event().wait(self.server.chunk_pause)


def make_zip(path: Path, members: dict[str, bytes | tuple[bytes, int]]) -> Path:
    """Writes members: name -> bytes, or (bytes, Unix mode)."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in members.items():
            data, mode = content if isinstance(content, tuple) else (content, stat.S_IFREG | 0o644)
            info = zipfile.ZipInfo(name)
            info.external_attr = mode << 16
            file.writestr(info, data, zipfile.ZIP_DEFLATED)
    return path
