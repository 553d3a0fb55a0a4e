"""Finds the videos and labels in whatever layout a person has.

Known: class folders (`SRC/<class>/`), split class folders (`SRC/train/<class>/`), Kinetics lists
(`train.txt` beside `train/`) and tables (CSV or TSV with path, label and perhaps split).
"""

import os
from pathlib import Path

from ..errors import UserError
from ..video.files import is_video, walk_videos
from .annotations import (
    SPLIT_WORDS,
    clean_label,
    find_annotations,
    name_of,
    read_annotation_files,
    report_unlisted,
)
from .labels import find_label_map
from .types import Listed, Problem, Source

LAYOUTS = """  SRC/<class>/*.mp4                        class folders
  SRC/train/<class>/*.mp4, SRC/val/...     split class folders
  SRC/train.txt, SRC/val.txt               lists: a path and a label on each line
  SRC/*.csv or *.tsv, or SRC is the file   a table: path,label[,split]"""


def find_source(src: str | Path, *, out: str | Path | None = None) -> Source:
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
    root = src if src.is_dir() else src.parent
    annotations = find_annotations(src)
    if annotations:
        source = read_annotation_files(annotations, root, skip, walk=src.is_dir())
    else:
        source = _read_folders(root, skip)
    if not source.videos and not source.problems:
        raise UserError(f"no videos in {src}; known layouts:\n{LAYOUTS}")
    return source


def _read_folders(root: Path, skip: Path | None) -> Source:
    folders = [
        folder
        for folder in sorted(root.iterdir())
        if folder.is_dir() and folder != skip and not folder.name.startswith((".", "__MACOSX"))
    ]
    splits = {f: SPLIT_WORDS[f.name.lower()] for f in folders if f.name.lower() in SPLIT_WORDS}
    source = Source("class folders", [])
    if splits and _has_class_folders(next(iter(splits)), skip):
        source.layout = "split class folders"
        for folder, split in splits.items():
            _read_class_folders(source, root, folder, split, skip)
        for folder in folders:
            if folder not in splits:
                report_unlisted(source, walk_videos(folder, skip), "not in a split's folder")
    else:
        _read_class_folders(source, root, root, None, skip)
    find_label_map(source, root)
    return source


def _read_class_folders(
    source: Source, root: Path, parent: Path, split: str | None, skip: Path | None
) -> None:
    loose = []
    for child in sorted(parent.iterdir()):
        if child.name.startswith((".", "__MACOSX")) or child == skip:
            continue
        if not child.is_dir():
            loose += [child] if is_video(child.name) else []
            continue
        videos = [str(path) for path in walk_videos(child, skip)]
        where = os.path.relpath(child, root)
        source.videos += [
            Listed(path, name_of(path, root), clean_label(child.name), split, where)
            for path in videos
        ]
        if not videos:
            source.problems.append(Problem("empty folder", where, "no video in it: not a class"))
    report_unlisted(source, loose, "not in a class folder")


def _has_class_folders(folder: Path, skip: Path | None) -> bool:
    return any(
        child.is_dir() and next(walk_videos(child, skip), None) for child in folder.iterdir()
    )
