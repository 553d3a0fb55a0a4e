"""Turns labels as people write them, by name or by number, into classes counted from 0."""

import codecs
import json
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import suppress
from pathlib import Path

from ..errors import UserError
from .types import Findings

LABEL_MAP_PATTERN = re.compile(
    r"(.*[_-])?(label_?map\w*|labels?|classes|class_?ind|class_?names|class_?list|categories|vocab)"
    r"\.(txt|csv|json)",
    re.I,
)
_NUMBER = re.compile(r"-?\d+(\.0+)?")  # a table program may write 1.0 for 1
_NUMBERED = re.compile(r"(\d+)[\s,:;]+(.*)")  # a line of UCF101's: 1 ApplyEyeMakeup
_NUMBER_LAST = re.compile(r"(.*?)\s*[,;\t]\s*(\d+)")  # of Moments in Time: clapping,0
_BOMS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
_OTHER_ENCODINGS = ("gb18030", "big5", "shift_jis", "euc_kr", "cp1252", "latin-1", "cp1251")
NONE_HAS_SEVERAL = "--multi-label: no video or stretch has several labels: leave it out"
_NO_TEXT = re.compile(r"[\x00-\x08\x0e-\x1a\x1c-\x1f]")


def find_label_map(
    findings: Findings, folders: Sequence[Path], passed: Collection[Path]
) -> list[Path]:
    """Sets the label map from a `label_map.txt` or the like: line i names class i; returns it.

    Args:
        findings: What gets it.
        folders: Where to look; the first that has one.
        passed: Files that are lists in spite of their names.
    """
    for root in folders:
        found = [p for p in sorted(root.iterdir()) if LABEL_MAP_PATTERN.fullmatch(p.name)]
        files = [p for p in found if p.is_file() and p not in passed]
        files = [p for p in files if p.name == "label_map.txt"] or files
        if len(files) > 1:
            names = ", ".join(path.name for path in files)
            fix = "keep one, or name it label_map.txt"
            raise UserError(f"several label maps in {root}: {names}; {fix}")
        if files:
            _take_label_map(findings, files[0])
            return files
    return []


def _take_label_map(findings: Findings, file: Path) -> None:
    folders = {p.name for p in findings.root.iterdir()}
    text = read_text(file, lambda line: line.strip() in folders)
    lines = [line.strip() for line in text.rstrip().splitlines()]
    if file.suffix.lower() == ".json":
        lines = _names_in_json(file, text)
    pairs = [(int(m[1]), m[2]) for m in map(_NUMBERED.fullmatch, lines) if m]
    pairs = pairs or [(int(m[2]), m[1]) for m in map(_NUMBER_LAST.fullmatch, lines) if m]
    numbers = [number for number, _ in sorted(pairs)]
    num_headers = len(lines) - len(pairs)
    is_whole = num_headers == 0 or (
        num_headers == 1 and file.suffix == ".csv" and not any(map(str.isdigit, lines[0]))
    )
    if is_whole and numbers in (list(range(len(pairs))), list(range(1, len(pairs) + 1))):
        lines = [name.strip("\"'") for _, name in sorted(pairs)]
        findings.first_label = numbers[0] if numbers else None
    elif file.suffix.lower() == ".csv" and all(re.search("[,;\t]", line) for line in lines):
        what = "neither a list of videos nor one of class names: passed over"
        findings.report("list not read", f"{file.name}:1", what)
        return
    for number, name in enumerate(lines, 1):
        if not name or name in lines[: number - 1]:
            also = f"{name!r} is also on line {lines.index(name) + 1}"
            message = also if name else "no name on the line"
            findings.report("label map", f"{file.name}:{number}", message, fatal=True)
    findings.label_map = lines


def _names_in_json(file: Path, text: str) -> list[str]:
    """Returns the lines of a list of names, or of names and numbers by one another.

    Diving48's vocabulary has lists of words in the place of names.
    """
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{file}:{getattr(error, 'lineno', 1)}: no JSON: {error}") from None
    if isinstance(data, list):
        return [" ".join(map(str, x)) if isinstance(x, list) else str(x) for x in data]
    if isinstance(data, dict) and all(str(x).isdigit() for x in data.values()):
        return [f"{number} {name}" for name, number in data.items()]
    if isinstance(data, dict) and all(x.isdigit() for x in data):
        return [f"{number} {name}" for number, name in data.items()]
    raise UserError(f"{file}:1: expected a list of class names, or names and numbers")


def read_text(file: Path, is_known: Callable[[str], bool] = lambda line: False) -> str:
    """Returns a file's text, lines ended by \\n.

    UTF-8, UTF-16 and UTF-32 are known by their bytes. Another encoding is taken where a line
    that is not ASCII `is_known` in it, as the name of a file that is there.

    Raises:
        UserError: no text, or of an encoding that cannot be known; with the line.
    """
    try:
        data = file.read_bytes()
    except OSError as error:
        raise UserError(f"{file}:1: cannot be read: {error.strerror}") from None
    encoding = next((name for bom, name in _BOMS.items() if data.startswith(bom)), "utf-8")
    if encoding == "utf-16" and data.startswith(codecs.BOM_UTF32_LE):
        encoding = "utf-32"
    if encoding == "utf-8" and b"\0" in data[:4000]:
        odd, even = data[1:4000:2].count(0), data[:4000:2].count(0)
        encoding = "utf-16-le" if odd > even else "utf-16-be"
    try:
        text = data.decode(encoding)
        if bad := _NO_TEXT.search(text):
            line = text.count("\n", 0, bad.start()) + 1
            raise UserError(f"{file}:{line}: no text: a character {bad[0]!r}; give a list in UTF-8")
    except UnicodeDecodeError as error:
        text = _decode_otherwise(data, is_known) if encoding == "utf-8" else ""
        if not text:
            line = data[: error.start].decode(encoding, "ignore").count("\n") + 1
            raise UserError(
                f"{file}:{line}: not {encoding.upper()}, and its encoding cannot be told: no file "
                "or folder has such a name in any that was tried; save it as UTF-8"
            ) from None
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _decode_otherwise(data: bytes, is_known: Callable[[str], bool]) -> str:
    """Returns the text in the encoding in which most lines are known, or nothing."""
    texts = [data.decode("utf-8", "surrogateescape")]  # as the names on disk are
    for encoding in _OTHER_ENCODINGS:
        with suppress(UnicodeDecodeError):
            texts.append(data.decode(encoding))

    def count(text: str) -> int:
        return sum(not line.isascii() and is_known(line) for line in text.splitlines())

    counts = list(map(count, texts))
    return texts[counts.index(max(counts))] if max(counts) else ""


def assign_labels(findings: Findings, background: str | None = None) -> None:
    """Sets the classes by name, and each listed video's `label` among them (-1: left out).

    With a label map, names are looked up in it and numbers count from 0; from 1 if the
    labels run from 1 to the number of its lines. Without one, the different labels, numbers in
    order of value, are the classes, so that `label_map.txt` keeps the numbers as names.
    What is wrong is reported.

    Args:
        findings: What gets them.
        background: One more class, of what no stretch of a video has.

    Raises:
        UserError: a background among numbers, or one that the label map lacks.
    """
    parts = {video.written: _parts(findings, video.written) for video in findings.listed}
    written = {part for of_video in parts.values() for part in of_video}
    listed = findings.listed
    may_have = any(video.times for video in listed) or len({v.path for v in listed}) < len(listed)
    if findings.multi_label and not may_have and max(map(len, parts.values()), default=2) < 2:
        raise UserError(NONE_HAS_SEVERAL)
    _refuse_several(findings)
    numbers = {label: int(float(label)) for label in written if _NUMBER.fullmatch(label)}
    names = findings.label_map
    if background is not None:
        _check_background(findings, background)
        if background not in (names or [background]) or (names is None and set(numbers) == written):
            among = f"the classes are {', '.join(names)[:200]}" if names else "labels are numbers"
            raise UserError(f"--background {background}: {among}: add it to a label_map.txt")
        written.add(background)
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
    _report_alike(findings)
    for video in findings.listed:
        unknown = [part for part in parts[video.written] if part not in indices]
        if not unknown:
            video.labels = tuple(sorted({indices[part] for part in parts[video.written]}))
        else:
            kind = "label out of range" if unknown[0] in numbers else "unknown label"
            fix = "" if names is None else ", correct it or add it there"
            message = f"label {unknown[0]!r} of {video.path!r}: {among}{fix}: left out"
            findings.report(kind, video.where, message)


def _refuse_several(findings: Findings) -> None:
    """Raises a UserError for a list's `a;b` where a video has one label, and it names no class."""
    known = findings.label_map or ()
    for video in [] if findings.multi_label or "folders" in findings.layout else findings.listed:
        if ";" in video.written and video.written not in known:
            fix = "--multi-label takes several; one class of that name has to be in a label_map.txt"
            raise UserError(f"{video.where}: labels {video.written!r}: {fix}")


def check_several(findings: Findings) -> None:
    """Raises a UserError where videos may have several labels, and none of those left has."""
    if findings.multi_label and all(len(video.labels) < 2 for video in findings.videos):
        raise UserError(NONE_HAS_SEVERAL)


def _check_background(findings: Findings, background: str) -> None:
    """Raises a UserError for a background that is no name, or that videos have as their label."""
    if one_line(background) != background or not background:
        raise UserError(f"--background {background!r}: expected the name of a class, in one line")
    listed = [video for video in findings.listed if background in _parts(findings, video.written)]
    if listed:
        where = f"{len(listed)} samples, as {listed[0].where}, have that label: choose another"
        raise UserError(f"--background {background}: {where}")


def one_line(label: str) -> str:
    """Returns a label without control characters, and with single spaces."""
    return " ".join("".join(c if c.isprintable() else " " for c in label).split())


def _parts(findings: Findings, written: str) -> list[str]:
    """Returns the labels of a video: what is written, or what is between its semicolons."""
    if not findings.multi_label:
        return [written]
    return [part.strip() for part in written.split(";") if part.strip()]


def _look_up(written: Iterable[str], names: list[str], numbers: dict[str, int]) -> dict[str, int]:
    """Finds names in a label map, also where case, spaces and underscores differ; or numbers."""
    exact = {name: index for index, name in enumerate(names)}
    times = Counter(map(_plain, exact))
    loose = {_plain(name): index for name, index in exact.items() if times[_plain(name)] == 1}
    indices = {number: value for number, value in numbers.items() if 0 <= value < len(names)}
    return indices | {w: loose[_plain(w)] for w in written if _plain(w) in loose} | exact


def _plain(name: str) -> str:
    return re.sub(r"[\s_-]+", " ", unicodedata.normalize("NFKC", name)).strip().casefold()


def _report_alike(findings: Findings) -> None:
    """Names the classes that may be meant as one, or as several."""
    names: dict[str, str] = {}
    for name in findings.classes:
        if (first := names.setdefault(_plain(name), name)) != name:
            message = f"{first!r} and {name!r} differ in case or spelling alone: two classes"
            findings.report("classes alike", "", message)
    for name in findings.classes:
        parts = [part.strip() for part in re.split(r"[|;,+&/]", name)]
        if len(parts) > 1 and {*parts} <= {*findings.classes}:
            message = f"{name!r} is a class of its own, beside those that it names"
            findings.report("several labels in one", "", message)


def _shift(findings: Findings, numbers: dict[str, int], num_classes: int) -> dict[str, int]:
    present = set(numbers.values())
    first = findings.first_label
    if first is None:
        first = 1 if 0 not in present and num_classes in present else 0
    elif first and 0 in present:
        message = f"labels count from 0, the label map from {first}: the labels are followed"
        findings.report("labels against label map", findings.listed[0].where, message)
        first = 0
    if first:
        message = f"labels count from 1 to {num_classes}: written from 0"
        findings.report("labels from 1", findings.listed[0].where, message)
    return {label: n - first for label, n in numbers.items() if 0 <= n - first < num_classes}


def _close_up(findings: Findings, numbers: dict[str, int]) -> tuple[list[str], dict[str, int]]:
    """Numbers the classes without a gap, and says so where that changes what was written."""
    values = sorted({value for value in numbers.values() if value >= 0})
    if "folders" not in findings.layout and values:
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
    listed = [(video, _parts(findings, video.written)) for video in findings.listed]
    by_number = [video for video, parts in listed if all(part in numbers for part in parts)]
    by_name = [video for video, parts in listed if not all(part in numbers for part in parts)]
    for video in min(by_name, by_number, key=len):
        other = "names" if video.written in numbers else "numbers"
        fix = "put a label_map.txt beside, or correct it"
        message = f"label {video.written!r} among {other}: {fix}"
        findings.report("mixed labels", video.where, message, fatal=True)
