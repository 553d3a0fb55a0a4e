"""Turns labels as people write them, by name or by number, into classes counted from 0."""

import re
from collections import Counter
from pathlib import Path

from ..errors import UserError
from .types import Listed, Problem, Source

LABEL_MAP_PATTERN = re.compile(r"(label_?map\w*|labels|classes|class_?ind|class_?names)\.txt", re.I)
_NUMBER = re.compile(r"-?\d+(\.0+)?")  # a table program may write 1.0 for 1


def find_label_map(source: Source, root: Path) -> None:
    """Sets the source's label map from `label_map.txt` or the like: line i names class i."""
    files = sorted(p for p in root.iterdir() if p.is_file() and LABEL_MAP_PATTERN.fullmatch(p.name))
    files = [p for p in files if p.name == "label_map.txt"] or files
    if not files:
        return
    if len(files) > 1:
        names = ", ".join(path.name for path in files)
        raise UserError(
            f"several label maps in {root}: {names}; keep one, or name it label_map.txt"
        )
    lines = [line.strip() for line in read_text(files[0]).splitlines()]
    while lines and not lines[-1]:
        lines.pop()
    numbered = [re.match(r"(\d+)[\s,:]+(.*)", line) for line in lines]  # UCF101: 1 ApplyEyeMakeup
    matches = [match for match in numbered if match]
    if lines and len(matches) == len(lines):
        numbers = [int(match[1]) for match in matches]
        if numbers == list(range(numbers[0], numbers[0] + len(lines))):
            lines = [match[2] for match in matches]
    for number, name in enumerate(lines, 1):
        where = f"{files[0].name}:{number}"
        if not name:
            source.problems.append(Problem("label map", where, "no name on the line", True))
        elif name in lines[: number - 1]:
            message = f"{name!r} is also on line {lines.index(name) + 1}"
            source.problems.append(Problem("label map", where, message, True))
    source.label_map, source.label_map_path = lines, files[0]


def read_text(file: Path) -> str:
    """Returns a file's text, lines ended by \\n; names that are not UTF-8 survive."""
    text = file.read_bytes().decode("utf-8-sig", "surrogateescape")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def assign_labels(source: Source) -> tuple[list[str], list[int | None]]:
    """Returns the classes by name, and each video's index among them (None: left out).

    With a label map, names are looked up in it and numbers count from 0; from 1 if the
    labels run from 1 to the number of its lines. Without one, the different labels, numbers in
    order of value, are the classes, so that `label_map.txt` keeps the numbers as names.
    What is wrong goes to `source.problems`.
    """
    written = Counter(video.label for video in source.videos)
    numbers = {label: int(float(label)) for label in written if _NUMBER.fullmatch(label)}
    names = source.label_map
    if names is not None and not (len(numbers) == len(written) and not set(numbers) <= set(names)):
        indices = _look_up(written, names, numbers)
    elif numbers and len(numbers) < len(written):
        _report_mixture(source, numbers)
        return [], [None] * len(source.videos)
    elif names is not None:
        indices = _shift(source, numbers, len(names))
    elif numbers:
        names, indices = _close_up(source, numbers)
    else:
        names = sorted(written)
        indices = {name: index for index, name in enumerate(names)}
    labels = [indices.get(video.label) for video in source.videos]
    _report_bad_labels(source, labels, len(names), label_map=source.label_map_path)
    return names, labels


def _look_up(written: Counter[str], names: list[str], numbers: dict[str, int]) -> dict[str, int]:
    """Finds names in a label map, also where case, spaces and underscores differ; or numbers."""
    exact = {name: index for index, name in enumerate(names)}
    loose: dict[str, int | None] = {}
    for name, position in exact.items():
        loose[_plain(name)] = None if _plain(name) in loose else position  # None: two of them
    indices = {}
    for label in written:
        index = exact[label] if label in exact else loose.get(_plain(label))
        if index is None and label in numbers and 0 <= numbers[label] < len(names):
            index = numbers[label]
        if index is not None:
            indices[label] = index
    return indices


def _plain(name: str) -> str:
    return re.sub(r"[\s_-]+", " ", name).strip().casefold()


def _shift(source: Source, numbers: dict[str, int], num_classes: int) -> dict[str, int]:
    present = set(numbers.values())
    first = 1 if 0 not in present and num_classes in present else 0
    if first:
        message = f"labels count from 1 to {num_classes}: written from 0"
        source.problems.append(Problem("labels from 1", _first_line(source), message))
    inside = {label: n - first for label, n in numbers.items() if 0 <= n - first < num_classes}
    return inside


def _close_up(source: Source, numbers: dict[str, int]) -> tuple[list[str], dict[str, int]]:
    """Numbers the classes without a gap, and says so where that changes what was written."""
    values = sorted({value for value in numbers.values() if value >= 0})
    position = {value: index for index, value in enumerate(values)}
    if source.layout in ("lists", "table") and values:
        if values[0] == 1:
            message = (
                "labels count from 1: written from 0, label_map.txt keeps the numbers as names"
            )
            source.problems.append(Problem("labels from 1", _first_line(source), message))
        gaps = sorted(set(range(min(values[0], 1), values[-1])) - set(values))
        gaps = [gap for gap in gaps if gap > 0 or values[0] == 0]
        if gaps:
            shown = ", ".join(map(str, gaps[:10])) + (", ..." if len(gaps) > 10 else "")
            message = (
                f"no video has label {shown}: closed up, label_map.txt keeps the numbers as names"
            )
            source.problems.append(Problem("gap in labels", "", message))
    indices = {label: position[value] for label, value in numbers.items() if value >= 0}
    return [str(value) for value in values], indices


def _first_line(source: Source) -> str:
    return source.videos[0].where


def _report_mixture(source: Source, numbers: dict[str, int]) -> None:
    """Numbers among names, without a label map, may be classes or slips: only the user knows."""
    by_name = [video for video in source.videos if video.label not in numbers]
    by_number = [video for video in source.videos if video.label in numbers]
    fewer: list[Listed] = min(by_name, by_number, key=len)
    for video in fewer:
        other = "names" if video.label in numbers else "numbers"
        message = f"label {video.label!r} among {other}: put a label_map.txt beside, or correct it"
        source.problems.append(Problem("mixed labels", video.where, message, True))


def _report_bad_labels(
    source: Source, labels: list[int | None], num_classes: int, *, label_map: Path | None
) -> None:
    for video, label in zip(source.videos, labels, strict=True):
        if label is None:
            among = (
                f"{label_map.name} has {num_classes} classes"
                if label_map
                else "labels are 0 or more"
            )
            kind = "label out of range" if _NUMBER.fullmatch(video.label) else "unknown label"
            message = f"label {video.label!r} of {video.path!r}: {among}: left out"
            source.problems.append(Problem(kind, video.where, message))
