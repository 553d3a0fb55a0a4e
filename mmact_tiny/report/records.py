"""Reads what a run left on disk: its log joined over resumes, its time, its config, its lists."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from ..checkpoints.config_text import config_from_text
from ..dataset import read_annotations
from ..errors import UserError
from ..files import finite, read_json, sha256
from ..hooks.timing import PARTS, describe
from ..overrides.tracking import EPOCH_MEANS
from ..pipeline import SPLITS
from ..runs import FACTS, RESULTS, WORK_DIRS, best_checkpoint
from .types import (
    Checkpoint,
    Data,
    Dumps,
    Log,
    Records,
    Results,
    Scalars,
    Settings,
    SplitCount,
    Start,
    Timing,
)

SCALARS = Path("vis_data", "scalars.json")
WINDOW = 20  # iterations that stock's loss is the mean of, also where they are of other epochs
TIMES = ("time", "data_time")  # of MMEngine's logs; the timing has where time went
MAX_UNNAMED = 10_000  # classes that have no names: a label may be any number


def read_run(folder: str | Path) -> tuple[Records, Dumps]:
    """Returns what a run left in its folder.

    Raises:
        UserError: no such folder, or nothing of a run is in it.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"no run in {folder}: no such folder\n  expected {WORK_DIRS}/NAME")
    notes: list[str] = []
    logs = sorted(path.parent for path in folder.glob("*/vis_data"))  # named by their start
    config = _newest_config(folder, notes)
    if not config and logs:
        config = _read_config(logs[-1] / "vis_data" / "config.py", notes)
    test_config = _newest_config(folder / RESULTS.parent, notes)
    results = _read_results(folder / RESULTS, notes)
    if config is None and test_config is None and results is None and not logs:
        raise UserError(
            f"no run in {folder}: no config, no log and no test\n"
            f"  expected a work directory of tools/train.py, as {WORK_DIRS}/NAME"
        )
    starts = [_start(log) for log in logs]
    fresh = max((n for n, start in enumerate(starts) if not start["resumed"]), default=0)
    bad = [_read(path, notes) or [] for path in sorted(folder.glob("bad_videos*.json"))]
    records: Records = {
        "folder": str(folder),
        "name": folder.resolve().name,
        "starts": starts[fresh:],
        "log": read_log([read_json_lines(log / SCALARS) for log in logs[fresh:]]),
        "timing": read_timing([read_json_lines(log / "timing.jsonl") for log in logs[fresh:]]),
        "checkpoint": _checkpoint(folder),
        "bad_videos": [row for rows in bad for row in rows if isinstance(row, dict)],
        "notes": notes,
    }
    return records, Dumps(config or test_config, test_config, results)


def newest_folder(work_dirs: str | Path = WORK_DIRS) -> Path:
    """Returns the run that wrote a config or a checkpoint last, also one without a checkpoint.

    Raises:
        UserError: there is none.
    """
    root = Path(work_dirs)
    patterns = ("*/*.py", "*/*.pth", f"*/{RESULTS}")
    files = [path for pattern in patterns for path in root.glob(pattern)]
    if not files:
        raise UserError(f"no run in {work_dirs}/\n  train: python tools/train.py CONFIG")
    newest = max(files, key=lambda path: path.stat().st_mtime)
    return root / newest.relative_to(root).parts[0]


def read_log(logs: Sequence[Sequence[Scalars]]) -> Log:
    """Joins the scalars of a run and of what resumed it.

    A later process takes the place of the earlier ones from its first iteration on: what they
    logged beyond it was lost with them, and done again.

    Args:
        logs: The lines of each `scalars.json`, in the order of the processes.
    """
    train: list[Scalars] = []
    val: list[Scalars] = []
    for lines in logs:
        steps = [line for line in lines if "iter" in line and "loss" in line]
        tests = [line for line in lines if "iter" not in line and isinstance(line.get("step"), int)]
        if steps:
            first = steps[0]
            train = [line for line in train if line["iter"] < first["iter"]]
            val = [line for line in val if line["step"] < first.get("epoch", first["iter"])]
        if tests:
            val = [line for line in val if line["step"] < tests[0]["step"]]
        train += steps
        val += tests
    by_epoch = bool(train) and all("epoch" in line for line in train)
    per_epoch = max((line["iter"] / line["epoch"] for line in train), default=1) if by_epoch else 1
    return {
        "train": [_train_row(line, per_epoch) for line in train],
        "val": [{"x": line["step"], **_values(line)} for line in val],
        "unit": "epoch" if by_epoch or not train else "iteration",
    }


def _train_row(line: Scalars, per_epoch: float) -> Scalars:
    """Returns a line with the means of its epoch so far, as a terminal shows them, where logged.

    The loss of an epoch that is further on than MMEngine's window stays MMEngine's.
    """
    means = {key: line[name] for key, name in EPOCH_MEANS.items() if name in line}
    if line["iter"] - (line.get("epoch", 1) - 1) * per_epoch > WINDOW:
        means.pop("loss", None)
    return {"x": line["iter"] / per_epoch, **_values(line), **means}


def _values(line: Scalars) -> Scalars:
    return {key: value for key, value in line.items() if key not in (*TIMES, "step")}


def read_timing(logs: Sequence[Sequence[Mapping[str, Any]]]) -> Timing:
    """Adds up the seconds of each epoch: an epoch that was done twice took time twice."""
    epochs: dict[int, dict[str, float]] = {}
    hint: str | None = None
    for row in (row for log in logs for row in log):
        hint = row.get("hint") or hint
        values = {part: row.get(part) for part in PARTS}
        if type(row.get("epoch")) is int and {type(v) for v in values.values()} <= {int, float}:
            seconds = epochs.setdefault(row["epoch"], dict.fromkeys(PARTS, 0.0))
            for part in PARTS:
                seconds[part] += row[part]
    total = {part: sum(seconds[part] for seconds in epochs.values()) for part in PARTS}
    return {
        "epochs": [{"epoch": epoch, **seconds} for epoch, seconds in sorted(epochs.items())],
        "total": total,
        "seconds": sum(total.values()),
        "verdict": describe(total, hint) if any(total.values()) else None,
    }


def setting(node: Any, *keys: str) -> Any:
    """Returns a value of a config by its keys, None where one is missing: it may be damaged."""
    for key in keys:
        node = node.get(key) if isinstance(node, Mapping) else None
    return node


def count_dataset(config: Settings) -> Data:
    """Returns what a config's annotation files list: by split, and by class where they are read."""
    names: list[str] = []
    splits: dict[str, SplitCount] = {}
    for split, dataset in _datasets(config):
        classes = setting(dataset, "metainfo", "classes") or []
        names = names or [str(name) for name in classes]
        splits[split] = _count(dataset)
    counts = {split: found["counts"] for split, found in splits.items() if "counts" in found}
    if not names:
        last = max((label for of_split in counts.values() for label in of_split), default=-1)
        names = [f"class {index}" for index in range(min(last + 1, MAX_UNNAMED))]
    by_class = [
        {"name": name, **{split: of_split.get(index, 0) for split, of_split in counts.items()}}
        for index, name in enumerate(names)
    ]
    return {"classes": names, "splits": splits, "by_class": by_class}


def _datasets(config: Settings) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yields each split that has a list, with its dataset; wrappers are opened."""
    for split in SPLITS:
        node = config.get(f"{split}_dataloader")
        while isinstance(node, Mapping) and "ann_file" not in node:
            node = node.get("dataset")
        if isinstance(node, Mapping):
            yield split, node


def _count(dataset: Mapping[str, Any]) -> SplitCount:
    file = str(dataset["ann_file"])
    try:
        annotations = read_annotations(file)
    except UserError as error:
        return {"file": file, "error": str(error)}
    folder = Path(setting(dataset, "data_prefix", "video") or "")
    return {
        "file": file,
        "videos": len(annotations),
        "missing": sum(not (folder / annotation.path).exists() for annotation in annotations),
        "counts": dict(Counter(int(a.label) for a in annotations if a.label.isdecimal())),
    }


def _start(log: Path) -> Start:
    """Returns what a training process noted of itself, and whether it resumed another."""
    facts = _read(log / FACTS, [])
    config = _read_config(log / "vis_data" / "config.py", []) or {}
    facts = facts if isinstance(facts, dict) else {}
    start = {"log": log.name, "resumed": bool(config.get("resume")), **facts}
    return cast(Start, start)


def _checkpoint(folder: Path) -> Checkpoint | None:
    path = best_checkpoint(folder)
    if path is None:
        return None
    return {"name": path.name, "bytes": path.stat().st_size, "sha256": sha256(path)}


def _newest_config(folder: Path, notes: list[str]) -> Settings | None:
    configs = sorted(folder.glob("*.py"), key=lambda path: path.stat().st_mtime)
    return _read_config(configs[-1], notes) if configs else None


def _read_config(path: Path, notes: list[str]) -> Settings | None:
    """Returns a dumped config as data: a folder from elsewhere runs no code here."""
    if not path.is_file():
        return None
    try:
        return config_from_text(path.read_text(encoding="utf-8"), source=str(path))
    except (UserError, OSError, UnicodeDecodeError) as error:
        notes.append(f"cannot read {path}: {error}")
        return None


def _read_results(path: Path, notes: list[str]) -> Results | None:
    """Returns the results of a test, which have the form that `evaluate.write_result` gives."""
    results = _read(path, notes)
    rows = results.get("videos") if isinstance(results, dict) else None
    if (
        isinstance(rows, list)
        and all(isinstance(row, dict) and isinstance(row.get("video"), str) for row in rows)
        and isinstance(results.get("accuracies"), list)
    ):
        return cast(Results, results)
    if results is not None:
        notes.append(f"cannot read {path}: not what test.py writes")
    return None


def _read(path: Path, notes: list[str]) -> Any:
    try:
        return read_json(path)
    except UserError as error:
        notes.append(str(error))
        return None


def read_json_lines(path: str | Path) -> list[dict[str, Any]]:
    """Returns the objects of a log with one on each line; a line that was cut off is left out."""
    rows = []
    try:
        lines = Path(path).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
    for line in lines:
        try:
            row = finite(json.loads(line))
        except (ValueError, RecursionError):
            continue
        if isinstance(row, dict):
            rows.append(row)
    return rows
