"""Reads the lists of a dataset, and finds what is wrong with their lines.

A `.txt` has `path label` on each line, split by one space. A `.csv` has stretches of videos, with
the columns `path,start,end,label`; seconds count from the first frame. Several labels of a video
are numbers with spaces between, `path 0 3 7`, in a CSV with semicolons, `0;3;7`.
"""

import csv
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ..errors import UserError
from ..files import read_lines
from ..video.files import stretch_name

TYPES = ("VideoDataset", "StretchDataset")  # the datasets that read them
GROUPS = "groups.csv"  # beside train.txt: `path,group`, a path as from the dataset's folder
COLUMNS = ["path", "start", "end", "label"]  # of a CSV
_SEVERAL = re.compile(r"(?P<path>.+?) (?P<labels>\d+(?: \d+)+)")
MAX_SHOWN = 20  # problems printed before "and N more": one screen


@dataclass(frozen=True)
class Split:
    """One annotation file and the folder that its paths are relative to."""

    ann_file: Path
    video_dir: Path


@dataclass(frozen=True)
class Annotation:
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


def read_annotations(ann_file: str | Path) -> list[Annotation]:
    """Returns the lines of an annotation file, split as stock `VideoDataset` splits them.

    The label is what follows the last space, or all numbers at the end; a line without one has an
    empty label. Blank lines are kept out. A CSV has the stretches of videos.

    Raises:
        UserError: the file is missing or is not text, or a CSV of other columns.
    """
    lines = read_lines(ann_file, "annotation file")
    annotations = []
    if Path(ann_file).suffix == ".csv":
        rows = list(csv.reader(lines))
        if rows[:1] != [COLUMNS] or any(len(row) not in (0, 4) for row in rows):
            raise UserError(f"{ann_file}: expected the columns {','.join(COLUMNS)} in each line")
        found = (Annotation(n, row[0], row[3], *row[1:3]) for n, row in enumerate(rows, 1) if row)
        return list(found)[1:]
    for number, line in enumerate(lines, start=1):
        if line.strip():
            several = _SEVERAL.fullmatch(line.strip())
            path, _, label = line.strip().rpartition(" ")
            path, label = (several["path"], several["labels"]) if several else (path, label)
            annotations.append(Annotation(number, path or label, label if path else ""))
    return annotations


def check_annotations(
    splits: Iterable[Split], num_classes: int, *, multi_label: bool = False, trained: bool = True
) -> None:
    """Checks every line of every split before anything is built.

    Where a model is `trained` for several labels a video, some video has several; those of a test
    may have one each.

    Raises:
        UserError: lists every missing file, split path and wrong label, with its line; or says
            that it is the other kind of list, of several labels a video or of one.
    """
    problems = []
    lists = {split: read_annotations(split.ann_file) for split in splits}
    rows = [(split, row) for split, of_split in lists.items() for row in of_split]
    several = next((one for one in rows if len(one[1].labels) > 1), None)
    if several is not None and not multi_label:
        where = f"{several[0].ann_file}:{several[1].line}"
        raise UserError(f"{where}: labels {several[1].label}: train on several with --multi-label")
    if several is None and multi_label and trained and rows:
        files = ", ".join(str(split.ann_file) for split in lists)
        raise UserError(f"no video in {files} has several labels: train without --multi-label")
    for split, annotations in lists.items():
        if not annotations:
            problems.append(f"{split.ann_file}: lists no video")
        for annotation in annotations:
            problem = _problem(annotation, split.video_dir, num_classes, multi_label)
            if problem:
                problems.append(f"{split.ann_file}:{annotation.line}: {problem}")
    if problems:
        shown = problems[:MAX_SHOWN]
        if len(problems) > MAX_SHOWN:
            shown.append(f"... and {len(problems) - MAX_SHOWN} more")
        listing = "\n  ".join(shown)
        raise UserError(
            f"{len(problems)} problem(s) in the annotations:\n  {listing}\n"
            "  put them right, or let `python tools/prepare_data.py` make a clean dataset"
        )


def _problem(
    annotation: Annotation, video_dir: Path, num_classes: int, multi_label: bool
) -> str | None:
    path, times = annotation.path, (annotation.start, annotation.end)
    if any(times) and not all(re.fullmatch(r"\d+(\.\d+)?", time) for time in times):
        return f"{times[0]!r} to {times[1]!r} of {path!r} are not seconds, as 12 or 15.5"
    if any(times) and not float(times[0]) < float(times[1]):
        return f"the stretch of {path!r} ends before it begins: {times[0]} to {times[1]}"
    if " " in path and not any(times):
        return f"a space in {path!r}: MMAction2 splits lines on spaces"
    if not (video_dir / path).exists():
        return f"no file {video_dir / path}"
    for label in annotation.labels if multi_label else [annotation.label]:
        if not label.removeprefix("-").isdigit():
            return f"label {label!r} of {path!r} is not a number"
        if not 0 <= int(label) < num_classes:
            return f"label {label} of {path!r} is not in 0 .. {num_classes - 1}"
    return None
