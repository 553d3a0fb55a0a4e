"""Downloads a file so that it is whole or not there: resumed after a cut, checked, renamed last."""

import contextlib
import hashlib
import http.client
import re
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

from .download_partial import Partial
from .errors import UserError
from .files import check_free_space, locked, writing_to

TIMEOUT_SECONDS = 30.0  # of silence on the connection
BACKOFF_SECONDS = (1.0, 2.0, 4.0, 8.0)  # waits before a next try, while tries bring nothing new
CHUNK_BYTES = 1 << 18
RETRIED_STATUSES = {408, 425, 429, 500, 502, 503, 504}

Report = Callable[[int, int | None], None]  # bytes so far, bytes in all where known


class Cut(Exception):
    """The answer ended too early or does not fit what is here; another try may do."""


def download(
    url: str,
    path: str | Path,
    *,
    sha256_prefix: str | None = None,
    progress: bool = True,
    force: bool = False,
) -> Path:
    """Fetches `url` to `path`; a file that is there and whole is left alone.

    Bytes go to `path` + `.part`, which a later call continues if the server can prove that the
    file is still the same (`If-Range`) or the hash will. It is renamed to `path` after the length
    and the hash were checked. Calls for the same path, from any process, wait for each other.

    Args:
        url: an http or https address.
        path: the file to write; its folder is made.
        sha256_prefix: first hex digits of the file's SHA-256, as `published_hash` reads them.
        progress: show a bar on stderr, plain lines where it is not a terminal.
        force: fetch it again even if it is there.

    Returns:
        `path`.

    Raises:
        UserError: unreachable, refused by the server, wrong hash, no space, not writable.
    """
    path = Path(path)
    if urlsplit(url).scheme not in ("http", "https"):
        raise UserError(f"cannot download {url!r}: expected an http:// or https:// address")
    if path.is_dir():
        raise UserError(f"cannot download to {path}: it is a folder, expected a file's path")
    with writing_to(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    with locked(path):
        if path.exists() and not force:
            if has_hash(path, sha256_prefix):
                return path
            say(f"{path} is damaged (its SHA-256 is not {sha256_prefix}...): fetching it again")
        part = Partial(path, url)
        if force:
            part.discard()
        with reporting(path.name, show=progress) as report:
            fetch_with_retries(part, sha256_prefix, report)
        if not has_hash(part.path, sha256_prefix):
            part.discard()
            raise UserError(
                f"{url} arrived damaged: its SHA-256 does not start with {sha256_prefix}, as the "
                f"publisher's file name says. The download was deleted; run this again"
            )
        with writing_to(path):
            part.finish()
    return path


def published_hash(url: str) -> str | None:
    """Returns the hash in a published file name: OpenMMLab's `..._20220906-cd10898e.pth` carries
    the first 8 hex digits of the file's SHA-256 (also torch.hub's convention); None without one.
    """
    match = re.search(r"-([0-9a-f]{8,64})\.\w+$", urlsplit(url).path)
    return match[1] if match else None


def has_hash(path: Path, sha256_prefix: str | None) -> bool:
    """Returns whether the file's SHA-256 starts with the prefix; no prefix fits every file."""
    if not sha256_prefix:
        return True
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest().startswith(sha256_prefix.lower())


def fetch_with_retries(part: Partial, sha256_prefix: str | None, report: Report) -> None:
    """Tries until the part is complete; gives up when `BACKOFF_SECONDS` brought nothing new."""
    first = furthest = part.num_bytes()
    tries = 0
    while True:
        try:
            return transfer(part, sha256_prefix, report)
        except urllib.error.HTTPError as error:
            reason = f"HTTP {error.code} {error.reason}"
            if error.code not in RETRIED_STATUSES:
                raise by_hand(part, reason) from error
        except urllib.error.URLError as error:  # no connection at all
            reason = str(error.reason)
            if part.num_bytes() == first and tries == 0:
                raise by_hand(part, reason) from error
        except Cut as error:
            reason = str(error)
        if part.num_bytes() > furthest:
            furthest, tries = part.num_bytes(), 0
        if tries == len(BACKOFF_SECONDS):
            raise by_hand(part, reason)
        time.sleep(BACKOFF_SECONDS[tries])
        tries += 1


def by_hand(part: Partial, reason: str) -> UserError:
    """Returns the error that says in one line what to fetch and where to put it."""
    host = urlsplit(part.url).netloc
    return UserError(
        f"cannot download from {host} ({reason}): fetch {part.url} by hand, put it at "
        f"{part.final} and run this again"
    )


def transfer(part: Partial, sha256_prefix: str | None, report: Report) -> None:
    """Makes one request and appends what comes; returns when the part is complete.

    Raises:
        Cut: it is not complete, and another request may help.
    """
    headers = {"User-Agent": "mmact-tiny", "Accept-Encoding": "identity"}
    headers |= part.resume_headers(provable=sha256_prefix is not None)
    request = urllib.request.Request(part.url, headers=headers)
    try:
        with receiving():
            response = urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS)
    except urllib.error.HTTPError as error:
        if error.code != 416 or "Range" not in headers:
            raise
        if part.is_complete(error.headers):
            return
        part.discard()
        raise Cut("what was here is not a part of the published file") from error
    with response:
        if response.status == 206 and not part.continues(response.headers):
            part.discard()
            raise Cut("the published file changed")
        if response.status != 206:
            with writing_to(part.path):
                part.start(response.headers)
        append(part, response, report)


def append(part: Partial, response: http.client.HTTPResponse, report: Report) -> None:
    """Copies the answer's body to the end of the part."""
    length = response.headers.get("Content-Length", "")
    done = part.num_bytes()
    total = done + int(length) if length.isdigit() else None
    if total is not None:
        check_free_space(part.path, total - done)
    with contextlib.ExitStack() as stack:
        with writing_to(part.path):
            file = stack.enter_context(part.path.open("ab", buffering=0))
        report(done, total)
        while True:
            with receiving():
                chunk = response.read1(CHUNK_BYTES)
            if not chunk:
                break
            with writing_to(part.path):
                file.write(chunk)
            done += len(chunk)
            report(done, total)
    if total is not None and done < total:
        raise Cut(f"the connection was cut after {done:,} of {total:,} bytes")


@contextlib.contextmanager
def receiving() -> Iterator[None]:
    """Turns a failure of an open connection into `Cut`, apart from those of disk and terminal."""
    try:
        yield
    except urllib.error.URLError:
        raise  # an answer of the server's, or no connection: told apart by the caller
    except (http.client.HTTPException, OSError) as error:
        raise Cut(str(error) or type(error).__name__) from error


@contextlib.contextmanager
def reporting(name: str, *, show: bool) -> Iterator[Report]:
    """Yields the function that shows progress: a bar, or a line for each tenth of the file."""
    if not show:
        yield lambda done, total: None
    elif sys.stderr.isatty():
        from rich import progress
        from rich.console import Console

        columns = (progress.DownloadColumn(), progress.TransferSpeedColumn())
        left = progress.TimeRemainingColumn()
        console = Console(stderr=True)
        with progress.Progress("{task.description}", progress.BarColumn(), *columns, left,
                               console=console) as bar:  # fmt: skip
            task = bar.add_task(name, total=None)
            yield lambda done, total: bar.update(task, completed=done, total=total)
    else:
        yield plain_lines(name)


def plain_lines(name: str) -> Report:
    """Returns a report that says a line for each tenth of the file."""
    said = -1

    def report(done: int, total: int | None) -> None:
        nonlocal said
        tenth = 10 * done // total if total else done // 10_000_000
        if tenth != said:
            said = tenth
            size = f"{done / 1e6:,.1f}" + (f" of {total / 1e6:,.1f}" if total else "")
            say(f"{name}: {size} MB")

    return report


def say(text: str) -> None:
    """Tells the user what goes on; results go to stdout, this does not."""
    print(text, file=sys.stderr, flush=True)
