"""The bound on the clip cache: what is used least recently goes first."""

import contextlib
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from ..errors import UserError


class CacheFullError(UserError):
    """The entry does not fit under the bound on the cache."""


class Room:
    """Counts the bytes of a cache's entries, and removes old ones to keep a bound.

    An entry's last use is its access time, which the cache sets itself: a disk mounted with
    noatime would not. An entry that was used since this object was made is never removed, or
    training on more videos than fit would remove each clip shortly before it is read again.
    """

    def __init__(self, root: Path, max_bytes: int | None) -> None:
        self._root, self._max_bytes = root, max_bytes
        self._started = time.time_ns()
        self._total: int | None = None
        self._lock = threading.Lock()

    def entries(self) -> Iterator[tuple[Path, os.stat_result]]:
        """Yields the entries of all settings."""
        for path in self._root.glob("*-v*/??/*.mp4"):
            with contextlib.suppress(FileNotFoundError):  # another process removed it
                yield path, path.stat()

    def num_bytes(self) -> int:
        """Returns the bytes of all entries."""
        return sum(status.st_size for _, status in self.entries())

    def recount(self) -> None:
        """Forgets the count, after entries were removed by other means."""
        self._total = None

    def make(self, size: int, evict: bool = True) -> None:
        """Takes `size` bytes under the bound, with `evict` also by removing old entries.

        The folder is walked only when the count kept here passes the bound, and then a tenth of
        the bound is freed, so that the next entries need no walk.

        Raises:
            CacheFullError: there is no room.
        """
        if self._max_bytes is None:
            return
        with self._lock:
            if self._total is None or self._total + size > self._max_bytes:
                entries = sorted(self.entries(), key=lambda entry: entry[1].st_atime_ns)
                self._total = sum(status.st_size for _, status in entries)
                floor = self._max_bytes - size
                goal = floor - self._max_bytes // 10 if self._total > floor else floor
                for path, status in entries:
                    used = status.st_atime_ns >= self._started
                    if self._total <= goal or not evict or used:
                        break
                    path.unlink(missing_ok=True)
                    self._total -= status.st_size
                if self._total > floor:
                    raise CacheFullError(
                        f"no room for {size} bytes in the clip cache {self._root}: the "
                        f"{self._max_bytes} bytes of --cache-size are taken by clips in use"
                    )
            self._total += size
