"""Receives a video from a web request: streamed to a file, bounded in bytes and in time."""

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any, BinaryIO

from starlette.requests import Request
from starlette.types import Message, Receive

SILENT_SECONDS = 30.0  # without a byte
UPLOAD_SECONDS = 900.0  # in all
FORM_BYTES = 64 * 1024  # of a form around its file
DISCARD_SECONDS = 2.0
FORM = b"multipart/form-data"


class Refused(Exception):
    """A request that cannot be answered as asked: an HTTP status, and why in plain words."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


async def receive_video(request: Request, file: BinaryIO, *, max_bytes: int) -> None:
    """Writes the body of a request to a file: the body itself, or the first file of a form.

    No more than `max_bytes` are written, whatever length the request declares or hides.

    Raises:
        Refused: too large, empty, too slow, or a form that is broken or has no file.
        starlette.requests.ClientDisconnect: the client went away.
    """
    from python_multipart.multipart import parse_options_header

    kind, options = parse_options_header(request.headers.get("content-type"))
    form = _Form(options.get(b"boundary", b""), file.write) if kind == FORM else None
    too_large = Refused(413, f"The upload is larger than {max_bytes / 1e6:g} MB.")
    most = max_bytes + (FORM_BYTES if form else 0)
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > most:
        raise too_large
    num_bytes = 0
    try:
        async for chunk in _within_time(request):
            num_bytes += len(chunk)
            if num_bytes > most:
                raise too_large
            (form or file).write(chunk)
        file.flush()
    except TimeoutError:
        raise Refused(408, "The upload took too long.") from None
    if form is not None:
        form.close()
    if file.tell() == 0:
        raise Refused(400, "The upload is empty.")
    if file.tell() > max_bytes:
        raise too_large


async def _within_time(request: Request) -> Any:
    """Yields the chunks of a body; a TimeoutError ends one that stalls or never ends."""
    loop = asyncio.get_running_loop()
    end = loop.time() + UPLOAD_SECONDS
    chunks = request.stream()
    while True:
        async with asyncio.timeout_at(min(end, loop.time() + SILENT_SECONDS)):
            chunk = await anext(chunks, None)
        if chunk is None:
            return
        yield chunk


class Body:
    """The `receive` of a request that knows whether the body has been read to its end."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._at_end = False

    async def __call__(self) -> Message:
        message = await self._receive()
        self._at_end = not (message["type"] == "http.request" and message.get("more_body"))
        return message

    async def discard_rest(self) -> None:
        """Reads on for a moment what nobody wants.

        A client that is cut off while it sends may never read the answer.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(DISCARD_SECONDS):
                while not self._at_end:
                    await self()


class _Form:
    """Passes on the content of the first file of a multipart form; the rest is dropped."""

    def __init__(self, boundary: bytes, write: Callable[[bytes], Any]) -> None:
        from python_multipart.exceptions import FormParserError
        from python_multipart.multipart import MultipartParser, parse_options_header

        self._errors = FormParserError
        self._parse_options = parse_options_header
        self._write = write
        self._name = self._value = b""
        self._is_file = self._found = self._complete = False
        try:
            self._parser = MultipartParser(
                boundary,
                {
                    "on_part_begin": self._begin_part,
                    "on_header_field": self._take_name,
                    "on_header_value": self._take_value,
                    "on_header_end": self._end_header,
                    "on_part_data": self._take_data,
                    "on_part_end": self._end_part,
                    "on_end": self._end,
                },
            )
        except FormParserError:
            raise Refused(400, "The form is broken.") from None

    def write(self, chunk: bytes) -> None:
        try:
            self._parser.write(chunk)
        except self._errors:
            raise Refused(400, "The form is broken.") from None

    def close(self) -> None:
        if not self._complete:
            raise Refused(400, "The form is broken.")
        if not self._found:
            raise Refused(400, "The form has no file in it.")

    def _begin_part(self) -> None:
        self._is_file = False

    def _take_name(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def _take_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _end_header(self) -> None:
        if self._name.lower() == b"content-disposition" and not self._found:
            self._is_file = b"filename" in self._parse_options(self._value)[1]
        self._name = self._value = b""

    def _take_data(self, data: bytes, start: int, end: int) -> None:
        if self._is_file:
            self._write(data[start:end])

    def _end_part(self) -> None:
        self._found = self._found or self._is_file

    def _end(self) -> None:
        self._complete = True
