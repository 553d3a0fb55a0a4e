"""Brings videos that have an address to this machine, a few ahead, and removes each once read."""

import tempfile
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

from ..errors import UserError
from ..video.files import split_name, stretch_name
from .store import filesystem_of, is_address, persist

AHEAD = 8  # videos that are fetched or wait here, beside those that are being read


def fetch(address: str, folder: str | Path) -> Path:
    """Copies a video into a folder, under a name of its own; returns the copy, or its stretch.

    Of what is not there, or may not be read, there is none: reading it says so.

    Raises:
        UserError: the address cannot be reached.
    """
    address, stretch = split_name(address)
    fs, root = filesystem_of(address)
    suffix = Path(address.partition("?")[0]).suffix
    with tempfile.NamedTemporaryFile(dir=folder, suffix=suffix, delete=False) as file:
        copy = Path(file.name)
    try:
        persist(address, lambda: fs.get_file(root, str(copy)))
    except (FileNotFoundError, PermissionError):
        copy.unlink()
    return Path(stretch_name(copy, *stretch)) if stretch else copy


class LocalCopies:
    """The local files of videos in order, for one reader; `named` lets go of them again."""

    def __init__(self, videos: Iterable[str]) -> None:
        self._videos = videos
        self._folder = tempfile.TemporaryDirectory(prefix="mmact_tiny-")
        self._pool = ThreadPoolExecutor(AHEAD, thread_name_prefix="fetch")
        self._given: deque[tuple[str, Path]] = deque()

    def __iter__(self) -> Iterator[Path]:
        ahead: deque[tuple[str, Future[Path] | Path]] = deque()
        for video in self._videos:
            there = is_address(video)
            local = self._pool.submit(fetch, video, self._folder.name) if there else Path(video)
            ahead.append((video, local))
            if len(ahead) > AHEAD:
                yield self._give(*ahead.popleft())
        while ahead:
            yield self._give(*ahead.popleft())

    def _give(self, video: str, local: Future[Path] | Path) -> Path:
        path = local if isinstance(local, Path) else local.result()
        self._given.append((video, path))
        return path

    def named(self, results: Iterable[Any]) -> Iterator[Any]:
        """Yields what was read of each file in turn, its error with the video's own name."""
        for result in results:
            video, path = self._given.popleft()
            if is_address(video):
                Path(split_name(path)[0]).unlink(missing_ok=True)
                if isinstance(result, UserError):
                    result = UserError(str(result).replace(str(path), video))
            yield result

    def close(self) -> None:
        """Ends what is being fetched and removes the copies."""
        self._pool.shutdown(cancel_futures=True)
        with suppress(OSError):
            self._folder.cleanup()
