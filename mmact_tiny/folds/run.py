"""Cross-validates: one run for each fold, one accuracy of all videos, none seen in training."""

import copy
import logging
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from .. import hardware
from ..annotations.lists import GROUPS
from ..compat import Config
from ..config import load_config
from ..dataset import Dataset, find_dataset
from ..errors import UserError
from ..evaluate import TestResult, test, write_result
from ..files import held, read_json
from ..metrics import Accuracy, VideoResult, summarize
from ..pipeline import pipeline_of, set_pipeline, split_datasets
from ..runs import RESULTS, last_checkpoint, run_facts, set_aside
from ..train import check_inputs, train
from .divide import Division, divide_dataset, write_lists

logger = logging.getLogger("mmact_tiny")
Changes = Mapping[str, Mapping[str, Any]]


def train_folds(
    config: str | Path,
    num_folds: int,
    *,
    changes: Changes,
    options: Mapping[str, Any] | None = None,
    command: str | None = None,
) -> TestResult:
    """Trains on all folds but one, tests the last epoch on that one, for each; pools the scores.

    The best epoch would be the one that the tested videos have chosen. Tests are under the
    protocol `val`.

    Args:
        config, changes, options: As for `load_config`; a resume goes on with what is there.
        num_folds: How many.
        command: What was typed to start it, for the records.

    Raises:
        UserError: what `train` and `cross_validate` find.
    """
    resume = bool(changes["pretrained"].get("resume"))  # which each fold has for itself
    whole = {**changes, "pretrained": {**changes["pretrained"], "resume": None}}
    cfg = load_config(config, changes=whole, options=options)
    cfg.work_dir += "" if changes["run"].get("work_dir") else "_folds"
    check_inputs(cfg)
    dataset = dataset_of(cfg)
    settings = changes, options or {}, command
    run_fold = partial(_train_fold, config, dataset, *settings)
    divided = divide_dataset(dataset, num_folds)
    return cross_validate(cfg, divided, run_fold, resume=resume, command=command)


def _train_fold(
    config: str | Path,
    dataset: Dataset,
    changes: Changes,
    options: Mapping[str, Any],
    command: str | None,
    folder: Path,
) -> TestResult:
    """Trains and tests one fold in its folder."""
    own = fold_changes(changes, dataset, folder)
    if changes["pretrained"].get("resume"):
        own["pretrained"]["work_dir"] = str(folder)
    cfg = load_config(config, changes=own, options=options)
    train(cfg, command)
    launcher = cfg.get("launcher", "none")
    last = last_checkpoint(folder)
    return test(
        work_dir=folder, checkpoint=last, protocol="val", launcher=launcher, command=command
    )


def fold_changes(changes: Changes, dataset: Dataset, folder: Path) -> dict[str, dict[str, Any]]:
    """Returns the changes of a config with those of a fold: its lists, and its work directory."""
    own = {name: dict(given) for name, given in changes.items()}
    lists = dict(data_root=str(dataset.root), lists=str(folder))
    return own | {
        "dataset_paths": own.get("dataset_paths", {}) | lists,
        "run": own.get("run", {}) | dict(work_dir=str(folder)),
    }


def dataset_of(cfg: Config) -> Dataset:
    """Returns the dataset of a config's training list."""
    return find_dataset(Path(dict(split_datasets(cfg))["train"].ann_file).parent)


def cross_validate(
    cfg: Config,
    divided: Division,
    run_fold: Callable[[Path], TestResult],
    *,
    resume: bool = False,
    command: str | None = None,
    **facts: Any,
) -> TestResult:
    """Runs each fold in a folder `fold_N` of its own, and writes the results of all as one test.

    Args:
        cfg: Of the whole dataset; its `work_dir` has the folds. What its `val` pipeline is, is the
            test's.
        divided: From `divide_dataset`.
        run_fold: Trains and tests in a folder that has the fold's lists. All processes of a job
            call it, and rank 0 has the rows.
        resume: Whether folds that have results are taken as they are.
        command, **facts: For the record.

    Raises:
        UserError: a resume of other folds; what `run_fold` finds.
    """
    folder, main = Path(cfg.work_dir), hardware.rank() == 0
    videos, groups, folds = divided
    dataset, num_folds, noted = dataset_of(cfg), int(folds.max()) + 1, run_facts(command)
    unit = GROUPS if any(group.startswith("group ") for group in groups) else "copies of a file"
    places = [folder / f"fold_{number + 1}" for number in range(num_folds)]
    rows: list[VideoResult] = []
    errors: list[VideoResult] = []
    by_fold, seconds = [], 0.0
    with held(folder) if main else nullcontext():
        for fold, place in enumerate(places):
            if write_lists(place, dataset, videos, folds == fold, replace=not resume) and resume:
                raise UserError(f"{place} is of other videos or folds: start without --resume")
            if main and not resume:  # of an earlier run: a resume of this one would take them
                (place / RESULTS).unlink(missing_ok=True)
                set_aside(place, keep=cfg.get("load_from"))
        logger.info("%d folds of %d videos, groups: %s", num_folds, len(videos), unit)
        for fold, place in enumerate(places):
            sizes = fold + 1, num_folds, (folds != fold).sum(), (folds == fold).sum()
            logger.info("fold %d of %d: %d videos to train on, %d held out", *sizes)
            result = _results_of(place) if resume else None
            if result is not None:
                logger.info("  done before: %s", place / RESULTS)
            result = result or run_fold(place)
            rows += result.rows
            errors += result.errors
            seconds += result.seconds
            by_fold += [dict(asdict(found), name=place.name) for found in _accuracies(result)[:1]]
        if not main:
            return TestResult({}, [], [], 0.0)
        pooled = TestResult({}, [], rows, seconds, errors, folder)
        pooled = replace(pooled, accuracies=_accuracies(pooled))
        for accuracy in pooled.accuracies:
            logger.info("all folds: %s", accuracy)
        _write(cfg, pooled, groups=unit, folds=by_fold, **noted, **facts)
    return pooled


def _accuracies(result: TestResult) -> list[Accuracy]:
    """Returns the accuracies of the rows, none of no rows."""
    scores = np.array([row["scores"] for row in result.rows])
    labels = np.array([row["label"] for row in result.rows])
    return summarize(scores, labels) if result.rows else []


def _results_of(folder: Path) -> TestResult | None:
    """Returns what a fold that is done has written, None of another."""
    record = read_json(folder / RESULTS)
    if record is None:
        return None
    rows = [row for row in record["videos"] if "scores" in row]
    errors = [row for row in record["videos"] if "scores" not in row]
    return TestResult({}, [], rows, record["seconds"], errors)


def _write(cfg: Config, pooled: TestResult, **facts: Any) -> None:
    """Writes the results and the config, whose test is what was done: a report reads both."""
    folder, cfg = Path(cfg.work_dir), copy.deepcopy(cfg)
    dataset = dict(split_datasets(cfg))["test"]
    set_pipeline(cfg, "test", dataset, pipeline_of(cfg, "val"))
    cfg.dump(folder / Path(cfg.filename).name)
    first = read_json(folder / "fold_1" / RESULTS) or {}
    kept = {key: first[key] for key in ("protocol", "precision", "engine") if key in first}
    classes = list((dataset.get("metainfo") or {}).get("classes", []))
    lists = f"the folds of {dataset_of(cfg).root}"
    write_result(folder / RESULTS, pooled, **kept, classes=classes, ann_file=lists, **facts)
    logger.info("written: %s", folder / RESULTS)
