"""Counts of a dataset for a report: videos and classes of each split, as its lists are now."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..dataset import read_annotations
from ..errors import UserError
from ..pipeline import SPLITS

MAX_UNNAMED = 10_000  # classes that have no names: a label may be any number


def count_dataset(config: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what a config's annotation files list.

    Returns:
        `classes`: the names in the config; `splits`: for each the file, `videos`, how many of
        them are `missing` from the disk, `counts` by class, or an `error`; `by_class`: rows of a
        name and its count in each split that could be read.
    """
    splits = {}
    names: list[str] = []
    for split in SPLITS:
        dataset = _dataset(config, split)
        if dataset is None:
            continue
        metainfo = dataset.get("metainfo")
        names = names or [str(name) for name in (metainfo or {}).get("classes") or []]
        splits[split] = _count(dataset)
    counted = {split: found["counts"] for split, found in splits.items() if "counts" in found}
    if not names:
        last = max((max(counts, default=-1) for counts in counted.values()), default=-1)
        names = [f"class {index}" for index in range(min(last + 1, MAX_UNNAMED))]
    return {
        "classes": names,
        "splits": splits,
        "by_class": [
            {"name": name, **{split: counts.get(i, 0) for split, counts in counted.items()}}
            for i, name in enumerate(names)
        ],
    }


def _dataset(config: Mapping[str, Any], split: str) -> Mapping[str, Any] | None:
    """Returns the dataset of a split, wrappers opened; None where there is none with a list."""
    loader = config.get(f"{split}_dataloader")
    dataset = loader.get("dataset") if isinstance(loader, Mapping) else None
    while isinstance(dataset, Mapping) and "ann_file" not in dataset:
        dataset = dataset.get("dataset")
    return dataset if isinstance(dataset, Mapping) else None


def _count(dataset: Mapping[str, Any]) -> dict[str, Any]:
    file = str(dataset["ann_file"])
    try:
        annotations = read_annotations(file)
    except UserError as error:
        return {"file": file, "error": str(error)}
    prefix = dataset.get("data_prefix")
    folder = Path((prefix or {}).get("video") or "") if isinstance(prefix, Mapping) else Path()
    return {
        "file": file,
        "videos": len(annotations),
        "missing": sum(not (folder / annotation.path).exists() for annotation in annotations),
        "counts": dict(Counter(int(a.label) for a in annotations if a.label.isdecimal())),
    }
