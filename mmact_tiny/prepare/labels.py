"""Turns labels as people write them, by name or by number, into classes counted from 0."""

import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from ..errors import UserError
from .types import Findings

LABEL_MAP_PATTERN = re.compile(r"(label_?map\w*|labels|classes|class_?ind|class_?names)\.txt", re.I)
_NUMBER = re.compile(r"-?\d+(\.0+)?")  # a table program may write 1.0 for 1
_NUMBERED = re.compile(r"(\d+)[\s,:]+(.*)")  # a line of UCF101's: 1 ApplyEyeMakeup


def find_label_map(findings: Findings) -> None:
    """Sets the label map from the source's `label_map.txt` or the like: line i names class i."""
    root = findings.root
    files = sorted(p for p in root.iterdir() if p.is_file() and LABEL_MAP_PATTERN.fullmatch(p.name))
    files = [p for p in files if p.name == "label_map.txt"] or files
    if not files:
        return
    if len(files) > 1:
        names = ", ".join(path.name for path in files)
        fix = "keep one, or name it label_map.txt"
        raise UserError(f"several label maps in {root}: {names}; {fix}")
    lines = [line.strip() for line in read_text(files[0]).rstrip().splitlines()]
    matches = [match for match in map(_NUMBERED.fullmatch, lines) if match]
    first = int(matches[0][1]) if matches else 0
    if [int(match[1]) for match in matches] == list(range(first, first + len(lines))):
        lines = [match[2] for match in matches]
    for number, name in enumerate(lines, 1):
        if not name or name in lines[: number - 1]:
            also = f"{name!r} is also on line {lines.index(name) + 1}"
            message = also if name else "no name on the line"
            findings.report("label map", f"{files[0].name}:{number}", message, fatal=True)
    findings.label_map = lines


def read_text(file: Path) -> str:
    """Returns a file's text, lines ended by \\n; names that are not UTF-8 survive."""
    text = file.read_bytes().decode("utf-8-sig", "surrogateescape")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def assign_labels(findings: Findings) -> None:
    """Sets the classes by name, and each listed video's `label` among them (-1: left out).

    With a label map, names are looked up in it and numbers count from 0; from 1 if the
    labels run from 1 to the number of its lines. Without one, the different labels, numbers in
    order of value, are the classes, so that `label_map.txt` keeps the numbers as names.
    What is wrong is reported.
    """
    written = {video.written for video in findings.listed}
    numbers = {label: int(float(label)) for label in written if _NUMBER.fullmatch(label)}
    names = findings.label_map
    among = "labels are 0 or more" if names is None else f"the label map has {len(names)} classes"
    if names is not None and (len(numbers) < len(written) or set(numbers) <= set(names)):
        indices = _look_up(written, names, numbers)
    elif numbers and len(numbers) < len(written):
        _report_mixture(findings, numbers)
        return
    elif names is not None:
        indices = _shift(findings, numbers, len(names))
    elif numbers:
        names, indices = _close_up(findings, numbers)
    else:
        names = sorted(written)
        indices = {name: index for index, name in enumerate(names)}
    findings.classes = names
    for video in findings.listed:
        video.label = indices.get(video.written, -1)
        if video.label < 0:
            kind = "label out of range" if video.written in numbers else "unknown label"
            message = f"label {video.written!r} of {video.path!r}: {among}: left out"
            findings.report(kind, video.where, message)


def _look_up(written: Iterable[str], names: list[str], numbers: dict[str, int]) -> dict[str, int]:
    """Finds names in a label map, also where case, spaces and underscores differ; or numbers."""
    exact = {name: index for index, name in enumerate(names)}
    times = Counter(map(_plain, exact))
    loose = {_plain(name): index for name, index in exact.items() if times[_plain(name)] == 1}
    indices = {number: value for number, value in numbers.items() if 0 <= value < len(names)}
    return indices | {w: loose[_plain(w)] for w in written if _plain(w) in loose} | exact


def _plain(name: str) -> str:
    return re.sub(r"[\s_-]+", " ", name).strip().casefold()


def _shift(findings: Findings, numbers: dict[str, int], num_classes: int) -> dict[str, int]:
    present = set(numbers.values())
    first = 1 if 0 not in present and num_classes in present else 0
    if first:
        message = f"labels count from 1 to {num_classes}: written from 0"
        findings.report("labels from 1", findings.listed[0].where, message)
    return {label: n - first for label, n in numbers.items() if 0 <= n - first < num_classes}


def _close_up(findings: Findings, numbers: dict[str, int]) -> tuple[list[str], dict[str, int]]:
    """Numbers the classes without a gap, and says so where that changes what was written."""
    values = sorted({value for value in numbers.values() if value >= 0})
    if findings.layout in ("lists", "table") and values:
        kept = "label_map.txt keeps the numbers as names"
        if values[0] == 1:
            message = f"labels count from 1: written from 0, {kept}"
            findings.report("labels from 1", findings.listed[0].where, message)
        gaps = sorted(set(range(min(values[0], 1), values[-1])) - set(values))
        if gaps:
            shown = ", ".join(map(str, gaps[:10])) + (", ..." if len(gaps) > 10 else "")
            findings.report("gap in labels", "", f"no video has label {shown}: closed up, {kept}")
    indices = {label: values.index(value) for label, value in numbers.items() if value >= 0}
    return [str(value) for value in values], indices


def _report_mixture(findings: Findings, numbers: dict[str, int]) -> None:
    """Numbers among names, without a label map, may be classes or slips: only the user knows."""
    by_name = [video for video in findings.listed if video.written not in numbers]
    by_number = [video for video in findings.listed if video.written in numbers]
    for video in min(by_name, by_number, key=len):
        other = "names" if video.written in numbers else "numbers"
        fix = "put a label_map.txt beside, or correct it"
        message = f"label {video.written!r} among {other}: {fix}"
        findings.report("mixed labels", video.where, message, fatal=True)
