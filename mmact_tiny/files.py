"""Writes and reads files: whole or not at all, locked, as JSON or tables, hashed, shown safely."""

import contextlib
import csv
import errno
import fcntl
import hashlib
import io
import json
import math
import os
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from .errors import UserError
from .hardware import rank

FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}  # what a full disk raises
NAMES_SUFFIX = ".label_map.txt"  # in the place of `.pth`: a label map beside the weights
Row = Mapping[str, Any]
_thread_locks: dict[str, threading.Lock] = {}  # lockf knows processes, not their threads
os.register_at_fork(after_in_child=_thread_locks.clear)


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


def user_cache(name: str, variable: str | None = None) -> Path:
    """Returns a place in the user's cache folder, or what an environment variable says instead."""
    home = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache")
    own = os.environ.get(variable) if variable else None
    return Path(own or home / "mmact_tiny" / name).expanduser()


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


@contextlib.contextmanager
def held(
    folder: str | Path, *, advice: str = "choose another --work-dir", patience: float = 0
) -> Iterator[None]:
    """Keeps a folder for this process, as long as it lives.

    Args:
        folder: Made where it is missing.
        advice: What else the user can do than wait.
        patience: Seconds to wait for another process to let go.

    Raises:
        UserError: another process has it; names the process.
    """
    with _lock_file(Path(folder, ".lock")) as descriptor:
        last = time.monotonic() + patience
        while not _try_lock(descriptor):
            if time.monotonic() < last:
                time.sleep(0.2)
                continue
            holder = os.pread(descriptor, 200, 0).decode(errors="replace").strip() or "a process"
            raise UserError(f"{folder} is in use by {holder}: wait for it, or {advice}")
        with contextlib.suppress(OSError):  # a full disk: the lock holds, the name is missing
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"process {os.getpid()} on {socket.gethostname()}".encode(), 0)
        yield


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Holds the lock of a file or folder; waits for other processes and threads that have it.

    The empty lock file beside it stays: removing one that others may wait on breaks the lock.
    """
    name = path.with_name(f".{path.name}.lock")
    thread_lock = _thread_locks.setdefault(str(name.resolve()), threading.Lock())
    with thread_lock, _lock_file(name) as descriptor:
        if not _try_lock(descriptor):
            print(f"another process is at {path}: waiting for it", file=sys.stderr, flush=True)
            fcntl.lockf(descriptor, fcntl.LOCK_EX)
        yield


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    return True


@contextlib.contextmanager
def _lock_file(path: Path) -> Iterator[int]:
    """Gives the descriptor of a lock file, which lets go of its lock at the end of the block.

    The lock is the system's (lockf): it ends with the process, however that ends, and unlike
    flock's it does not pass to forked loader workers, which outlive a killed run by seconds.
    """
    with writing_to(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def writing_to(path: Path) -> Iterator[None]:
    """Turns a failure of the local disk into the user's error, apart from the network's own."""
    try:
        yield
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}") from error


def check_out(out: str | Path, suffixes: Sequence[str], flag: str = "--out") -> None:
    """Checks the name of a file to write, and that it can be written there, before any work.

    Raises:
        UserError: another suffix, or a place where no file can be made.
    """
    path = Path(out)
    if path.suffix.lower() not in suffixes:
        expected = "ends in " + ", ".join(suffixes) if suffixes[0] else "is a folder's"
        raise UserError(f"{flag} {out}: expected a name that {expected}")
    with writing_to(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=path.parent).close()


def write_json(path: str | Path, value: Any) -> None:
    """Writes plain values atomically; numbers that are not finite become null.

    A file name that is no UTF-8 is written as the escapes that Python reads back.

    Raises:
        UserError: the file cannot be written.
    """
    text = json.dumps(finite(value), indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    write_atomically(text.encode("utf-8", "backslashreplace"), path)


def read_json(path: str | Path) -> Any:
    """Returns what a JSON file holds, None where there is no such file.

    Raises:
        UserError: it cannot be read, or is no JSON.
    """
    try:
        return finite(json.loads(Path(path).read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"cannot read {path}: {error}") from None


def read_label_map(label_map: str | Path) -> list[str]:
    """Returns the class names of a label map, line i for class i.

    Raises:
        UserError: the file is missing, not text, empty, or has an empty or repeated name.
    """
    names = [line.strip() for line in read_lines(label_map, "label map")]
    while names and not names[-1]:
        names.pop()
    if not names:
        raise UserError(f"label map {label_map} is empty; expected one class name a line")
    for number, name in enumerate(names, start=1):
        if not name:
            raise UserError(f"{label_map}:{number}: no class name; line i names class i")
        if names.index(name) + 1 < number:
            first = names.index(name) + 1
            raise UserError(f"{label_map}:{number}: {name!r} already names line {first}")
    return names


def read_lines(path: str | Path, what: str) -> list[str]:
    """Returns the lines of a text file; `what` it is, in words.

    Raises:
        UserError: it cannot be read, or is not UTF-8.
    """
    try:
        return Path(path).expanduser().read_text(encoding="utf-8-sig").splitlines()
    except OSError as error:
        raise UserError(f"cannot read {what} {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UserError(f"{what} {path} is not UTF-8 text") from None


def finite(value: Any) -> Any:
    """Returns plain values with None in the place of nan and infinities."""
    if isinstance(value, Mapping):
        return {str(key): finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return str(value) if isinstance(value, Path) else value


def write_answers(
    path: Path, rows: Iterable[Row], columns: Sequence[str], table: Callable[[Row], Iterable[Row]]
) -> None:
    """Writes a row for each video as it comes, in the format that the file's name ends in.

    Names that are not UTF-8 are written with the bytes that they have on the disk.

    Args:
        path: `.csv`, `.jsonl`, or anything else for JSON.
        columns, table: Of the CSV; `table` returns the lines that a row has there.

    Raises:
        UserError: the file cannot be written; what was there is as before.
    """
    with open_atomically(path) as file:
        text = io.TextIOWrapper(file, "utf-8", "surrogateescape", newline="", write_through=True)
        if path.suffix == ".csv":
            writer = csv.DictWriter(text, columns)
            writer.writeheader()
            writer.writerows(line for row in rows for line in table(row))
        elif path.suffix == ".jsonl":
            text.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        else:
            text.write("[")
            for number, row in enumerate(rows):
                shown = json.dumps(row, indent=1, ensure_ascii=False).replace("\n", "\n ")
                text.write(",\n "[not number :] + shown)
            text.write("\n]\n")
        text.detach()


def printable(text: str, keep: str = "") -> str:
    """Returns the text with escapes for all characters that do not only show, but for `keep`."""
    return "".join(c if c in keep or c.isprintable() else repr(c)[1:-1] for c in text)


def printable_lines(text: str) -> str:
    """Does the same and leaves the ends of lines as they are, and tabs."""
    return printable(text, keep="\n\t")


def near(path: str | Path) -> str:
    """Returns a path from the current folder on where it lies below it, else as it is."""
    from_here = os.path.relpath(path)
    return str(path) if from_here.startswith("..") else from_here


def sha256(path: str | Path) -> str | None:
    """Returns the SHA-256 of a file, None where it cannot be read (an address, say)."""
    try:
        with Path(path).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return None
