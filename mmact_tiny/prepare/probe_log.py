"""Remembers what was found about each video, so that a run goes on where the last one stopped."""

import base64
import json
import os
from pathlib import Path
from typing import IO

from .examine import Record

VERSION = 1  # of the records: another one decodes everything again


class ProbeLog:
    """The records of a dataset by path, size and time of change; appended as they come.

    An interrupted run leaves at most a torn last line, which is dropped. A file that was only
    renamed, copied or touched is recognized by its content.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.file: IO[str] | None = None
        self.by_path: dict[str, tuple[int, int, Record]] = {}
        self.by_content: dict[str, Record] = {}
        self.contents_of_size: dict[int, list[str]] = {}
        if path.exists():
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
        """Takes in what `probe` returned; returns the whole record, also of a known content."""
        status = os.stat(path)  # noqa: PTH116
        line = {"path": path, "size": status.st_size, "changed": status.st_mtime_ns} | record
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
            first = file.readline()
            is_ours = first.endswith(b"\n") and json.loads(first) == {"version": VERSION}
            whole = len(first) if is_ours else 0
            for line in file if is_ours else ():
                if not line.endswith(b"\n"):
                    break  # torn: the run was cut off here
                whole += len(line)
                self._take(json.loads(line))
        os.truncate(self.path, whole)

    def _take(self, line: Record) -> Record:
        path, size, changed = line.pop("path"), line.pop("size"), line.pop("changed")
        content = line["hash"]
        if content not in self.by_content:
            line["thumbnails"] = base64.b64decode(line.get("thumbnails", ""))
            self.by_content[content] = line
            self.contents_of_size.setdefault(size, []).append(content)
        self.by_path[path] = (size, changed, self.by_content[content])
        return self.by_content[content]
