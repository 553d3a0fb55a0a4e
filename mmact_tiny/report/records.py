"""Reads what a run left on disk: its log joined over resumes, its time, its config, its lists."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple, cast

from ..annotations import read_annotations
from ..checkpoints.config_text import config_from_text
from ..errors import UserError
from ..files import finite, read_json, sha256
from ..hooks.timing import PARTS, describe
from ..metrics import wilson_interval
from ..overrides.tracking import EPOCH_MEANS
from ..pipeline import SPLITS
from ..runs import FACTS, RESULTS, WORK_DIRS, best_checkpoint
from .compare import stock_difference
from .scores import analyze
from .types import Data, Facts, Log, Run, Scalars, Settings, SplitCount, Timing

WINDOW = 20  # iterations that stock's loss is the mean of, also where they are of other epochs
LEFT_OUT = ("step", "time", "data_time")  # of MMEngine's logs; the timing has where time went
MAX_UNNAMED = 10_000  # classes that have no names: a label may be any number


class Record(NamedTuple):
    """What a run left: for the report, its config (else the test's), the test's, its results."""

    run: Run
    config: Settings | None
    test_config: Settings | None
    results: dict[str, Any] | None


def read_run(folder: str | Path) -> Record:
    """Returns what a run left in its folder; the config of a test without its own is the run's.

    What cannot be read is in the run's `notes`; its `remarks` are yet to be made.

    Raises:
        UserError: no such folder, or nothing of a run is in it.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"no run in {folder}: no such folder\n  expected {WORK_DIRS}/NAME")
    notes: list[str] = []
    logs = sorted(path.parent for path in folder.glob("*/vis_data"))  # named by their start
    config = _newest_config(folder, "*.py", notes)
    config = config or _newest_config(folder, "*/vis_data/config.py", notes)
    test_config = _newest_config(folder / RESULTS.parent, "*.py", notes)
    config = config or test_config
    results = _read_results(folder / RESULTS, notes)
    if config is None and results is None and not logs:
        raise UserError(
            f"no run in {folder}: no config, no log and no test\n"
            f"  expected a work directory of a training, as {WORK_DIRS}/NAME"
        )
    run = _describe(folder, config or {}, logs, notes)
    run["test"] = analyze(results) if results else None
    return Record(run, config, test_config or config, results)


def _describe(folder: Path, config: Settings, logs: Sequence[Path], notes: list[str]) -> Run:
    """Returns all that a report says of a run, but for its test."""
    starts = [_start(log) for log in logs]
    fresh = max((n for n, start in enumerate(starts) if not start["resumed"]), default=0)
    starts, logs = starts[fresh:], logs[fresh:]
    bad = [_read(path, notes) or [] for path in sorted(folder.glob("bad_videos*.json"))]
    data = count_dataset(config)
    num_val = data["splits"]["val"].get("videos") if "val" in data["splits"] else None
    log = read_log([read_json_lines(log / "vis_data" / "scalars.json") for log in logs], num_val)
    optimizer = setting(config, "optim_wrapper", "optimizer")
    weights = config.get("load_from") or config.get("initial_weights")
    seeds = [start["seed"] for start in starts if start.get("seed") is not None]
    return {
        "folder": str(folder),
        "name": folder.resolve().name,
        "starts": starts,
        "log": log,
        "timing": read_timing([read_json_lines(log / "timing.jsonl") for log in logs]),
        "checkpoint": _checkpoint(folder),
        "bad_videos": [row for rows in bad for row in rows if isinstance(row, dict)],
        "notes": notes,
        "data": data,
        "config": stock_difference(config) | {"optimizer": optimizer},
        "max_epochs": setting(config, "train_cfg", "max_epochs"),
        "batch_size": setting(config, "train_dataloader", "batch_size"),
        "weights": {"from": weights, "sha256": sha256(weights) if weights else None},
        "seed": seeds[0] if seeds else setting(config, "randomness", "seed"),
        "best": best_validation(log, num_val),
        "test": None,
        "remarks": [],
    }


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


def read_log(logs: Sequence[Sequence[Scalars]], num_val: int | None = None) -> Log:
    """Joins the scalars of a run and of what resumed it.

    A later process takes the place of the earlier ones from its first iteration on: what they
    logged beyond it was lost with them, and done again.

    Args:
        logs: The lines of each `scalars.json`, in the order of the processes.
        num_val: Videos of a validation, for the intervals of its top-1.
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
        "val": [_val_row(line, num_val) for line in val],
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


def _val_row(line: Scalars, num_val: int | None) -> Scalars:
    row, top1 = {"x": line["step"], **_values(line)}, line.get("acc/top1")
    if num_val and top1 is not None and 0 <= top1 <= 1:
        row["low"], row["high"] = wilson_interval(top1, num_val)
    return row


def _values(line: Scalars) -> Scalars:
    return {key: value for key, value in line.items() if key not in LEFT_OUT}


def read_timing(logs: Sequence[Sequence[Mapping[str, Any]]]) -> Timing:
    """Adds up the seconds of each epoch: an epoch that was done twice took time twice."""
    epochs: dict[int, dict[str, float]] = {}
    hint: str | None = None
    for row in (row for log in logs for row in log):
        hint = row.get("hint") or hint
        if type(row.get("epoch")) is int and {type(row.get(p)) for p in PARTS} <= {int, float}:
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


def best_validation(log: Log, videos: int | None) -> dict[str, Any] | None:
    """Returns the best validation by top-1, or else by the first metric; None without.

    Its `metric`, `value`, epoch (`at`) and `videos`, of which the list has so many today; of top-1
    also `low` and `high`, Wilson's 95% interval.
    """
    names = [key for row in log["val"] for key in row if key not in ("x", "epoch", "iter")]
    name = "acc/top1" if "acc/top1" in names else next(iter(names), "")
    scored = [row for row in log["val"] if isinstance(row.get(name), int | float)]
    if not scored:
        return None
    best = max(scored, key=lambda row: row[name])
    found = {"metric": name, "value": best[name], "at": best["x"], "videos": videos}
    return found | {key: best[key] for key in ("low", "high") if key in best}


def setting(node: Any, *keys: str) -> Any:
    """Returns a value of a config by its keys, None where one is missing: it may be damaged."""
    for key in keys:
        node = node.get(key) if isinstance(node, Mapping) else None
    return node


def count_dataset(config: Settings) -> Data:
    """Returns what a config's annotation files list: by split, and by class where they are read."""
    datasets = dict(_datasets(config))
    splits = {split: _count(dataset) for split, dataset in datasets.items()}
    counts = {split: found["counts"] for split, found in splits.items() if "counts" in found}
    named = (setting(dataset, "metainfo", "classes") for dataset in datasets.values())
    names = [str(name) for name in next(filter(None, named), [])]
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
        "counts": dict(Counter(int(n) for a in annotations for n in a.labels if n.isdecimal())),
    }


def _start(log: Path) -> Facts:
    """Returns what a training process noted of itself, and whether it resumed another."""
    config = _newest_config(log, "vis_data/config.py", []) or {}
    start: Facts = {"log": log.name, "resumed": bool(config.get("resume"))}
    noted = _read(log / FACTS, [])
    return cast(Facts, start | noted) if isinstance(noted, dict) else start


def _checkpoint(folder: Path) -> dict[str, Any] | None:
    if (path := best_checkpoint(folder)) is None:
        return None
    return {"name": path.name, "bytes": path.stat().st_size, "sha256": sha256(path)}


def _newest_config(folder: Path, pattern: str, notes: list[str]) -> Settings | None:
    configs = sorted(folder.glob(pattern), key=lambda path: path.stat().st_mtime)
    return _read(configs[-1], notes) if configs else None


def _read_results(path: Path, notes: list[str]) -> dict[str, Any] | None:
    """Returns the results of a test, which have the form that `evaluate.write_result` gives."""
    results = _read(path, notes)
    rows = setting(results, "videos")
    if (
        isinstance(rows, list)
        and all(isinstance(setting(row, "video"), str) for row in rows)
        and isinstance(setting(results, "accuracies"), list)
    ):
        return results
    if results is not None:
        notes.append(f"cannot read {path}: not what test.py writes")
    return None


def _read(path: Path, notes: list[str]) -> Any:
    """Returns what a JSON file holds, or a dumped config as data: nothing in a folder is run."""
    try:
        if path.suffix == ".json":
            return read_json(path)
        return config_from_text(path.read_text(encoding="utf-8"), source=str(path))
    except (UserError, OSError, UnicodeDecodeError) as error:
        prefix = f"cannot read {path}: "
        notes.append(prefix + str(error).removeprefix(prefix))
        return None


def read_json_lines(path: str | Path) -> list[dict[str, Any]]:
    """Returns the objects of a log with one on each line; a line that was cut off is left out."""
    rows = []
    with suppress(OSError):
        for line in Path(path).read_text(encoding="utf-8", errors="replace").splitlines():
            with suppress(ValueError, RecursionError):
                rows.append(finite(json.loads(line)))
    return [row for row in rows if isinstance(row, dict)]
