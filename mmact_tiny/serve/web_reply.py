"""How the JSON endpoint answers: one object, or lines to a client that wants one for each step."""

import json
from typing import Any

from starlette.requests import Request
from starlette.types import Send

LIVE = "application/x-ndjson"


class Reply:
    """The answer to one request: JSON at the end, or a line for each step."""

    def __init__(self, request: Request, send: Send) -> None:
        self._send = send
        self._live = LIVE in request.headers.get("accept", "")
        self._started = False

    async def tell(self, event: dict[str, Any]) -> None:
        """Sends a line, to a client that wants lines."""
        if self._live:
            await self._write(200, event)

    async def end(self, status: int, content: dict[str, Any]) -> None:
        """Sends the answer; its status is in the line where another has been sent by then."""
        if self._live and (self._started or status == 200):
            event = dict(event="done") if status == 200 else dict(event="error", status=status)
            content = event | content
        await self._write(status, content)

    async def close(self) -> None:
        """Says that nothing follows."""
        if self._started:
            await self._send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _write(self, status: int, content: dict[str, Any]) -> None:
        body = json.dumps(content, ensure_ascii=False).encode() + b"\n"
        if not self._started:
            self._started = True
            headers = [(b"connection", b"close")]
            if self._live and status == 200:
                headers.append((b"content-type", LIVE.encode()))
            else:  # with its length, the client knows that it has all of it
                headers.append((b"content-type", b"application/json"))
                headers.append((b"content-length", str(len(body)).encode()))
            await self._send({"type": "http.response.start", "status": status, "headers": headers})
        await self._send({"type": "http.response.body", "body": body, "more_body": True})
