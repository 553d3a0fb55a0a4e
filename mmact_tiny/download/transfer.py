"""Fetches a file over HTTP in as many requests as it takes, checks its hash; unpacks archives."""

import http.client
import math
import os
import re
import shutil
import sys
import time
import urllib.error
import urllib.request
import zipfile
import zlib
from collections.abc import Callable
from email.utils import formatdate, mktime_tz, parsedate_tz
from pathlib import Path
from urllib.parse import urlsplit

from ..errors import UserError
from ..files import locked, sha256, sync_folder, writing_to
from ..progress import Bar

TIMEOUT_SECONDS = 30.0  # of silence on the connection
BACKOFF_SECONDS = (1.0, 2.0, 4.0, 8.0)  # waits before a next try, while tries bring nothing new
CHUNK_BYTES = 1 << 18
RETRIED_STATUSES = {408, 425, 429, 500, 502, 503, 504}


def download(
    url: str, path: str | Path, *, sha256_prefix: str | None = None, force: bool = False
) -> Path:
    """Fetches `url` to `path` and returns that; a file that is there and whole is left alone.

    Bytes go to `path` + `.part`, which a later call continues if the server can prove that the
    file is still the same (`If-Range`) or the hash will. It is renamed to `path` after the length
    and the hash were checked. Calls for the same path, from any process, wait for each other.

    Args:
        url: an http or https address.
        path: the file to write; its folder is made.
        sha256_prefix: first hex digits of the file's SHA-256, as `published_hash` reads them.
        force: fetch it again even if it is there.

    Raises:
        UserError: unreachable, refused by the server, wrong hash, no space, not writable.
    """
    path = Path(path)
    if urlsplit(url).scheme not in ("http", "https"):
        raise UserError(f"cannot download {url!r}: expected an http:// or https:// address")
    if path.is_dir():
        raise UserError(f"cannot download to {path}: it is a folder, expected a file's path")
    part = path.with_name(f"{path.name}.part")
    with locked(path):
        if path.exists() and not force:
            if _has_hash(path, sha256_prefix):
                return path
            damage = f"{path} is damaged (its SHA-256 is not {sha256_prefix}...): fetching it again"
            print(damage, file=sys.stderr, flush=True)
        if force:
            part.unlink(missing_ok=True)
        _fetch(url, part, path, provable=sha256_prefix is not None)
        if not _has_hash(part, sha256_prefix):
            part.unlink()
            raise UserError(
                f"{url} arrived damaged: its SHA-256 does not start with {sha256_prefix}, as the "
                f"publisher's file name says. The download was deleted; run this again"
            )
        with writing_to(path), part.open("rb+") as file:
            os.fsync(file.fileno())
            part.replace(path)
            sync_folder(path.parent)
    return path


def published_hash(url: str) -> str | None:
    """Returns the hash in a published file name: OpenMMLab's `..._20220906-cd10898e.pth` carries
    the first 8 hex digits of the file's SHA-256 (also torch.hub's convention); None without one.
    """
    match = re.search(r"-([0-9a-f]{8,64})\.\w+$", urlsplit(url).path)
    return match[1] if match else None


def _has_hash(path: Path, sha256_prefix: str | None) -> bool:
    """Returns whether the file's SHA-256 starts with the prefix; no prefix fits every file."""
    return not sha256_prefix or (sha256(path) or "").startswith(sha256_prefix.lower())


def _fetch(url: str, part: Path, final: Path, *, provable: bool) -> None:
    """Asks until all is in `part`; gives up when `BACKOFF_SECONDS` brought nothing new."""
    furthest, tries = _num_bytes(part), 0
    while True:
        try:
            return _ask(url, part, provable=provable)
        except urllib.error.HTTPError as error:
            reason = f"HTTP {error.code} {error.reason}"
            hopeless = error.code not in RETRIED_STATUSES
        except urllib.error.URLError as error:  # no connection at all
            reason, hopeless = str(error.reason), tries == 0
        except (http.client.HTTPException, OSError) as error:
            reason, hopeless = str(error) or type(error).__name__, False
        if _num_bytes(part) > furthest:
            furthest, tries = _num_bytes(part), 0
        if hopeless or tries == len(BACKOFF_SECONDS):
            raise UserError(
                f"cannot download from {urlsplit(url).netloc} ({reason}): fetch {url} by hand, "
                f"put it at {final} and run this again"
            )
        time.sleep(BACKOFF_SECONDS[tries])
        tries += 1


def _num_bytes(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0


def _ask(url: str, part: Path, *, provable: bool) -> None:
    """Makes one request and appends what comes; returns when the file is complete.

    The time of `part` is the server's Last-Modified, by which the server knows the file again
    (If-Range, RFC 9110, section 13.1.5). With a hash (`provable`) that is not asked for.

    Raises:
        OSError: it is not complete, and another request may help.
    """
    start = _num_bytes(part)
    headers = {"User-Agent": "mmact-tiny", "Accept-Encoding": "identity"}
    seconds = part.stat().st_mtime if start else 0  # 0: the server gave no Last-Modified
    date = formatdate(seconds, usegmt=True)
    if start and (seconds or provable):
        headers["Range"] = f"bytes={start}-"
        if not provable:
            headers["If-Range"] = date
    request = urllib.request.Request(url, headers=headers)
    try:
        response = urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS)
    except urllib.error.HTTPError as error:
        if error.code != 416 or "Range" not in headers:
            raise
        if error.headers.get("Content-Range") == f"bytes */{start}":
            return  # nothing comes after these bytes: all of it is here
        part.unlink()
        raise ConnectionError("what was here is not a part of the published file") from error
    with response:
        continues = response.headers.get("Content-Range", "").startswith(f"bytes {start}-")
        changed = not provable and response.headers.get("Last-Modified") not in (None, date)
        if response.status == 206 and (changed or not continues):
            part.unlink()
            raise ConnectionError("the published file changed")
        _append(response, part)


def _append(response: http.client.HTTPResponse, part: Path) -> None:
    """Writes what comes, after what is there if it goes on from that; shows a bar of megabytes."""
    with writing_to(part):
        file = part.open("ab" if response.status == 206 else "wb", buffering=0)
    date = parsedate_tz(response.headers.get("Last-Modified"))
    seconds = mktime_tz(date) if date else 0
    start = done = _num_bytes(part)
    total = start + (response.length or 0)
    bar = Bar(f"{part.stem} (MB)", math.ceil((total - start) / 1e6), unit="MB", keep=True)
    with file, bar:
        check_free_space(part, total - start)
        while chunk := response.read1(CHUNK_BYTES):
            with writing_to(part):
                file.write(chunk)
                os.utime(file.fileno(), (seconds, seconds))
            done += len(chunk)
            while bar.done < min(bar.total, math.ceil((done - start) / 1e6)):
                bar.advance()
    if done < total:
        raise ConnectionError(f"the connection was cut after {done:,} of {total:,} bytes")


def unpack(archive: Path, folder: Path, *, check: Callable[[Path], None]) -> None:
    """Unpacks a zip file to `folder`, which appears, or is replaced, only when whole.

    A single folder at the archive's top becomes `folder` itself; macOS's `__MACOSX` is left out.
    zipfile writes no more of a member than the size it states, takes `..` and a leading `/` out
    of its name, and makes no links, devices or permissions.

    Args:
        archive: the zip file.
        folder: where its content goes.
        check: called with the unpacked folder before it gets its name; may raise.

    Raises:
        UserError: not a whole archive, too large for the disk, or a folder that cannot be written.
    """
    new = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(new, ignore_errors=True)
    try:
        with zipfile.ZipFile(archive) as file:
            members = [m for m in file.infolist() if not m.filename.startswith("__MACOSX/")]
            check_free_space(folder, sum(member.file_size for member in members))
            with writing_to(folder):
                new.mkdir()
                file.extractall(new, members)
                os.sync()
        inner = list(new.iterdir())
        content = inner[0] if len(inner) == 1 and inner[0].is_dir() else new
        check(content)
        with writing_to(folder):
            shutil.rmtree(folder, ignore_errors=True)
            content.rename(folder)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise UserError(
            f"{archive} is not a whole archive ({error}): fetch it again, with --force or by hand"
        ) from error
    finally:
        shutil.rmtree(new, ignore_errors=True)


def check_free_space(path: Path, num_bytes: int) -> None:
    """Raises a UserError if the disk that holds `path`'s folder has not that much space left."""
    free = shutil.disk_usage(path.parent).free
    if num_bytes > free:
        raise UserError(
            f"no space for {path}: it takes {num_bytes / 1e6:,.1f} MB more, the disk has "
            f"{free / 1e6:,.1f} MB free"
        )
