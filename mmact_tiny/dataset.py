"""Reads a dataset folder: layout, annotations, label map; says what is wrong with them.

DIR/train.txt  val.txt  [test.txt]    `path label` on each line, split by one space
DIR/label_map.txt                     line i names class i
DIR/train/  DIR/val/                  the videos; or anywhere below DIR, by relative path
"""

import shlex
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from .errors import UserError
from .video.files import refuse_archive, walk_videos

# What tools/prepare_data.py writes, then the names in the tutorial's archive.
ANN_FILES = {
    "train": ("train.txt", "kinetics_tiny_train_video.txt"),
    "val": ("val.txt", "kinetics_tiny_val_video.txt"),
    "test": ("test.txt",),
}
NAMES_SUFFIX = ".label_map.txt"  # in the place of `.pth`: a label map beside the weights
MAX_SHOWN = 20  # problems printed before "and N more": one screen


@dataclass(frozen=True)
class Split:
    """One annotation file and the folder that its paths are relative to."""

    ann_file: Path
    video_dir: Path


@dataclass(frozen=True)
class Annotation:
    """One line of an annotation file; `line` counts from 1, `label` is text until checked."""

    line: int
    path: str
    label: str


@dataclass(frozen=True)
class Dataset:
    """A dataset folder: `splits` has train and val, and test where there is one."""

    root: Path
    splits: dict[str, Split]
    label_map: Path | None


def find_dataset(data_root: str | Path) -> Dataset:
    """Returns the dataset in a folder.

    Raises:
        UserError: no such folder, or no annotation file; names the command that makes it.
    """
    root = Path(data_root).expanduser()
    refuse_archive(root)
    if not root.is_dir():
        raise UserError(f"no dataset folder {root}\n  {how_to_get(root)}")
    splits = {}
    for split, names in ANN_FILES.items():
        ann_file = next((root / name for name in names if (root / name).is_file()), None)
        if ann_file is not None:
            splits[split] = Split(ann_file, _video_dir(root, split, ann_file))
        elif split != "test":
            raise UserError(f"no annotation file {root / names[0]}\n  {how_to_get(root)}")
    label_map = root / "label_map.txt"
    return Dataset(root, splits, label_map if label_map.is_file() else None)


def how_to_get(root: Path) -> str:
    """Returns the command that makes a dataset folder, in words."""
    if root.name == "kinetics400_tiny":
        return "get it with: python tools/download.py kinetics400_tiny"
    if root.parts[-2:] == ("data", "tiny"):
        return (
            "run from the project's own folder, or render it: "
            "python tools/render_tiny.py --out data/tiny"
        )
    if next(walk_videos(root), None) is not None:  # a folder that is yet to be prepared
        videos = shlex.quote(str(root))
        out = shlex.quote(f"data/{root.resolve().name}_prepared")
        return (
            f"make a dataset of its videos: python tools/prepare_data.py {videos} --out {out}\n"
            f"  and train on that: --data {out}"
        )
    return f"make it from your videos with: python tools/prepare_data.py VIDEOS --out {root}"


def _video_dir(root: Path, split: str, ann_file: Path) -> Path:
    """Returns `root/split` where the listed files are in there, else `root`."""
    listed = [annotation.path for annotation in read_annotations(ann_file)[:50]]
    folder = root / split
    if any((root / path).exists() for path in listed) or not folder.is_dir():
        return root
    return folder


def read_annotations(ann_file: str | Path) -> list[Annotation]:
    """Returns the lines of an annotation file, split as stock `VideoDataset` splits them.

    The label is what follows the last space; a line without one has an empty label. Blank lines
    are kept out.

    Raises:
        UserError: the file is missing or is not text.
    """
    lines = _read_lines(ann_file, "annotation file")
    annotations = []
    for number, line in enumerate(lines, start=1):
        if line.strip():
            path, _, label = line.strip().rpartition(" ")
            annotations.append(Annotation(number, path or label, label if path else ""))
    return annotations


def read_label_map(label_map: str | Path) -> list[str]:
    """Returns the class names of a label map, line i for class i.

    Raises:
        UserError: the file is missing, not text, empty, or has an empty or repeated name.
    """
    names = [line.strip() for line in _read_lines(label_map, "label map")]
    while names and not names[-1]:
        names.pop()
    if not names:
        raise UserError(f"label map {label_map} is empty; expected one class name a line")
    for number, name in enumerate(names, start=1):
        if not name:
            raise UserError(f"{label_map}:{number}: no class name; line i names class i")
        if names.index(name) + 1 < number:
            first = names.index(name) + 1
            raise UserError(f"{label_map}:{number}: {name!r} already names line {first}")
    return names


def _read_lines(path: str | Path, what: str) -> list[str]:
    try:
        return Path(path).expanduser().read_text(encoding="utf-8-sig").splitlines()
    except OSError as error:
        raise UserError(f"cannot read {what} {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UserError(f"{what} {path} is not UTF-8 text") from None


def class_names(dataset: Dataset) -> list[str]:
    """Returns the class names: from the label map, else `class 0`, `class 1`, ... of the labels."""
    if dataset.label_map is not None:
        return read_label_map(dataset.label_map)
    labels = [
        int(annotation.label)
        for split in dataset.splits.values()
        for annotation in read_annotations(split.ann_file)
        if annotation.label.isdigit()
    ]
    if not labels:
        raise UserError(f"{dataset.root} has neither a label_map.txt nor a labelled video")
    return [f"class {index}" for index in range(max(labels) + 1)]


def check_annotations(splits: Iterable[Split], num_classes: int) -> None:
    """Checks every line of every split before anything is built.

    Raises:
        UserError: lists every missing file, split path and wrong label, with its line.
    """
    problems = []
    for split in splits:
        annotations = read_annotations(split.ann_file)
        if not annotations:
            problems.append(f"{split.ann_file}: lists no video")
        for annotation in annotations:
            problem = _problem(annotation, split.video_dir, num_classes)
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


def _problem(annotation: Annotation, video_dir: Path, num_classes: int) -> str | None:
    path, label = annotation.path, annotation.label
    if " " in path:
        return f"a space in {path!r}: MMAction2 splits lines on spaces"
    if not (video_dir / path).exists():
        return f"no file {video_dir / path}"
    if not label.removeprefix("-").isdigit():
        return f"label {label!r} of {path!r} is not a number"
    if not 0 <= int(label) < num_classes:
        return f"label {label} of {path!r} is not in 0 .. {num_classes - 1}"
    return None
