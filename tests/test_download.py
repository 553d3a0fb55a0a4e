"""What can be had by name, the transfer of a file, and the unpacking of an archive."""

import hashlib
import multiprocessing
import os
import re
import socket
import stat
import subprocess
import sys
import threading
import zipfile
from pathlib import Path

import pytest
from file_server import FileServer

import mmact_tiny.download
import mmact_tiny.files
from mmact_tiny.download import (
    download,
    find_published,
    list_published,
    mirrored,
    published_hash,
    unpack,
)
from mmact_tiny.errors import EXIT_ERROR, EXIT_OK, UserError
from tools.download import main

ROOT = Path(__file__).parent.parent
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
    download(f"{server.url}/w.pth", tmp_path / "w.pth")
    assert (tmp_path / "w.pth").read_bytes() == DATA
    assert server.ranges == ranges
    assert left_over(tmp_path) == ["w.pth"]


def test_more_cuts_than_tries_are_fine_while_bytes_come(server, tmp_path):
    server.cuts = [100_000] * 10
    download(f"{server.url}/w.pth", tmp_path / "w.pth")
    assert (tmp_path / "w.pth").read_bytes() == DATA


def test_second_call_goes_on_where_the_first_gave_up(server, tmp_path):
    server.cuts = [1000, 0, 0, 0]
    with pytest.raises(UserError, match="cut after 1,000 of 1,048,576 bytes"):
        download(f"{server.url}/w.pth", tmp_path / "w.pth")
    assert left_over(tmp_path) == ["w.pth.part"]
    server.ranges.clear()
    download(f"{server.url}/w.pth", tmp_path / "w.pth")
    assert server.ranges == ["bytes=1000-"]
    assert server.if_ranges == [None] + ["Sun, 13 Sep 2020 12:26:40 GMT"] * 4
    assert (tmp_path / "w.pth").read_bytes() == DATA


def test_killed_before_the_rename(server, tmp_path):
    server.cuts = [1000, 0, 0, 0]
    with pytest.raises(UserError):
        download(f"{server.url}/w.pth", tmp_path / "w.pth")
    date = (tmp_path / "w.pth.part").stat().st_mtime
    (tmp_path / "w.pth.part").write_bytes(DATA)
    os.utime(tmp_path / "w.pth.part", (date, date))
    download(f"{server.url}/w.pth", tmp_path / "w.pth")
    assert server.statuses[-1] == 416
    assert (tmp_path / "w.pth").read_bytes() == DATA


def test_part_of_nobody_knows_what_starts_again(server, tmp_path):
    (tmp_path / "w.pth.part").write_bytes(b"x" * 1000)
    download(f"{server.url}/w.pth", tmp_path / "w.pth")
    assert server.statuses == [200]
    assert (tmp_path / "w.pth").read_bytes() == DATA


@pytest.mark.parametrize(("size", "status"), [(1000, 206), (len(DATA) + 5, 416)])
def test_part_of_another_address_is_used_only_with_a_hash(server, tmp_path, size, status):
    (tmp_path / "w.pth.part").write_bytes((DATA + b"tail!")[:size])
    download(f"{server.url}/w.pth", tmp_path / "w.pth", sha256_prefix=SHA256[:8])
    assert server.ranges[0] == f"bytes={size}-"
    assert server.statuses[0] == status
    assert (tmp_path / "w.pth").read_bytes() == DATA


def test_no_date_and_no_hash_starts_again(server, tmp_path):
    server.date = None
    server.cuts = [1000]
    download(f"{server.url}/w.pth", tmp_path / "w.pth")
    assert server.ranges == [None, None]
    assert (tmp_path / "w.pth").read_bytes() == DATA


def test_server_without_range_starts_again(server, tmp_path):
    server.with_range = False
    server.cuts = [400_000]
    download(f"{server.url}/w.pth", tmp_path / "w.pth")
    assert server.ranges == [None, "bytes=400000-"]
    assert server.statuses == [200, 200]
    assert (tmp_path / "w.pth").read_bytes() == DATA


def test_server_without_range_that_always_cuts_is_given_up(server, tmp_path):
    server.with_range = False
    server.cuts = [400_000] * 100
    with pytest.raises(UserError, match="cut after 400,000"):
        download(f"{server.url}/w.pth", tmp_path / "w.pth")
    assert len(server.ranges) == 4  # the first, and three tries that brought nothing new


@pytest.mark.parametrize("honest", [True, False])
@pytest.mark.parametrize("longer", [0, 1000])
def test_file_changed_in_between(server, tmp_path, honest, longer):
    server.cuts = [1000, 0, 0, 0]
    with pytest.raises(UserError):
        download(f"{server.url}/w.pth", tmp_path / "w.pth")
    server.honest_if_range = honest
    server.date = "Mon, 14 Sep 2020 12:26:40 GMT"
    server.files["/w.pth"] = changed = b"n" * (len(DATA) + longer)
    download(f"{server.url}/w.pth", tmp_path / "w.pth")
    assert (tmp_path / "w.pth").read_bytes() == changed


def test_no_content_length(server, tmp_path):
    server.with_length = False
    download(f"{server.url}/w.pth", tmp_path / "w.pth", sha256_prefix=SHA256[:8])
    assert (tmp_path / "w.pth").read_bytes() == DATA


def test_wrong_hash_deletes_the_part(server, tmp_path):
    with pytest.raises(UserError, match=r"arrived damaged.*not start with 00000000.*was deleted"):
        download(f"{server.url}/w.pth", tmp_path / "w.pth", sha256_prefix="0" * 8)
    assert left_over(tmp_path) == []


def test_wrong_hash_keeps_the_old_file(server, tmp_path):
    (tmp_path / "w.pth").write_bytes(b"old")
    with pytest.raises(UserError, match="arrived damaged"):
        download(f"{server.url}/w.pth", tmp_path / "w.pth", sha256_prefix="0" * 8, force=True)
    assert (tmp_path / "w.pth").read_bytes() == b"old"


def test_missing_file_is_not_tried_again(server, tmp_path):
    with pytest.raises(UserError) as caught:
        download(f"{server.url}/gone.pth", tmp_path / "gone.pth")
    assert str(caught.value) == (
        f"cannot download from {server.url[7:]} (HTTP 404 Not Found): fetch {server.url}/gone.pth "
        f"by hand, put it at {tmp_path / 'gone.pth'} and run this again"
    )
    assert server.statuses == [404]


def test_a_refusal_without_a_question_for_a_part_is_not_tried_again(server, tmp_path):
    server.errors = [416]
    with pytest.raises(UserError, match="HTTP 416"):
        download(f"{server.url}/w.pth", tmp_path / "w.pth")
    assert server.statuses == [416]


def test_force_does_not_go_on_with_a_part(server, tmp_path):
    server.cuts = [1000, 0, 0, 0]
    with pytest.raises(UserError):
        download(f"{server.url}/w.pth", tmp_path / "w.pth")
    server.ranges.clear()
    download(f"{server.url}/w.pth", tmp_path / "w.pth", force=True)
    assert server.ranges == [None]


def test_busy_server_is_tried_again(server, tmp_path):
    server.errors = [503, 429, 500]
    download(f"{server.url}/w.pth", tmp_path / "w.pth")
    assert server.statuses == [503, 429, 500, 200]


def test_silent_server_is_given_up(server, tmp_path, monkeypatch):
    monkeypatch.setattr(mmact_tiny.download, "TIMEOUT_SECONDS", 0.05)
    server.cuts = [1000, 0, 0, 0]
    server.chunk_pause = 0.5
    with pytest.raises(UserError, match="timed out"):
        download(f"{server.url}/w.pth", tmp_path / "w.pth")


@pytest.mark.parametrize("host", ["127.0.0.1", "no-such-host.invalid"])
def test_offline_says_at_once_what_to_fetch_by_hand(tmp_path, monkeypatch, host):
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(mmact_tiny.download, "BACKOFF_SECONDS", None)
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
        download(f"{server.url}/w.pth", tmp_path / "w.pth")
    assert (tmp_path / "w.pth.part").stat().st_size == 0


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_full_disk(server, tmp_path):
    (tmp_path / "w.pth.part").symlink_to("/dev/full")
    with pytest.raises(UserError, match=r"cannot write .*No space left"):
        download(f"{server.url}/w.pth", tmp_path / "w.pth")


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


def make_zip(path, members):
    """Members: name -> bytes, or (bytes, Unix mode)."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in members.items():
            data, mode = content if isinstance(content, tuple) else (content, stat.S_IFREG | 0o644)
            info = zipfile.ZipInfo(name)
            info.external_attr = mode << 16
            file.writestr(info, data, zipfile.ZIP_DEFLATED)
    return path


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


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"../out": b"x"}, "member '../out' would leave"),
        ({"ok/../../out": b"x"}, "would leave"),
        ({"/out": b"x"}, "member '/out' would leave"),
        ({"ok/\x1b[2J": b"x"}, "would leave"),
        ({"link": (b"/etc/passwd", stat.S_IFLNK | 0o777)}, "'link' is a link or a device"),
        ({"pipe": (b"", stat.S_IFIFO | 0o644)}, "'pipe' is a link or a device"),
        ({"a": b"x", "a/b": b"y"}, "cannot write"),
    ],
)
def test_hostile_members_are_refused(tmp_path, members, message):
    inside = tmp_path / "deep" / "deeper"
    inside.mkdir(parents=True)
    archive = make_zip(inside / "a.zip", {"good.txt": b"good"} | members)
    with pytest.raises(UserError, match=r"refused|cannot write") as caught:
        unpack(archive, inside / "set", check=accept)
    assert message in str(caught.value)
    assert names_in(inside) == ["a.zip"]
    assert [path.name for path in tmp_path.rglob("out")] == []


@pytest.mark.parametrize("part", [0.0, 0.3, 0.9, 0.999])
def test_truncated_archive_is_refused(tmp_path, part):
    content = bytes(i * i % 251 for i in range(200_000))
    archive = make_zip(tmp_path / "a.zip", {"set/a.mp4": content, "set/b.mp4": content[::-1]})
    data = archive.read_bytes()
    archive.write_bytes(data[: int(len(data) * part)])
    with pytest.raises(UserError, match="is not a whole archive"):
        unpack(archive, tmp_path / "set", check=accept)
    assert names_in(tmp_path) == ["a.zip"]


def test_damaged_member_is_refused(tmp_path):
    archive = make_zip(tmp_path / "a.zip", {"a": b"content" * 1000})
    data = bytearray(archive.read_bytes())
    data[40] ^= 0xFF
    archive.write_bytes(data)
    with pytest.raises(UserError, match="is not a whole archive"):
        unpack(archive, tmp_path / "set", check=accept)
    assert names_in(tmp_path) == ["a.zip"]


def test_bomb_is_refused_before_it_is_unpacked(tmp_path, monkeypatch):
    monkeypatch.setattr(mmact_tiny.download, "MAX_UNPACKED_BYTES", 1_000_000)
    archive = make_zip(tmp_path / "a.zip", {"zeros": bytes(10_000_000)})
    assert archive.stat().st_size < 20_000
    with pytest.raises(UserError, match="it unpacks to 10 MB"):
        unpack(archive, tmp_path / "set", check=accept)
    assert names_in(tmp_path) == ["a.zip"]


def test_too_little_space_is_seen_before_the_unpacking(tmp_path, monkeypatch):
    usage = mmact_tiny.files.shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(mmact_tiny.files.shutil, "disk_usage", lambda path: usage)
    archive = make_zip(tmp_path / "a.zip", {"zeros": bytes(1_000_000)})
    with pytest.raises(UserError, match=r"no space for .* takes 1\.0 MB more"):
        unpack(archive, tmp_path / "set", check=accept)
    assert names_in(tmp_path) == ["a.zip"]


def test_zip_that_lies_about_its_size_writes_no_more_than_it_says(tmp_path, monkeypatch):
    written = []
    monkeypatch.setattr(mmact_tiny.download.shutil, "rmtree", lambda path, **kwargs: written.extend(
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


TSN_URL = (
    "https://download.openmmlab.com/mmaction/v1.0/recognition/tsn/"
    "tsn_imagenet-pretrained-r50_8xb32-1x1x3-100e_kinetics400-rgb/"
    "tsn_imagenet-pretrained-r50_8xb32-1x1x3-100e_kinetics400-rgb_20220906-cd10898e.pth"
)
TINY = {
    "kinetics400_tiny/kinetics_tiny_train_video.txt": b"a.mp4 0\nb.mp4 1\n",
    "kinetics400_tiny/kinetics_tiny_val_video.txt": b"c.mp4 0\n",
    "kinetics400_tiny/train/a.mp4": b"a",
    "kinetics400_tiny/train/b.mp4": b"b",
    "kinetics400_tiny/val/c.mp4": b"c",
}


@pytest.fixture
def mirror(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with FileServer() as server:
        monkeypatch.setenv("MMACT_TINY_MIRROR", server.url + "/")
        archive = make_zip(tmp_path / "tiny.zip", TINY)
        server.files["/mmaction/kinetics400_tiny.zip"] = archive.read_bytes()
        yield server


def test_names():
    assert [item.name for item in list_published()[:13]] == [
        "kinetics400_tiny",
        "tsn_r50_k400",
        "tsn_r50_1x1x5_k400",
        "tsn_r50_1x1x8_k400",
        "tsn_r50_dense-1x1x5_k400",
        "tsn_r101_1x1x8_k400",
        "tsn_rn101-32x4d_1x1x3_k400",
        "tsn_dense161_1x1x3_k400",
        "tsn_swin-transformer_1x1x3_k400",
        "tsn_swin-transformer_1x1x8_k400",
        "tsn_mobileone-s4_1x1x8_k400",
        "tsn_r50_1x1x8_sthv2",
        "tsn_r50_1x1x16_sthv2",
    ]


def test_tutorial_weights():
    item = find_published("tsn_r50_k400")
    assert item.url == TSN_URL
    assert published_hash(item.url) == "cd10898e"
    assert item.path == Path("checkpoints") / TSN_URL.rpartition("/")[2]
    assert (item.top1, item.top5) == (72.83, 90.65)
    assert item.config == (
        "mmaction::recognition/tsn/tsn_imagenet-pretrained-r50_8xb32-1x1x3-100e_kinetics400-rgb.py"
    )
    assert find_published("tsn_imagenet-pretrained-r50_8xb32-1x1x3-100e_kinetics400-rgb") == item


@pytest.mark.parametrize(
    ("model", "config", "dataset", "figures", "end"),
    [
        (
            "slowfast_r50_8xb8-4x16x1-256e_kinetics400-rgb",
            "slowfast/slowfast_r50_8xb8-4x16x1-256e_kinetics400-rgb.py",
            "Kinetics-400",
            (75.55, 92.35, "34.5M", "36.3G", "224x224"),
            "_20220901-701b0f6f.pth",
        ),
        # The metafile has figures in plain numbers.
        (
            "tin_imagenet-pretrained-r50_8xb6-1x1x8-40e_sthv1-rgb",
            "tin/tin_imagenet-pretrained-r50_8xb6-1x1x8-40e_sthv1-rgb.py",
            "SthV1",
            (38.68, 68.55, "23.9M", "33.0G", "height 100"),
            "_20220913-9b7804d6.pth",
        ),
        # The metafile has the name twice, first with a MobileNet's figures.
        (
            "tsm_imagenet-pretrained-r101_8xb16-1x1x8-50e_sthv2-rgb",
            "tsm/tsm_imagenet-pretrained-r101_8xb16-1x1x8-50e_sthv2-rgb.py",
            "SthV2",
            (63.70, 88.28, "42.86M", "62.66G", "224x224"),
            "_20230320-efcc0d1b.pth",
        ),
        # The metafile has another model's address.
        (
            "vit-small-p16_videomaev2-vit-g-dist-k710-pre_16x4x1_kinetics-400",
            "videomaev2/vit-small-p16_videomaev2-vit-g-dist-k710-pre_16x4x1_kinetics-400.py",
            "Kinetics-400",
            (83.6, 96.3, "", "", "short-side 320"),
            "_20230510-25c748fd.pth",
        ),
        # The metafile has `.py.py`.
        (
            "swin-base-p244-w877_in1k-pre_8xb8-amp-32x2x1-30e_kinetics400-rgb",
            "swin/swin-base-p244-w877_in1k-pre_8xb8-amp-32x2x1-30e_kinetics400-rgb.py",
            "Kinetics-400",
            (80.57, 94.49, "88.0M", "282G", "224x224"),
            "_20220930-182ec6cc.pth",
        ),
        # The metafile has another model's config.
        (
            "mvit-small-p244_k400-pre_16xb16-u16-100e_sthv2-rgb",
            "mvit/mvit-small-p244_k400-pre_16xb16-u16-100e_sthv2-rgb.py",
            "SthV2",
            (68.2, 91.3, "34.4M", "64G", "224x224"),
            "_20230201-4065c1b9.pth",
        ),
        # The metafile has a config that is not there.
        (
            "uniformerv2-base-p16-res224_clip-pre_8xb32-u8_kinetics700-rgb",
            "uniformerv2/uniformerv2-base-p16-res224_clip_8xb32-u8_kinetics700-rgb.py",
            "Kinetics-700",
            (75.9, 92.9, "", "", ""),
            "_20230313-f02e48ad.pth",
        ),
        # The metafile has no result.
        (
            "uniformerv2-base-p16-res224_clip-pre_u8_kinetics710-rgb",
            "uniformerv2/uniformerv2-base-p16-res224_clip-pre_u8_kinetics710-rgb.py",
            "Kinetics-710",
            (None, None, "", "", ""),
            "_20230612-63cdbad9.pth",
        ),
    ],
)
def test_zoo(model, config, dataset, figures, end):
    item = find_published(model)
    assert item.config == f"mmaction::recognition/{config}"
    assert item.dataset == dataset
    assert (item.top1, item.top5, item.parameters, item.flops, item.resolution) == figures
    assert item.url.endswith(end)


def test_the_whole_zoo_has_addresses_of_its_own():
    weights = list_published()[1:]
    for count in (
        len(weights),
        len({item.name for item in weights}),
        len({item.model for item in weights}),
        len({item.url for item in weights}),
        len({item.path for item in weights}),
    ):
        assert count == 186
    assert all(item.config and item.dataset and published_hash(item.url) for item in weights)


def test_address_of_another_model_is_left_out(monkeypatch):
    monkeypatch.setattr(mmact_tiny.download, "CORRECTED_ENDS", {})
    names = [item.name for item in list_published()]
    assert "tsn_swin-transformer_1x1x3_k400" in names
    assert "tsn_swin-transformer_1x1x8_k400" not in names


def test_unknown_name():
    with pytest.raises(UserError, match="'tsn_r50_k40'; did you mean 'tsn_r50_k400'"):
        find_published("tsn_r50_k40")


def test_mirror(monkeypatch):
    monkeypatch.delenv("MMACT_TINY_MIRROR", raising=False)
    assert mirrored(TSN_URL) == TSN_URL
    monkeypatch.setenv("MMACT_TINY_MIRROR", "http://mirror.example/openmmlab/")
    assert mirrored("https://download.openmmlab.com/mmaction/x.zip") == (
        "http://mirror.example/openmmlab/mmaction/x.zip"
    )


def test_kinetics400_tiny(mirror, capsys):
    assert main(["kinetics400_tiny"]) == EXIT_OK
    assert capsys.readouterr().out == "kinetics400_tiny: saved to data/kinetics400_tiny\n"
    folder = Path("data/kinetics400_tiny")
    assert sorted(str(path.relative_to(folder)) for path in folder.rglob("*")) == [
        "kinetics_tiny_train_video.txt",
        "kinetics_tiny_val_video.txt",
        "train",
        "train/a.mp4",
        "train/b.mp4",
        "val",
        "val/c.mp4",
    ]
    assert [path.name for path in Path("data").glob("[!.]*")] == ["kinetics400_tiny"]

    assert main(["kinetics400_tiny"]) == EXIT_OK
    assert "is there already, whole" in capsys.readouterr().out
    assert len(mirror.ranges) == 1

    (folder / "val/c.mp4").unlink()
    assert main(["kinetics400_tiny"]) == EXIT_ERROR
    assert "1 missing, first val/c.mp4; fetch it again with --force" in capsys.readouterr().err
    assert main(["kinetics400_tiny", "--force"]) == EXIT_OK
    assert (folder / "val/c.mp4").read_bytes() == b"c"


def test_archive_put_there_by_hand(mirror, tmp_path):
    Path("data").mkdir()
    by_hand = (tmp_path / "tiny.zip").rename("data/kinetics400_tiny.zip")
    mirror.files.clear()
    assert main(["kinetics400_tiny"]) == EXIT_OK
    assert Path("data/kinetics400_tiny/val/c.mp4").exists()
    assert by_hand.exists()
    assert mirror.ranges == []


@pytest.mark.parametrize("size", [100, -30])
def test_truncated_archive(mirror, capsys, size):
    data = mirror.files["/mmaction/kinetics400_tiny.zip"]
    mirror.files["/mmaction/kinetics400_tiny.zip"] = data[:size]
    assert main(["kinetics400_tiny"]) == EXIT_ERROR
    assert "data/kinetics400_tiny.zip is not a whole archive" in capsys.readouterr().err
    assert not Path("data/kinetics400_tiny").exists()
    mirror.files["/mmaction/kinetics400_tiny.zip"] = data
    assert main(["kinetics400_tiny", "--force"]) == EXIT_OK


def test_archive_without_the_tutorials_layout(mirror, tmp_path, capsys):
    archive = make_zip(tmp_path / "x.zip", {"kinetics400_tiny/readme.txt": b""})
    mirror.files["/mmaction/kinetics400_tiny.zip"] = archive.read_bytes()
    assert main(["kinetics400_tiny"]) == EXIT_ERROR
    assert "missing, first kinetics_tiny_train_video.txt" in capsys.readouterr().err
    assert not Path("data/kinetics400_tiny").exists()


def test_weights_with_the_wrong_hash(mirror, capsys):
    mirror.files[TSN_URL.removeprefix("https://download.openmmlab.com")] = b"not the weights"
    assert main(["tsn_r50_k400"]) == EXIT_ERROR
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith(f"error: {mirror.url}/mmaction/v1.0/recognition/tsn/")
    assert "its SHA-256 does not start with cd10898e" in error
    assert list(Path("checkpoints").glob("[!.]*")) == []


def test_offline(monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setenv("MMACT_TINY_MIRROR", "http://no-such-host.invalid")
    assert main(["kinetics400_tiny"]) == EXIT_ERROR
    assert (
        capsys.readouterr()
        .err.splitlines()[-1]
        .endswith(
            "fetch http://no-such-host.invalid/mmaction/kinetics400_tiny.zip by hand, put it at "
            "data/kinetics400_tiny.zip and run this again"
        )
    )


def test_list(monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["--list"]) == EXIT_OK
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 188
    assert re.match(r"kinetics400_tiny +-$", lines[1])
    tutorial = r"tsn_r50_k400 +Kinetics-400 +72\.83 +90\.65 +24\.33M +102\.7G +224x224 +-"
    assert len([line for line in lines if re.fullmatch(tutorial, line)]) == 1

    assert main(["--list", "SLOWFAST_r101"]) == EXIT_OK
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == [
        "NAME",
        "slowfast_r101_8xb8-8x8x1-256e_kinetics400-rgb",
        "slowfast_r101-r50_32xb8-4x16x1-256e_kinetics400-rgb",
    ]
    assert main(["--list", "no such word"]) == EXIT_ERROR
    assert "nothing to download has 'no such word' in its" in capsys.readouterr().err


def test_neither_name_nor_list(capsys):
    with pytest.raises(SystemExit) as caught:
        main([])
    assert caught.value.code == EXIT_ERROR
    assert "give --list" in capsys.readouterr().err


def test_readme_agrees_with_the_metafile():
    lines = (ROOT / "checkpoints/README.md").read_text().splitlines()
    rows = [line for line in lines if re.match(r"\| `tsn_.*https:", line)]
    assert len(rows) == 12
    for row in rows:
        cells = [cell.strip() for cell in row.strip("|").split("|")]
        item = find_published(cells[0].strip("`"))
        assert cells[1:5] == [
            f"{item.top1:.2f}",
            f"{item.top5:.2f}",
            f"`{published_hash(item.url)}`",
            f"[{item.path.name}]({item.url})",
        ]
        assert any(f"`{item.config}`" in line for line in lines)
