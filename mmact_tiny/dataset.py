"""Reads a dataset folder: layout, annotations, label map; says what is wrong with them.

DIR/train.txt  val.txt  [test.txt]    `path label` on each line, split by one space
DIR/train.csv  val.csv  [test.csv]    or stretches of videos: `path,start,end,label`, in seconds
DIR/label_map.txt                     line i names class i
DIR/train/  DIR/val/                  the videos; or anywhere below DIR, by relative path
"""

import shlex
from dataclasses import dataclass
from pathlib import Path

from .annotations import Split, iter_annotations, video_dir
from .errors import UserError
from .files import read_label_map
from .video.files import refuse_archive, walk_videos

# What tools/prepare_data.py writes, then the names in the tutorial's archive.
ANN_FILES = {
    "train": ("train.txt", "train.csv", "kinetics_tiny_train_video.txt"),
    "val": ("val.txt", "val.csv", "kinetics_tiny_val_video.txt"),
    "test": ("test.txt", "test.csv"),
}


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
            listed = (annotation.path for annotation in iter_annotations(ann_file))
            splits[split] = Split(ann_file, video_dir(ann_file, listed))
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


def class_names(dataset: Dataset) -> list[str]:
    """Returns the class names: from the label map, else `class 0`, `class 1`, ... of the labels."""
    if dataset.label_map is not None:
        return read_label_map(dataset.label_map)
    labels = [
        int(label)
        for split in dataset.splits.values()
        for annotation in iter_annotations(split.ann_file)
        for label in annotation.labels
        if label.isdigit()
    ]
    if not labels:
        raise UserError(f"{dataset.root} has neither a label_map.txt nor a labelled video")
    return [f"class {index}" for index in range(max(labels) + 1)]
