"""A write that fails leaves what was there."""

import multiprocessing
import os
import resource
from pathlib import Path

import pytest

from mmact_tiny.errors import UserError
from mmact_tiny.files_atomic import write_atomically


def test_a_write_that_does_not_fit_leaves_the_old_file(tmp_path):
    """The system's own limit on a file's size stands for the full disk."""
    path = tmp_path / "x.pth"
    write_atomically(b"old", path)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, limits[1]))
    try:
        with pytest.raises(
            UserError, match=r"no space to write .*x.pth \(4.0 MB\): File too large"
        ):
            write_atomically(bytes(4_000_000), path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_bytes() == b"old" and [p.name for p in tmp_path.iterdir()] == ["x.pth"]
    with pytest.raises(UserError, match=r"cannot write .*x.pth/y.pth: "):
        write_atomically(b"", path / "y.pth")


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


def test_two_ranks_of_a_job_may_write_the_same(tmp_path: Path) -> None:
    path = tmp_path / "metrics.json"
    context = multiprocessing.get_context("fork")
    ranks = [context.Process(target=write_often, args=(path, rank)) for rank in (0, 1)]
    for process in ranks:
        process.start()
    for process in ranks:
        process.join(60)
    assert [process.exitcode for process in ranks] == [0, 0]
    assert [p.name for p in tmp_path.iterdir()] == ["metrics.json"]
