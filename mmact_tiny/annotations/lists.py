"""Reads the lists of a dataset, and finds what is wrong with their lines.

A `.txt` has `path label` on each line, split by one space. A `.csv` has stretches of videos, with
the columns `path,start,end,label`; seconds count from the first frame. Several labels of a video
are numbers with spaces between, `path 0 3 7`, in a CSV with semicolons, `0;3;7`.
"""

import csv
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import NamedTuple

from ..errors import UserError
from ..files import read_lines
from ..video.files import is_video, split_name, stretch_name

TYPES = ("VideoDataset", "StretchDataset")  # the datasets that read them
GROUPS = "groups.csv"  # beside train.txt: `path,group`, a path as from the dataset's folder
COLUMNS = ["path", "start", "end", "label"]  # of a CSV
ENCODING = "utf-8-sig", "surrogateescape"  # of names: any bytes are kept
_SEVERAL = re.compile(r"(?P<path>.+?) (?P<labels>\d+(?: \d+)+)")
_LABELLED = re.compile(r"(?P<path>.+?) -?\d+(?: \d+)*")
LOOKED_AT = 50  # lines that tell from where paths count
MAX_SHOWN = 20  # problems printed before "and N more": one screen


@dataclass(frozen=True)
class Split:
    """One annotation file and the folder that its paths are relative to."""

    ann_file: Path
    video_dir: Path


class Annotation(NamedTuple):
    """One line of an annotation file; `line` counts from 1, all else is text until checked."""

    line: int
    path: str
    label: str
    start: str = ""  # of a stretch, as its end in seconds from the first frame
    end: str = ""

    @property
    def labels(self) -> list[str]:
        """The labels of a video that may have several, or none."""
        return re.findall(r"[^ ;]+", self.label)

    @property
    def name(self) -> str:
        """The path, or the name of the stretch."""
        if not self.start:
            return self.path
        return stretch_name(self.path, float(self.start), float(self.end))


class Problem(NamedTuple):
    """What is wrong with a line, 0 for the whole list, of a split by its number."""

    split: int
    line: int
    text: str


def read_annotations(ann_file: str | Path) -> list[Annotation]:
    """Returns what `iter_annotations` yields."""
    return list(iter_annotations(ann_file))


def count_annotations(ann_file: str | Path) -> int:
    """Returns how many videos or stretches an annotation file lists; raises as the others do."""
    if Path(ann_file).suffix == ".csv":
        return sum(1 for _ in iter_annotations(ann_file))
    return sum(1 for line in read_lines(ann_file, "annotation file") if line.strip())


def iter_annotations(ann_file: str | Path) -> Iterator[Annotation]:
    """Yields the lines of an annotation file, split as stock `VideoDataset` splits them.

    The label is what follows the last space, or all numbers at the end; a line without one has an
    empty label. Blank lines are kept out. A CSV has the stretches of videos.

    Raises:
        UserError: the file is missing or is not text, or a CSV of other columns.
    """
    lines = read_lines(ann_file, "annotation file")
    if Path(ann_file).suffix == ".csv":
        yield from list(_stretches(lines, ann_file))
        return
    for number, line in enumerate(lines, start=1):
        if text := line.strip():
            path, _, label = text.rpartition(" ")
            if " " in path and (several := _SEVERAL.fullmatch(text)):
                path, label = several["path"], several["labels"]
            yield Annotation(number, path or label, label if path else "")


def _stretches(lines: Iterable[str], ann_file: str | Path) -> Iterator[Annotation]:
    rows = csv.reader(lines)
    is_right = next(rows, None) == COLUMNS
    for number, row in enumerate(rows, start=2):
        is_right = is_right and len(row) in (0, 4)
        if row and is_right:
            yield Annotation(number, row[0], row[3], *row[1:3])
    if not is_right:
        raise UserError(f"{ann_file}: expected the columns {','.join(COLUMNS)} in each line")


def is_list(path: str | Path) -> bool:
    """Returns whether a name ends like that of a list, and is not a folder's."""
    return str(path).lower().endswith((".txt", ".csv")) and not Path(path).is_dir()


def expand_lists(paths: Iterable[str | Path]) -> list[str | Path]:
    """Returns paths with the videos and stretches of each list in its place; see `videos_of`."""
    return [each for path in paths for each in (videos_of(path) if is_list(path) else [path])]


def videos_of(path: str | Path) -> Iterator[str]:
    """Yields the videos, or stretches, that a list on this machine names; see `videos_in`."""
    if "://" in str(path):
        raise UserError(f"{path}: what has an address is read by a job: name a folder as --out")
    try:
        with Path(path).open("r", -1, *ENCODING) as lines:
            yield from videos_in(lines, str(path))
    except OSError as error:
        raise UserError(f"cannot read list {path}: {error.strerror or error}") from None


def videos_in(lines: Iterable[str], name: str) -> Iterator[str]:
    """Yields the videos, or stretches, that a list names, as they are asked for.

    A line is a path; what follows one that is named like a video is the label of a dataset's list.
    A CSV has stretches. Relative paths count from the list's folder, or as `video_dir` has it.

    Args:
        lines: Of the list.
        name: Its path or address.

    Raises:
        UserError: it names none; a CSV of other columns, or with what are no seconds.
    """
    names = _stretch_names(lines, name) if name.lower().endswith(".csv") else _paths(lines)
    first = list(islice(names, LOOKED_AT))
    if not first:
        raise UserError(f"{name}: lists no video")
    folder = video_dir(Path(name), [split_name(each)[0] for each in first])
    start = name.rpartition("/")[0] if "://" in name else str(folder)
    for each in chain(first, names):
        yield each if each.startswith("/") or "://" in each else f"{start}/{each}"


def _paths(lines: Iterable[str]) -> Iterator[str]:
    for line in lines:
        if (name := line.strip("\r\n")).strip():
            found = _LABELLED.fullmatch(name) if " " in name else None
            yield found["path"] if found and is_video(found["path"]) else name


def _stretch_names(lines: Iterable[str], name: str) -> Iterator[str]:
    for row in _stretches(lines, name):
        if problem := _problem_of_times(row):
            raise UserError(f"{name}:{row.line}: {problem}")
        yield row.name


def video_dir(ann_file: Path, listed: Iterable[str]) -> Path:
    """Returns from where the paths of a list count, some of which are `listed`.

    That is its folder, or `train` in there for `train.txt`, where none is in the folder itself.
    """
    split = next((name for name in ("train", "val", "test") if name in ann_file.stem), "")
    root, folder = ann_file.parent, ann_file.parent / split
    is_there = any((root / path).exists() for path in islice(listed, LOOKED_AT))
    return root if is_there or not folder.is_dir() else folder


def find_problems(
    splits: Sequence[Split],
    num_classes: int,
    *,
    multi_label: bool = False,
    trained: bool = True,
    share: tuple[int, int] = (0, 1),
) -> list[Problem]:
    """Returns every missing file, split path and wrong label of lists, before anything is built.

    Args:
        splits: The lists. One may have a million lines: none is kept.
        num_classes: Labels are below it.
        multi_label: Whether a video may have several.
        trained: Whether a model is: then some video has several, those of a test may have one each.
        share: `(i, n)`: every n-th line is looked at, of which there are n shares.

    Raises:
        UserError: a list that cannot be read, or of the other kind, of several labels a video or
            of one.
    """
    rank, num_shares = share
    problems: list[Problem] = []
    several = False
    count = 0
    for number, split in enumerate(splits):
        is_empty = True
        for row in iter_annotations(split.ann_file):
            is_empty = False
            count += 1
            several = several or len(row.labels) > 1
            where = f"{split.ann_file}:{row.line}"
            if several and not multi_label:
                raise UserError(f"{where}: labels {row.label}: train on several with --multi-label")
            if count % num_shares == rank:
                problem = _problem(row, split.video_dir, num_classes, multi_label)
                if problem:
                    problems.append(Problem(number, row.line, f"{where}: {problem}"))
        if is_empty and rank == 0:
            problems.append(Problem(number, 0, f"{split.ann_file}: lists no video"))
    if multi_label and trained and count and not several:
        files = ", ".join(str(split.ann_file) for split in splits)
        raise UserError(f"no video in {files} has several labels: train without --multi-label")
    return problems


def refuse(problems: Iterable[Problem]) -> None:
    """Raises a UserError that lists the problems in their order, if there are any."""
    listed = [problem.text for problem in sorted(problems)]
    if listed:
        shown = listed[:MAX_SHOWN]
        if len(listed) > MAX_SHOWN:
            shown.append(f"... and {len(listed) - MAX_SHOWN} more")
        listing = "\n  ".join(shown)
        raise UserError(
            f"{len(listed)} problem(s) in the annotations:\n  {listing}\n"
            "  put them right, or let `python tools/prepare_data.py` make a clean dataset"
        )


def _problem(
    annotation: Annotation, video_dir: Path, num_classes: int, multi_label: bool
) -> str | None:
    path = annotation.path
    if problem := _problem_of_times(annotation):
        return problem
    if " " in path and not annotation.start:
        return f"a space in {path!r}: MMAction2 splits lines on spaces"
    if not os.path.exists(os.path.join(video_dir, path)):  # noqa: PTH110, PTH118  a third of Path's time
        return f"no file {video_dir / path}"
    for label in annotation.labels if multi_label else [annotation.label]:
        if not label.removeprefix("-").isdigit():
            return f"label {label!r} of {path!r} is not a number"
        if not 0 <= int(label) < num_classes:
            return f"label {label} of {path!r} is not in 0 .. {num_classes - 1}"
    return None


def _problem_of_times(annotation: Annotation) -> str | None:
    path, times = annotation.path, (annotation.start, annotation.end)
    if any(times) and not all(re.fullmatch(r"\d+(\.\d+)?", time) for time in times):
        return f"{times[0]!r} to {times[1]!r} of {path!r} are not seconds, as 12 or 15.5"
    if any(times) and not float(times[0]) < float(times[1]):
        return f"the stretch of {path!r} ends before it begins: {times[0]} to {times[1]}"
    return None
