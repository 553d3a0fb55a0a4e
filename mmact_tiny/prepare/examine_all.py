"""Examines many videos in parallel processes, and remembers what was found for the next run."""

import base64
import json
import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

from ..progress import Bar, say
from ..video.isolated import GuardedReader, Lost
from .examine import examine
from .types import Record, Settings

SECONDS_PER_MEGABYTE = 5.0  # beside the limit of a video: more than the slowest decoders take
VERSION = 1  # of the remembered records: those of another one are not used
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
        status = os.stat(path)  # noqa: PTH116
        return record if (status.st_size, status.st_mtime_ns) == (size, changed) else None

    def known_contents(self, path: str) -> list[str]:
        """Returns the contents that a new file may have: those of its size."""
        return self.contents_of_size.get(os.stat(path).st_size, [])  # noqa: PTH116

    def add(self, path: str, record: Record) -> Record:
        """Takes in what `examine` returned; returns the whole record, also of a known content."""
        status = os.stat(path)  # noqa: PTH116
        line: dict[str, Any] = {"path": path, "size": status.st_size}
        line |= {"changed": status.st_mtime_ns, **record}
        if "thumbnails" in record:
            line["thumbnails"] = base64.b64encode(record["thumbnails"]).decode()
        if self.file is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.file = self.path.open("a", encoding="ascii")
            if self.file.tell() == 0:
                self.file.write(json.dumps({"version": VERSION}) + "\n")
        self.file.write(json.dumps(line) + "\n")
        self.file.flush()
        return self._take(line)

    def close(self) -> None:
        if self.file is not None:
            self.file.close()

    def _load(self) -> None:
        whole = 0
        with self.path.open("rb") as file:
            for number, line in enumerate(file):
                try:
                    fields = json.loads(line)
                    if number == 0 and fields != {"version": VERSION}:
                        say(f"{self.path} is of another version: every video is decoded again")
                        break
                    if not line.endswith(b"\n"):
                        break  # torn: the run was cut off here
                    if number > 0:
                        self._take(fields)
                except ValueError:
                    break
                whole += len(line)
        os.truncate(self.path, whole)

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
    if not new:
        return records, 0
    num_workers = min(settings.num_workers or count_cores(), len(new))
    num_threads = max(1, count_cores() // num_workers)

    def calls() -> Iterator[tuple[str, tuple[Any, ...], float]]:
        for path in new:
            arguments = path, log.known_contents(path), num_threads
            yield path, arguments, time_limit(path, settings)

    known = f" ({len(records)} known)" if records else ""
    reader = GuardedReader(examine, calls_a_process=0, num_processes=num_workers, niceness=0)
    with Bar(f"checking videos{known}", len(new), keep=True) as bar:
        for path, found in reader.call_each(calls()):
            if isinstance(found, Lost):
                records[path] = {"hash": "", "error": f"{found.kind}: {found.detail}"}
            else:
                records[path] = log.add(path, found) if found["hash"] else found
            bar.advance()
    return records, len(new)


def count_cores() -> int:
    """Returns how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def time_limit(path: str, settings: Settings) -> float:
    """Returns the seconds that reading a video may take."""
    return settings.seconds_per_video + Path(path).stat().st_size / 1e6 * SECONDS_PER_MEGABYTE


def _why_unreadable(path: str) -> str | None:
    try:
        mode = os.stat(path).st_mode  # noqa: PTH116
    except OSError as error:
        is_link = os.path.islink(path)  # noqa: PTH114
        return "a broken link" if is_link else error.strerror or str(error)
    return None if stat.S_ISREG(mode) else "not a regular file"  # a pipe might never give anything
