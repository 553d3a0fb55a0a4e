"""Writes a file so that a reader, or a crash, meets the old one or the new one, never a part."""

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from .errors import UserError
from .hardware import rank

FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def write_atomically(data: bytes | memoryview, path: str | Path) -> None:
    """Writes beside `path`, syncs, renames, and syncs the folder.

    Raises:
        UserError: the disk is full or the file cannot be written; what was at `path` is as before.
    """
    with open_atomically(path, num_bytes=len(data)) as file:
        file.write(data)


@contextlib.contextmanager
def open_atomically(path: str | Path, *, num_bytes: int | None = None) -> Iterator[BinaryIO]:
    """Gives a file beside `path` to write (and read) in the block, and renames it at its end.

    The name beside it is fixed, `.<name>.tmp`: what a killed process left is written over by the
    next. Two runs must not write the same path at once (a run holds its work directory); the
    processes of one job may, as stock's LoggerHook does after a test: each has a name of its own.
    A block that ends in an error, Ctrl-C too, leaves nothing.

    Args:
        path: The file to be.
        num_bytes: Its size, for the message, where that is known.

    Raises:
        UserError: the disk is full or the file cannot be written; what was at `path` is as before.
    """
    path = Path(path)
    mine = f".{rank()}" if rank() else ""
    beside = path.with_name(f".{path.name}{mine}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with beside.open("w+b") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
        sync_folder(path.parent)
    except BaseException as error:
        with contextlib.suppress(OSError):
            beside.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise UserError(_explain(error, path, num_bytes)) from error
        raise


def sync_folder(folder: Path) -> None:
    """Makes the rename itself outlast a power cut; some network file systems cannot."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(descriptor)


def _explain(error: OSError, path: Path, num_bytes: int | None) -> str:
    if error.errno not in FULL:
        return f"cannot write {path}: {error.strerror or error}"
    kept = "the file that was there is unharmed" if path.exists() else "nothing was left behind"
    size = "" if num_bytes is None else f" ({num_bytes / 1e6:,.1f} MB)"
    return (
        f"no space to write {path}{size}: {error.strerror}; {kept}. "
        "Free some space and run it again"
    )
