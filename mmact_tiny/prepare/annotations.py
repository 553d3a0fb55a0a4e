"""Reads lists (`path label` on each line) and tables (CSV, TSV); reports faults by line."""

import csv
import io
import os
import re
import unicodedata
from collections.abc import Iterable, Iterator
from hashlib import sha256
from pathlib import Path

from ..errors import UserError
from ..video.files import VIDEO_SUFFIXES, is_video, walk_videos
from .labels import LABEL_MAP_PATTERN, find_label_map, read_text
from .types import Listed, Problem, Source

SPLIT_WORDS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}
PATH_COLUMNS = ("path", "video", "filename", "file", "video_path", "filepath", "file_name", "clip")
LABEL_COLUMNS = ("label", "class", "category", "action", "label_name", "class_name", "target")
SPLIT_COLUMNS = ("split", "subset", "set", "partition", "fold")

_SUFFIXES = "|".join(re.escape(suffix) for suffix in sorted(VIDEO_SUFFIXES))
_LIST_LINE = re.compile(rf"""(["']?)(?P<path>.+?(?:{_SUFFIXES}))\1[\s,;]+(?P<label>.+)""", re.I)

Row = tuple[str, str, str, str | None]  # where, path, label, split, all as written


def find_annotations(src: Path) -> dict[Path, str | None]:
    """Returns the list and table files of a source, each with the split that its name says.

    Raises:
        UserError: it cannot be told which of several files is meant.
    """
    if not src.is_dir():
        return {src: split_of_name(src.stem)}
    files = sorted(
        path for path in src.iterdir() if path.is_file() and not path.name.startswith(".")
    )
    lists = [p for p in files if p.suffix == ".txt" and not LABEL_MAP_PATTERN.fullmatch(p.name)]
    lists = [p for p in lists if split_of_name(p.stem) and _lists_videos(p)]
    if lists:
        return _one_per_split(src, lists)
    tables = [p for p in files if p.suffix.lower() in (".csv", ".tsv") and _has_columns(p)]
    if len(tables) == 1:
        return {tables[0]: split_of_name(tables[0].stem)}
    return _one_per_split(src, tables)


def split_of_name(stem: str) -> str | None:
    """Returns the split that a file's name speaks of: val for `kinetics_tiny_val_video`."""
    words = [SPLIT_WORDS[w] for w in re.split(r"[^a-z]+", stem.lower()) if w in SPLIT_WORDS]
    return words[0] if words else None


def read_annotation_files(
    files: dict[Path, str | None], root: Path, skip: Path | None, *, walk: bool
) -> Source:
    """Returns what the files list; with `walk`, reports the videos below `root` that none lists."""
    source = Source(
        "table" if next(iter(files)).suffix.lower() in (".csv", ".tsv") else "lists", []
    )
    for file, split in files.items():
        read = _read_table if file.suffix.lower() in (".csv", ".tsv") else _read_list
        for where, path, label, split_word in read(file, root, split, source.problems):
            word = (split_word or "").strip().lower()
            if word and word not in SPLIT_WORDS:
                message = f"split {split_word!r} is not train, val or test: left out"
                source.problems.append(Problem("unknown split", where, message))
                continue
            found = _locate(path, file.parent, SPLIT_WORDS.get(word))
            if found is None:
                source.problems.append(Problem("missing file", where, f"{path!r}: left out"))
                continue
            name = name_of(found, root)
            source.videos.append(
                Listed(found, name, clean_label(label), SPLIT_WORDS.get(word), where)
            )
    listed = {video.path for video in source.videos}
    folders = [root] if walk else sorted({Path(path).parent for path in listed})
    for folder in folders:
        for video in walk_videos(folder, skip):
            if str(video) not in listed and (walk or video.parent == folder):
                report_unlisted(source, [video], "in no list")
    find_label_map(source, root)
    return source


def clean_label(text: str) -> str:
    """Returns a label as one line of text: no control characters, single spaces."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def name_of(path: str, root: Path) -> str:
    """Returns a video's place below `videos/`: as below the source's root, or by its folder."""
    relative = os.path.relpath(path, root)
    if not relative.startswith(".."):
        return Path(relative).as_posix()
    folder, name = os.path.split(path)
    digest = sha256(os.fsencode(folder)).hexdigest()[:8]
    return f"outside/{digest}/{name}"


def report_unlisted(source: Source, paths: Iterable[Path], reason: str) -> None:
    """Adds a problem for each video that is left out because nothing gives it a label."""
    source.problems += [Problem("not listed", str(path), f"{reason}: left out") for path in paths]


def _one_per_split(src: Path, files: list[Path]) -> dict[Path, str | None]:
    splits: dict[str | None, Path] = {}
    for path in files:
        split = split_of_name(path.stem)
        if split in splits or split is None:
            names = ", ".join(path.name for path in files)
            raise UserError(
                f"cannot tell which of these in {src} to read: {names}; give one as SRC"
            )
        splits[split] = path
    return {path: split for split, path in splits.items()}


def _read_list(file: Path, root: Path, split: str | None, problems: list[Problem]) -> Iterator[Row]:
    for number, line in enumerate(read_text(file).split("\n"), 1):
        line = line.strip()
        where = f"{_shown(file, root)}:{number}"
        if not line or line.startswith("#"):
            continue
        if match := _LIST_LINE.fullmatch(line):
            yield where, match["path"], match["label"].strip().strip("\"'"), split
        elif len(parts := line.rsplit(maxsplit=1)) == 2 and not is_video(line):
            yield where, parts[0], parts[1], split
        else:
            problems.append(
                Problem("no label", where, f"{line!r} is not a path and a label: left out")
            )


def _read_table(
    file: Path, root: Path, split: str | None, problems: list[Problem]
) -> Iterator[Row]:
    columns: tuple[int, int, int | None] | None = None
    for number, row in _rows(file):
        where = f"{_shown(file, root)}:{number}"
        if columns is None:
            columns = _find_columns(row)
            if columns is None:
                expected = f"{'/'.join(PATH_COLUMNS)}, {'/'.join(LABEL_COLUMNS)}"
                raise UserError(
                    f"{where}: no column for path and label in {row}; expected {expected}"
                )
            if not is_video(row[columns[0]].strip()):
                continue  # the header
        path_column, label_column, split_column = columns
        cells = [cell.strip() for cell in row]
        if len(cells) <= max(path_column, label_column) or not cells[label_column]:
            problems.append(Problem("no label", where, f"{','.join(row)!r}: left out"))
            continue
        has_split = split_column is not None and split_column < len(cells)
        word = cells[split_column] if has_split and split_column is not None else ""
        yield where, cells[path_column], cells[label_column], word or split


def _rows(file: Path) -> Iterator[tuple[int, list[str]]]:
    text = read_text(file)
    first = text.split("\n", 1)[0]
    delimiter = "\t" if file.suffix.lower() == ".tsv" else max(",;\t", key=first.count)
    reader = csv.reader(io.StringIO(text), delimiter=delimiter, skipinitialspace=True)
    for row in reader:
        if any(cell.strip() for cell in row):
            yield reader.line_num, row


def _find_columns(row: list[str]) -> tuple[int, int, int | None] | None:
    """Returns the columns of path, label and split from a table's first row, header or not."""
    cells = [cell.strip().lower() for cell in row]
    if len(cells) >= 2 and is_video(cells[0]):
        return 0, 1, 2 if len(cells) > 2 else None

    def column(names: tuple[str, ...]) -> int | None:
        return next((cells.index(name) for name in names if name in cells), None)

    path, label = column(PATH_COLUMNS), column(LABEL_COLUMNS)
    return None if path is None or label is None else (path, label, column(SPLIT_COLUMNS))


def _lists_videos(file: Path) -> bool:
    return any(is_video(path) for _, path, _, _ in _read_list(file, file.parent, None, []))


def _has_columns(file: Path) -> bool:
    first = next(_rows(file), None)
    return first is not None and _find_columns(first[1]) is not None


def _locate(path: str, folder: Path, split: str | None) -> str | None:
    """Returns the absolute path of a listed video, or None; also where Kinetics lists mean it."""
    path = path.replace("\\", "/") if "\\" in path and not (folder / path).exists() else path
    words = [word for word, meaning in SPLIT_WORDS.items() if meaning == split]
    parents = ["", "videos", *words, *(f"videos_{word}" for word in words)]
    for form in dict.fromkeys((path, *(unicodedata.normalize(f, path) for f in ("NFC", "NFD")))):
        for parent in parents:
            candidate = os.path.abspath(folder / parent / form)  # noqa: PTH100
            if os.path.isfile(candidate):  # noqa: PTH113
                return candidate
    return None


def _shown(file: Path, root: Path) -> str:
    return file.name if file.parent == root else str(file)
