"""Examines many videos in parallel processes, and remembers what was found for the next run."""

import base64
import json
import os
import stat
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from ..hardware import num_usable_cores
from ..progress import Bar, say
from ..video.isolated import GuardedReader, Lost
from .examine import examine
from .types import Record, Settings

SECONDS_PER_MEGABYTE = 5.0  # beside the limit of a video: more than the slowest decoders take
LOG_NAME = ".examined.jsonl"
LOG_NAME_0_1_0 = ".probe.jsonl"
_FIRST_LINE = json.dumps({"version": 3})  # the records of another version are not used


class RecordLog:
    """The records of a dataset by path, size and time of change; appended as they come.

    An interrupted run leaves at most a torn last line, which is dropped. A file that was only
    renamed, copied or touched is recognized by its content.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / LOG_NAME
        self.file: IO[str] | None = None
        self.by_file: dict[tuple[str, int, int], Record] = {}  # path, size, time of change
        self.by_content: dict[str, Record] = {}
        self.contents_of_size: dict[int, list[str]] = {}
        if (folder / LOG_NAME_0_1_0).exists() and not self.path.exists():
            (folder / LOG_NAME_0_1_0).rename(self.path)
        if self.path.exists():
            self._load()

    def get(self, path: str, status: os.stat_result) -> Record | None:
        """Returns the record of a file that has not changed since, or None."""
        return self.by_file.get((path, status.st_size, status.st_mtime_ns))

    def add(self, path: str, status: os.stat_result, record: Record) -> Record:
        """Takes in what `examine` returned; returns the whole record, also of a known content."""
        line: dict[str, Any] = {"path": path, "size": status.st_size}
        line |= {"changed": status.st_mtime_ns, **record}
        if "thumbnails" in record:
            line["thumbnails"] = base64.b64encode(record["thumbnails"]).decode()
        if self.file is None:
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
                with suppress(ValueError):  # torn, or empty
                    self._take(json.loads(line))

    def _take(self, line: dict[str, Any]) -> Record:
        key, content = (line.pop("path"), line.pop("size"), line.pop("changed")), line["hash"]
        if content not in self.by_content:
            line["thumbnails"] = base64.b64decode(line.get("thumbnails", ""))
            self.by_content[content] = Record(**line)  # type: ignore[typeddict-item]
            self.contents_of_size.setdefault(key[1], []).append(content)
        self.by_file[key] = self.by_content[content]
        return self.by_content[content]


def examine_all(
    paths: Sequence[str], log: RecordLog, settings: Settings
) -> tuple[dict[str, Record], int]:
    """Returns the record of every path, and how many videos had to be read for it.

    A video whose process crashes or runs out of time has a record with `error` set, which is not
    remembered: the next run tries again.
    """
    records: dict[str, Record] = {}
    new: dict[str, os.stat_result] = {}
    for path in paths:
        try:
            status = os.stat(path)  # noqa: PTH116  (ten thousand paths)
        except OSError as error:
            reason = "a broken link" if Path(path).is_symlink() else error.strerror
            records[path] = {"hash": "", "error": f"unreadable: {reason}"}
            continue
        if not stat.S_ISREG(status.st_mode):  # a pipe might never give anything
            records[path] = {"hash": "", "error": "unreadable: not a regular file"}
        elif (record := log.get(path, status)) is not None:
            records[path] = record
        else:
            new[path] = status
    what = f"checking videos ({len(records)} known)" if records else "checking videos"
    threads = num_usable_cores() // max(1, settings.num_processes(len(new)))

    def arguments(path: str) -> tuple[Any, ...]:
        return path, log.contents_of_size.get(new[path].st_size, []), max(1, threads)

    for path, found in call_each(examine, new, arguments, what, settings):
        if isinstance(found, Lost):
            records[path] = {"hash": "", "error": f"{found.kind}: {found.detail}"}
        else:
            records[path] = log.add(path, new[path], found) if found["hash"] else found
    return records, len(new)


def call_each(
    function: Callable[..., Any],
    paths: Collection[str],
    arguments: Callable[[str], tuple[Any, ...]],
    what: str,
    settings: Settings,
    times_slower: float = 1,
) -> Iterator[tuple[str, Any]]:
    """Calls a function for each video, away from this process; yields `(path, result or Lost)`.

    `what` is being done, in words; a video may take `times_slower` the time of its decoding.
    """
    if not paths:
        return

    def seconds(path: str) -> float:
        for_size = Path(path).stat().st_size / 1e6 * SECONDS_PER_MEGABYTE
        return (settings.seconds_per_video + for_size) * times_slower

    calls = ((path, arguments(path), seconds(path)) for path in paths)
    if settings.call_each is not None:
        answers = settings.call_each(function, calls)
    else:
        count = settings.num_processes(len(paths))
        reader = GuardedReader(function, calls_a_process=0, num_processes=count, niceness=0)
        answers = reader.call_each(calls)
    with Bar(what, len(paths), keep=True) as bar:
        for answer in answers:
            yield answer
            bar.advance()
