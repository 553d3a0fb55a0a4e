"""Unpacks a downloaded archive: all of it or nothing, and nothing outside its folder."""

import lzma
import os
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import IO

from .errors import UserError
from .files import check_free_space, writing_to

MAX_BYTES = 16 << 30  # unpacked; more than this is not one of ours, whatever it claims
MAX_MEMBERS = 200_000
MAX_TAIL_BYTES = 1 << 20  # tar pads to 10 KiB
TAR_SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
UNREADABLE = (zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, EOFError,
              NotImplementedError, RuntimeError)  # fmt: skip


@dataclass(frozen=True)
class Member:
    """A file, folder, link or device in an archive."""

    name: str
    kind: str
    num_bytes: int
    open: Callable[[], IO[bytes] | None]


def extract(
    archive: str | Path,
    folder: str | Path,
    *,
    check: Callable[[Path], None] | None = None,
    max_bytes: int = MAX_BYTES,
) -> Path:
    """Unpacks a zip or tar file to `folder`, which appears, or is replaced, only when whole.

    A single folder at the archive's top becomes `folder` itself. Only plain files and folders
    are unpacked, without the archive's permissions; macOS's `__MACOSX` is left out.

    Args:
        archive: a `.zip`, `.tar`, `.tar.gz`, ... file.
        folder: where its content goes.
        check: called with the unpacked folder before it gets its name; may raise.
        max_bytes: the most that the content may add up to.

    Raises:
        UserError: not a whole archive, a member that would leave the folder, a link or device,
            more than `max_bytes`, no space.
    """
    archive, folder = Path(archive), Path(folder).resolve()
    unpacked = folder.with_name(f".{folder.name}.part")
    with writing_to(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        if unpacked.exists():
            shutil.rmtree(unpacked)
    try:
        with reading(archive) as members:
            files = plan(archive, members, max_bytes)
            check_free_space(folder, sum(member.num_bytes for member, _ in files))
            for member, name in files:
                unpack(archive, member, unpacked / name)
        inner = list(unpacked.iterdir()) if unpacked.exists() else []
        content = inner[0] if len(inner) == 1 and inner[0].is_dir() else unpacked
        if check is not None:
            check(content)
        with writing_to(folder):
            replace_folder(content, folder)
    finally:
        shutil.rmtree(unpacked, ignore_errors=True)
    return folder


@contextmanager
def reading(archive: Path) -> Iterator[Iterator[Member]]:
    """Yields the members of an archive; whatever is wrong with its bytes is a UserError."""
    is_zip = archive.name.endswith(".zip")
    if not is_zip and not archive.name.endswith(TAR_SUFFIXES):
        raise UserError(f"cannot unpack {archive}: expected .zip or one of {TAR_SUFFIXES}")
    try:
        if is_zip:
            with zipfile.ZipFile(archive) as file:
                yield zip_members(file)
        else:
            with tarfile.open(archive) as file:
                yield tar_members(file)
    except (*UNREADABLE, OSError) as error:
        raise UserError(
            f"{archive} is not a whole archive ({error}): fetch it again, with --force or by hand"
        ) from error


def zip_members(file: zipfile.ZipFile) -> Iterator[Member]:
    """Yields what a zip file lists; the Unix mode is in the upper half of `external_attr`."""
    for info in file.infolist():
        mode = stat.S_IFMT(info.external_attr >> 16)
        kinds = {0: "file", stat.S_IFREG: "file", stat.S_IFDIR: "folder", stat.S_IFLNK: "link"}
        kind = "folder" if info.is_dir() else kinds.get(mode, "device")
        yield Member(info.orig_filename, kind, info.file_size, partial(file.open, info))


def tar_members(file: tarfile.TarFile) -> Iterator[Member]:
    """Yields what a tar file lists, reading on as it is asked for more."""
    for info in file:
        kind = "device"
        if info.isreg():
            kind = "file"
        elif info.isdir():
            kind = "folder"
        elif info.issym() or info.islnk():
            kind = "link"
        yield Member(info.name, kind, info.size, partial(file.extractfile, info))
    # tarfile stops at the end mark; gzip's checksum comes after it and the padding.
    if file.fileobj is not None and len(file.fileobj.read(MAX_TAIL_BYTES)) == MAX_TAIL_BYTES:
        raise tarfile.ReadError("data after its end")


def plan(
    archive: Path, members: Iterator[Member], max_bytes: int
) -> list[tuple[Member, PurePosixPath]]:
    """Returns the files and folders to write with their places, or refuses the archive."""
    wanted: list[tuple[Member, PurePosixPath]] = []
    total = 0
    for count, member in enumerate(members, start=1):
        total += member.num_bytes
        if total > max_bytes or count > MAX_MEMBERS:
            raise UserError(
                f"{archive} refused: it unpacks to more than {max_bytes / 1e6:,.0f} MB or "
                f"{MAX_MEMBERS:,} files"
            )
        place = PurePosixPath(member.name)
        if (
            not member.name.isprintable()
            or "\\" in member.name
            or place.is_absolute()
            or ".." in place.parts
            or PureWindowsPath(member.name).drive
        ):
            raise UserError(f"{archive} refused: member {member.name!r} would leave the folder")
        if member.kind in ("link", "device"):
            raise UserError(
                f"{archive} refused: member {member.name!r} is a {member.kind}, expected only "
                f"files and folders"
            )
        if place.parts and place.parts[0] != "__MACOSX" and place.name != ".DS_Store":
            wanted.append((member, place))
    return wanted


def unpack(archive: Path, member: Member, target: Path) -> None:
    """Writes one member; the archive's own errors pass through, the disk's become the user's."""
    with writing_to(target):
        folder = target if member.kind == "folder" else target.parent
        folder.mkdir(parents=True, exist_ok=True)
    if member.kind == "folder":
        return
    source = member.open()
    if source is None or target.exists():
        raise UserError(f"{archive} refused: member {member.name!r} is there twice")
    with source, target.open("xb") as file:
        while chunk := source.read(1 << 20):
            with writing_to(target):
                file.write(chunk)
        with writing_to(target):
            file.flush()
            os.fsync(file.fileno())
    if target.stat().st_size != member.num_bytes:
        raise EOFError(f"{member.name} ends early")


def replace_folder(new: Path, folder: Path) -> None:
    """Renames `new` to `folder`; what was there steps aside first and is removed last."""
    old = folder.with_name(f".{folder.name}.old")
    if old.exists():
        shutil.rmtree(old)
    if folder.exists():
        folder.rename(old)
    new.rename(folder)
    if old.exists():
        shutil.rmtree(old)
