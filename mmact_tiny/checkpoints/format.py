"""Decides from the bytes alone whether a file may be loaded: its kind, its sizes, its pickles."""

import os
import stat
import zipfile
from pathlib import Path
from typing import IO

from ..errors import UserError
from .pickle_scan import Refusal, scan_pickle

ZIP_MAGIC = b"PK\x03\x04"
# torch.save before 1.6 (and the official files of 2020) starts with this number, pickled.
LEGACY_MAGIC = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
LOCAL_HEADER_BYTES = 30
END_MAGIC, END_BYTES = b"PK\x05\x06", 22
OTHER_KINDS = {
    b"\x80": "a plain pickle, not written by torch.save: its content cannot be loaded safely",
    b"\x1f\x8b": "a gzip archive: unpack it first",
    b"version https://git-lfs": "a git-lfs pointer: fetch the file itself with `git lfs pull`",
    b"<": "a web page, perhaps of a failed download: fetch it again",
    b"\x89HDF": "an HDF5 file, not a PyTorch checkpoint",
}


def open_regular(path: Path) -> IO[bytes]:
    """Opens a file for reading; a folder, a FIFO or a device is refused, and nothing waits.

    Raises:
        UserError: not there, not a regular file, or not readable.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    except FileNotFoundError:
        raise UserError(f"no checkpoint at {shown(path)}: check the path") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"cannot open checkpoint {shown(path)}: {reason}") from None
    mode = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(mode):
        os.close(descriptor)
        kind = "a folder" if stat.S_ISDIR(mode) else "a pipe or device"
        raise UserError(f"checkpoint {shown(path)} is {kind}, expected a .pth file")
    return os.fdopen(descriptor, "rb")


def shown(path: Path) -> str:
    """Returns the path as one line, quoted if it holds control characters."""
    return str(path) if str(path).isprintable() else repr(str(path))


def is_safetensors(file: IO[bytes]) -> bool:
    """Returns whether the file starts as a safetensors file: a length, then a JSON object."""
    start = _start(file, 9)
    return start[8:] == b"{" and int.from_bytes(start[:8], "little") < _size(file)


def check_torch_file(file: IO[bytes]) -> None:
    """Checks a file of torch.save, of either format, without building anything from it.

    Raises:
        Refusal: what is wrong with it.
    """
    start = _start(file, 32)
    if start.startswith(ZIP_MAGIC):
        _check_zip(file)
    elif start.startswith(LEGACY_MAGIC):
        _check_legacy(file)
    elif not start:
        raise Refusal("it is empty")
    else:
        kinds = (kind for magic, kind in OTHER_KINDS.items() if start.startswith(magic))
        raise Refusal(f"it is {next(kinds, 'not a PyTorch checkpoint')}")


def _check_zip(file: IO[bytes]) -> None:
    """Compares what the archive's pickle declares with the records that are there."""
    try:
        archive = zipfile.ZipFile(file)
    except zipfile.BadZipFile:
        raise Refusal("the zip archive in it is truncated or damaged: fetch it again") from None
    file.seek(-END_BYTES, os.SEEK_END)
    if file.read(4) != END_MAGIC:
        raise Refusal("bytes were added behind the zip archive in it")
    with archive:
        if any(name.endswith("/constants.pkl") for name in archive.namelist()):
            raise Refusal("it is a TorchScript program: it holds code, not only weights")
        _check_layout(archive)
        sizes = {info.filename: info.file_size for info in archive.infolist()}
        if len({name.casefold() for name in sizes}) != len(archive.infolist()):
            raise Refusal("the zip archive in it has two records of the same name")
        prefix = archive.infolist()[0].filename.partition("/")[0]
        if f"{prefix}/data.pkl" not in sizes:
            raise Refusal("it is a zip archive without data.pkl, not a PyTorch checkpoint")
        if f"{prefix}/byteorder" in sizes and archive.read(f"{prefix}/byteorder") != b"little":
            raise Refusal("it was written on a big-endian machine")
        with archive.open(f"{prefix}/data.pkl") as pickled:
            declared = scan_pickle(pickled)
    for key, num_bytes in declared.items():
        found = sizes.get(f"{prefix}/data/{key}")
        if found != num_bytes:
            there = "is missing" if found is None else f"has {found:,} bytes"
            raise Refusal(f"tensor storage {key!r:.80} {there}, {num_bytes:,} are declared")


def _check_layout(archive: zipfile.ZipFile) -> None:
    """Demands the plain layout that torch writes: stored records, one after the other.

    So every byte is there once, and any two readers of the archive see the same records.
    """
    end = 0
    for info in sorted(archive.infolist(), key=lambda info: info.header_offset):
        if info.compress_type != zipfile.ZIP_STORED or info.file_size != info.compress_size:
            raise Refusal("the zip archive in it is compressed, torch.save never does that")
        if info.flag_bits & 1:
            raise Refusal("the zip archive in it is encrypted")
        if info.header_offset < end or (end == 0 and info.header_offset):
            raise Refusal("the zip archive in it has overlapping or hidden records")
        name_bytes = len(info.orig_filename.encode())
        end = info.header_offset + LOCAL_HEADER_BYTES + name_bytes + info.file_size
    if not archive.infolist() or end > archive.start_dir:
        raise Refusal("the zip archive in it is not laid out as torch.save does")


def _check_legacy(file: IO[bytes]) -> None:
    """Compares what the pickle declares with the bytes that follow it.

    Magic number, protocol, system, the object and its storage keys are pickles in a row; then
    come the storages, each as a count (8 bytes) and its data.
    """
    file.seek(0)
    if any(scan_pickle(file) for _ in range(3)):
        raise Refusal("its header holds tensors")
    declared = scan_pickle(file)
    if scan_pickle(file):
        raise Refusal("its table of storages holds tensors")
    expected = sum(8 + num_bytes for num_bytes in declared.values())
    found = _size(file) - file.tell()
    if found != expected:
        raise Refusal(f"its tensors need {expected:,} bytes, it has {found:,}: cut off or forged")


def _start(file: IO[bytes], num_bytes: int) -> bytes:
    file.seek(0)
    return file.read(num_bytes)


def _size(file: IO[bytes]) -> int:
    return os.fstat(file.fileno()).st_size
