"""Scales the learning rate with the real batch: the override, and what it comes to."""

import logging
import re
from pathlib import Path

from .. import hardware
from ..compat import Config
from ..errors import UserError
from .registry import OVERRIDES, comes_after

BASE_BATCH_SIZE = 256  # stock TSN's 8 GPUs x 32 videos, which its learning rates belong to
# GPUs x videos in a stock config's name, as MMAction2's documentation has it: `_8xb32-`.
GPUS_AND_VIDEOS = re.compile(r"_(\d+)xb(\d+)[-_]")
logger = logging.getLogger("mmact_tiny")


@OVERRIDES.register_module()
@comes_after("recipe")
def learning_rate(cfg: Config, lr: float | None = None, scale: bool = True) -> None:
    """Has the Runner scale the learning rate with the real batch.

    The rule is `lr * batch size * processes * accumulated steps / base_batch_size` (linear scaling,
    Goyal et al. 2017, arXiv 1706.02677). The base batch size is the config's own, which its rate
    was chosen for; where it has none the one in the stock config's name, else 256.
    `count_accumulation` puts the steps in. A cosine's `eta_min` becomes its part of the rate, so
    that it is scaled as well: a small batch would end above where it began.

    Args:
        lr: Rate at the base batch size, by default the config's.
        scale: Whether the rate follows the batch. The rule assumes that the run has as many epochs;
            on few videos a small batch at a small rate makes few steps, and these lead nowhere.
    """
    optimizer = cfg.optim_wrapper.optimizer
    if lr is not None:
        optimizer.lr = lr
    if not isinstance(optimizer.lr, (int, float)) or not optimizer.lr > 0:
        raise UserError(f"lr={optimizer.lr}: expected a positive number")
    base = {"base_batch_size": _named_batch_size(cfg), **(cfg.get("auto_scale_lr") or {})}
    cfg.auto_scale_lr = dict(base, enable=scale)
    schedulers = cfg.get("param_scheduler") or []
    for scheduler in schedulers if isinstance(schedulers, list) else [schedulers]:
        if scheduler.get("eta_min"):
            scheduler.eta_min_ratio = scheduler.pop("eta_min") / optimizer.lr


def _named_batch_size(cfg: Config) -> int:
    """Returns the batch size in the name of the stock config that a config starts from."""
    for name in (*cfg.get("stock_base", ()), cfg.filename or ""):
        named = GPUS_AND_VIDEOS.search(Path(name).name)
        if named:
            return int(named[1]) * int(named[2])
    return BASE_BATCH_SIZE


def accumulated_steps(cfg: Config) -> int:
    """Returns how many steps' gradients are added up before the weights change."""
    return (cfg.get("optim_wrapper") or {}).get("accumulative_counts", 1)


def count_accumulation(cfg: Config, counted: int = 1) -> None:
    """Divides the base batch size by the accumulated steps, which stock's `scale_lr` leaves out.

    The config then notes them beside it, so that its dump is not divided again. Comes last, for
    accumulation may be set anywhere: by the config, by `batch_size` or by a flag.

    Args:
        counted: Steps that the base batch size of a config without such a note is divided by.
    """
    scale, steps = cfg.get("auto_scale_lr") or {}, accumulated_steps(cfg)
    counted = scale.get("accumulative_counts", counted)
    if not scale.get("enable") or steps == counted or steps < 1:
        return
    base = scale["base_batch_size"] * counted / steps
    base = int(base) if base == int(base) else base
    cfg.auto_scale_lr = dict(scale, base_batch_size=base, accumulative_counts=steps)
    logger.info("base batch size: %g, for gradients of %d step(s) are added up", base, steps)


def describe_learning_rate(cfg: Config) -> str:
    """Returns the rate that the Runner will set, and the rule that gives it."""
    lr = cfg.optim_wrapper.optimizer.lr
    scale = cfg.get("auto_scale_lr") or {}
    if not scale.get("enable"):
        return f"{lr:g} (not scaled)"
    world = hardware.world_size() if cfg.get("launcher", "none") != "none" else 1
    batch, base = cfg.train_dataloader.batch_size, scale["base_batch_size"]
    steps = accumulated_steps(cfg)
    rate = lr * batch * world / base
    rule = f"{rate:g} = {lr:g} * batch {batch} * {world} process(es)"
    if steps > 1:
        return f"{rule} * {steps} accumulated steps / {base * steps:g}"
    return f"{rule} / {base:g}"
