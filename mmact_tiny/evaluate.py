"""Tests: runs the stock Runner's test loop, then gives accuracies with intervals."""

import logging
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from . import hardware
from .build import build_runner, explained
from .checkpoints.config_text import STOCK_PREFIX, resolve_path
from .compat import Config, Runner, barrier
from .config import load_config
from .errors import UserError
from .files import sha256, write_json
from .hooks.guard import DataGuardHook
from .hooks.processes import start_processes
from .hooks.progress import ProgressHook
from .metrics import Accuracy, VideoResult, VideoScores, summarize
from .multi_label import summarize_labels
from .pipeline import describe_protocol
from .runs import RESULTS, WORK_DIRS, first_weights, newest_run, open_run, run_facts
from .train import check_inputs

logger = logging.getLogger("mmact_tiny")


@dataclass(frozen=True)
class TestResult:
    """What a test gave."""

    metrics: dict[str, float]  # stock's, by name
    accuracies: list[Accuracy]  # ours, with intervals
    rows: list[VideoResult]  # one for each video that was read
    seconds: float  # of the test loop
    errors: list[VideoResult] = field(default_factory=list)  # one for each that was not
    folder: Path | None = None  # of the run that was tested


def test(
    *,
    config: str | Path | None = None,
    checkpoint: str | Path | None = None,
    work_dir: str | Path | None = None,
    data_root: str | Path | None = None,
    protocol: str = "full",
    precision: str = "fp32",
    engine: str | None = None,
    launcher: str = "none",
    time_limit: float | None = None,
    options: Mapping[str, Any] | None = None,
    out: str | Path | None = None,
    command: str | None = None,
) -> TestResult:
    """Tests a checkpoint and prints what it is worth; by default the best of the newest run.

    The logs and `results.json` go to `test/` below the run, whose own config stays as it was
    trained.

    Args:
        config, checkpoint: Those of the run, its best; a config alone means its run, as dumped.
        work_dir: The run's folder, by default that of the config, else of the newest run.
        data_root: A dataset folder in the place of the config's.
        protocol: `full` or `val`, see `pipeline`.
        precision: fp32, bf16, fp16, int8 or auto.
        engine: torch, openvino or auto; by default torch, the reference, for int8 openvino.
        launcher: none, pytorch, slurm or mpi.
        time_limit: Seconds that reading one video may take.
        options: Config values by dotted key.
        out: A JSON file for the results beside the run's own.
        command: What was typed to start the test, for its record.

    Raises:
        UserError: no run, no checkpoint, or what `evaluate` finds.
    """
    engine = engine or ("openvino" if precision == "int8" else "torch")
    if config is not None:
        resolve_path(config)  # a typo is told before the checkpoint is read
    config, checkpoint, folder = _choose(config, checkpoint, work_dir)
    changes: dict[str, dict[str, Any]] = {
        "protocol": {"name": protocol},
        "inference": {"precision": precision, "engine": engine},
        "hardware": {"precision": "fp32"},
        # A test logs no scalars: its trackers would have a run each, with nothing in it.
        "run": {"work_dir": str(folder / "test"), "launcher": launcher, "track": []},
        "pretrained": {"weights": str(checkpoint), "origin": first_weights(checkpoint)},
        "data_guard": {"video_seconds": time_limit},
        "dataset_paths": {"data_root": data_root},
    }
    cfg = load_config(config, changes=changes, options=options)
    dataset = cfg.test_dataloader.dataset
    words = describe_protocol(protocol, dataset.pipeline)
    shown = {"config": config, "checkpoint": checkpoint, "videos": dataset.ann_file}
    for name, value in {**shown, "protocol": words}.items():
        logger.info("%s: %s", name, value)
    started = run_facts(command)
    result = evaluate(cfg)
    if hardware.rank() == 0:
        _log(result)
        facts = {
            **dict(config=str(config), checkpoint=str(checkpoint), protocol=words),
            **dict(precision=precision, engine=engine, ann_file=dataset.ann_file),
            "checkpoint_sha256": sha256(checkpoint),
            "classes": list((dataset.get("metainfo") or {}).get("classes", [])),
            **started,
        }
        for path in (folder / RESULTS, *([out] if out is not None else [])):
            write_result(path, result, **facts)
            logger.info("written: %s", path)
    barrier()  # a rank that ends with another status than 0 has torchrun end the others
    return replace(result, folder=folder)


def _log(result: TestResult) -> None:
    for accuracy in result.accuracies:
        logger.info("%s", accuracy)
    if result.errors:
        count = len(result.errors)
        logger.error("%d of %d videos could not be read", count, count + len(result.rows))
    if result.rows:
        speed = len(result.rows) / result.seconds
        logger.info("%.2f videos/s (%d in %.1f s)", speed, len(result.rows), result.seconds)


def _choose(
    config: str | Path | None, checkpoint: str | Path | None, work_dir: str | Path | None
) -> tuple[str | Path, str | Path, Path]:
    """Returns the config, the checkpoint and the folder of the run that a test is of."""
    stem = Path(str(config).removeprefix(STOCK_PREFIX)).stem
    if work_dir is None and config is not None:
        work_dir = WORK_DIRS / stem
    if config is not None and checkpoint is not None and work_dir is not None:
        return config, checkpoint, Path(work_dir)
    run = open_run(work_dir) if work_dir is not None else newest_run()
    if run is None:
        raise UserError("no trained run in work_dirs/\n  train: python tools/train.py CONFIG")
    # What was trained, with its options, not the file that it came from, which may have changed.
    if config is None or (checkpoint is None and stem == run.config.stem):
        config = run.config
    return config, checkpoint or run.checkpoint, run.work_dir


def evaluate(cfg: Config) -> TestResult:
    """Runs stock `Runner.test()` on a resolved config whose `load_from` names the checkpoint.

    Raises:
        UserError: problems in the annotations, or a checkpoint that cannot be loaded.
    """
    start_processes(cfg)
    check_inputs(cfg, splits=("test",))
    runner = build_runner(cfg, ProgressHook())
    started = time.perf_counter()
    with explained():
        metrics = runner.test()
    seconds = time.perf_counter() - started
    evaluator = runner.test_loop.evaluator
    rows: list[VideoResult] = next(
        metric.rows for metric in evaluator.metrics if isinstance(metric, VideoScores)
    )
    accuracies = []
    if rows:  # on rank 0
        if isinstance(rows[0]["label"], list):
            accuracies = summarize_labels(rows, cfg.test_dataloader.dataset.metainfo.classes)
        else:
            scores = np.array([row["scores"] for row in rows])
            accuracies = summarize(scores, np.array([row["label"] for row in rows]))
    return TestResult(metrics, accuracies, rows, seconds, errors=_unreadable(runner))


def _unreadable(runner: Runner) -> list[VideoResult]:
    """Returns the videos that could not be read, on rank 0, as rows are."""
    guards = [hook for hook in runner.hooks if isinstance(hook, DataGuardHook)]
    if runner.rank != 0 or not guards:
        return []
    reasons = guards[0].bad.reasons("test")
    return [VideoResult(video=video, error=reason) for video, reason in reasons.items()]


def write_result(path: str | Path, result: TestResult, **facts: Any) -> None:
    """Writes a result as JSON: the facts given, accuracies, stock's metrics, a row a video."""
    record = {
        **facts,
        "seconds": result.seconds,
        "videos_per_second": len(result.rows) / result.seconds,
        "accuracies": [asdict(accuracy) for accuracy in result.accuracies],
        "metrics": {key: float(value) for key, value in result.metrics.items()},
        "videos": [*result.rows, *result.errors],
    }
    write_json(path, record)
