"""Testing: the stock Runner's test loop, then accuracies with intervals."""

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from . import compat, hardware
from .build import explained
from .checkpoints import stock as stock_checkpoints
from .checkpoints.format import open_regular
from .compat.mm import Config
from .config import load_config, resolve_path
from .errors import UserError
from .files import write_json
from .log import build_runner
from .metrics import Accuracy, VideoScores, summarize, to_records
from .pipeline import describe_protocol
from .report.report import try_report
from .runs import RESULTS, WORK_DIRS, first_weights, newest_run, open_run, sha256
from .runs_facts import run_facts
from .train import check_inputs

logger = logging.getLogger("mmact_tiny")


@dataclass(frozen=True)
class TestResult:
    """What a test gave: stock's metrics, ours, one row for each video, and those unreadable."""

    metrics: dict[str, float]
    accuracies: list[Accuracy]
    rows: list[dict[str, Any]]
    seconds: float
    errors: list[dict[str, Any]] = field(default_factory=list)


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
) -> TestResult:
    """Tests a checkpoint and prints what it is worth; by default the best of the newest run.

    The engine is torch, the reference, unless int8 or another one is asked for.
    The logs and `results.json` go to `test/` below the run, whose own config stays as it was
    trained; its report is written again.

    Raises:
        UserError: no run, no checkpoint, or what `evaluate` finds.
    """
    engine = engine or ("openvino" if precision == "int8" else "torch")
    config, checkpoint, folder = _choose(config, checkpoint, work_dir)
    resolve_path(config)
    origin = None
    if "://" not in str(checkpoint):
        open_regular(Path(checkpoint)).close()
        origin = first_weights(checkpoint)
    changes: dict[str, dict[str, Any]] = {
        "protocol": {"name": protocol},
        "inference": {"precision": precision, "engine": engine},
        "hardware": {"precision": "fp32"},
        # A test logs no scalars: its trackers would have a run each, with nothing in it.
        "run": {"work_dir": str(folder / "test"), "launcher": launcher, "track": []},
        "pretrained": {"weights": str(checkpoint), "origin": origin},
    }
    if time_limit is not None:
        changes["data_guard"] = {"video_seconds": time_limit}
    if data_root is not None:
        changes["dataset_paths"] = {"data_root": str(data_root)}
    cfg = load_config(config, changes=changes, options=options)
    pipeline = cfg.test_dataloader.dataset.pipeline
    words = describe_protocol(protocol, pipeline)
    logger.info("config: %s", config)
    logger.info("checkpoint: %s", checkpoint)
    logger.info("videos: %s", cfg.test_dataloader.dataset.ann_file)
    logger.info("protocol: %s", words)
    started = run_facts()
    result = evaluate(cfg)
    from .compat.mm import barrier

    if hardware.rank() == 0:
        _log(result)
        dataset = cfg.test_dataloader.dataset
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
        try_report(folder)
    barrier()  # a rank that ends with another status than 0 has torchrun end the others
    return result


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
    if work_dir is None and config is not None:
        work_dir = WORK_DIRS / Path(config).stem
    if config is not None and checkpoint is not None and work_dir is not None:
        return config, checkpoint, Path(work_dir)
    run = open_run(work_dir) if work_dir is not None else newest_run()
    if run is None:
        raise UserError("no trained run in work_dirs/\n  train: python tools/train.py CONFIG")
    return config or run.config, checkpoint or run.checkpoint, run.work_dir


def evaluate(cfg: Config) -> TestResult:
    """Runs stock `Runner.test()` on a resolved config whose `load_from` names the checkpoint.

    Raises:
        UserError: problems in the annotations, or a checkpoint that cannot be loaded.
    """
    check_inputs(cfg, splits=("test",))
    stock_checkpoints.register()
    compat.start_processes(cfg.get("launcher", "none"))
    with explained():
        runner = build_runner(cfg)
        started = time.perf_counter()
        metrics = runner.test()
    seconds = time.perf_counter() - started
    evaluator = runner.test_loop.evaluator
    rows = next(m.rows for m in evaluator.metrics if isinstance(m, VideoScores))
    accuracies = []
    if rows:  # on rank 0
        scores = np.array([row["scores"] for row in rows])
        accuracies = summarize(scores, np.array([row["label"] for row in rows]))
    return TestResult(metrics, accuracies, rows, seconds, errors=_unreadable(runner))


def _unreadable(runner: Any) -> list[dict[str, Any]]:
    """Returns `dict(video, error)` of the videos that could not be read, on rank 0, as rows are."""
    if runner.rank != 0:
        return []
    guard = next(
        (hook for hook in runner.hooks if hook.__class__.__name__ == "DataGuardHook"), None
    )
    reasons = guard.bad.reasons.get("test", {}) if guard is not None else {}
    return [dict(video=video, error=reason) for video, reason in reasons.items()]


def write_result(path: str | Path, result: TestResult, **facts: Any) -> None:
    """Writes a result as JSON: the facts given, accuracies, stock's metrics, a row a video."""
    record = {
        **facts,
        "seconds": result.seconds,
        "videos_per_second": len(result.rows) / result.seconds,
        "accuracies": to_records(result.accuracies),
        "metrics": {key: float(value) for key, value in result.metrics.items()},
        "videos": [*result.rows, *result.errors],
    }
    write_json(path, record)
