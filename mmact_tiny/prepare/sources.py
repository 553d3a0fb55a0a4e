"""Finds the videos and labels in whatever layout a person has."""

import csv
import io
import itertools
import os
import re
import unicodedata
from collections.abc import Iterable, Iterator
from hashlib import sha256
from pathlib import Path

from ..errors import UserError
from ..video.files import VIDEO_SUFFIXES, is_video, walk_videos
from .labels import LABEL_MAP_PATTERN, find_label_map, read_text
from .types import Findings, Video

LAYOUTS = """  SRC/<class>/*.mp4                        class folders
  SRC/train/<class>/*.mp4, SRC/val/...     split class folders
  SRC/train.txt, SRC/val.txt               lists: a path and a label on each line
  SRC/*.csv or *.tsv, or SRC is the file   a table: path,label[,split]"""
SPLIT_WORDS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}
COLUMNS = {
    "path": ("path", "video", "filename", "file", "video_path", "filepath", "file_name", "clip"),
    "label": ("label", "class", "category", "action", "label_name", "class_name", "target"),
    "split": ("split", "subset", "set", "partition", "fold"),
}
_HIDDEN = (".", "__MACOSX")
_SUFFIXES = "|".join(re.escape(suffix) for suffix in sorted(VIDEO_SUFFIXES))
_LIST_LINE = re.compile(rf"""(["']?)(?P<path>.+?(?:{_SUFFIXES}))\1[\s,;]+(?P<label>.+)""", re.I)


def find_source(src: str | Path, *, out: str | Path | None = None) -> Findings:
    """Returns the videos below a folder, or in a table or list, with labels and splits.

    Args:
        src: a folder in one of the known layouts, or a .csv, .tsv or .txt file.
        out: a folder to pass over, where the dataset is written.

    Raises:
        UserError: no known layout, or nothing in it.
    """
    src = Path(os.path.abspath(src))  # noqa: PTH100  (resolve() would follow symbolic links)
    skip = Path(os.path.abspath(out)) if out is not None else None  # noqa: PTH100
    if not src.exists():
        raise UserError(
            f"{src} does not exist; give a folder of videos in one of these layouts:\n{LAYOUTS}"
        )
    if skip == src:
        raise UserError(f"--out {out} is the source itself: give another folder")
    findings = Findings(src if src.is_dir() else src.parent, skip)
    if annotations := _find_annotations(src):
        _read_annotations(findings, annotations, walk=src.is_dir())
    else:
        _read_folders(findings)
    find_label_map(findings)
    if not findings.listed and not findings.problems:
        raise UserError(f"no videos in {src}; known layouts:\n{LAYOUTS}")
    return findings


def _read_folders(findings: Findings) -> None:
    folders = [path for path in _children(findings.root, findings) if path.is_dir()]
    splits = {f: SPLIT_WORDS[f.name.lower()] for f in folders if f.name.lower() in SPLIT_WORDS}
    if not splits or not any(
        child.is_dir() and next(walk_videos(child, findings.skip), None)
        for child in next(iter(splits)).iterdir()
    ):
        _read_class_folders(findings, findings.root, None)
        return
    findings.layout = "split class folders"
    for folder in folders:
        if folder in splits:
            _read_class_folders(findings, folder, splits[folder])
        else:
            videos = walk_videos(folder, findings.skip)
            _report_unlisted(findings, videos, "not in a split's folder")


def _read_class_folders(findings: Findings, parent: Path, split: str | None) -> None:
    children = _children(parent, findings)
    for folder in filter(Path.is_dir, children):
        where = os.path.relpath(folder, findings.root)
        paths = [str(path) for path in walk_videos(folder, findings.skip)]
        for path in paths:
            _list_video(findings, path, folder.name, split, where)
        if not paths:
            findings.report("empty folder", where, "no video in it: not a class")
    loose = (path for path in children if is_video(path.name) and not path.is_dir())
    _report_unlisted(findings, loose, "not in a class folder")


def _children(folder: Path, findings: Findings) -> list[Path]:
    """Returns the files and folders that are not hidden, and not the dataset itself."""
    paths = sorted(folder.iterdir())
    return [p for p in paths if not p.name.startswith(_HIDDEN) and p != findings.skip]


def _list_video(findings: Findings, path: str, label: str, split: str | None, where: str) -> None:
    """Adds a video; its label becomes one line: no control characters, single spaces."""
    label = " ".join("".join(c if c.isprintable() else " " for c in label).split())
    name = os.path.relpath(path, findings.root)
    if name.startswith(".."):  # named by its folder then
        folder, file = os.path.split(path)
        name = f"outside/{sha256(os.fsencode(folder)).hexdigest()[:8]}/{file}"
    findings.listed.append(Video(path, name, label, split, where))


def _report_unlisted(findings: Findings, paths: Iterable[Path], reason: str) -> None:
    """Adds a problem for each video that is left out because nothing gives it a label."""
    for path in paths:
        findings.report("not listed", str(path), f"{reason}: left out")


def _find_annotations(src: Path) -> dict[Path, str | None]:
    """Returns the list and table files of a source, each with the split that its name says.

    Raises:
        UserError: it cannot be told which of several files is meant.
    """
    if not src.is_dir():
        return {src: _split_of_name(src)}
    files = sorted(p for p in src.iterdir() if p.is_file() and not p.name.startswith("."))
    found = [p for p in files if p.suffix == ".txt" and _split_of_name(p) and _lists_videos(p)]
    if not found:
        found = [p for p in files if _is_table(p) and _has_columns(p)]
    splits = {path: _split_of_name(path) for path in found}
    is_one_table = len(found) == 1 and _is_table(found[0])
    if not is_one_table and (None in splits.values() or len(set(splits.values())) < len(splits)):
        names = ", ".join(path.name for path in found)
        raise UserError(f"cannot tell which of these in {src} to read: {names}; give one as SRC")
    return splits


def _split_of_name(file: Path) -> str | None:
    """Returns the split that a file's name speaks of: val for `kinetics_tiny_val_video`."""
    words = re.split(r"[^a-z]+", file.stem.lower())
    return next((SPLIT_WORDS[word] for word in words if word in SPLIT_WORDS), None)


def _is_table(file: Path) -> bool:
    return file.suffix.lower() in (".csv", ".tsv")


def _lists_videos(file: Path) -> bool:
    if LABEL_MAP_PATTERN.fullmatch(file.name):
        return False
    return any(len(row) == 2 and is_video(row[0]) for _, row in _rows(file))


def _has_columns(file: Path) -> bool:
    return any(_find_columns(row) for _, row in itertools.islice(_rows(file), 1))


def _read_annotations(findings: Findings, files: dict[Path, str | None], *, walk: bool) -> None:
    """Reads what the files list; with `walk`, reports the videos that none of them lists."""
    for file, split in files.items():
        findings.layout = "table" if _is_table(file) else "lists"
        for where, cells in _read_file(file, findings):
            word = (cells.get("split") or split or "").lower()
            if not cells.get("path") or not cells.get("label"):
                message = f"{cells['']} is not a path and a label: left out"
                findings.report("no label", where, message)
            elif word and word not in SPLIT_WORDS:
                message = f"split {cells['split']!r} is not train, val or test: left out"
                findings.report("unknown split", where, message)
            elif found := _locate(cells["path"], file.parent, SPLIT_WORDS.get(word)):
                _list_video(findings, found, cells["label"], SPLIT_WORDS.get(word), where)
            else:
                findings.report("missing file", where, f"{cells['path']!r}: left out")
    listed = {video.path for video in findings.listed}
    folders = [findings.root] if walk else sorted({Path(path).parent for path in listed})
    for folder in folders:
        videos = (v for v in walk_videos(folder, findings.skip) if walk or v.parent == folder)
        _report_unlisted(findings, (v for v in videos if str(v) not in listed), "in no list")


def _read_file(file: Path, findings: Findings) -> Iterator[tuple[str, dict[str, str]]]:
    """Yields the place of each line, and its path, label and split, and as "" the whole line."""
    columns = None if _is_table(file) else ["path", "label"]
    shown = file.name if file.parent == findings.root else file
    for number, row in _rows(file):
        where = f"{shown}:{number}"
        if columns is None:
            columns = _find_columns(row)
            if columns is None:
                expected = f"{'/'.join(COLUMNS['path'])}, {'/'.join(COLUMNS['label'])}"
                raise UserError(
                    f"{where}: no column for path and label in {row}; expected {expected}"
                )
            if not is_video(row[columns.index("path")].strip()):
                continue  # the header
        cells = zip(columns, map(str.strip, row), strict=False)
        yield where, dict(cells) | {"": repr(",".join(row))}


def _rows(file: Path) -> Iterator[tuple[int, list[str]]]:
    """Yields the number and the cells of lines that have any; of a list, path and label."""
    text = read_text(file)
    if not _is_table(file):
        for number, line in enumerate(map(str.strip, text.split("\n")), 1):
            if line and not line.startswith("#"):
                yield number, _cells_of_list(line)
        return
    first = text.split("\n", 1)[0]
    delimiter = "\t" if file.suffix.lower() == ".tsv" else max(",;\t", key=first.count)
    reader = csv.reader(io.StringIO(text), delimiter=delimiter, skipinitialspace=True)
    yield from ((reader.line_num, row) for row in reader if any(map(str.strip, row)))


def _cells_of_list(line: str) -> list[str]:
    if match := _LIST_LINE.fullmatch(line):
        return [match["path"], match["label"].strip().strip("\"'")]
    return [line] if is_video(line) else line.rsplit(maxsplit=1)


def _find_columns(row: list[str]) -> list[str] | None:
    """Returns path, label, split or nothing for each column, by the first row, header or not."""
    cells = [cell.strip().lower() for cell in row]
    if len(cells) >= 2 and is_video(cells[0]):
        return ["path", "label", "split"][: len(cells)]
    columns = [""] * len(cells)
    for meaning, names in COLUMNS.items():
        name = next((name for name in names if name in cells), None)
        if name is not None:
            columns[cells.index(name)] = meaning
        elif meaning != "split":
            return None
    return columns


def _locate(path: str, folder: Path, split: str | None) -> str | None:
    """Returns the absolute path of a listed video, or None; also where Kinetics lists mean it."""
    path = path.replace("\\", "/") if "\\" in path and not (folder / path).exists() else path
    words = [word for word, meaning in SPLIT_WORDS.items() if meaning == split]
    parents = ["", "videos", *words, *(f"videos_{word}" for word in words)]
    forms = dict.fromkeys((path, *(unicodedata.normalize(f, path) for f in ("NFC", "NFD"))))
    for form, parent in itertools.product(forms, parents):
        candidate = os.path.abspath(folder / parent / form)  # noqa: PTH100
        if os.path.isfile(candidate):  # noqa: PTH113
            return candidate
    return None
