"""A real server on a free port, with a small recognizer of random weights, for tests."""

import contextlib
import http.client
import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import models
from conftest import ROOT
from small_recognizer import write_checkpoint

from mmact_tiny.recognizer import Recognizer
from mmact_tiny.serve.answer import Answerer
from mmact_tiny.serve.app import Queue, Site, create_app
from mmact_tiny.serve.server import find_examples, listen, server_of

CLASSES = ["<b>bold</b> & co", "bouncing ball", "falling rain", "rising bubbles", "waving", "雨"]
BOUNDARY = "x0123"
CLIP = ROOT / "data/tiny/val/falling_rain1.mp4"
MAX_BYTES = 1_000_000
PATIENCE = 120  # seconds: what is waited for comes at once, but on a machine that is busy
API = "/api/recognize"


class Served:
    """The address of a running server, and what it works with."""

    def __init__(self, site: Site, server: Any, port: int) -> None:
        self.site = site
        self.server = server
        self.port = port

    def ask(
        self,
        body: Any = None,
        address: str = "/api/recognize",
        method: str = "POST",
        **headers: str,
    ) -> tuple[int, Any]:
        """Returns status and JSON of one request; `_` in a header's name means `-`."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        with contextlib.closing(connection):
            connection.request(method, address, body, named)
            response = connection.getresponse()
            return response.status, json.loads(response.read())

    def steps(self, body: Any) -> list[dict[str, Any]]:
        """Returns the lines of an answer, as the page gets them."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        with contextlib.closing(connection):
            headers = {"Accept": "application/x-ndjson"}
            connection.request("POST", f"{API}?pictures=1", body, headers)
            return [json.loads(line) for line in connection.getresponse()]

    def is_clean(self) -> bool:
        """Returns whether no upload is left, and nobody holds a place."""
        return not list(self.site.folder.iterdir()) and self.site.queue.num_taken == 0


@contextlib.contextmanager
def serving(
    folder: Path, *, protocol: str = "val", max_seconds: float = 30, live: Any = None
) -> Iterator[Served]:
    """Runs a server in a thread."""
    backbone = dict(type="ResNet", **(models.TWO_STAGES | dict(depth=18)), pretrained=None)
    checkpoint = write_checkpoint(folder / "random.pth", backbone, 128, CLASSES)
    recognizer = Recognizer(checkpoint, protocol=protocol, engine="torch")
    answerer = Answerer(recognizer, max_seconds=max_seconds)
    uploads = folder / "uploads"
    uploads.mkdir()
    examples = list(find_examples(recognizer, None))
    site = Site(answerer, Queue(6), uploads, MAX_BYTES, examples, live)
    listening = listen("127.0.0.1", 0)
    server = server_of(create_app(site, host="127.0.0.1"))
    thread = threading.Thread(target=server.run, kwargs=dict(sockets=[listening]))
    thread.start()
    try:
        yield Served(site, server, listening.getsockname()[1])
    finally:
        server.should_exit = True
        thread.join()
        answerer.close()
        site.queue.close(5)


def form(content: bytes, disposition: str = 'name="video"; filename="<i>.mp4"') -> dict:
    """Returns the arguments of `Served.ask` for a form with a note and this part."""
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="note"\r\n\r\nhello\r\n'
    head += f"--{BOUNDARY}\r\nContent-Disposition: form-data; {disposition}\r\n\r\n"
    body = head.encode() + content + f"\r\n--{BOUNDARY}--\r\n".encode()
    return dict(body=body, Content_Type=f"multipart/form-data; boundary={BOUNDARY}")


def post(content: bytes, length: int | None = None) -> bytes:
    """Returns a request with this body, as it goes over the connection.

    Args:
        content: The body, or its beginning.
        length: What the request says that the whole body has.
    """
    length = len(content) if length is None else length
    head = f"POST {API} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n"
    return head.encode() + content


def wait_until(condition: Callable[[], Any]) -> None:
    """Waits for a condition to hold; fails when it does not in time."""
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)
