"""Lets only this server's own page use it, and only what comes with it be loaded.

A page of another site can make its visitor's browser send requests to a server on the visitor's
own machine: directly (the browser then names the page in `Origin`), or under a name of its own
that it points to 127.0.0.1 (DNS rebinding; the browser then puts that name in `Host`).
"""

import ipaddress
import socket
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

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


def is_loopback(host: str) -> bool:
    """Returns whether a host's name or address means this machine to itself only."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class SameOrigin:
    """Refuses requests for another host or from another origin; adds the security headers.

    Args:
        app: The application.
        host: What the server is bound to. Loopback names are always right; for a server on all
            addresses (0.0.0.0, ::) so is any address, and this machine's own name.
    """

    def __init__(self, app: ASGIApp, host: str) -> None:
        self.app = app
        self.names = {host.lower()}
        self.any_address = host in ("0.0.0.0", "::")
        if self.any_address:
            name = socket.gethostname().lower()
            self.names |= {name, f"{name}.local"}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        reason = self._reason_against(Headers(scope=scope), scope["method"])
        if reason is None:
            return await self.app(scope, receive, send_with_headers)
        await JSONResponse({"error": reason}, 403)(scope, receive, send_with_headers)

    def _reason_against(self, headers: Headers, method: str) -> str | None:
        host = headers.get("host", "")
        if not self._is_ours(host):
            return "The Host header names another machine."
        origin = headers.get("origin")
        if method in ("GET", "HEAD") or origin is None:
            return None
        scheme, _, rest = origin.partition("://")
        if scheme in ("http", "https") and rest.lower() == host.lower():
            return None
        return "The request comes from a page of another site."

    def _is_ours(self, netloc: str) -> bool:
        try:
            host = urlsplit(f"//{netloc}").hostname or ""
        except ValueError:
            return False
        if host in self.names or is_loopback(host):
            return True
        try:
            ipaddress.ip_address(host)
        except ValueError:
            return False
        return self.any_address
