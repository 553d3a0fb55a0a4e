"""Uploads over real connections: all that can be wrong with one, and nothing left behind."""

import contextlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("fastapi", reason="the web extra is not installed")

from bad_inputs import write_clip
from video_files import write_audio
from web_site import BOUNDARY, CLIP, MAX_BYTES, PATIENCE, Served, form, post, wait_until

pytestmark = pytest.mark.usefixtures("leaves_nothing")


def test_what_is_no_video_is_refused_in_words(served: Served, tmp_path: Path) -> None:
    write_audio(tmp_path / "sound.m4a")
    long = write_clip(tmp_path / "long.mp4", frames=320)
    large = write_clip(tmp_path / "large.mp4", frames=1, size=(4096, 2400))
    playlist = f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{CLIP.resolve()}\n#EXT-X-ENDLIST\n"
    cases = [
        (b"rubbish" * 99, 422, "it is not a video that can be read"),
        (b"", 400, "The upload is empty."),
        (CLIP.read_bytes()[:2000], 422, "no frame of the video can be decoded"),
        ((tmp_path / "sound.m4a").read_bytes(), 422, "there is no video in the file"),
        (long.read_bytes(), 422, "it lasts 32 seconds; 30 seconds is the most"),
        (large.read_bytes(), 422, "4096 x 2400 pixels are more than 4096 x 2304"),
        (playlist.encode(), 422, "it is not a video that can be read"),
        (f"ffconcat version 1.0\nfile {CLIP}\n".encode(), 422, "is not a video that can be read"),
    ]
    for content, status, reason in cases:
        answer = served.ask(content)
        assert answer[0] == status and reason in answer[1]["error"]
        assert str(served.site.folder) not in answer[1]["error"]
        assert served.is_clean()


@pytest.mark.parametrize(
    ("content_type", "body", "reason"),
    [
        (f"multipart/form-data; boundary={BOUNDARY}", form(b"", 'name="video"')["body"], "no file"),
        (f"multipart/form-data; boundary={BOUNDARY}", form(b"")["body"], "The upload is empty."),
        (f"multipart/form-data; boundary={BOUNDARY}", b"no form", "Invalid multipart data."),
        (f"multipart/form-data; boundary={BOUNDARY}", form(b"x")["body"][:150], "no file"),
        ("multipart/form-data", b"no boundary", "Missing boundary"),
        ("multipart/form-data; boundary=" + "x" * 300, b"long boundary", "Invalid"),
    ],
)
def test_a_form_that_is_none(served: Served, content_type: str, body: bytes, reason: str) -> None:
    status, answer = served.ask(body, Content_Type=content_type)
    assert status == 400 and reason in answer["error"]


def test_too_large_is_refused_while_it_comes(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    refusal = (413, {"error": "The upload is larger than 1 MB."})
    assert served.ask(b"x" * (MAX_BYTES + 1)) == refusal
    assert served.ask(**form(b"x" * (MAX_BYTES + 1))) == refusal
    sizes = [0]

    def look() -> int:
        with contextlib.suppress(FileNotFoundError):  # refused and deleted meanwhile
            sizes.extend(file.stat().st_size for file in served.site.folder.iterdir())
        return max(sizes)

    def endless() -> Iterator[bytes]:  # of no declared length: sent in chunks
        for number in range(400):
            yield b"x" * 50_000
            if number == 10:
                wait_until(look)
            look()

    assert served.ask(endless()) == refusal
    assert 0 < max(sizes) <= MAX_BYTES
    with socket.create_connection(("127.0.0.1", served.port), timeout=PATIENCE) as connection:
        connection.sendall(post(b"", length=99_999_999_999))  # and not a byte more
        assert connection.recv(100).startswith(b"HTTP/1.1 413 ")
    monkeypatch.setattr("mmact_tiny.serve.app.DISCARD_SECONDS", 0.2)
    with socket.create_connection(("127.0.0.1", served.port), timeout=PATIENCE) as connection:
        connection.sendall(post(b"", length=99_999_999_999))
        with pytest.raises(OSError):  # who sends on without end is cut off
            for _ in range(100_000):
                connection.sendall(b"x" * 1_000_000)


@pytest.mark.parametrize("limit", ["SILENT_SECONDS", "UPLOAD_SECONDS"])
def test_who_stops_sending_is_not_waited_for(
    served: Served, monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    monkeypatch.setattr(f"mmact_tiny.serve.app.{limit}", 0.2)
    with socket.create_connection(("127.0.0.1", served.port), timeout=PATIENCE) as connection:
        connection.sendall(post(b"some", length=99))
        assert connection.recv(100).startswith(b"HTTP/1.1 408 ")


def test_a_disk_that_is_full(served: Served) -> None:
    folder = served.site.folder
    if os.system(f"mount -t tmpfs -o size=64k tmpfs {folder} 2>/dev/null"):
        pytest.skip("cannot mount a tmpfs here")
    try:
        assert served.ask(b"x" * 900_000) == (507, {"error": "The server's disk is full."})
        assert list(folder.iterdir()) == []
    finally:
        os.system(f"umount {folder}")


def test_who_leaves_in_the_middle_leaves_nothing(served: Served) -> None:
    content = CLIP.read_bytes()
    with socket.create_connection(("127.0.0.1", served.port)) as connection:
        connection.sendall(post(content[: len(content) // 2], length=len(content)))
        wait_until(lambda: served.site.queue.num_taken == 1)
        wait_until(lambda: any(served.site.folder.iterdir()))
    wait_until(served.is_clean)
    assert served.ask(content)[0] == 200
