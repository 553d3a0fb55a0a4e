"""Keeps each video once more, at the pipeline's size and with keyframes close together.

Layout of the cache's folder, which any number of processes may use at once:

    <format>-<short side>-v<version>/ab/<hash of the source's content>.mp4     the entries
    sources/cd/<hash of path, size and time of change>     the content hash of that file
    tmp/                                                   what is being written

An entry is written to tmp/ and renamed, so that it is there whole or not at all; two that build
the same one write the same frames, and the last rename stands.
"""

import contextlib
import hashlib
import logging
import os
import re
import shutil
import threading
import time
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any
from uuid import uuid4

from ..annotations import read_annotations
from ..dataset import find_dataset
from ..errors import UserError
from ..files import open_atomically, sync_folder, user_cache, write_atomically
from ..hardware import num_usable_cores
from ..progress import track
from ..video.files import split_name
from .clip import CODECS, VERSION, ClipInfo, checksum, read_record
from .encode import ClipError, write_clip

ENTRIES = re.compile(rf"({'|'.join(CODECS)})-\d+-v\d+")
ABANDONED_SECONDS = 86400  # no builder takes a day for one video
BUILT, PRESENT, NO_ROOM = "built", "present", "no room"  # what became of a video
UNCOUNTED = 100  # other processes' entries are counted after a hundredth of the bound
logger = logging.getLogger("mmact_tiny")


class CacheFullError(UserError):
    """The entry does not fit under the bound on the cache."""


def default_root() -> Path:
    """Returns `$MMACT_TINY_CACHE`, else `mmact_tiny/clips` in the user's cache folder."""
    return user_cache("clips", "MMACT_TINY_CACHE")


class ClipCache:
    """Entries by the content of their source, under one folder.

    A video may be the name of a stretch, `files.stretch_name`'s: its entry has its frames alone.

    Args:
        root: The folder; `default_root()` if None. Made when the first entry is written.
        short_side: Of the entries' frames, in pixels: what the pipeline's first Resize asks for.
        format: `small`, about the bytes of the source, or `fast`, twice that and read faster.
        max_bytes: Bound on all entries under the folder, of whatever settings. What does not fit
            is not cached; nothing is removed for it.
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
        self.root = default_root() if root is None else Path(root).expanduser()
        self.short_side, self.format, self.max_bytes = short_side, format, max_bytes
        self._seen: dict[Path, tuple[tuple[int, int], ClipInfo]] = {}
        self._sources: dict[str, str] = {}
        self._lock = threading.Lock()
        self._counted: int | None = None  # bytes of the entries when the folder was last walked
        self._added = 0  # bytes of the entries that this object wrote since
        self._full = False

    def find(self, video: str | Path) -> tuple[Path, ClipInfo] | None:
        """Returns the entry of a video and its record, or None where there is no whole one.

        An entry's bytes are all checked the first time, afterwards its size and time of change.

        Raises:
            ClipError: the video's file cannot be read.
        """
        source = self._source_hash(video)
        path = self._entry_path(source)
        try:
            status = path.stat()
            signature = (status.st_size, status.st_mtime_ns)
            known, info = self._seen.get(path, (None, None))
            if info is None or known != signature:
                info = read_record(path)
                if info is None or info.source != source:
                    logger.warning("clip cache: the entry of %s is broken: %s", video, path)
                    return None
        except OSError:  # not there, or not for us to read
            return None
        self._seen[path] = (signature, info)
        return path, info

    def build(self, video: str | Path) -> Path:
        """Returns the entry of a video; encodes it where there is no whole one.

        Raises:
            ClipError: the video cannot be decoded.
            CacheFullError: no room under the bound, now or for an earlier video.
            UserError: the disk is full or the folder cannot be written; no half entry is left.
        """
        if found := self.find(video):
            return found[0]
        if self._full:
            raise self._no_room()
        source = self._source_hash(video)
        target = self._entry_path(source)
        # A name of its own: several processes may be at this video.
        part = self.root / "tmp" / f"{uuid4().hex}.mp4"
        settings: Any = dict(short_side=self.short_side, format=self.format)
        try:
            with open_atomically(part) as file:
                write_clip(video, file, source=source, **settings)
                self._take_room(file.seek(0, 2))
            target.parent.mkdir(parents=True, exist_ok=True)
            part.replace(target)
            sync_folder(target.parent)
        except (ClipError, CacheFullError):
            raise
        except (UserError, OSError) as error:
            raise UserError(
                f"cannot write the clip cache entry of {video} in {self.root}: {error}\n"
                "  free some space there, have MMACT_TINY_CACHE name another folder, or bound the "
                "cache with --cache-size"
            ) from error
        finally:
            with contextlib.suppress(OSError):
                part.unlink(missing_ok=True)
        return target

    def build_many(
        self, videos: Iterable[str | Path], workers: int | None = None
    ) -> dict[str, str]:
        """Builds the entries that are missing, by default as many at once as there are CPU cores.

        A bad video does not stop it.

        Returns:
            For each video `BUILT`, `PRESENT`, `NO_ROOM`, or why it has no entry.

        Raises:
            UserError: the disk is full or the folder cannot be written; what was built stays.
        """
        for path in (self.root / "tmp").glob("*"):
            with contextlib.suppress(FileNotFoundError):
                if time.time() - path.stat().st_mtime > ABANDONED_SECONDS:
                    path.unlink()
        with ThreadPoolExecutor(workers or num_usable_cores()) as pool:
            names = dict.fromkeys(map(str, videos))
            futures = {pool.submit(self._build_one, name): name for name in names}
            try:
                done = track(as_completed(futures), "caching clips", len(futures))
                return {futures[future]: future.result() for future in done}
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise

    def _build_one(self, video: str) -> str:
        try:
            if self.find(video):
                return PRESENT
            self.build(video)
        except CacheFullError:
            return NO_ROOM
        except ClipError as error:
            return str(error)
        return BUILT

    def num_bytes(self) -> int:
        """Returns the bytes of all entries under the folder, of whatever settings."""
        total = 0
        for path in self.root.glob("*-v*/??/*.mp4"):
            with contextlib.suppress(FileNotFoundError):  # another process removed it
                total += path.stat().st_size
        return total

    def clear(self) -> int:
        """Removes everything that the cache wrote; returns the bytes that its entries had."""
        freed = self.num_bytes()
        for child in self.root.glob("*"):
            if child.name in ("tmp", "sources") or ENTRIES.fullmatch(child.name):
                shutil.rmtree(child, ignore_errors=True)
        with contextlib.suppress(OSError):  # something else is in it: it stays
            self.root.rmdir()
        self._counted, self._full = None, False
        return freed

    def _take_room(self, size: int) -> None:
        """Takes bytes under the bound, or raises a CacheFullError.

        Other processes write too, so the folder is walked again now and then: together they pass
        the bound by a hundredth of it each, at most.
        """
        if self.max_bytes is None:
            return
        with self._lock:
            if self._counted is None or self._added + size > self.max_bytes / UNCOUNTED:
                self._counted, self._added = self.num_bytes(), 0
            if self._counted + self._added + size > self.max_bytes:
                self._full = True
                raise self._no_room()
            self._added += size

    def _no_room(self) -> CacheFullError:
        return CacheFullError(f"no room in the {self.max_bytes} bytes of the cache {self.root}")

    def _entry_path(self, source: str) -> Path:
        folder = f"{self.format}-{self.short_side}-v{VERSION}"
        return self.root / folder / source[:2] / f"{source}.mp4"

    def _source_hash(self, video: str | Path) -> str:
        """Returns the digest of a video's content, its size, and which stretch, or a ClipError.

        It is remembered in the folder, by the video's path, size and time of change.
        """
        name, stretch = split_name(video)
        part = "-{:.0f}-{:.0f}".format(*(1000 * time for time in stretch)) if stretch else ""
        try:
            path = Path(name).resolve(strict=True)
            status = path.stat()
            identity = f"{path}\0{status.st_size}\0{status.st_mtime_ns}"
            if identity not in self._sources:
                name = hashlib.blake2b(os.fsencode(identity), digest_size=16).hexdigest()
                note = self.root / "sources" / name[:2] / name
                self._sources[identity] = _remembered_hash(path, note, status.st_size)
        except OSError as error:
            raise ClipError(f"cannot read {video}: {error.strerror}") from error
        return self._sources[identity] + part


def _remembered_hash(path: Path, note: Path, size: int) -> str:
    """Returns what a note holds; reads the file and writes the note where there is no whole one."""
    with contextlib.suppress(OSError):
        text = note.read_text()
        if re.fullmatch(rf"[0-9a-f]{{32}}-{size:x}", text):
            return text
    with path.open("rb") as file:
        text = f"{checksum(file, size)}-{size:x}"
    with contextlib.suppress(UserError):  # the note saves time, no more
        write_atomically(text.encode(), note)
    return text


def cache_dataset(data_root: str | Path, *, format: str, max_bytes: int | None = None) -> None:
    """Writes an entry for each video of a dataset, in parallel, and prints what came of it.

    The entries have the short side that stock's pipelines ask for, 256; training at another size
    makes its own.

    Raises:
        UserError: no dataset, a full disk, or a folder that cannot be written.
    """
    cache = ClipCache(format=format, max_bytes=max_bytes)
    splits = find_dataset(data_root).splits.values()
    report = cache.build_many(
        split.video_dir / annotation.name
        for split in splits
        for annotation in read_annotations(split.ann_file)
    )
    counts = Counter(report.values())
    print(
        f"clip cache {cache.root}: {counts[BUILT]} clips built, {counts[PRESENT]} there already, "
        f"{cache.num_bytes() / 1e6:.1f} MB in all"
    )
    if counts[NO_ROOM]:
        print(f"  {counts[NO_ROOM]} clips did not fit in --cache-size; their videos are read")
    for video, result in report.items():
        if result not in (BUILT, PRESENT, NO_ROOM):
            print(f"  not cached: {video}: {result}")


def clear_cache() -> None:
    """Removes every entry of the default cache and prints what that freed."""
    cache = ClipCache()
    print(f"clip cache {cache.root}: {cache.clear() / 1e6:.1f} MB removed")
