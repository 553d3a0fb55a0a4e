"""Trains: checks what the config names, then runs the stock Runner."""

import logging
from collections.abc import Sequence
from itertools import chain
from pathlib import Path

from . import annotations, hardware
from .build import build_runner, explained
from .compat import Config, Runner, all_gather_object, get_rank, get_world_size
from .errors import UserError, as_typed
from .files import near
from .hooks.begin import keeping_earlier_run
from .hooks.processes import start_processes, told_once
from .hooks.progress import ProgressHook
from .overrides.learning_rate import describe_learning_rate
from .overrides.registry import reason_for
from .overrides.tracking import describe_trackers
from .pipeline import split_datasets
from .runs import WORK_DIRS, best_checkpoint, record_run

logger = logging.getLogger("mmact_tiny")
GET_WEIGHTS = "`--pretrained zoo` starts from MMAction2's published weights"


def train(cfg: Config, command: str | None = None) -> Runner:
    """Runs a resolved config from the first epoch to the last and returns MMEngine's Runner.

    Beside what `Runner.from_cfg` reads of the config, this reads `initial_weights`, for the log,
    and `resume`, `load_from` and `work_dir`, to keep an earlier run's checkpoints apart.

    Args:
        cfg: Of `load_config`, or any config of MMEngine's.
        command: What was typed to start the run, for its record.

    Raises:
        UserError: problems in the dataset, all of them, missing weights, another run in the work
            directory, or whatever stops the run: too many bad videos, a loss that is no number.
    """
    start_processes(cfg)
    check_inputs(cfg)
    log_job(cfg)
    log_choices(cfg)
    with keeping_earlier_run(cfg) as begin:
        runner = build_runner(cfg, ProgressHook())
        runner.register_hook(begin)
        record_run(runner, command)
        with explained():
            runner.train()
    if runner.rank == 0:
        _log_next(cfg, runner.message_hub.runtime_info.get("best_score"))
    return runner


def _log_next(cfg: Config, best_score: float | None) -> None:
    """Logs the best checkpoint, and the commands that take it on."""
    checkpoint = best_checkpoint(cfg.work_dir)
    if checkpoint is None:
        return
    score = f" ({best_score:.4f})" if best_score is not None else ""
    logger.info("best checkpoint: %s%s", near(checkpoint), score)
    where = f" --work-dir {cfg.work_dir}" if Path(cfg.work_dir).parent != WORK_DIRS else ""
    if cfg.get("initial_weights") == "random":
        logger.info("trained from random weights: %s", GET_WEIGHTS)
    logger.info(as_typed("next: python tools/test.py%s"), where)
    logger.info(as_typed("  or: python tools/infer.py VIDEO --checkpoint %s"), near(checkpoint))


def check_inputs(cfg: Config, splits: Sequence[str] = ("train", "val")) -> None:
    """Checks that the annotated videos and the weights exist, each in one process of the job.

    Raises:
        UserError: names every problem and its line.
    """
    head = cfg.model.get("cls_head") or {}
    listed = {
        annotations.Split(Path(dataset.ann_file), Path(dataset.data_prefix.video))
        for split, dataset in split_datasets(cfg)
        if split in splits and dataset.type in annotations.TYPES
    }
    ordered = sorted(listed, key=lambda split: str(split.ann_file))
    several = any(dataset.get("multi_class") for _, dataset in split_datasets(cfg))
    classes, weights = head.get("num_classes", 1 << 30), cfg.get("load_from")
    settings = dict(multi_label=several, trained="train" in splits)
    share = get_rank(), get_world_size()
    with told_once():
        found = annotations.find_problems(ordered, classes, share=share, **settings)
        if weights and "://" not in weights and not Path(weights).is_file():
            raise UserError(f"no checkpoint {weights} (load_from)")
    with told_once():
        annotations.refuse(chain(*all_gather_object(found)))


def log_job(cfg: Config) -> None:
    """Logs what is trained, on what, for how long, and where its results go.

    Raises:
        UserError: the package of a tracker is not installed.
    """
    trackers = describe_trackers(cfg)
    head: dict = cfg.model.get("cls_head") or {}
    backbone = (cfg.model.get("backbone") or {}).get("type")
    model = cfg.model.type + (f" with {backbone}" if backbone else "")
    steps = next((key for key in ("max_epochs", "max_iters") if cfg.train_cfg.get(key)), None)
    length = f", {cfg.train_cfg[steps]} {steps[4:-1]}(s)" if steps else ""
    classes = f", {head['num_classes']} classes" if "num_classes" in head else ""
    logger.info("training: %s%s%s", model, classes, length)
    for split, dataset in split_datasets(cfg):
        if split != "test" and dataset.type in annotations.TYPES:
            what = "videos" if dataset.type == "VideoDataset" else "stretches"
            num = annotations.count_annotations(dataset.ann_file)
            logger.info("%s: %d %s of %s", split, num, what, dataset.ann_file)
    logger.info("work directory: %s", cfg.work_dir)
    for line in trackers:
        logger.info(line)


def log_choices(cfg: Config) -> None:
    """Logs the device, precision, workers, weights and learning rate, each with its reason."""
    wrapper, loader = cfg.optim_wrapper, cfg.train_dataloader
    logger.info("device: %s", hardware.describe_device())
    precision = wrapper.get("dtype", hardware.DTYPES["fp32"])
    logger.info("precision: %s (%s)", precision, reason_for(cfg, "optim_wrapper.dtype"))
    reason = reason_for(cfg, "train_dataloader.num_workers")
    logger.info("loader workers: %s (%s)", loader.num_workers, reason)
    logger.info("learning rate: %s", describe_learning_rate(cfg))
    weights = cfg.get("load_from") or cfg.get("initial_weights")
    if cfg.get("resume"):
        logger.info("weights: resumed from %s", cfg.load_from or f"the last in {cfg.work_dir}")
    elif weights == "random":
        logger.warning(
            "*** RANDOM WEIGHTS: no pretrained recognizer in checkpoints/ or none wanted; %s ***",
            GET_WEIGHTS,
        )
    else:
        logger.info("weights: %s", weights)
