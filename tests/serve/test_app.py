"""The server over real connections: right answers, plain refusals, and nothing left behind."""

import contextlib
import http.client
import multiprocessing
import re
import socket
import threading
from concurrent.futures import CancelledError
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi", reason="the web extra is not installed")

from starlette.datastructures import Headers
from web_site import API, CLASSES, CLIP, MAX_BYTES, PATIENCE, Served, form, post, wait_until

from mmact_tiny.recognizer import Recognizer
from mmact_tiny.serve.app import OwnPageOnly, Queue

pytestmark = pytest.mark.usefixtures("leaves_nothing")


def test_body_form_and_example_give_the_recognizers_answer(served: Served) -> None:
    recognizer: Recognizer = served.site.answerer.recognizer
    expected = [{"label": label, "score": score} for label, score in recognizer.predict(CLIP)]
    content = CLIP.read_bytes()
    named = [example.video for example in served.site.examples]
    example = named.index(CLIP)
    for status, answer in (
        served.ask(content),
        served.ask(**form(content)),
        served.ask(address=f"{API}?example={example}"),
    ):
        assert status == 200
        assert answer["predictions"] == expected and len(expected) == 5
        assert (answer["frames"], answer["views"]) == (3, 3)
        assert answer["video_seconds"] == pytest.approx(1.87, abs=0.5)
        assert list(answer["seconds"]) == ["receiving", "waiting", "reading", "computing"]
        assert answer["protocol"].startswith("val: 3 clips x 1 crops = 3 views a video")
        assert "pictures" not in answer
    other = served.ask(address=f"{API}?example={1 - example % 2}")[1]["predictions"]
    assert [best["score"] for best in other] != [best["score"] for best in expected]


def test_the_page_gets_each_step_and_the_frames(served: Served) -> None:
    first, last = served.steps(CLIP.read_bytes())
    assert first == {"event": "recognizing"}
    assert last["event"] == "done" and len(last["pictures"]) == 3
    assert all(picture.startswith("data:image/jpeg;base64,/9j/") for picture in last["pictures"])


def test_health_says_what_serves(served: Served) -> None:
    status, health = served.ask(address="/api/health", method="GET")
    assert status == 200
    assert health["classes"] == CLASSES
    assert health["model"] == "Recognizer2D, ResNet" and health["checkpoint"] == "random.pth"
    assert (health["max_bytes"], health["max_seconds"]) == (MAX_BYTES, 30)
    assert health["examples"] == CLASSES[:4]
    assert health["free_places"] == 6


def test_who_leaves_the_line_takes_nobodys_time(served: Served) -> None:
    content, done = CLIP.read_bytes(), threading.Event()
    first = served.site.queue.join(lambda: done.wait(PATIENCE))
    with socket.create_connection(("127.0.0.1", served.port)) as connection:
        connection.sendall(post(content))
        wait_until(lambda: len(served.site.queue.jobs) == 2)
        (waiting,) = [job for job in served.site.queue.jobs if job is not first]
    wait_until(waiting.cancelled)
    wait_until(served.is_clean)
    done.set()
    first.result(PATIENCE)


def test_who_leaves_is_not_computed_for(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    answerer, content, computed = served.site.answerer, CLIP.read_bytes(), []
    backbone = answerer.recognizer.engine.model.backbone
    reader, read, gate = answerer._reader, threading.Event(), threading.Event()

    def read_and_wait(sample: dict) -> Any:
        found = reader(sample)
        read.set()
        gate.wait(PATIENCE)
        return found

    monkeypatch.setattr(answerer, "_reader", read_and_wait)
    with backbone.layer1.register_forward_hook(lambda *_: computed.append(1)):
        with socket.create_connection(("127.0.0.1", served.port)) as connection:
            connection.sendall(post(content))
            assert read.wait(PATIENCE)
            job = served.site.queue.jobs[-1]
        wait_until(served.is_clean)  # the place is given up, though the job has not ended
        gate.set()
        assert isinstance(job.exception(PATIENCE), CancelledError) and not computed
        assert served.ask(content)[0] == 200 and computed  # the next is


def test_several_at_once_are_served_in_order_and_told_so(served: Served) -> None:
    content, done = CLIP.read_bytes(), threading.Event()
    served.site.queue.join(lambda: done.wait(PATIENCE))
    steps: dict[int, list[dict]] = {}
    order: list[int] = []

    def client(number: int) -> None:
        steps[number] = served.steps(content)

    clients = [threading.Thread(target=client, args=(number,)) for number in range(5)]
    for number, thread in enumerate(clients):
        thread.start()
        wait_until(lambda number=number: len(served.site.queue.jobs) == number + 2)
    with served.site.queue.place():  # the sixth of six places
        busy = {"error": "The server is busy: please try again in a minute."}
        assert served.ask(content) == (503, busy)
    for number, job in enumerate(served.site.queue.jobs[1:]):
        job.add_done_callback(lambda _, number=number: order.append(number))
    done.set()
    for thread in clients:
        thread.join()
    assert order == [0, 1, 2, 3, 4]
    for number in range(5):
        waits = [step["ahead"] for step in steps[number] if step["event"] == "waiting"]
        assert waits[0] == number + 1 and waits == sorted(waits, reverse=True)
        assert steps[number][-1]["event"] == "done"


def test_a_decoder_that_the_system_ends_costs_no_answer(served: Served) -> None:
    content = CLIP.read_bytes()
    assert served.ask(content)[0] == 200
    for process in multiprocessing.active_children():
        process.kill()
    assert served.ask(content)[0] == 200


def test_a_reader_holds_no_connection_open(served: Served) -> None:
    """Its process is forked while a client is connected, who must see the end all the same."""
    with socket.create_connection(("127.0.0.1", served.port), timeout=PATIENCE) as connection:
        head = "GET /api/health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        connection.sendall(head[:20].encode())
        wait_until(lambda: served.server.server_state.connections)
        served.site.answerer.close()
        assert served.ask(CLIP.read_bytes())[0] == 200  # in a new process
        connection.sendall(head[20:].encode())
        received = b""
        while part := connection.recv(10_000):  # until the server closes
            received += part
    assert received.startswith(b"HTTP/1.1 200 ")


def test_other_hosts_and_other_sites_are_refused(served: Served) -> None:
    content, here = CLIP.read_bytes(), f"127.0.0.1:{served.port}"
    for headers, status in (
        (dict(Origin=f"http://{here}"), 200),
        (dict(Host="evil.example", Origin="http://evil.example"), 403),
        (dict(Sec_Fetch_Site="same-origin"), 200),
        (dict(Sec_Fetch_Site="cross-site"), 403),
    ):
        assert served.ask(content, **headers)[0] == status, headers


def test_only_what_is_listed_is_given_out(served: Served) -> None:
    for address in ("/examples/4", "/examples/4/poster", "/examples/-1"):
        assert served.ask(address=address, method="GET")[0] == 404
    for example in ("4", "-1", "..%2Frandom.pth", "%00"):
        status, answer = served.ask(address=f"{API}?example={example}")
        assert (status, answer) == (404, {"error": "There is no such example."})
    for address in ("/docs", "/openapi.json", "/page/", "/examples/", "/../app.py"):
        assert served.ask(address=address, method="GET")[0] == 404


def test_every_answer_has_the_security_headers(served: Served) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", served.port)
    for address in ("/", "/page.js", "/page.css", "/api/health", "/examples/0/poster", "/gone"):
        with contextlib.closing(connection):
            connection.request("GET", address)
            headers = connection.getresponse().headers
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert "default-src 'none'; script-src 'self'" in headers["Content-Security-Policy"]


def test_the_page_loads_nothing_from_elsewhere() -> None:
    page = Path("mmact_tiny/serve/page")
    assert sorted(path.name for path in page.iterdir()) == ["index.html", "page.css", "page.js"]
    for path in page.iterdir():
        addresses = re.findall(r"https?://[^/\s]*", path.read_text(encoding="utf-8"))
        assert set(addresses) <= {"http://localhost:7860"}, path


@pytest.mark.parametrize(
    ("bound", "host", "origin", "allowed"),
    [
        ("127.0.0.1", "127.0.0.1:7860", None, True),
        ("127.0.0.1", "LOCALHOST:7860", "http://localhost:7860", True),
        ("127.0.0.1", "[::1]:7860", "http://[::1]:7860", True),
        ("127.0.0.1", "localhost", "https://localhost", True),
        ("127.0.0.1", "127.9.9.9", None, True),
        ("127.0.0.1", "0.0.0.0", None, False),
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
def test_hosts_and_origins(bound: str, host: str, origin: str | None, allowed: bool) -> None:
    headers = {"host": host} if origin is None else {"host": host, "origin": origin}
    reason = OwnPageOnly(None, bound).reason_against(Headers(headers), "POST")  # type: ignore[arg-type]
    assert (reason is None) == allowed


def test_closing_does_not_wait_for_work_that_goes_on() -> None:
    queue, begun, gate = Queue(1), threading.Event(), threading.Event()
    queue.join(lambda: begun.set() or gate.wait(PATIENCE))
    waiting = queue.join(lambda: None)
    begun.wait(PATIENCE)
    assert [queue.num_ahead(job) for job in queue.jobs] == [0, 1]
    assert not queue.close(0.05) and waiting.cancelled()
    gate.set()
    assert queue.close(PATIENCE)
