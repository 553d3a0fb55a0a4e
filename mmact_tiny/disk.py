"""Writing to the local disk: a lock between processes, the space left, failures in words."""

import contextlib
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from .errors import UserError


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Holds the lock of a file or folder against other processes and threads that want it.

    The empty lock file beside it stays: removing one that others may wait on breaks the lock.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(path.with_name(f".{path.name}.lock"))
    with writing_to(path):
        try:
            lock.acquire(timeout=0)
        except Timeout:
            print(f"another process is at {path}: waiting for it", file=sys.stderr, flush=True)
            lock.acquire()
    try:
        yield
    finally:
        lock.release()


@contextlib.contextmanager
def writing_to(path: Path) -> Iterator[None]:
    """Turns a failure of the local disk into the user's error, apart from the network's own."""
    try:
        yield
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}") from error


def check_free_space(path: Path, num_bytes: int) -> None:
    """Raises a UserError if the disk that holds `path`'s folder has not that much space left."""
    free = shutil.disk_usage(path.parent).free
    if num_bytes > free:
        raise UserError(
            f"no space for {path}: it takes {num_bytes / 1e6:,.1f} MB more, the disk has "
            f"{free / 1e6:,.1f} MB free"
        )
