import hashlib
import multiprocessing
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from file_server import FileServer

import mmact_tiny.download
import mmact_tiny.files
from mmact_tiny.download import download, published_hash
from mmact_tiny.errors import UserError

DATA = bytes(range(256)) * 4096  # 1 MiB
SHA256 = hashlib.sha256(DATA).hexdigest()


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(mmact_tiny.download, "BACKOFF_SECONDS", (0.01, 0.01, 0.01))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with FileServer() as server:
        server.files["/w.pth"] = DATA
        yield server


def left_over(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if not path.name.endswith(".lock"))


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://x/tsn_rgb_20220906-cd10898e.pth", "cd10898e"),
        ("https://x/tsn_rgb_20220906-cd10898e.pth?x=1", "cd10898e"),
        ("https://x/resnet50-0676ba61.pth", "0676ba61"),
        ("https://x/tsn_rgb-cd10898e.safetensors", "cd10898e"),
        ("https://x/tsn_imagenet-pretrained.pth", None),
        ("https://x/kinetics400_tiny.zip", None),
    ],
)
def test_published_hash(url, expected):
    assert published_hash(url) == expected


def test_whole(server, tmp_path, capsys):
    path = tmp_path / "new" / "w.pth"
    assert download(f"{server.url}/w.pth", path, sha256_prefix=SHA256[:8]) == path
    assert path.read_bytes() == DATA
    assert left_over(path.parent) == ["w.pth"]
    assert server.ranges == [None]
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.splitlines()[-1] == "w.pth: 1.0 of 1.0 MB"


def test_bar_on_a_terminal(server, tmp_path):
    parent, child = os.openpty()
    code = f"from mmact_tiny.download import download; download({server.url + '/w.pth'!r}, 'w.pth')"
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, stderr=child, check=True)
    os.close(child)
    shown = os.read(parent, 100_000).decode()
    os.close(parent)
    assert "━" in shown
    assert "1.0/1.0 MB" in shown


def test_closed_terminal_is_not_taken_for_the_network(server, tmp_path, monkeypatch):
    def say(text):
        raise BrokenPipeError(text)

    monkeypatch.setattr(mmact_tiny.download, "say", say)
    with pytest.raises(BrokenPipeError):
        download(f"{server.url}/w.pth", tmp_path / "w.pth")
    assert server.ranges == [None]


def test_there_already_needs_no_request(server, tmp_path):
    (tmp_path / "w.pth").write_bytes(DATA)
    download(f"{server.url}/w.pth", tmp_path / "w.pth", sha256_prefix=SHA256[:8])
    assert server.ranges == []
    download(f"{server.url}/w.pth", tmp_path / "w.pth", force=True)
    assert server.ranges == [None]


def test_damaged_file_is_fetched_again(server, tmp_path, capsys):
    (tmp_path / "w.pth").write_bytes(DATA[:-1])
    download(f"{server.url}/w.pth", tmp_path / "w.pth", sha256_prefix=SHA256[:8])
    assert (tmp_path / "w.pth").read_bytes() == DATA
    assert "is damaged" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("cuts", "ranges"),
    [
        ([0], [None, None]),
        ([1], [None, "bytes=1-"]),
        ([500_000], [None, "bytes=500000-"]),
        ([len(DATA) - 1], [None, "bytes=1048575-"]),
        ([300_000, 300_000, 0], [None, "bytes=300000-", "bytes=600000-", "bytes=600000-"]),
    ],
)
def test_cut_connections_are_resumed(server, tmp_path, cuts, ranges):
    server.cuts = cuts
    download(f"{server.url}/w.pth", tmp_path / "w.pth", progress=False)
    assert (tmp_path / "w.pth").read_bytes() == DATA
    assert server.ranges == ranges
    assert left_over(tmp_path) == ["w.pth"]


def test_more_cuts_than_tries_are_fine_while_bytes_come(server, tmp_path):
    server.cuts = [100_000] * 10
    download(f"{server.url}/w.pth", tmp_path / "w.pth", progress=False)
    assert (tmp_path / "w.pth").read_bytes() == DATA


def test_second_call_goes_on_where_the_first_gave_up(server, tmp_path):
    server.cuts = [1000, 0, 0, 0]
    with pytest.raises(UserError, match="cut after 1,000 of 1,048,576 bytes"):
        download(f"{server.url}/w.pth", tmp_path / "w.pth", progress=False)
    assert left_over(tmp_path) == ["w.pth.part", "w.pth.part.json"]
    server.ranges.clear()
    download(f"{server.url}/w.pth", tmp_path / "w.pth", progress=False)
    assert server.ranges == ["bytes=1000-"]
    assert server.if_ranges == [None] + [f'"{hash(DATA):x}"'] * 4
    assert (tmp_path / "w.pth").read_bytes() == DATA


def test_killed_before_the_rename(server, tmp_path):
    server.cuts = [1000, 0, 0, 0]
    with pytest.raises(UserError):
        download(f"{server.url}/w.pth", tmp_path / "w.pth", progress=False)
    (tmp_path / "w.pth.part").write_bytes(DATA)
    download(f"{server.url}/w.pth", tmp_path / "w.pth", progress=False)
    assert server.statuses[-1] == 416
    assert (tmp_path / "w.pth").read_bytes() == DATA


def test_part_of_nobody_knows_what_starts_again(server, tmp_path):
    (tmp_path / "w.pth.part").write_bytes(b"x" * 1000)
    download(f"{server.url}/w.pth", tmp_path / "w.pth", progress=False)
    assert server.ranges == [None]
    assert (tmp_path / "w.pth").read_bytes() == DATA


@pytest.mark.parametrize(("size", "status"), [(1000, 206), (len(DATA) + 5, 416)])
def test_part_of_another_address_is_used_only_with_a_hash(server, tmp_path, size, status):
    (tmp_path / "w.pth.part").write_bytes((DATA + b"tail!")[:size])
    download(f"{server.url}/w.pth", tmp_path / "w.pth", sha256_prefix=SHA256[:8], progress=False)
    assert server.ranges[0] == f"bytes={size}-"
    assert server.statuses[0] == status
    assert (tmp_path / "w.pth").read_bytes() == DATA


def test_no_validator_and_no_hash_starts_again(server, tmp_path):
    server.with_validator = False
    server.cuts = [1000]
    download(f"{server.url}/w.pth", tmp_path / "w.pth", progress=False)
    assert server.ranges == [None, None]
    assert (tmp_path / "w.pth").read_bytes() == DATA


def test_server_without_range_starts_again(server, tmp_path):
    server.with_range = False
    server.cuts = [400_000]
    download(f"{server.url}/w.pth", tmp_path / "w.pth", progress=False)
    assert server.ranges == [None, "bytes=400000-"]
    assert server.statuses == [200, 200]
    assert (tmp_path / "w.pth").read_bytes() == DATA


def test_server_without_range_that_always_cuts_is_given_up(server, tmp_path):
    server.with_range = False
    server.cuts = [400_000] * 100
    with pytest.raises(UserError, match="cut after 400,000"):
        download(f"{server.url}/w.pth", tmp_path / "w.pth", progress=False)
    assert len(server.ranges) == 4  # the first, and three tries that brought nothing new


@pytest.mark.parametrize("honest", [True, False])
@pytest.mark.parametrize("longer", [0, 1000])
def test_file_changed_in_between(server, tmp_path, honest, longer):
    server.cuts = [1000, 0, 0, 0]
    with pytest.raises(UserError):
        download(f"{server.url}/w.pth", tmp_path / "w.pth", progress=False)
    server.honest_if_range = honest
    server.files["/w.pth"] = changed = b"n" * (len(DATA) + longer)
    download(f"{server.url}/w.pth", tmp_path / "w.pth", progress=False)
    assert (tmp_path / "w.pth").read_bytes() == changed


def test_no_content_length(server, tmp_path):
    server.with_length = False
    download(f"{server.url}/w.pth", tmp_path / "w.pth", sha256_prefix=SHA256[:8])
    assert (tmp_path / "w.pth").read_bytes() == DATA


def test_wrong_hash_deletes_the_part(server, tmp_path):
    with pytest.raises(UserError, match=r"arrived damaged.*not start with 00000000.*was deleted"):
        download(f"{server.url}/w.pth", tmp_path / "w.pth", sha256_prefix="0" * 8, progress=False)
    assert left_over(tmp_path) == []


def test_wrong_hash_keeps_the_old_file(server, tmp_path):
    (tmp_path / "w.pth").write_bytes(b"old")
    with pytest.raises(UserError, match="arrived damaged"):
        download(f"{server.url}/w.pth", tmp_path / "w.pth", sha256_prefix="0" * 8, force=True)
    assert (tmp_path / "w.pth").read_bytes() == b"old"


def test_missing_file_is_not_tried_again(server, tmp_path):
    with pytest.raises(UserError) as caught:
        download(f"{server.url}/gone.pth", tmp_path / "gone.pth", progress=False)
    assert str(caught.value) == (
        f"cannot download from {server.url[7:]} (HTTP 404 Not Found): fetch {server.url}/gone.pth "
        f"by hand, put it at {tmp_path / 'gone.pth'} and run this again"
    )
    assert server.statuses == [404]


def test_busy_server_is_tried_again(server, tmp_path):
    server.errors = [503, 429, 500]
    download(f"{server.url}/w.pth", tmp_path / "w.pth", progress=False)
    assert server.statuses == [503, 429, 500, 200]


def test_silent_server_is_given_up(server, tmp_path, monkeypatch):
    monkeypatch.setattr(mmact_tiny.download, "TIMEOUT_SECONDS", 0.05)
    server.cuts = [1000, 0, 0, 0]
    server.chunk_pause = 0.5
    with pytest.raises(UserError, match="timed out"):
        download(f"{server.url}/w.pth", tmp_path / "w.pth", progress=False)


@pytest.mark.parametrize("host", ["127.0.0.1", "no-such-host.invalid"])
def test_offline_says_what_to_fetch_by_hand(tmp_path, monkeypatch, host):
    monkeypatch.setenv("no_proxy", "*")
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://{host}:{unused.getsockname()[1]}/w.pth"
        with pytest.raises(UserError, match=f"fetch {url} by hand, put it at") as caught:
            download(url, tmp_path / "w.pth")
    assert len(str(caught.value).splitlines()) == 1
    assert left_over(tmp_path) == []


@pytest.mark.parametrize("url", ["file:///etc/hostname", "w.pth", "ftp://x/w.pth"])
def test_other_addresses_are_refused(tmp_path, url):
    with pytest.raises(UserError, match="expected an http:// or https:// address"):
        download(url, tmp_path / "w.pth")


def test_places_that_cannot_be_written(server, tmp_path):
    with pytest.raises(UserError, match="it is a folder"):
        download(f"{server.url}/w.pth", tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot write"):
        download(f"{server.url}/w.pth", tmp_path / "file" / "w.pth")


def test_too_little_space_is_seen_before_the_download(server, tmp_path, monkeypatch):
    usage = mmact_tiny.files.shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(mmact_tiny.files.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(UserError, match=r"no space for .* takes 1\.0 MB more"):
        download(f"{server.url}/w.pth", tmp_path / "w.pth", progress=False)
    assert (tmp_path / "w.pth.part").stat().st_size == 0


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_full_disk(server, tmp_path):
    (tmp_path / "w.pth.part").symlink_to("/dev/full")
    with pytest.raises(UserError, match=r"cannot write .*No space left"):
        download(f"{server.url}/w.pth", tmp_path / "w.pth", progress=False)


@pytest.mark.parametrize("start", [threading.Thread, multiprocessing.get_context("spawn").Process])
def test_concurrent_downloads_are_one(server, tmp_path, start):
    server.chunk_pause = 0.2
    arguments = {"sha256_prefix": SHA256[:8], "progress": False}
    address = f"{server.url}/w.pth"
    tasks = [start(target=download, args=(address, tmp_path / "w.pth"), kwargs=arguments)
             for _ in range(4)]  # fmt: skip
    for task in tasks:
        task.start()
    for task in tasks:
        task.join()
    assert server.ranges == [None]
    assert (tmp_path / "w.pth").read_bytes() == DATA
    assert left_over(tmp_path) == ["w.pth"]
