"""Knows the files that list videos: a table of formats, each recognized and read into entries."""

import json
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Any

from ..errors import UserError
from ..video.files import VIDEO_SUFFIXES, is_video
from . import exports
from .labels import LABEL_MAP_PATTERN, read_text
from .types import (
    Entry,
    NotUnderstood,
    Page,
    Row,
    Settings,
    Times,
    bare,
    parse_json,
    split_of,
    split_word,
    splits_of_folder,
)

LIST_SUFFIXES = (".txt", ".csv", ".tsv", ".json", ".lst", ".list", ".xml", ".eaf")
EXPORT_SUFFIXES = (".json", ".xml", ".eaf")
TO_CONVERT = (".xlsx", ".xls", ".ods", ".jsonl", ".parquet")  # may list videos, are not read
OTHERS = (".pkl", ".pickle", ".yaml", ".yml", ".mat")  # the same, or may be anything
UNUSED = "unused"  # a split of official lists: neither trained nor tested on
WRAPPERS = {"videos", "video", "clips", "data", "dataset", "ucf-101", "hmdb51"}  # around classes
COLUMNS = {
    "path": "path video filename file video_path filepath file_path file_name clip video_name "
    "clip_path clip_name video_id youtube_id vid_name vid clip_id id name",
    "label": "label class category action label_name class_name classname target labels label_id "
    "class_id activity activity_name action_name category_name",
    "split": "split subset set partition fold mode phase usage",
    "start": "start start_time start_s start_sec start_seconds begin onset time_start",
    "end": "end end_time end_s end_sec end_seconds stop offset time_end",
}
# Of parts of a video, and of a split in another way: to pass over them would be to guess.
_PARTS = re.compile(r"(start|end|begin|stop)(_?(time|sec|second|frame)s?)?|t_?(start|end)|segment")
_IS_SPLIT = re.compile(r"(is_?)?(train|val|valid|validation|test)")
_HEADER_WORDS = {name for names in COLUMNS.values() for name in names.split()}
_LIST_WORDS = re.compile(r"list|annot|label|split|video|clip|class", re.I)
_NO_LIST = re.compile(r"log|loss|acc|result|note|metric|pred|score|history|config|report", re.I)
_SUFFIXES = "|".join(re.escape(suffix) for suffix in sorted(VIDEO_SUFFIXES))
_LIST_LINE = re.compile(rf"""(["']?)(?P<path>.+?(?:{_SUFFIXES}))\1[\s,;]+(?P<label>.+)""", re.I)
_NUMBER = re.compile(r"-?\d+(\.\d*)?")
_NUMBERS = re.compile(r"-?\d+(\s+-?\d+)+")
_SPLIT_NUMBER = re.compile(r"(?:split|list)[ _-]?0*(\d)(?!\d)", re.I)


@dataclass(frozen=True, slots=True)
class Format:
    """A format: the names of its files, what their beginning has, and what reads the entries."""

    name: str
    files: str  # pattern of the whole name
    content: str  # pattern somewhere in the text
    read: Callable[[Page, re.Match[str]], list[Entry] | None]


@dataclass(frozen=True, slots=True)
class Listing:
    """A file that is understood."""

    file: Path
    format: str
    is_official: bool
    split: str | None  # that the name of the file says, for entries that say none
    number: int | None  # of the official split, where there are several
    entries: list[Entry]


def read_listing(
    file: Path,
    find: Callable[[str], bool],
    settings: Settings,
    *,
    given: bool = False,
) -> Listing | None:
    """Returns what a file lists, or None where it is no list.

    Args:
        file: Any file.
        find: Tells whether there is a video of a path or id.
        settings: Its `tier`, `group` and `multi_label` count, and whether it names `videos`.
        given: The user says that it is a list.

    Raises:
        NotUnderstood: it should be a list and is of no known format.
    """
    should = given or speaks_of_list(file.name)
    try:
        text = read_text(file, lambda line: any(map(find, _pieces(line))))
    except UserError as error:
        cells = re.split(r"[\t\n,;| ]+", file.read_bytes().decode("latin-1"))
        names_videos = any(is_video(cell) and find(cell) for cell in map(bare, cells))
        if not should and not names_videos:
            return None
        line, _, why = str(error).removeprefix(f"{file}:").partition(": ")
        raise NotUnderstood(int(line), why, names_videos=names_videos) from None
    text = re.sub(r"\Asep=.\n", "#\\g<0>", text)  # of Excel
    page = Page(file, text, find, settings.tier, settings.group, settings.multi_label)
    for one in FORMATS if re.search(r"\w", text) else ():  # `[]` and `{}` are empty, too
        match = re.fullmatch(one.files, file.name, re.I)
        try:
            entries = one.read(page, match) if match and re.search(one.content, text) else None
        except NotUnderstood:
            if one in EXPORTS or not (known := exports.name_foreign(text)):
                raise
            raise NotUnderstood(1, known) from None
        if entries and (should or not _is_label_map(file, entries, find)):
            number = _SPLIT_NUMBER.search(file.stem)
            is_official = one not in FORMATS[-2:] and one not in EXPORTS
            of_several = int(number[1]) if number else None
            return Listing(file, one.name, is_official, split_of(file.stem), of_several, entries)
    words = islice(re.finditer(r"[^\s,;|\"']+", text), 1000)
    names_videos = any(is_video(word[0]) and find(word[0]) for word in words)
    suffix = file.suffix.lower()
    is_export = settings.videos and suffix in (*EXPORT_SUFFIXES, ".csv", ".tsv")
    if should or names_videos or is_list_like(file.name) or is_export:
        number_of_line, first = next(page.lines(), (1, ""))
        lines = (set(re.findall(r"\w+", line.lower())) for _, line in page.lines())
        is_empty = all(line <= _HEADER_WORDS for line in lines)  # or a heading alone
        why = "empty" if is_empty else repr(first[:80])
        why += ": expected a path and a label, of a known format"
        if not is_empty and suffix in EXPORT_SUFFIXES:
            why = exports.name_foreign(text) or f"{why}; or {exports.READ}"
        raise NotUnderstood(number_of_line, why, names_videos=names_videos)
    return None


def speaks_of_list(name: str) -> bool:
    """Returns whether a file's name says that it lists the videos of a split."""
    return split_of(name.split(".")[0]) is not None and not _NO_LIST.search(name)


def is_list_like(name: str) -> bool:
    """Returns whether a name of any suffix speaks of a list, of labels or of a split."""
    return speaks_of_list(name) or bool(_LIST_WORDS.search(name.split(".")[0]))


def _is_label_map(file: Path, entries: list[Entry], find: Callable[[str], bool]) -> bool:
    """Returns whether a file named like a label map is one: its numbers may be videos' names."""
    refs = [entry.refs[0] for entry in entries]
    known = [ref for ref in refs if is_video(ref) or (not _NUMBER.fullmatch(ref) and find(ref))]
    return bool(LABEL_MAP_PATTERN.fullmatch(file.name)) and 2 * len(known) <= len(refs)


def _pieces(line: str) -> list[str]:
    """Returns what may be a path in a line, where that is not ASCII."""
    match = _LIST_LINE.fullmatch(line.strip())
    parts = [*re.split(r"[\t,;|]", line), *line.split(), match["path"] if match else ""]
    return [bare(part) for part in parts if not part.isascii()]


def _ucf101(page: Page, match: re.Match[str]) -> list[Entry] | None:
    """Reads `Class/video.avi 1` or `Class/video.avi`; numbers are those of classInd.txt."""
    index = next((p for p in page.file.parent.iterdir() if p.name.lower() == "classind.txt"), None)
    lines = map(str.split, read_text(index).split("\n") if index else [])
    names = {line[0]: line[1] for line in lines if len(line) == 2}
    entries = []
    for number, line in page.lines():
        found = re.fullmatch(r"(?P<path>.+?)(\s+(?P<label>\d+))?", line)
        if found is None or not is_video(found["path"]):
            return None
        folder = PurePosixPath(found["path"]).parent.name
        label = names.get(found["label"], folder or found["label"] or "")
        entries.append(Entry(number, (found["path"],), label, "", repr(line)))
    return entries


def _hmdb51(page: Page, match: re.Match[str]) -> list[Entry] | None:
    """Reads `video.avi 1`: 1 for training, 2 for test, 0 for neither."""
    splits, entries = {"1": "train", "2": "test", "0": UNUSED}, []
    for number, line in page.lines():
        path, code = [*line.rsplit(maxsplit=1), ""][:2]
        if code not in splits or not is_video(path):
            return None
        refs = f"{match['label']}/{path}", path
        entries.append(Entry(number, refs, match["label"], splits[code], repr(line)))
    return entries


def _first_two(page: Page, match: re.Match[str]) -> list[Entry] | None:
    """Reads lines that begin with a path or an id and a label."""
    entries = []
    for number, row in page.rows(max(",;", key=page.text.split("\n", 1)[0].count)):
        if len(row) == 1:
            raise NotUnderstood(number, f"no label beside {row[0]!r}", unlabelled=True)
        if is_video(row[1]):
            return None
        entries.append(Entry(number, (row[0],), row[1], "", repr(";".join(row))))
    return entries


def _json(page: Page, match: re.Match[str]) -> list[Entry] | None:
    """Reads records with a path or an id and a label, in a list or by their ids."""
    records = list(_records(parse_json(page.text), ""))
    entries, place, line = [], 0, 1
    for key, value, split in records:
        record = value if isinstance(value, dict) else {"label": value}
        name = str(key or _first(record, "path") or "")
        found = page.text.find(json.dumps(name)[1:-1], place)
        if found >= 0:
            line, place = line + page.text.count("\n", place, found), found
        label, text = _label_of(record, page.multi_label)
        split = str(_first(record, "split") or split)
        entries.append(Entry(line, _refs_of(name, record), label, split, text or name))
    if not entries or not all(entry.refs[-1] for entry in entries):
        return None
    known = [entry for entry in entries if any(is_video(r) or page.find(r) for r in entry.refs)]
    if not any(isinstance(r, dict) for _, r, _ in records) and 2 * len(known) < len(entries):
        return None  # a label map, or something else
    if not any(entry.label for entry in entries):
        raise NotUnderstood(1, "no record has a label", unlabelled=True)
    return entries


def _records(data: Any, split: str) -> Iterator[tuple[str, Any, str]]:
    """Yields key, record and split of what lies in a list, by key, or by split."""
    if isinstance(data, list):
        yield from (("", item, split) for item in data if isinstance(item, dict))
    elif isinstance(data, dict):
        inner = next((data[k] for k in ("database", "annotations", "videos") if k in data), None)
        if isinstance(inner, dict | list):
            yield from _records(inner, split)
        elif data and all(split_of(key) and isinstance(data[key], dict | list) for key in data):
            for key, value in data.items():
                yield from _records(value, key)
        else:
            yield from ((key, value, split) for key, value in data.items())


def _first(record: dict[str, Any], column: str) -> Any:
    return next((record[name] for name in COLUMNS[column].split() if name in record), None)


def _label_of(record: dict[str, Any], multi_label: bool) -> tuple[str, str]:
    """Returns the label of a record, or its labels; or none, and why."""
    if isinstance(record.get("template"), str):
        return re.sub(r"[\[\]]", "", record["template"]), ""
    found = record.get("annotations", _first(record, "label"))
    parts = found if isinstance(found, list) else [] if found is None else [found]
    named = [_first(part, "label") if isinstance(part, dict) else part for part in parts]
    labels = dict.fromkeys(str(label) for label in named if label is not None)
    if len(labels) > 1 and not multi_label:
        return "", f"several labels, {', '.join(labels)} (--multi-label takes them),"
    return ";".join(labels), ""


def _refs_of(name: str, record: dict[str, Any]) -> tuple[str, ...]:
    annotation = record.get("annotations")
    segment = annotation.get("segment") if isinstance(annotation, dict) else None
    times = segment if isinstance(segment, list) and len(segment) == 2 else (None, None)
    return (*_with_times(name, *times), *([] if is_video(name) else [f"v_{name}"]), name)


def _with_times(name: str, start: object, end: object) -> tuple[str, ...]:
    """Returns a clip's name as the scripts that fetch Kinetics give it."""
    if not _NUMBER.fullmatch(str(start)) or not _NUMBER.fullmatch(str(end)):
        return ()
    return (f"{name}_{float(str(start)):06.0f}_{float(str(end)):06.0f}",)


def _columns(page: Page, match: re.Match[str]) -> list[Entry] | None:
    """Reads a path and a label in columns, with a header or without, perhaps with a split."""
    columns: dict[str, int] | None = None
    for delimiter in sorted("\t,;|", key=lambda d: -page.text.split("\n", 1)[0].count(d)):
        rows = page.rows(delimiter)
        if 2 * sum(len(row) > 1 for _, row in rows) > len(rows):
            columns = _header(rows, page)
            rows = rows[1:] if columns else rows
            columns = columns or _columns_by_content(rows, page)
            if columns:
                break
    else:
        rows = _spaced_rows(page)
        columns = _columns_by_content(rows, page) if rows else None
    return [_entry(line, row, columns) for line, row in rows] if columns else None


def _entry(line: int, row: list[str], columns: dict[str, int]) -> Entry:
    cells = {name: row[i] if i < len(row) else "" for name, i in columns.items()}
    label = cells["label"] if "label" in cells else _class_folder(cells["path"])
    split, group, text = cells.get("split", ""), cells.get("group", ""), repr(" ".join(row))
    clip = _with_times(cells["path"], cells.get("cut from"), cells.get("cut to"))
    times = Times(cells.get("start", ""), cells.get("end", "")) if "start" in cells else None
    return Entry(line, (*clip, cells["path"]), label, split, text, times, group)


def _header(rows: list[Row], page: Page) -> dict[str, int] | None:
    """Returns the columns that the first row names; None where it names none.

    Raises:
        NotUnderstood: it names some, but not both path and label; or parts of videos.
    """
    line, row = rows[0]
    cells = [re.sub(r"[\s-]+", "_", cell.lower()) for cell in row]
    named = {
        of: next((n for n in names.split() if n in cells), "") for of, names in COLUMNS.items()
    }
    columns = {of: cells.index(name) for of, name in named.items() if name}
    if named["path"] == "youtube_id":  # Kinetics: the clips are cut already
        cuts = {"cut from": columns.pop("start", None), "cut to": columns.pop("end", None)}
        columns |= {of: column for of, column in cuts.items() if column is not None}
    elif ("start" in columns) != ("end" in columns):
        raise NotUnderstood(line, f"a column for start or end alone in {row}; expected both")
    if page.group is not None and page.group in row:
        columns["group"] = row.index(page.group)
    if {"path", "label"} <= set(columns):
        read = (named["start"], named["end"])
        if parts := [cell for cell in cells if _PARTS.fullmatch(cell) and cell not in read]:
            raise NotUnderstood(line, f"parts of videos ({', '.join(parts)}): cut them first")
        if "split" not in columns and (other := [c for c in cells if _IS_SPLIT.fullmatch(c)]):
            raise NotUnderstood(line, f"column {other[0]!r}: expected a column `split`, of words")
        labels = [i for i, cell in enumerate(cells) if cell in COLUMNS["label"].split()]
        if len(labels) > 1:
            with suppress(NotUnderstood):  # a name and its number: the name
                columns["label"] = _label_column(rows[1:], columns["path"], labels)
        return columns
    if "path" not in columns or any(is_video(cell) or page.find(cell) for cell in row):
        return None
    expected = " or ".join(COLUMNS["label"].split()[:6])
    why = f"no column for path and label in {row}; expected {expected}"
    raise NotUnderstood(line, why, unlabelled=True)


def _columns_by_content(rows: list[Row], page: Page) -> dict[str, int] | None:
    """Returns the columns by what at least half of the first rows have in them."""
    sample = [row for _, row in rows[:200]]
    width = max(map(len, sample))

    def share(test: Callable[[str], object], column: int) -> float:
        return sum(len(row) > column and bool(test(row[column])) for row in sample) / len(sample)

    def rank(test: Callable[[str], object], column: int) -> tuple[float, int]:
        return share(test, column), len({row[column] for row in sample if len(row) > column})

    for test in (is_video, page.find):
        path = max(range(width), key=lambda column: rank(test, column))
        if share(test, path) >= 0.5:
            break
    else:
        return None
    if _HEADER_WORDS & {cell.lower() for cell in rows[0][1]} and not any(map(test, rows[0][1])):
        del rows[0]  # a header that does not name both
    columns = {"path": path}
    others = [c for c in range(width) if c != path and share(bool, c)]
    splits = [c for c in others if share(split_word, c) >= 0.5][:1]
    if splits:
        columns["split"] = splits[0]
    others = [c for c in others if c not in splits]
    if others:
        columns["label"] = others[0] if len(others) == 1 else _label_column(rows, path, others)
    elif not ("split" in columns or split_of(page.file.stem)) or not all(
        _class_folder(row[path]) for row in sample if len(row) > path
    ):
        line, row = rows[0]
        raise NotUnderstood(line, f"no label beside {' '.join(row)!r}", unlabelled=True)
    return columns


def _class_folder(path: str) -> str:
    """Returns the folder of a path where that can be a class."""
    name = PurePosixPath(path.replace("\\", "/")).parent.name
    return "" if splits_of_folder(name) or name.lower() in WRAPPERS else name


def _label_column(rows: list[Row], path: int, others: list[int]) -> int:
    """Returns which of several columns is the label, where their content leaves no doubt.

    Raises:
        NotUnderstood: it does.
    """
    full = [row for _, row in rows if len(row) > max(*others, path)]
    folders = [_class_folder(row[path]) for row in full]
    for column in others:
        if full and folders == [row[column] for row in full]:
            return column
    numeric = [c for c in others if all(_NUMBER.fullmatch(row[c]) for row in full)]
    texts = [c for c in others if c not in numeric]
    if len(texts) == len(numeric) == 1:
        pairs = {(row[texts[0]], row[numeric[0]]) for row in full}
        if len({name for name, _ in pairs}) == len({n for _, n in pairs}) == len(pairs):
            return texts[0]  # a name and its number
    if not texts and len(numeric) == 2 and full:  # `path num_frames label`
        frames, labels = ([float(row[c]) for row in full] for c in numeric)
        if min(frames) > max(labels) or not any(is_video(row[path]) for row in full):
            return numeric[1]
    line, row = next((one for one in rows if len(one[1]) > max(others)), rows[0])
    raise NotUnderstood(line, f"{' '.join(row)!r}: which of {len(others)} columns is the label?")


def _spaced_rows(page: Page) -> list[Row]:
    """Returns path and label of lines with spaces between, in either order; few known: none."""
    lines = [one for one in page.lines() if not set(one[1].lower().split()) <= _HEADER_WORDS]
    found = [(number, line, _spaced_cells(number, line, page)) for number, line in lines]
    if 2 * sum(bool(cells) for _, _, cells in found) <= len(found):
        return []
    rows = [(number, cells or [line]) for number, line, cells in found]
    labels = [row[1] for _, row in rows if len(row) > 1]
    if page.multi_label:
        return [(number, [*row[:1], ";".join(" ".join(row[1:]).split())]) for number, row in rows]
    if any(map(_NUMBERS.fullmatch, labels)):
        if len({len(label.split()) for label in labels}) > 1:
            line, row = next(one for one in rows if _NUMBERS.fullmatch(one[1][-1]))
            raise NotUnderstood(
                line, f"{' '.join(row)!r}: several labels for a video: --multi-label takes them"
            )
        return [(number, [row[0], *" ".join(row[1:]).split()]) for number, row in rows]
    if labels and all(" " in label and split_word(label.split()[-1]) for label in labels):
        return [(number, [row[0], *row[-1].rsplit(maxsplit=1)]) for number, row in rows]
    return rows


def _spaced_cells(number: int, line: str, page: Page) -> list[str] | None:
    """Returns path and label, or a path alone; None where neither is to be seen."""
    if match := _LIST_LINE.fullmatch(line):
        return [match["path"], bare(match["label"])]
    words = line.split()
    if is_video(bare(line)):
        if len(words) == 1 or page.find(bare(line)):
            return [bare(line)]
        found = (k for k in range(1, len(words)) if page.find(bare(" ".join(words[k:]))))
        first = next(found, 1 if _NUMBER.fullmatch(words[0]) or len(words) == 2 else 0)
        return [bare(" ".join(words[first:])), bare(" ".join(words[:first]))] if first else None
    if len(words) > 1 and page.find(words[0]):
        return [words[0], " ".join(words[1:])]
    if len(words) > 1 and page.find(words[-1]):
        return [words[-1], " ".join(words[:-1])]
    if len(words) > 2 and (page.file.parent / words[0]).is_dir():
        raise NotUnderstood(number, f"{words[0]!r} is a folder of frames: this tool reads videos")
    return [line] if page.find(line) else None


# Of labelling tools; each says in its reader where the format is described.
EXPORTS = (
    Format("Label Studio", r".*\.json", exports.LABEL_STUDIO, exports.read_label_studio),
    Format("CVAT", r".*\.xml", r"<annotations>", exports.read_cvat),
    Format("ELAN", r".*\.(eaf|xml)", r"<ANNOTATION_DOCUMENT", exports.read_elan),
    Format("VIA", r".*\.csv", r"CSV_HEADER = metadata_id", exports.read_via),
)
# The first that fits is taken. Sources: the README or the archive of each dataset's annotations.
FORMATS = (
    *EXPORTS,
    Format("UCF101", r"(train|test)list0?\d\.txt", r"", _ucf101),
    Format("HMDB51", r"(?P<label>.+)_test_split\d\.txt", r"", _hmdb51),
    Format("Kinetics", r".*\.csv", r"youtube_id.*time_start", _columns),
    Format("Something-Something V2", r".*test-answers\.csv", r"\A\d+;", _first_two),
    Format("Moments in Time", r"(training|validation|test)set.*\.csv", r"", _first_two),
    Format("Something-Something V1 or Jester", r".*\.csv", r"\A\d+(;|\s*\n)", _first_two),
    Format("Something-Something V2", r".*\.json", r'"template"', _json),
    Format("Diving48", r".*\.json", r'"vid_name"', _json),
    Format("ActivityNet", r".*\.json", r'"(database|subset)"', _json),
    Format("JSON", r".*\.json", r"", _json),
    Format("columns", r"(?!.*\.(json|xml|eaf)$).*", r"", _columns),
)
