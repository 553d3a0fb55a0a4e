import io
import stat
import tarfile
import zipfile

import pytest

from mmact_tiny.download_archive import extract
from mmact_tiny.errors import UserError


def make_zip(path, members):
    """Members: name -> bytes, or (bytes, Unix mode)."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in members.items():
            data, mode = content if isinstance(content, tuple) else (content, stat.S_IFREG | 0o644)
            info = zipfile.ZipInfo(name)
            info.external_attr = mode << 16
            file.writestr(info, data, zipfile.ZIP_DEFLATED)
    return path


def make_tar(path, members):
    """Members: name -> bytes, or a tarfile type with its link target."""
    with tarfile.open(path, "w:gz") as file:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            if isinstance(content, tuple):
                info.type, info.linkname = content
                file.addfile(info)
            else:
                info.size = len(content)
                file.addfile(info, io.BytesIO(content))
    return path


@pytest.mark.parametrize(("make", "name"), [(make_zip, "a.zip"), (make_tar, "a.tar.gz")])
@pytest.mark.parametrize("top", ["", "set/", "other name/"])
def test_unpacks(tmp_path, make, name, top):
    members = {f"{top}train/a.mp4": b"a" * 100, f"{top}list.txt": b"a.mp4 0\n", f"{top}empty": b""}
    archive = make(tmp_path / name, members | {"__MACOSX/._list.txt": b"x"})
    folder = extract(archive, tmp_path / "set")
    assert folder == tmp_path / "set"
    assert (folder / "train/a.mp4").read_bytes() == b"a" * 100
    assert sorted(path.name for path in folder.iterdir()) == ["empty", "list.txt", "train"]
    assert sorted(path.name for path in tmp_path.iterdir()) == [name, "set"]


HOSTILE_ZIPS = [
    ({"../out": b"x"}, "'../out' would leave"),
    ({"ok/../../out": b"x"}, "would leave"),
    ({"/out": b"x"}, "'/out' would leave"),
    ({"..\\out": b"x"}, "would leave"),
    ({"C:/out": b"x"}, "would leave"),
    ({"ok/\x1b[2J": b"x"}, "would leave"),
    ({"link": (b"/etc/passwd", stat.S_IFLNK | 0o777)}, "'link' is a link"),
    ({"pipe": (b"", stat.S_IFIFO | 0o644)}, "'pipe' is a device"),
    ({"a": b"x", "a/b": b"y"}, "cannot write"),
]
HOSTILE_TARS = [
    ({"../out": b"x"}, "'../out' would leave"),
    ({"/out": b"x"}, "'/out' would leave"),
    ({"link": (tarfile.SYMTYPE, "/etc/passwd")}, "'link' is a link"),
    ({"in": b"x", "link": (tarfile.LNKTYPE, "in")}, "'link' is a link"),
    ({"null": (tarfile.CHRTYPE, "")}, "'null' is a device"),
    ({"pipe": (tarfile.FIFOTYPE, "")}, "'pipe' is a device"),
]


@pytest.mark.parametrize(
    ("make", "name", "members", "message"),
    [(make_zip, "a.zip", *case) for case in HOSTILE_ZIPS]
    + [(make_tar, "a.tar.gz", *case) for case in HOSTILE_TARS],
)
def test_hostile_members_are_refused(tmp_path, make, name, members, message):
    inside = tmp_path / "deep" / "deeper"
    inside.mkdir(parents=True)
    archive = make(inside / name, {"good.txt": b"good"} | members)
    with pytest.raises(UserError, match=r"refused|cannot write") as caught:
        extract(archive, inside / "set")
    assert message in str(caught.value)
    assert [path.name for path in inside.iterdir()] == [name]
    assert [path.name for path in tmp_path.rglob("out")] == []


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_member_twice_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        file.writestr("a", b"x")
        file.writestr("a", b"y")
    with pytest.raises(UserError, match="'a' is there twice"):
        extract(tmp_path / "a.zip", tmp_path / "set")


@pytest.mark.parametrize(("make", "name"), [(make_zip, "a.zip"), (make_tar, "a.tar.gz")])
@pytest.mark.parametrize("part", [0.0, 0.3, 0.9, 0.999])
def test_truncated_archive(tmp_path, make, name, part):
    content = bytes(i * i % 251 for i in range(200_000))
    archive = make(tmp_path / name, {"set/a.mp4": content, "set/b.mp4": content[::-1]})
    data = archive.read_bytes()
    archive.write_bytes(data[: int(len(data) * part)])
    with pytest.raises(UserError, match="is not a whole archive"):
        extract(archive, tmp_path / "set")
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_damaged_member(tmp_path):
    archive = make_zip(tmp_path / "a.zip", {"a": b"content" * 1000})
    data = bytearray(archive.read_bytes())
    data[40] ^= 0xFF
    archive.write_bytes(data)
    with pytest.raises(UserError, match="is not a whole archive"):
        extract(archive, tmp_path / "set")
    assert not (tmp_path / "set").exists()


@pytest.mark.parametrize(("make", "name"), [(make_zip, "a.zip"), (make_tar, "a.tar.gz")])
def test_bomb_is_refused_before_it_is_unpacked(tmp_path, make, name):
    archive = make(tmp_path / name, {"zeros": bytes(10_000_000)})
    assert archive.stat().st_size < 20_000
    with pytest.raises(UserError, match="unpacks to more than 1 MB"):
        extract(archive, tmp_path / "set", max_bytes=1_000_000)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_zip_that_lies_about_its_size_writes_no_more_than_it_says(tmp_path):
    archive = make_zip(tmp_path / "a.zip", {"a": bytes(5_000_000)})
    real, lie = (5_000_000).to_bytes(4, "little"), (100).to_bytes(4, "little")
    archive.write_bytes(archive.read_bytes().replace(real, lie))
    with pytest.raises(UserError, match="is not a whole archive"):
        extract(archive, tmp_path / "set", max_bytes=1000)
    assert [path.name for path in tmp_path.iterdir()] == ["a.zip"]


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
        extract(archive, tmp_path / "set", check=refuse)
    assert [path.name for path in (tmp_path / "set").iterdir()] == ["old"]
    extract(archive, tmp_path / "set")
    assert [path.name for path in (tmp_path / "set").iterdir()] == ["new"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.zip", "set"]


def test_unknown_kind(tmp_path):
    with pytest.raises(UserError, match=r"expected \.zip or one of"):
        extract(tmp_path / "a.rar", tmp_path / "set")
