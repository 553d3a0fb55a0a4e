"""The clip cache: each video once at the pipeline's size, with keyframes close together.

Layout of its folder, which any number of processes may use at once:

    <format>-<short side>-v<version>/ab/<hash of the source's content>.mp4     the entries
    sources/cd/<hash of path, size and time of change>     the content hash of that file
    tmp/                                                   what is being written

An entry is written to tmp/ and renamed, so that it is there whole or not at all; two that build
the same one write the same frames, and the last rename stands.
"""

import contextlib
import logging
import os
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from ..errors import UserError
from ..files import sync_folder
from .clip import CODECS, VERSION, ClipInfo, is_intact, read_record
from .encode import ClipError, write_clip
from .room import CacheFullError, Room
from .source_hash import SourceHashes

ENTRIES = re.compile(rf"({'|'.join(CODECS)})-\d+-v\d+")
TOUCH_SECONDS = 600  # how often a use is recorded, of an entry that is read all the time
ABANDONED_SECONDS = 86400  # no builder takes a day for one video
logger = logging.getLogger("mmact_tiny")


@dataclass
class BuildReport:
    """What `ClipCache.build_many` did with each video."""

    built: list[str] = field(default_factory=list)
    present: list[str] = field(default_factory=list)
    no_room: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)


def default_root() -> Path:
    """Returns `$MMACT_TINY_CACHE`, else `mmact_tiny/clips` in the user's cache folder.

    Not in the dataset: that may be read-only, and the entries, found by content, serve every
    copy of it.
    """
    if os.environ.get("MMACT_TINY_CACHE"):
        return Path(os.environ["MMACT_TINY_CACHE"]).expanduser()
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "mmact_tiny" / "clips"


class ClipCache:
    """Entries by the content of their source, under one folder.

    Args:
        root: The folder; `default_root()` if None. Made when the first entry is written.
        short_side: Of the entries' frames, in pixels: what the pipeline's first Resize asks for.
        format: `small`, about the bytes of the source, or `fast`, twice that and read faster.
        max_bytes: Bound on all entries under the folder. To make room, those go first whose last
            use lies furthest back; one that was used since this object was made never goes.
    """

    def __init__(
        self,
        root: str | Path | None = None,
        *,
        short_side: int = 256,
        format: str = "small",
        max_bytes: int | None = None,
    ) -> None:
        if format not in CODECS:
            raise UserError(f"cache format {format!r}: expected one of {', '.join(CODECS)}")
        for name, value in (("short_side", short_side), ("max_bytes", max_bytes)):
            if value is not None and value < 1:
                raise UserError(f"cache {name}={value}: expected 1 or more")
        self.root = Path(root).expanduser() if root is not None else default_root()
        self.short_side, self.format, self.max_bytes = short_side, format, max_bytes
        self._full = False
        self._room = Room(self.root, max_bytes)
        self._seen: dict[Path, tuple[tuple[int, int], ClipInfo, float]] = {}
        self._sources = SourceHashes(self.root / "sources")

    def path(self, video: str | Path) -> Path | None:
        """Returns the entry of a video, or None where there is no whole one.

        Raises:
            ClipError: the video's file cannot be read.
        """
        return found[0] if (found := self.find(video)) else None

    def find(self, video: str | Path) -> tuple[Path, ClipInfo] | None:
        """Returns the entry of a video and its record, or None where there is no whole one.

        The first time that this object meets an entry all of its bytes are checked, afterwards
        its size and time of change.

        Raises:
            ClipError: the video's file cannot be read.
        """
        source = self._sources.hash(video)
        path = self._entry_path(source)
        try:
            status = path.stat()
            signature = (status.st_size, status.st_mtime_ns)
            known, info, used = self._seen.get(path, (None, None, 0.0))
            if info is None or known != signature:
                info, used = read_record(path), 0.0
                if info is None or info.source != source or not is_intact(path, info):
                    logger.warning("clip cache: the entry of %s is broken: %s", video, path)
                    return None
        except OSError:  # not there, or not for us to read
            return None
        if time.time() - used > TOUCH_SECONDS:
            used = time.time()
            with contextlib.suppress(OSError):  # a cache that others keep may be read-only
                os.utime(path, ns=(time.time_ns(), status.st_mtime_ns))
        self._seen[path] = (signature, info, used)
        return path, info

    def build(self, video: str | Path, *, evict: bool = True) -> Path:
        """Returns the entry of a video; encodes it where there is no whole one.

        Args:
            video: What to encode.
            evict: Whether older entries may go to keep the bound.

        Raises:
            ClipError: the video cannot be decoded.
            CacheFullError: no room under the bound.
            UserError: the disk is full or the folder cannot be written; no half entry is left.
        """
        if found := self.find(video):
            return found[0]
        source = self._sources.hash(video)
        target = self._entry_path(source)
        try:
            with self._temporary_file() as (file, temporary):
                write_clip(
                    video, file, source=source, short_side=self.short_side, format=self.format
                )
                file.flush()
                os.fsync(file.fileno())
                self._room.make(temporary.stat().st_size, evict)
                target.parent.mkdir(parents=True, exist_ok=True)
                temporary.replace(target)
                sync_folder(target.parent)
        except OSError as error:
            raise UserError(
                f"cannot write the clip cache entry of {video} in {self.root}: {error.strerror}\n"
                "  free some space there, choose another folder with --cache-dir, or bound the "
                "cache with --cache-size"
            ) from error
        return target

    def build_many(
        self,
        videos: Iterable[str | Path],
        workers: int | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> BuildReport:
        """Builds the entries that are missing, several at once; a bad video does not stop it.

        Args:
            videos: What to encode; one that is named twice is encoded once.
            workers: Videos at once, by default one for each core of this process.
            progress: Called with the numbers of videos done and of all.

        Raises:
            UserError: the disk is full or the folder cannot be written; what was built stays.
        """
        self._remove_abandoned()
        names = list(dict.fromkeys(str(video) for video in videos))
        report = BuildReport()
        with ThreadPoolExecutor(workers or len(os.sched_getaffinity(0))) as pool:
            futures = {pool.submit(self._build_one, name, report) for name in names}
            try:
                for done, future in enumerate(as_completed(futures), 1):
                    future.result()
                    if progress:
                        progress(done, len(names))
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
        return report

    def _build_one(self, video: str, report: BuildReport) -> None:
        try:
            if self.find(video):
                report.present.append(video)
            elif self._full:
                report.no_room.append(video)
            else:
                self.build(video)
                report.built.append(video)
        except CacheFullError:
            self._full = True
            report.no_room.append(video)
        except ClipError as error:
            report.failed[video] = str(error)

    def num_bytes(self) -> int:
        """Returns the bytes of all entries under the folder, of whatever settings."""
        return self._room.num_bytes()

    def clear(self) -> int:
        """Removes everything that the cache wrote; returns the bytes that its entries had."""
        freed = self.num_bytes()
        for child in self.root.glob("*"):
            if child.name in ("tmp", "sources") or ENTRIES.fullmatch(child.name):
                shutil.rmtree(child, ignore_errors=True)
        with contextlib.suppress(OSError):  # something else is in it: it stays
            self.root.rmdir()
        self._seen.clear()
        self._sources.forget()
        self._full = False
        self._room.recount()
        return freed

    def _entry_path(self, source: str) -> Path:
        folder = f"{self.format}-{self.short_side}-v{VERSION}"
        return self.root / folder / source[:2] / f"{source}.mp4"

    @contextlib.contextmanager
    def _temporary_file(self) -> Iterator[tuple[BinaryIO, Path]]:
        folder = self.root / "tmp"
        folder.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(suffix=".mp4", dir=folder)
        os.fchmod(descriptor, 0o644)  # others may share the cache; mkstemp shuts them out
        file = os.fdopen(descriptor, "w+b")
        try:
            yield file, Path(name)
        finally:
            with contextlib.suppress(OSError):  # a full disk refuses the last bytes again
                file.close()
            Path(name).unlink(missing_ok=True)

    def _remove_abandoned(self) -> None:
        for path in (self.root / "tmp").glob("*.mp4"):
            with contextlib.suppress(FileNotFoundError):
                if time.time() - path.stat().st_mtime > ABANDONED_SECONDS:
                    path.unlink()
