"""The folder of a job: the list of its videos, its identity, and its parts.

`videos.txt` is written once, when the job begins: what is added to a source later is not part of
it. `job.json` says what is computed and how; a process that would compute anything else refuses.
`part-00042.jsonl` has the rows of videos 42 x size to 43 x size - 1, whole or not at all, so what
is done is what parts there are. Nobody keeps books, and processes need not know of each other.
"""

import hashlib
import io
import json
import logging
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, ClassVar, NamedTuple, Protocol

from ..annotations import is_list, videos_in, videos_of
from ..annotations.lists import ENCODING as LIST_ENCODING
from ..errors import UserError
from ..files import Row, open_atomically, printable
from ..infer import OUT_SUFFIXES, write_rows
from ..video.files import Walk, find_videos, is_video, say_stretches
from . import parquet
from .store import Store, filesystem_of, is_address, persist

logger = logging.getLogger("mmact_tiny")
LIST, FACTS = "videos.txt", "job.json"
# Videos of a part are what a killed process loses, and how finely a job is shared: 64, as few as 16
# where a job would have less than 64 parts, and more where it would have over 16,384 files.
SMALLEST_PART, USUAL_PART, FEW_PARTS, MOST_PARTS = 16, 64, 64, 1 << 14
ENCODING = "utf-8", "surrogateescape"  # names that are not UTF-8 keep their bytes


class Format(Protocol):
    """How the rows of a job lie in its parts, made of what `job.json` says."""

    suffixes: ClassVar[Sequence[str]]  # of the files that parts are joined to

    def __init__(self, facts: Mapping[str, Any]) -> None: ...

    def write(self, path: Path, rows: Iterable[Row]) -> None:
        """Writes a part, or the rows of all, in order."""

    def read(self, file: BinaryIO, videos: Sequence[str]) -> list[Row]:
        """Returns a part's rows in the order of its videos, or raises a ValueError."""

    def num_videos(self, file: BinaryIO) -> int:
        """Returns of how many videos a part has rows; 0, or fewer, where it is cut off."""


class Answers:
    """Answers: the parts are JSON Lines or Parquet, joined they are what `infer` writes.

    Raises:
        UserError: a job of features.
    """

    suffixes: ClassVar[Sequence[str]] = OUT_SUFFIXES

    def __init__(self, facts: Mapping[str, Any]) -> None:
        if "per" in facts:
            raise UserError("the job there has features: see `python tools/extract.py --help`")
        self._is_parquet = facts["format"] == "parquet"
        self._has_windows = facts.get("window") is not None

    def write(self, path: Path, rows: Iterable[Row]) -> None:
        if path.suffix == ".parquet":
            parquet.write_rows(path, rows, self._has_windows)
        elif path.suffix == ".jsonl":
            write_lines(path, rows)
        else:
            write_rows(path, rows)

    def read(self, file: BinaryIO, videos: Sequence[str]) -> list[Row]:
        if self._is_parquet:
            return parquet.read_rows(file, videos)
        return [json.loads(line) for line in io.TextIOWrapper(file, *ENCODING, newline="\n")]

    def num_videos(self, file: BinaryIO) -> int:
        if self._is_parquet:
            return parquet.num_rows(file)
        return sum(block.count(b"\n") for block in iter(lambda: file.read(1 << 20), b""))


class Part(NamedTuple):
    """Consecutive videos of a job, whose rows are one file."""

    name: str
    videos: list[str]


class Job:
    """A job that has begun, in its folder.

    Args:
        folder: A path or an address.
        kind: Of its rows.

    Raises:
        UserError: no job is there, or one of another kind.
    """

    def __init__(self, folder: str | Path | Store, kind: type[Format] = Answers) -> None:
        self.store = folder if isinstance(folder, Store) else Store(folder)
        facts = self.store.read_json(FACTS)
        if not isinstance(facts, dict) or "part_size" not in facts:
            raise UserError(f"{self.store} is not the folder of a job: it has no {FACTS}")
        self.facts: dict[str, Any] = facts
        self.format = kind(facts)
        self.num_videos: int = facts["num_videos"]
        self.part_size: int = facts["part_size"]
        self.num_parts = -(-self.num_videos // self.part_size)

    def name_of(self, number: int) -> str:
        """Returns the name of a part's file."""
        return f"part-{number:05d}.{self.facts['format']}"

    def size_of(self, number: int) -> int:
        """Returns how many videos a part has: the last may have fewer."""
        return min(self.part_size, self.num_videos - number * self.part_size)

    def missing(self, rank: int = 0, of: int = 1) -> list[int]:
        """Returns the numbers of the parts of a share that are not there.

        One with too few rows, which only a disk could have made, is told and counts as missing.
        """
        names, missing = self.store.names(), []
        for number in range(rank, self.num_parts, of):
            name = self.name_of(number)
            if name not in names:
                missing.append(number)
            elif self.store.is_local and self._is_cut(number):
                logger.warning("%s/%s is cut off: it counts as missing", self.store, name)
                missing.append(number)
        return missing

    def _is_cut(self, number: int) -> bool:
        with self.store.open(self.name_of(number)) as file:
            return self.format.num_videos(file) != self.size_of(number)

    def parts(self, numbers: Sequence[int]) -> Iterator[Part]:
        """Yields parts in order, read from the list as they are asked for."""
        following = 0
        with self.store.open(LIST) as file:
            for number in numbers:
                for _ in islice(file, (number - following) * self.part_size):
                    pass
                lines = list(islice(file, self.part_size))
                following = number + 1
                if len(lines) != self.size_of(number):
                    raise UserError(f"{self.store}/{LIST} is not that of {FACTS}: it has changed")
                videos = [line.decode(*ENCODING).removesuffix("\n") for line in lines]
                yield Part(self.name_of(number), videos)

    def write(self, part: Part, rows: Sequence[Row]) -> None:
        """Writes the rows of a part, one for each video.

        Raises:
            UserError: no space, or an address that is out of reach; the parts before are there.
        """
        self.store.write(part.name, lambda path: self.format.write(path, rows))

    def read(self, part: Part) -> list[Row]:
        """Returns the rows of a part.

        Raises:
            UserError: they are not those of its videos, each once.
        """
        try:
            with self.store.open(part.name) as file:
                rows = self.format.read(file, part.videos)
            if [row["video"] for row in rows] == part.videos:
                return rows
            reason = "its rows are not those of its videos"
        except (ValueError, KeyError, TypeError) as error:
            reason = str(error)
        raise UserError(f"{self.store}/{part.name} is broken ({reason}): remove it, and run again")


def begin(
    folder: str | Path,
    sources: Sequence[str],
    identity: Mapping[str, Any],
    suffix: str = "jsonl",
    kind: type[Format] = Answers,
) -> Job:
    """Begins a job, or finds the one that has begun.

    Args:
        folder: A path or an address.
        sources: Videos, folders, lists (`.txt`, `.csv`), and addresses of these.
        identity: What its answers depend on, in plain values.
        suffix: Of the parts, as parquet.
        kind: Of the rows.

    Raises:
        UserError: another job is there, or files that are no job's; a source has no videos.
    """
    if suffix == "parquet":
        parquet.need()
    store = Store(folder)
    if store.is_local and Path(store.address).is_file():
        raise UserError(f"--out {folder} is a file; expected a folder, new or of this job")
    sources = [one if is_address(one) else os.path.abspath(one) for one in sources]  # noqa: PTH100
    identity = {**identity, "source": sources, "format": suffix}
    names = store.names()
    if FACTS not in names and (others := sorted(names - {LIST})):
        raise UserError(
            f"{store} has files, as {printable(others[0])}, but no {FACTS}: "
            "name an empty folder for the job"
        )
    with store.lock():
        if FACTS not in store.names():
            count = store.write(LIST, lambda path: _write_list(path, sources))
            facts = dict(num_videos=count, part_size=part_size(count))
            store.write_json(FACTS, {**identity, **facts})
    job = Job(store, kind)
    differences = [
        f"{key} {job.facts.get(key)!r} there, {value!r} now"
        for key, value in identity.items()
        if job.facts.get(key) != value
    ]
    if differences:
        raise UserError(
            f"{store} is another job's: {'; '.join(differences)}. Name another folder, or go on "
            "with what that one was begun with"
        )
    return job


def is_own(name: str) -> bool:
    """Returns whether a file of that name in a job's folder may be the job's."""
    return name in (LIST, FACTS) or name.startswith("part-")


def part_size(num_videos: int) -> int:
    """Returns how many videos a part has."""
    usual = min(max(-(-num_videos // FEW_PARTS), SMALLEST_PART), USUAL_PART)
    return max(usual, -(-num_videos // MOST_PARTS))


def write_lines(path: Path, rows: Iterable[Row]) -> None:
    """Writes rows as JSON Lines."""
    with open_atomically(path) as file:
        for row in rows:
            line = json.dumps(row, ensure_ascii=False) + "\n"
            file.write(line.encode(*ENCODING))


def _write_list(path: Path, sources: Sequence[str]) -> int:
    """Writes the videos of the sources, each once, a line each; returns how many."""
    seen: set[bytes] = set()  # 12 bytes of each name: a million take 100 MB
    with open_atomically(path) as file:
        for source in sources:
            has_any = False
            for video in _listed(source):
                has_any = True
                line = video.encode(*ENCODING)
                if b"\n" in line:
                    raise UserError(f"{printable(video)}: a name with a line break; rename it")
                digest = hashlib.blake2b(line, digest_size=12).digest()
                if digest not in seen:
                    seen.add(digest)
                    file.write(line + b"\n")
            if not has_any:
                raise UserError(f"no video in {source}")
    return len(seen)


def _listed(source: str) -> Iterator[str]:
    """Yields the videos of a source as they are found."""
    if is_address(source):
        fs, root = filesystem_of(source)
        if is_list(source):
            with persist(source, lambda: fs.open(root, "rb")) as file:
                yield from videos_in(io.TextIOWrapper(file, *LIST_ENCODING), source)
        elif is_video(source.partition("?")[0]):
            yield source
        else:
            found = persist(source, lambda: fs.find(root))
            say_stretches(source, found)
            yield from (fs.unstrip_protocol(path) for path in found if is_video(path))
    elif is_list(source):
        yield from videos_of(source)
    elif Path(source).is_dir():
        walk = Walk(Path(source))
        yield from map(str, walk.videos())
        walk.say()
    else:
        yield from map(str, find_videos([source]))
