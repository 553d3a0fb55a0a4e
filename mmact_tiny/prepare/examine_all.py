"""Examines many videos in parallel processes, and remembers what was found for the next run."""

import base64
import contextlib
import json
import os
import stat
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import IO, Any

from ..hardware import num_usable_cores
from ..progress import Bar, say
from ..video.isolated import GuardedReader, Lost
from .examine import examine
from .types import Record, Settings

SECONDS_PER_MEGABYTE = 5.0  # beside the limit of a video: more than the slowest decoders take
VERSION = 1  # of the remembered records: those of another one are not used
_FIRST_LINE = json.dumps({"version": VERSION})
LOG_NAME = ".examined.jsonl"
LOG_NAME_0_1_0 = ".probe.jsonl"


class RecordLog:
    """The records of a dataset by path, size and time of change; appended as they come.

    An interrupted run leaves at most a torn last line, which is dropped. A file that was only
    renamed, copied or touched is recognized by its content.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / LOG_NAME
        self.file: IO[str] | None = None
        self.by_path: dict[str, tuple[int, int, Record]] = {}
        self.by_content: dict[str, Record] = {}
        self.contents_of_size: dict[int, list[str]] = {}
        if (folder / LOG_NAME_0_1_0).exists() and not self.path.exists():
            (folder / LOG_NAME_0_1_0).rename(self.path)
        if self.path.exists():
            self._load()

    def get(self, path: str) -> Record | None:
        """Returns the record of a file that has not changed since, or None."""
        size, changed, record = self.by_path.get(path, (0, 0, None))
        status = Path(path).stat()
        return record if (status.st_size, status.st_mtime_ns) == (size, changed) else None

    def known_contents(self, path: str) -> list[str]:
        """Returns the contents that a new file may have: those of its size."""
        return self.contents_of_size.get(Path(path).stat().st_size, [])

    def add(self, path: str, record: Record) -> Record:
        """Takes in what `examine` returned; returns the whole record, also of a known content."""
        status = Path(path).stat()
        line: dict[str, Any] = {"path": path, "size": status.st_size}
        line |= {"changed": status.st_mtime_ns, **record}
        if "thumbnails" in record:
            line["thumbnails"] = base64.b64encode(record["thumbnails"]).decode()
        if self.file is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.file = self.path.open("a", encoding="ascii")
            self.file.write("\n" if self.file.tell() else f"{_FIRST_LINE}\n")  # ends a torn line
        self.file.write(json.dumps(line) + "\n")
        self.file.flush()
        return self._take(line)

    def close(self) -> None:
        if self.file is not None:
            self.file.close()

    def _load(self) -> None:
        with self.path.open(encoding="ascii", errors="replace") as file:
            if file.readline().strip() not in ("", _FIRST_LINE):
                say(f"{self.path} is of another version: every video is decoded again")
                os.truncate(self.path, 0)
                return
            for line in file:
                with contextlib.suppress(ValueError):  # torn, or empty
                    self._take(json.loads(line))

    def _take(self, line: dict[str, Any]) -> Record:
        path, size, changed = line.pop("path"), line.pop("size"), line.pop("changed")
        content = line["hash"]
        if content not in self.by_content:
            line["thumbnails"] = base64.b64decode(line.get("thumbnails", ""))
            self.by_content[content] = Record(**line)  # type: ignore[typeddict-item]
            self.contents_of_size.setdefault(size, []).append(content)
        self.by_path[path] = (size, changed, self.by_content[content])
        return self.by_content[content]


def examine_all(
    paths: Sequence[str], log: RecordLog, settings: Settings
) -> tuple[dict[str, Record], int]:
    """Returns the record of every path, and how many videos had to be read for it.

    A video whose process crashes or runs out of time has a record with `error` set, which is not
    remembered: the next run tries again.
    """
    records: dict[str, Record] = {}
    new = []
    for path in paths:
        if reason := _why_unreadable(path):
            records[path] = {"hash": "", "error": f"unreadable: {reason}"}
        elif (record := log.get(path)) is not None:
            records[path] = record
        else:
            new.append(path)
    what = f"checking videos ({len(records)} known)" if records else "checking videos"

    def arguments(path: str, num_processes: int) -> tuple[Any, ...]:
        return path, log.known_contents(path), max(1, num_usable_cores() // num_processes)

    for path, found in call_each(examine, new, arguments, what, settings):
        if isinstance(found, Lost):
            records[path] = {"hash": "", "error": f"{found.kind}: {found.detail}"}
        else:
            records[path] = log.add(path, found) if found["hash"] else found
    return records, len(new)


def call_each(
    function: Callable[..., Any],
    paths: Collection[str],
    arguments: Callable[[str, int], tuple[Any, ...]],
    what: str,
    settings: Settings,
    times_slower: float = 1,
) -> Iterator[tuple[str, Any]]:
    """Calls a function for each video in processes of its own; yields `(path, result or Lost)`.

    Args:
        function: what is called.
        paths: the videos.
        arguments: returns the function's, for a video and the number of processes.
        what: is being done, in words.
        settings: the time limit of a video, and how many processes.
        times_slower: how much more time a video may take than to be decoded.
    """
    if not paths:
        return
    count = min(settings.num_workers or num_usable_cores(), len(paths))

    def calls() -> Iterator[tuple[str, tuple[Any, ...], float]]:
        for path in paths:
            limit = Path(path).stat().st_size / 1e6 * SECONDS_PER_MEGABYTE
            limit += settings.seconds_per_video
            yield path, arguments(path, count), limit * times_slower

    reader = GuardedReader(function, calls_a_process=0, num_processes=count, niceness=0)
    with Bar(what, len(paths), keep=True) as bar:
        for answer in reader.call_each(calls()):
            yield answer
            bar.advance()


def _why_unreadable(path: str) -> str | None:
    try:
        mode = Path(path).stat().st_mode
    except OSError as error:
        return "a broken link" if Path(path).is_symlink() else error.strerror or str(error)
    return None if stat.S_ISREG(mode) else "not a regular file"  # a pipe might never give anything
