"""The transfer of a file from a server that cuts, lies and forgets; the unpacking of an archive."""

import hashlib
import multiprocessing
import os
import socket
import stat
import subprocess
import sys
import threading
from functools import partial
from pathlib import Path

import pytest
from file_server import FileServer, make_zip

import mmact_tiny.files
from mmact_tiny.download import transfer
from mmact_tiny.download.transfer import download, published_hash, unpack
from mmact_tiny.errors import UserError

DATA = bytes(range(256)) * 4096  # 1 MiB
SHA256 = hashlib.sha256(DATA).hexdigest()


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(transfer, "BACKOFF_SECONDS", (0.01, 0.01, 0.01))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with FileServer() as server:
        server.files["/w.pth"] = DATA
        yield server


@pytest.fixture
def fetch(server, tmp_path):
    """Fetches `w.pth`."""
    return partial(download, f"{server.url}/w.pth", tmp_path / "w.pth")


def cut_off(server, fetch):
    """Leaves 1000 bytes in the part."""
    server.cuts = [1000, 0, 0, 0]
    with pytest.raises(UserError, match="cut after 1,000 of 1,048,576 bytes"):
        fetch()
    server.ranges.clear()


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
    assert captured.err.splitlines()[-1].startswith("w.pth (MB): 2/2, 0:00 left, ")


def test_bar_on_a_terminal(server, tmp_path):
    parent, child = os.openpty()
    code = f"from mmact_tiny.download import download; download({server.url + '/w.pth'!r}, 'w.pth')"
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, stderr=child, check=True)
    os.close(child)
    shown = os.read(parent, 100_000).decode()
    os.close(parent)
    assert "━" in shown
    assert "2/2  0:00 left" in shown


def test_only_a_whole_file_needs_no_request(server, fetch, tmp_path, capsys):
    (tmp_path / "w.pth").write_bytes(DATA)
    fetch(sha256_prefix=SHA256[:8])
    assert server.ranges == []
    fetch(force=True)
    assert server.ranges == [None]
    (tmp_path / "w.pth").write_bytes(DATA[:-1])
    fetch(sha256_prefix=SHA256[:8])
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
        ([100_000] * 10, [None, *(f"bytes={n}00000-" for n in range(1, 11))]),  # more than tries
    ],
)
def test_cut_connections_are_resumed(server, fetch, tmp_path, cuts, ranges):
    server.cuts = cuts
    fetch()
    assert (tmp_path / "w.pth").read_bytes() == DATA
    assert server.ranges == ranges
    assert left_over(tmp_path) == ["w.pth"]


@pytest.mark.parametrize(("force", "asked"), [(False, "bytes=1000-"), (True, None)])
def test_second_call_goes_on_where_the_first_gave_up(server, fetch, tmp_path, force, asked):
    cut_off(server, fetch)
    assert left_over(tmp_path) == ["w.pth.part"]
    fetch(force=force)
    assert server.ranges == [asked]
    date = "Sun, 13 Sep 2020 12:26:40 GMT"
    assert server.if_ranges == [None] + [date] * 3 + [None if force else date]
    assert (tmp_path / "w.pth").read_bytes() == DATA


def test_killed_before_the_rename(server, fetch, tmp_path):
    cut_off(server, fetch)
    date = (tmp_path / "w.pth.part").stat().st_mtime
    (tmp_path / "w.pth.part").write_bytes(DATA)
    os.utime(tmp_path / "w.pth.part", (date, date))
    fetch()
    assert server.statuses[-1] == 416
    assert (tmp_path / "w.pth").read_bytes() == DATA


@pytest.mark.parametrize(
    ("settings", "part", "cuts", "ranges"),
    [
        (dict(), b"x" * 1000, [], ["bytes=1000-"]),  # a part of nobody knows what
        (dict(date=None), b"", [1000], [None, None]),
        (dict(with_range=False), b"", [400_000], [None, "bytes=400000-"]),
        (dict(with_length=False), b"", [], [None]),
    ],
)
def test_what_cannot_be_continued_starts_again(
    server, fetch, tmp_path, settings, part, cuts, ranges
):
    vars(server).update(settings, cuts=cuts)
    if part:
        (tmp_path / "w.pth.part").write_bytes(part)
    fetch()
    assert server.ranges == ranges and set(server.statuses) == {200}
    assert (tmp_path / "w.pth").read_bytes() == DATA


@pytest.mark.parametrize(("size", "status"), [(1000, 206), (len(DATA) + 5, 416)])
def test_part_of_another_address_is_used_only_with_a_hash(server, fetch, tmp_path, size, status):
    (tmp_path / "w.pth.part").write_bytes((DATA + b"tail!")[:size])
    fetch(sha256_prefix=SHA256[:8])
    assert server.ranges[0] == f"bytes={size}-"
    assert server.statuses[0] == status
    assert (tmp_path / "w.pth").read_bytes() == DATA


def test_server_without_range_that_always_cuts_is_given_up(server, fetch):
    server.with_range = False
    server.cuts = [400_000] * 100
    with pytest.raises(UserError, match="cut after 400,000"):
        fetch()
    assert len(server.ranges) == 4  # the first, and three tries that brought nothing new


@pytest.mark.parametrize("honest", [True, False])
@pytest.mark.parametrize("longer", [0, 1000])
def test_file_changed_in_between(server, fetch, tmp_path, honest, longer):
    cut_off(server, fetch)
    server.honest_if_range = honest
    server.date = "Mon, 14 Sep 2020 12:26:40 GMT"
    server.files["/w.pth"] = changed = b"n" * (len(DATA) + longer)
    fetch()
    assert (tmp_path / "w.pth").read_bytes() == changed


@pytest.mark.parametrize("old", [None, b"old"])
def test_wrong_hash_deletes_the_part_and_keeps_the_old_file(fetch, tmp_path, old):
    if old:
        (tmp_path / "w.pth").write_bytes(old)
    with pytest.raises(UserError, match=r"arrived damaged.*not start with 00000000.*was deleted"):
        fetch(sha256_prefix="0" * 8, force=old is not None)
    assert left_over(tmp_path) == (["w.pth"] if old else [])
    assert not old or (tmp_path / "w.pth").read_bytes() == old


def test_missing_file_is_not_tried_again(server, tmp_path):
    with pytest.raises(UserError) as caught:
        download(f"{server.url}/gone.pth", tmp_path / "gone.pth")
    assert str(caught.value) == (
        f"cannot download from {server.url[7:]} (HTTP 404 Not Found): fetch {server.url}/gone.pth "
        f"by hand, put it at {tmp_path / 'gone.pth'} and run this again"
    )
    assert server.statuses == [404]


def test_busy_server_is_tried_again_and_a_refusal_without_a_question_for_a_part_not(server, fetch):
    server.errors = [416]
    with pytest.raises(UserError, match="HTTP 416"):
        fetch()
    server.errors = [503, 429, 500]
    fetch()
    assert server.statuses == [416, 503, 429, 500, 200]


def test_silent_server_is_given_up(server, fetch, monkeypatch):
    monkeypatch.setattr(transfer, "TIMEOUT_SECONDS", 0.05)
    server.cuts = [1000, 0, 0, 0]
    server.chunk_pause = 0.5
    with pytest.raises(UserError, match="timed out"):
        fetch()


@pytest.mark.parametrize("host", ["127.0.0.1", "no-such-host.invalid"])
def test_offline_says_at_once_what_to_fetch_by_hand(tmp_path, monkeypatch, host):
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(transfer, "BACKOFF_SECONDS", None)
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


def test_too_little_space_is_seen_before_anything_is_written(fetch, tmp_path, monkeypatch):
    archive = make_zip(tmp_path / "a.zip", {"zeros": bytes(1_000_000)})
    usage = mmact_tiny.download.transfer.shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(mmact_tiny.download.transfer.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(UserError, match=r"no space for .* takes 1\.0 MB more"):
        fetch()
    assert (tmp_path / "w.pth.part").stat().st_size == 0
    with pytest.raises(UserError, match=r"no space for .* takes 1\.0 MB more"):
        unpack(archive, tmp_path / "set", check=accept)
    assert left_over(tmp_path) == ["a.zip", "w.pth.part"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_full_disk(fetch, tmp_path):
    (tmp_path / "w.pth.part").symlink_to("/dev/full")
    with pytest.raises(UserError, match=r"cannot write .*No space left"):
        fetch()


@pytest.mark.parametrize("start", [threading.Thread, multiprocessing.get_context("spawn").Process])
def test_concurrent_downloads_are_one(server, tmp_path, start):
    server.chunk_pause = 0.2
    arguments = {"sha256_prefix": SHA256[:8]}
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


def accept(folder):
    assert folder.is_dir()


def names_in(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("top", ["", "set/", "other name/"])
def test_unpacks(tmp_path, top):
    members = {f"{top}train/a.mp4": b"a" * 100, f"{top}list.txt": b"a.mp4 0\n", f"{top}empty": b""}
    archive = make_zip(tmp_path / "a.zip", members | {"__MACOSX/._list.txt": b"x"})
    unpack(archive, tmp_path / "set", check=accept)
    assert (tmp_path / "set/train/a.mp4").read_bytes() == b"a" * 100
    assert names_in(tmp_path / "set") == ["empty", "list.txt", "train"]
    assert names_in(tmp_path) == ["a.zip", "set"]


def test_hostile_members_stay_inside_and_are_plain_files(tmp_path):
    inside = tmp_path / "deep" / "deeper"
    inside.mkdir(parents=True)
    outside = ("../out1", "ok/../../../out2", "/out3", str(tmp_path / "out4"))
    special = {
        "link": (b"/etc/passwd", stat.S_IFLNK | 0o777),
        "pipe": (b"", stat.S_IFIFO | 0o644),
        "program": (b"x", stat.S_IFREG | 0o4777),
    }
    archive = make_zip(inside / "a.zip", dict.fromkeys(outside, b"x") | special)
    unpack(archive, inside / "set", check=accept)
    assert names_in(tmp_path) == ["deep"] and names_in(tmp_path / "deep") == ["deeper"]
    assert names_in(inside) == ["a.zip", "set"]
    assert len([path for path in (inside / "set").rglob("out*") if path.is_file()]) == 4
    for name in special:
        mode = (inside / "set" / name).lstat().st_mode
        assert stat.S_ISREG(mode) and not mode & 0o4111


def test_members_that_contradict_each_other_are_refused(tmp_path):
    archive = make_zip(tmp_path / "a.zip", {"a": b"x", "a/b": b"y"})
    with pytest.raises(UserError, match="cannot write"):
        unpack(archive, tmp_path / "set", check=accept)
    assert names_in(tmp_path) == ["a.zip"]


@pytest.mark.parametrize("part", [0.0, 0.3, 0.9, 0.999, 1.0])
def test_truncated_or_damaged_archive_is_refused(tmp_path, part):
    content = bytes(i * i % 251 for i in range(200_000))
    archive = make_zip(tmp_path / "a.zip", {"set/a.mp4": content, "set/b.mp4": content[::-1]})
    data = bytearray(archive.read_bytes())
    data[60] ^= 0xFF
    archive.write_bytes(data[: int(len(data) * part)])
    with pytest.raises(UserError, match="is not a whole archive"):
        unpack(archive, tmp_path / "set", check=accept)
    assert names_in(tmp_path) == ["a.zip"]


def test_zip_that_lies_about_its_size_writes_no_more_than_it_says(tmp_path, monkeypatch):
    written = []
    monkeypatch.setattr(transfer.shutil, "rmtree", lambda path, **kwargs: written.extend(
        file.stat().st_size for file in Path(path).rglob("*")))  # fmt: skip
    archive = make_zip(tmp_path / "a.zip", {"a": bytes(5_000_000)})
    real, lie = (5_000_000).to_bytes(4, "little"), (100).to_bytes(4, "little")
    archive.write_bytes(archive.read_bytes().replace(real, lie))
    with pytest.raises(UserError, match="is not a whole archive"):
        unpack(archive, tmp_path / "set", check=accept)
    assert sum(written) <= 100


def test_folder_is_replaced_only_by_a_whole_one(tmp_path):
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "old").touch()
    (tmp_path / ".set.part").mkdir()  # a killed run's
    (tmp_path / ".set.part" / "junk").touch()
    archive = make_zip(tmp_path / "a.zip", {"new": b"x"})

    def refuse(folder):
        assert (folder / "new").read_bytes() == b"x"
        raise UserError("not this")

    with pytest.raises(UserError, match="not this"):
        unpack(archive, tmp_path / "set", check=refuse)
    assert names_in(tmp_path / "set") == ["old"]
    unpack(archive, tmp_path / "set", check=accept)
    assert names_in(tmp_path / "set") == ["new"]
    assert names_in(tmp_path) == ["a.zip", "set"]
