"""Files are written whole or not at all, locked, and say nothing to a terminal."""

import errno
import json
import os
import socket
import stat
from pathlib import Path

import forks
import pytest
from jobs import full_disk

from mmact_tiny import progress
from mmact_tiny.errors import EXIT_ERROR, UserError
from mmact_tiny.files import (
    finite,
    held,
    locked,
    near,
    printable,
    printable_lines,
    read_json,
    sha256,
    write_atomically,
    write_json,
)
from mmact_tiny.infer import write_rows
from tools import infer


def test_a_write_that_does_not_fit_leaves_the_old_file(tmp_path):
    path = tmp_path / "x.pth"
    write_atomically(b"old", path)
    message = r"no space to write .*x.pth \(4.0 MB\): File too large"
    with full_disk(1 << 20), pytest.raises(UserError, match=message):
        write_atomically(bytes(4_000_000), path)
    assert path.read_bytes() == b"old" and [p.name for p in tmp_path.iterdir()] == ["x.pth"]
    with pytest.raises(UserError, match=r"cannot write .*x.pth/y.pth: "):
        write_atomically(b"", path / "y.pth")


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOTSUP, errno.EIO])
def test_a_file_system_that_cannot_sync_folders(number, tmp_path, monkeypatch):
    def fsync(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(number, "no")

    monkeypatch.setattr(os, "fsync", fsync)
    if number == errno.EIO:
        with pytest.raises(UserError, match="cannot write"):
            write_atomically(b"new", tmp_path / "x.pth")
    else:
        write_atomically(b"new", tmp_path / "x.pth")
    assert (tmp_path / "x.pth").read_bytes() == b"new"


def test_a_full_disk_is_explained(tmp_path):
    """Needs the right to mount a small disk."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if os.system(f"mount -t tmpfs -o size=1m tmpfs {disk} 2>/dev/null"):
        pytest.skip("cannot mount a tmpfs here")
    try:
        write_atomically(b"old", disk / "x.pth")
        with pytest.raises(UserError, match="No space left on device; the file that was there is"):
            write_atomically(bytes(4_000_000), disk / "x.pth")
        assert (disk / "x.pth").read_bytes() == b"old"
        assert [p.name for p in disk.iterdir()] == ["x.pth"]
    finally:
        os.system(f"umount {disk}")


def write_often(path: Path, rank: int) -> None:
    os.environ["RANK"] = str(rank)
    for _ in range(40):
        write_atomically(b"metrics", path)


def test_two_ranks_of_a_job_may_write_the_same(tmp_path):
    path = tmp_path / "metrics.json"
    ranks = [forks.start(write_often, path, rank) for rank in (0, 1)]
    for process in ranks:
        process.join(60)
    assert [process.exitcode for process in ranks] == [0, 0]
    assert [p.name for p in tmp_path.iterdir()] == ["metrics.json"]


NAME = os.fsdecode(b"bad\xff.mp4")
ROWS = [
    dict(video=NAME, predictions=[dict(label="walk", score=0.75), dict(label="跑", score=0.25)]),
    dict(video="broken.mp4", error="cannot read video broken.mp4: no frames"),
]


def test_answers_have_a_line_for_each_label_and_each_error(tmp_path):
    for name in ("a.csv", "a.json", "a.jsonl"):
        write_rows(tmp_path / name, ROWS)
    assert (tmp_path / "a.csv").read_bytes() == (
        b"video,rank,label,score,error\r\n"
        b"bad\xff.mp4,1,walk,0.75,\r\n"
        b"bad\xff.mp4,2,\xe8\xb7\x91,0.25,\r\n"
        b"broken.mp4,,,,cannot read video broken.mp4: no frames\r\n"
    )
    text, lines = (
        (tmp_path / name).read_bytes().decode("utf-8", "surrogateescape")
        for name in ("a.json", "a.jsonl")
    )
    assert json.loads(text) == ROWS == [json.loads(line) for line in lines.splitlines()]
    assert "跑" in text and "跑" in lines, "as it is, not as \\u8dd1"


def test_what_cannot_be_written_leaves_the_answers_before(tmp_path):
    write_rows(tmp_path / "a.csv", ROWS)
    with pytest.raises(UserError, match="cannot write"):
        write_rows(tmp_path / "a.csv" / "b.csv", ROWS)
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(UserError, match=r"cannot write .*folder\.csv: Is a directory$"):
        write_rows(tmp_path / "folder.csv", ROWS)
    assert (tmp_path / "a.csv").read_text(errors="surrogateescape").count("\n") == 4


ESCAPE = "\x1b[2J\x1b]0;title\x07"


def test_escapes_are_shown_and_all_that_can_be_read_stays():
    assert printable("a\x1b[31mred\n.mp4 跑") == "a\\x1b[31mred\\n.mp4 跑"
    assert printable("sit up \U0001f3cb é\n") == "sit up \U0001f3cb é\\n"
    assert printable(ESCAPE) == "\\x1b[2J\\x1b]0;title\\x07"
    assert printable_lines("a\tb\n\rc") == "a\tb\n\\rc"
    assert printable("bad\udcff.mp4") == "bad\\udcff.mp4"


def test_what_the_tools_say_and_their_errors_hold_none(capsys, tmp_path):
    progress.say(f"cannot read {ESCAPE}")
    assert infer.main([str(tmp_path / ESCAPE.replace("/", ""))]) == EXIT_ERROR
    said = capsys.readouterr()
    assert "\x1b" not in said.out + said.err
    assert "\\x1b[2J" in said.out and "\\x1b[2J" in said.err


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ([float("nan"), float("inf"), -float("inf"), 1.5], "[\n null,\n null,\n null,\n 1.5\n]\n"),
        ({"打字": (True, None)}, '{\n "打字": [\n  true,\n  null\n ]\n}\n'),
        ("\udcff.mp4", '"\\udcff.mp4"\n'),  # a file name that is no UTF-8
        (Path("a") / "b", '"a/b"\n'),
    ],
)
def test_what_is_written_is_json(tmp_path, value, text):
    path = tmp_path / "new" / "file.json"
    write_json(path, value)
    assert path.read_text("utf-8") == text
    assert read_json(path) == finite(value)


def test_what_cannot_be_read(tmp_path):
    assert read_json(tmp_path / "absent.json") is None
    (tmp_path / "half.json").write_text('{"a": 1')
    with pytest.raises(UserError, match=r"cannot read .*half\.json"):
        read_json(tmp_path / "half.json")


def take(folder: Path, lock: str) -> None:
    """Ends with status 2 where the folder is held by another process."""
    try:
        with {"held": held, "locked": locked}[lock](folder):
            (folder / "log").open("a").write("in\n")
    except UserError as error:
        (folder / "refusal").write_text(str(error))
        raise SystemExit(2) from None


def test_a_folder_is_held_by_one_process_and_a_lock_is_waited_for(tmp_path):
    with held(tmp_path):
        refused = forks.start(take, tmp_path, "held")
        refused.join(60)
        assert refused.exitcode == 2
        holder = f"process {os.getpid()} on {socket.gethostname()}"
        said = f"{tmp_path} is in use by {holder}: wait for it"
        assert (tmp_path / "refusal").read_text().startswith(said)
    with locked(tmp_path):
        waits = forks.start(take, tmp_path, "locked")
        waits.join(0.5)
        assert waits.exitcode is None and not (tmp_path / "log").exists()
    waits.join(60)
    again = forks.start(take, tmp_path, "held")
    again.join(60)
    assert (waits.exitcode, again.exitcode) == (0, 0)
    assert (tmp_path / "log").read_text() == "in\nin\n"
    with pytest.raises(UserError, match=r"cannot write .*: File exists"), held(tmp_path / "log"):
        pass


def test_a_path_below_the_current_folder_is_named_from_there(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert [near(tmp_path / "a/b.log"), near("a.pth"), near("/gone")] == [
        *("a/b.log", "a.pth", "/gone")
    ]


def test_the_hash_is_sha256_and_none_of_what_is_no_file(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert sha256(tmp_path / "a") == expected
    assert sha256(tmp_path / "b") is None
