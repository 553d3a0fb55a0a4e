"""Writes a file so that a reader, or a crash, meets the old one or the new one, never a part."""

import contextlib
import errno
import os
from pathlib import Path

from .errors import UserError

FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def write_atomically(data: bytes | memoryview, path: str | Path) -> None:
    """Writes beside `path`, syncs, renames, and syncs the folder.

    The name beside it is fixed, `.<name>.tmp`: what a killed process left is written over by the
    next. Two processes must not write the same path at once (a run holds its work directory).

    Raises:
        UserError: the disk is full or the file cannot be written; what was at `path` is as before.
    """
    path = Path(path)
    beside = path.with_name(f".{path.name}.tmp")
    num_bytes = len(data)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with beside.open("wb") as file:
            file.write(data)
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


def _explain(error: OSError, path: Path, num_bytes: int) -> str:
    if error.errno not in FULL:
        return f"cannot write {path}: {error.strerror or error}"
    kept = "the file that was there is unharmed" if path.exists() else "nothing was left behind"
    return (
        f"no space to write {path} ({num_bytes / 1e6:,.1f} MB): {error.strerror}; {kept}. "
        "Free some space and resume"
    )
