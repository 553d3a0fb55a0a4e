"""Who may use the server: a table of hosts and origins."""

import socket

import pytest

pytest.importorskip("fastapi", reason="the web extra is not installed")

from starlette.datastructures import Headers

from mmact_tiny.serve.app import OwnPageOnly, is_loopback


@pytest.mark.parametrize(
    ("bound", "host", "origin", "allowed"),
    [
        ("127.0.0.1", "127.0.0.1:7860", None, True),
        ("127.0.0.1", "LOCALHOST:7860", "http://localhost:7860", True),
        ("127.0.0.1", "[::1]:7860", "http://[::1]:7860", True),
        ("127.0.0.1", "localhost", "https://localhost", True),
        ("127.0.0.1", "", None, False),
        ("127.0.0.1", "localhost.evil.example:7860", None, False),
        ("127.0.0.1", "127.0.0.1.evil.example", None, False),
        ("127.0.0.1", "evil@localhost:7860", "http://evil", False),
        ("127.0.0.1", "[::1", None, False),
        ("127.0.0.1", "192.168.0.9:7860", None, False),
        ("127.0.0.1", "localhost:7860", "http://localhost:7861", False),
        ("127.0.0.1", "localhost:7860", "localhost:7860", False),
        ("127.0.0.1", "localhost:7860", "", False),
        ("192.168.0.9", "192.168.0.9:7860", "http://192.168.0.9:7860", True),
        ("192.168.0.9", "192.168.0.8:7860", None, False),
        ("box", "box:7860", "http://box:7860", True),
        ("0.0.0.0", "192.168.0.9:7860", "http://192.168.0.9:7860", True),
        ("::", "[fe80::1]:7860", None, True),
        ("0.0.0.0", f"{socket.gethostname()}:7860", None, True),
        ("0.0.0.0", "evil.example", None, False),
    ],
)
def test_a_post(bound: str, host: str, origin: str | None, allowed: bool) -> None:
    headers = {"host": host} if origin is None else {"host": host, "origin": origin}
    reason = OwnPageOnly(None, bound).reason_against(Headers(headers), "POST")  # type: ignore[arg-type]
    assert (reason is None) == allowed


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("localhost", True),
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("0.0.0.0", False),
        ("::", False),
        ("box", False),
    ],
)
def test_loopback(host: str, loopback: bool) -> None:
    assert is_loopback(host) == loopback
