"""Divides the videos of a dataset into folds: stratified by class, videos of a group together."""

import csv
import os
import warnings
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..annotations import read_annotations
from ..annotations.lists import GROUPS
from ..dataset import Dataset
from ..errors import UserError
from ..files import sha256, write_atomically
from ..video.files import split_name

COLUMNS = ["path", "group"]
SEED = 0  # the same folds for all runs of a dataset: their videos compare in pairs


class Listed(NamedTuple):
    """A video of train.txt or val.txt: its path from the dataset's folder, and its label."""

    path: str
    label: int


class Division(NamedTuple):
    """The videos of a dataset, the group of each, and its fold, from 0 on."""

    videos: list[Listed]
    groups: list[str]
    folds: np.ndarray


def list_videos(dataset: Dataset) -> list[Listed]:
    """Returns the videos of the training and the validation list; those of a test list are not."""
    videos = []
    for split in (dataset.splits["train"], dataset.splits["val"]):
        folder = os.path.relpath(split.video_dir, dataset.root)
        rows = read_annotations(split.ann_file)
        if other := next((row for row in rows if row.start or len(row.labels) > 1), None):
            where = f"{split.ann_file}:{other.line}"
            raise UserError(f"{where}: folds are of whole videos with a label each")
        videos += [Listed(str(Path(folder, row.path)), int(row.label)) for row in rows]
    return videos


def group_videos(
    root: Path, paths: Sequence[str], content_of: Callable[[Path], str] | None = None
) -> list[str]:
    """Returns the group of each video: what groups.csv says, else its content, so copies share one.

    Args:
        root: The dataset's folder.
        paths: From there; a stretch is of its video's group.
        content_of: Returns a hash of a file; by default only files of equal size are read.

    Raises:
        UserError: a groups.csv that cannot be read, or names none of the videos.
    """
    listed = _read_groups(root / GROUPS)
    paths = [split_name(path)[0] for path in paths]
    if listed and not listed.keys() & {*paths}:
        raise UserError(
            f"{root / GROUPS} names none of the videos in the lists: expected paths as {paths[0]}"
        )
    if content_of is None:
        sizes = {path: (root / path).stat().st_size for path in paths if path not in listed}
        alike = Counter(sizes.values())

        def content_of(path: Path) -> str:
            size = path.stat().st_size
            return (sha256(path) if alike[size] > 1 else None) or f"{size} bytes"

    return [
        f"group {listed[path]}" if path in listed else content_of(root / path) for path in paths
    ]


def _read_groups(file: Path) -> dict[str, str]:
    """Returns the group of each path; none where there is no file."""
    if not file.is_file():
        return {}
    try:
        rows = [*csv.reader(file.read_text(encoding="utf-8-sig").splitlines())]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"cannot read {file}: {error}") from None
    if rows[:1] != [COLUMNS]:
        raise UserError(f"{file}:1: expected the columns {','.join(COLUMNS)}")
    for line, row in enumerate(rows[1:], start=2):
        if row and (len(row) != 2 or not all(row)):
            raise UserError(f"{file}:{line}: expected a path and a group, not {','.join(row)!r}")
    return {path.removeprefix("./"): group for path, group in filter(None, rows[1:])}


def divide(
    labels: Sequence[int] | np.ndarray,
    groups: Sequence[Hashable],
    num_folds: int,
) -> np.ndarray:
    """Returns the fold of each video, from 0 on: scikit-learn's StratifiedGroupKFold.

    Each class is spread over the folds as evenly as its groups allow. There may be fewer folds
    than asked for where a few groups have most of the videos.

    Args:
        labels: The class of each video.
        groups: Videos of one group are in one fold.
        num_folds: From 2 to the number of groups, and of the videos of the largest class.
    """
    from sklearn.model_selection import StratifiedGroupKFold

    names = np.unique(list(map(str, groups)), return_inverse=True)[1]
    folds = np.zeros(len(labels), dtype=int)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of classes with fewer videos than folds
        splits = StratifiedGroupKFold(num_folds, shuffle=True, random_state=SEED)
        for fold, (_, held_out) in enumerate(splits.split(names, labels, names)):
            folds[held_out] = fold
    return folds


def divide_dataset(
    dataset: Dataset, num_folds: int, content_of: Callable[[Path], str] | None = None
) -> Division:
    """Returns the folds of the videos of a dataset's training and validation lists.

    Args:
        dataset: Whose lists were checked.
        num_folds: 2 or more.
        content_of: As of `group_videos`.

    Raises:
        UserError: so many folds cannot be; scikit-learn is missing.
    """
    if find_spec("sklearn") is None:
        raise UserError("--folds needs scikit-learn: pip install 'mmact-tiny[features]'")
    videos = list_videos(dataset)
    groups = group_videos(dataset.root, [video.path for video in videos], content_of)
    labels = [video.label for video in videos]
    most = min(len(set(groups)), max(Counter(labels).values()))
    folds = divide(labels, groups, num_folds) if 2 <= num_folds <= most else np.zeros(1)
    if len(set(folds.tolist())) < max(2, num_folds):
        expected = f"2 to {most}" if most > 2 else "2" if most == 2 else "more groups"
        if 2 <= num_folds <= most:
            expected = "smaller groups, or fewer folds"
        raise UserError(
            f"--folds {num_folds}: {len(videos)} videos in {len(set(groups))} groups cannot be "
            f"divided so\n  expected {expected}: no more folds than groups (those of {GROUPS}, "
            "else copies), nor than the videos of the largest class"
        )
    return Division(videos, groups, folds)


def write_lists(
    folder: Path,
    dataset: Dataset,
    videos: Sequence[Listed],
    held_out: np.ndarray,
    *,
    replace: bool = True,
) -> bool:
    """Writes the lists of a fold; returns whether others were there.

    Args:
        folder: Gets `train.txt`, `val.txt` and the dataset's label map.
        held_out: Whether a video is one of `val.txt`.
        replace: Whether others are replaced.
    """
    lines = np.array([f"{video.path} {video.label}\n" for video in videos])
    texts = {"train.txt": "".join(lines[~held_out]), "val.txt": "".join(lines[held_out])}
    if dataset.label_map is not None:
        texts["label_map.txt"] = dataset.label_map.read_text(encoding="utf-8-sig")
    contents = {folder / name: text.encode() for name, text in texts.items()}
    others = any(path.is_file() and path.read_bytes() != own for path, own in contents.items())
    if replace or not others:
        for path, content in contents.items():
            write_atomically(content, path)
    return others
