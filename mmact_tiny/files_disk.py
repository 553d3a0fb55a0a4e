"""Writing to the local disk: a lock between processes, the space left, failures in words."""

import contextlib
import fcntl
import os
import shutil
import socket
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
def held(folder: str | Path) -> Iterator[None]:
    """Keeps a folder for this process, as long as it lives.

    The lock is the system's (lockf): it ends with the process, however that ends, and unlike
    flock's it does not pass to forked loader workers, which outlive a killed run by seconds.

    Raises:
        UserError: another process has it; names the process.
    """
    folder = Path(folder)
    path = folder / ".lock"
    with writing_to(path):
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            holder = os.pread(descriptor, 200, 0).decode(errors="replace").strip() or "a process"
            raise UserError(
                f"{folder} is in use by {holder}: wait for it, or choose another --work-dir"
            ) from None
        with contextlib.suppress(OSError):  # a full disk: the lock holds, the name is missing
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"process {os.getpid()} on {socket.gethostname()}".encode(), 0)
        yield
    finally:
        os.close(descriptor)


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
