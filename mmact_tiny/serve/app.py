"""The web application: the page, its examples, and the JSON endpoint that recognizes a video."""

import asyncio
import errno
import ipaddress
import itertools
import json
import logging
import mimetypes
import shutil
import socket
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Any, NamedTuple, Protocol
from urllib.parse import urlsplit

import numpy as np
from fastapi import FastAPI, Request
from fastapi.responses import FileResponse, JSONResponse, Response, StreamingResponse
from PIL import Image
from python_multipart.exceptions import FormParserError
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers, MutableHeaders, UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..errors import UserError
from .answer import Answerer, jpeg

PAGE = Path(__file__).parent / "page"
LIVE = "application/x-ndjson"
LOOK_SECONDS = 0.05  # between two looks at whether the client is still there
SILENT_SECONDS = 30.0  # without a byte of an upload
UPLOAD_SECONDS = 900.0  # for all of it
DISCARD_SECONDS = 2.0  # for the rest of one that is refused
MAX_PARTS = 8  # files, and fields, of a form
FORM_BYTES = 64 * 1024  # of a form around its file
STOPPED = "The server has been stopped."
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' data:; media-src 'self' blob:; connect-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(self), microphone=(), geolocation=()",
    "Cache-Control": "no-store",
}
logger = logging.getLogger("mmact_tiny")


class Example(NamedTuple):
    """A video to click: its name on the page, the file, its first frame as a JPEG."""

    name: str
    video: Path
    poster: bytes


class LiveSource(Protocol):
    """A stream or camera that somebody else watches, from `start` to `close`."""

    def start(self) -> None:
        """Begins to watch."""

    def close(self) -> bool:
        """Ends that; returns whether nothing of it hangs."""

    def state(self) -> dict[str, Any]:
        """Returns its labels now, as JSON has them."""

    def picture(self) -> np.ndarray | None:
        """Returns its newest frame, uint8 RGB (height, width, 3), if there is one yet."""


@dataclass(frozen=True)
class Site:
    """All that the application works with; `folder` takes the uploads."""

    answerer: Answerer
    queue: "Queue"
    folder: Path
    max_bytes: int
    examples: list[Example]
    live: LiveSource | None = None

    def describe(self) -> dict[str, Any]:
        """Returns the model, the limits, the examples, and how many places are free."""
        recognizer = self.answerer.recognizer
        return dict(
            status="ok",
            model=recognizer.kind,
            checkpoint=recognizer.checkpoint.name,
            engine=recognizer.engine.name,
            protocol=recognizer.protocol,
            classes=recognizer.labels,
            max_bytes=self.max_bytes,
            max_seconds=self.answerer.max_seconds,
            examples=[example.name for example in self.examples],
            free_places=self.queue.places - self.queue.num_taken,
            is_live=self.live is not None,
        )

    def example(self, number: str) -> Example:
        """Returns an example by its number, counted from 0; nothing else is ever looked up."""
        if number not in map(str, range(len(self.examples))):
            raise HTTPException(404, "There is no such example.")
        return self.examples[int(number)]


def create_app(site: Site, *, host: str) -> FastAPI:
    """Returns the application for a server bound to `host`."""
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    app.add_middleware(OwnPageOnly, host=host)

    app.add_api_route("/api/health", site.describe)

    @app.get("/examples/{number}")
    async def example_video(number: str) -> Response:
        video = site.example(number).video
        return FileResponse(video, media_type=mimetypes.guess_type(video.name)[0] or "video/mp4")

    @app.get("/examples/{number}/poster")
    async def example_poster(number: str) -> Response:
        return Response(site.example(number).poster, media_type="image/jpeg")

    if site.live is not None:
        app.add_api_route("/api/live", site.live.state)
        app.add_api_route("/api/live/picture", partial(live_picture, site.live))

    @app.post("/api/recognize")
    async def answer(request: Request, example: str | None = None, pictures: str = "") -> Response:
        video = None if example is None else site.example(example).video
        steps = recognize(site, request, video, pictures=pictures == "1")
        step: dict[str, Any] = await anext(steps, {})
        if LIVE in request.headers.get("accept", "") and step.get("event") != "error":
            return StreamingResponse(_lines(step, steps), media_type=LIVE)
        async for later in steps:
            step = later
        is_error = step.pop("event", None) == "error"
        return _refuse(request, step) if is_error else JSONResponse(step)

    @app.exception_handler(HTTPException)
    async def refused(request: Request, error: HTTPException) -> Response:
        return JSONResponse({"error": error.detail}, error.status_code, error.headers)

    app.mount("/", StaticFiles(directory=PAGE, html=True))
    return app


def live_picture(live: LiveSource) -> Response:
    """Returns the newest frame as a JPEG; 204 while there is none."""
    picture = live.picture()
    if picture is None:
        return Response(status_code=204)
    return Response(jpeg(Image.fromarray(picture)), media_type="image/jpeg")


async def _lines(first: dict[str, Any], steps: AsyncIterator[dict[str, Any]]) -> AsyncIterator[str]:
    yield json.dumps(first) + "\n"
    async for step in steps:
        yield json.dumps(step, ensure_ascii=False) + "\n"


def _refuse(request: Request, error: dict[str, Any]) -> Response:
    """Returns an answer that stays open a moment, while the rest of an upload is thrown away.

    A client who is cut off while sending may never read the answer; one who reads it may leave.
    """
    plain = JSONResponse(error, error.pop("status"), {"connection": "close"})
    server, end = request.app.state.server, time.monotonic() + DISCARD_SECONDS

    async def stay() -> AsyncIterator[bytes]:
        yield bytes(plain.body)
        while time.monotonic() < end and not server.should_exit:
            if await request.is_disconnected():  # takes what has come
                return
            await asyncio.sleep(0.001)

    if server.should_exit:  # a request that uvicorn cancelled does not survive a group of tasks
        return plain
    return StreamingResponse(stay(), plain.status_code, plain.headers)


class OwnPageOnly:
    """Refuses requests for another host or from another site's page; adds security headers.

    A page of another site can make its visitor's browser send requests to a server on the
    visitor's own machine: directly (the browser then says so in `Sec-Fetch-Site` and `Origin`), or
    under a name of its own that it points to 127.0.0.1 (DNS rebinding; that name is in `Host`).
    Starlette's TrustedHostMiddleware knows names only, not "any address" for a server on all.

    Args:
        app: The application.
        host: What the server is bound to; loopback names are right too. For a server on all
            addresses (0.0.0.0, ::) so is any address, and this machine's own name.
    """

    def __init__(self, app: ASGIApp, host: str) -> None:
        self.app = app
        self.any_address = host in ("0.0.0.0", "::")
        name = socket.gethostname().lower() if self.any_address else host.lower()
        self.names = {"localhost", name} | ({f"{name}.local"} if self.any_address else set())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        reason = self.reason_against(Headers(scope=scope), scope["method"])
        answer = self.app if reason is None else JSONResponse({"error": reason}, 403)
        await answer(scope, receive, send_with_headers)

    def reason_against(self, headers: Headers, method: str) -> str | None:
        """Returns why a request is refused, or None; other sites may link to the page."""
        host = headers.get("host", "").lower()
        if not self._is_ours(host):
            return "The Host header names another machine."
        if method in ("GET", "HEAD"):
            return None
        origin = headers.get("origin", f"http://{host}").lower()
        from_here = headers.get("sec-fetch-site", "none") in ("same-origin", "none")
        if from_here and origin in (f"http://{host}", f"https://{host}"):
            return None
        return "The request comes from a page of another site."

    def _is_ours(self, netloc: str) -> bool:
        host = ""
        with suppress(ValueError):  # a name, or no host at all
            host = urlsplit(f"//{netloc}").hostname or ""
            if ipaddress.ip_address(host).is_loopback or self.any_address:
                return True
        return host in self.names


class Queue:
    """One thread that works for one client at a time, in the order of coming.

    Its thread outlives a request: a client who leaves gives the place up at once, and the next
    client's work still waits until the thread is free.

    Args:
        places: How many clients may be there at once: sending, waiting, or being worked for.
    """

    def __init__(self, places: int) -> None:
        self.places = places
        self.num_taken = 0
        self.jobs: list[Future[Any]] = []  # in order; some may be done
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="recognize")

    @contextmanager
    def place(self) -> Iterator[None]:
        """Holds a place; an HTTPException says that none is left."""
        if self.num_taken >= self.places:
            raise HTTPException(503, "The server is busy: please try again in a minute.")
        self.num_taken += 1
        try:
            yield
        finally:
            self.num_taken -= 1

    def join(self, work: Callable[[], Any]) -> Future[Any]:
        """Returns a job at the end of the queue, which gets what `work` returns."""
        self.jobs = [job for job in self.jobs if not job.done()]
        self.jobs.append(self._worker.submit(work))
        return self.jobs[-1]

    def num_ahead(self, job: Future[Any]) -> int:
        """Returns how many are served before a job, with the current one; 0 at its turn."""
        before = itertools.takewhile(lambda other: other is not job, self.jobs)
        return 0 if job.done() else sum(not other.done() for other in before)

    def close(self, seconds: float) -> bool:
        """Ends all jobs; returns whether the current one ended within this time."""
        self._worker.shutdown(wait=False, cancel_futures=True)
        return not wait([job for job in self.jobs if not job.done()], seconds).not_done


async def recognize(
    site: Site, request: Request, example: Path | None, *, pictures: bool
) -> AsyncIterator[dict[str, Any]]:
    """Receives a video, a body or in a form, waits, recognizes, and leaves nothing behind.

    Yields `{"event": "waiting", "ahead": 2}`, `{"event": "recognizing"}`, and last `done` with the
    answer or `error` with its `status`; by then the upload is deleted and the place given up. The
    last is missing where the client has left. An `example` is a video to take instead.
    """
    start = time.perf_counter()
    try:
        # The file's name tells FFmpeg nothing: what the file is decides how it is read.
        with (
            site.queue.place(),
            tempfile.NamedTemporaryFile(dir=site.folder, suffix=".video") as file,
        ):
            if example is None:
                await receive_video(request, file, max_bytes=site.max_bytes)
            received, told = time.perf_counter(), None
            with _job(site, example or Path(file.name), pictures) as job:
                while told is None or not job.done():
                    await _check_wanted(request)
                    ahead = site.queue.num_ahead(job)
                    if ahead != told:
                        step = dict(event="waiting", ahead=ahead)
                        yield step if ahead else dict(event="recognizing")
                    told = ahead
                    await asyncio.sleep(LOOK_SECONDS)
                turn, answer = job.result()
        waited = dict(receiving=received - start, waiting=turn - received)
        seconds = {key: round(value, 3) for key, value in waited.items()} | answer["seconds"]
        yield {"event": "done"} | answer | {"seconds": seconds}
    except ClientDisconnect:
        logger.debug("a client left")
    except Exception as error:
        status, words = _explain(error)
        yield dict(event="error", status=status, error=words)


def _explain(error: Exception) -> tuple[int, str]:
    """Returns the status and the words of a failure."""
    if isinstance(error, HTTPException):
        return error.status_code, error.detail
    if isinstance(error, UserError):
        return 422, str(error)
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return 507, "The server's disk is full."
    logger.error("a recognition failed", exc_info=error)
    return 500, "The recognition failed; the server's log says why."


@contextmanager
def _job(site: Site, video: Path, pictures: bool) -> Iterator[Future[Any]]:
    """Gives the job that answers, whose result is the time of its start and the answer.

    Whoever leaves takes it out of the queue; where it has begun, it ends at its next check.
    """
    left = threading.Event()

    def check() -> None:
        if left.is_set():
            raise CancelledError

    answer = site.answerer.answer
    job = site.queue.join(lambda: (time.perf_counter(), answer(video, check, pictures=pictures)))
    try:
        yield job
    finally:
        left.set()
        job.cancel()


async def _check_wanted(request: Request) -> None:
    if await request.is_disconnected():
        raise ClientDisconnect
    if request.app.state.server.should_exit:
        raise HTTPException(503, STOPPED)


async def receive_video(request: Request, file: IO[bytes], *, max_bytes: int) -> None:
    """Writes an upload to a file: the body of the request, or the first file of a form.

    It ends as soon as more than `max_bytes` come, whatever length the request declares or hides.

    Raises:
        HTTPException: too large, too slow, empty, or a form that is broken or has no file.
        ClientDisconnect: the client went away.
    """
    is_form = request.headers.get("content-type", "").lower().startswith("multipart/form-data")
    too_large = HTTPException(413, f"The upload is larger than {max_bytes / 1e6:g} MB.")
    most = max_bytes + is_form * FORM_BYTES
    if int(request.headers.get("content-length", 0)) > most:
        raise too_large
    limited = Request(request.scope, _limited(request.receive, most, too_large))
    try:
        if is_form:
            await _receive_form(limited, file)
        else:
            async for chunk in limited.stream():
                file.write(chunk)
    except asyncio.CancelledError:  # how uvicorn ends what is under way
        raise HTTPException(503, STOPPED) from None
    file.flush()
    if not 0 < file.tell() <= max_bytes:
        raise too_large if file.tell() else HTTPException(400, "The upload is empty.")


async def _receive_form(request: Request, file: IO[bytes]) -> None:
    limits = dict(max_files=MAX_PARTS, max_fields=MAX_PARTS, max_part_size=FORM_BYTES)
    try:
        async with request.form(**limits) as form:
            uploads = [part for _, part in form.multi_items() if isinstance(part, UploadFile)]
            if not uploads:
                raise HTTPException(400, "The form has no file in it.")
            await run_in_threadpool(shutil.copyfileobj, uploads[0].file, file)
    except FormParserError:  # which Starlette 1.6 and older let through
        raise HTTPException(400, "Invalid multipart data.") from None


def _limited(receive: Receive, max_bytes: int, too_large: HTTPException) -> Receive:
    """Returns a `receive` that raises an HTTPException for a body too large or too slow."""
    num_bytes, end = 0, time.monotonic() + UPLOAD_SECONDS

    async def receive_in_time() -> Message:
        nonlocal num_bytes
        try:
            async with asyncio.timeout(min(SILENT_SECONDS, end - time.monotonic())):
                message = await receive()
        except TimeoutError:
            raise HTTPException(408, "The upload took too long.") from None
        num_bytes += len(message.get("body", b""))
        if num_bytes > max_bytes:
            raise too_large
        return message

    return receive_in_time
