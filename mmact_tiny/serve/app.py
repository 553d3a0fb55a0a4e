"""The web application: the page, its examples, and the JSON endpoint that recognizes a video."""

import asyncio
import errno
import logging
import mimetypes
import tempfile
import time
from collections.abc import AsyncIterator
from concurrent.futures import CancelledError
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import FileResponse, JSONResponse, Response
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope, Send

from .same_origin import SameOrigin
from .upload import Body, Refused, receive_video
from .waiting_line import Full, Job, Left, WaitingLine
from .web_answer import Answerer
from .web_reply import Reply

PAGE = Path(__file__).parent / "page"
LOOK_SECONDS = 0.05  # between two looks at whether the client is still there
logger = logging.getLogger("mmact_tiny")


@dataclass(frozen=True)
class Example:
    """A video to click: its name on the page, the file, its first frame as a JPEG."""

    name: str
    video: Path
    poster: bytes


@dataclass(frozen=True)
class Site:
    """All that the application works with.

    `folder` takes the uploads, each for as long as its request lasts.
    """

    answerer: Answerer
    line: WaitingLine
    folder: Path
    max_bytes: int
    examples: list[Example]


def create_app(site: Site, *, host: str) -> FastAPI:
    """Returns the application for a server bound to `host`."""
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    app.add_middleware(SameOrigin, host=host)
    page = {"/": "index.html", "/page.css": "page.css", "/page.js": "page.js"}
    for address, name in page.items():
        app.add_api_route(address, _file(PAGE / name), methods=["GET", "HEAD"])

    @app.get("/api/health")
    async def health() -> dict[str, Any]:
        recognizer = site.answerer.recognizer
        model = recognizer.cfg.model
        return {
            "status": "ok",
            "model": f"{model.type}, {model.backbone.type}",
            "checkpoint": recognizer.checkpoint.name,
            "engine": recognizer.engine.name,
            "protocol": recognizer.protocol,
            "classes": recognizer.labels,
            "max_bytes": site.max_bytes,
            "max_seconds": site.answerer.max_seconds,
            "examples": [example.name for example in site.examples],
            "free_places": site.line.places - site.line.num_taken,
        }

    @app.get("/examples/{number}")
    async def example(number: int) -> Response:
        video = _example(site, number).video
        return FileResponse(video, media_type=mimetypes.guess_type(video.name)[0] or "video/mp4")

    @app.get("/examples/{number}/poster")
    async def poster(number: int) -> Response:
        return Response(_example(site, number).poster, media_type="image/jpeg")

    @app.post("/api/recognize")
    async def recognize(request: Request) -> Response:
        return Recognition(site, request.query_params.get("example"))

    @app.exception_handler(Refused)
    async def refused(request: Request, error: Refused) -> Response:
        return JSONResponse({"error": str(error)}, error.status)

    @app.exception_handler(HTTPException)
    async def no_such_route(request: Request, error: HTTPException) -> Response:
        return JSONResponse({"error": error.detail}, error.status_code, error.headers)

    return app


def _file(path: Path) -> Any:
    async def answer() -> Response:
        return FileResponse(path)

    return answer


def _example(site: Site, number: int | str) -> Example:
    """Returns an example by its number, counted from 0; nothing else is ever looked up."""
    numbers = {str(index): example for index, example in enumerate(site.examples)}
    if str(number) not in numbers:
        raise Refused(404, "There is no such example.")
    return numbers[str(number)]


class Recognition(Response):
    """Receives, waits, recognizes and answers in one coroutine, which leaves nothing behind.

    The answer is one JSON object. A client that accepts `application/x-ndjson` gets a line for
    each step instead: `{"event": "waiting", "ahead": 2}`, then `recognizing`, `done` or `error`.

    Args:
        site: What there is to work with.
        example: The number of an example, instead of an upload.
    """

    def __init__(self, site: Site, example: str | None) -> None:
        super().__init__()
        self.site = site
        self.example = example

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = Body(receive)
        request = Request(scope, body)
        reply = Reply(request, send)
        try:
            start = time.perf_counter()
            with self.site.line.place():
                async with self._video(request) as video:
                    receiving = round(time.perf_counter() - start, 3)
                    answer = await self._answer(request, reply, video)
            answer["seconds"] = {"receiving": receiving, **answer["seconds"]}
            await reply.end(200, answer)
        except Full:
            await reply.end(503, {"error": "The server is busy: please try again in a minute."})
        except Refused as error:
            await reply.end(error.status, {"error": str(error)})
        except (ClientDisconnect, Left, CancelledError):
            logger.debug("a client left")
        except asyncio.CancelledError:  # how uvicorn ends what is under way
            await reply.end(503, {"error": "The server has been stopped."})
            return await reply.close()
        except Exception:
            logger.exception("a recognition failed")
            await reply.end(500, {"error": "The recognition failed; the server's log says why."})
        await body.discard_rest()
        await reply.close()

    @asynccontextmanager
    async def _video(self, request: Request) -> AsyncIterator[Path]:
        """Gives the video: an example, or the upload, which is deleted at the end."""
        if self.example is not None:
            yield _example(self.site, self.example).video
            return
        try:
            # The name tells FFmpeg nothing: what the file is decides how it is read.
            with tempfile.NamedTemporaryFile(dir=self.site.folder, suffix=".video") as file:
                await receive_video(request, file, max_bytes=self.site.max_bytes)  # type: ignore[arg-type]
                yield Path(file.name)
        except OSError as error:  # also of closing the file, which writes what is left
            if error.errno != errno.ENOSPC:
                raise
            raise Refused(507, "The server's disk is full.") from None

    async def _answer(self, request: Request, reply: Reply, video: Path) -> dict[str, Any]:
        pictures = request.query_params.get("pictures") == "1"
        turn: list[float] = []

        def work(job: Job) -> dict[str, Any]:
            turn.append(time.perf_counter())
            return self.site.answerer.answer(video, job, pictures=pictures)

        start = time.perf_counter()
        job = self.site.line.join(work)
        try:
            await self._follow(request, reply, job)
            answer = job.future.result()
        finally:
            self.site.line.leave(job)
        answer["seconds"] = {"waiting": round(turn[0] - start, 3), **answer["seconds"]}
        return answer

    async def _follow(self, request: Request, reply: Reply, job: Job) -> None:
        """Tells how many are ahead, until the job is done.

        Raises:
            ClientDisconnect: nobody waits for it any more.
        """
        told = None
        while not job.future.done():
            if await request.is_disconnected():
                raise ClientDisconnect
            ahead = self.site.line.num_ahead(job)
            if ahead != told:
                step = dict(event="waiting", ahead=ahead) if ahead else dict(event="recognizing")
                await reply.tell(step)
                told = ahead
            await asyncio.sleep(LOOK_SECONDS)
