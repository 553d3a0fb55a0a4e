"""Overrides of the training: initial weights, schedule, learning rate, machine, run."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .. import hardware
from ..compat.mm import Config, ConfigDict
from ..errors import UserError
from ..runs import WORK_DIRS, first_weights, newest_checkpoint
from .cache import time_epochs
from .registry import OVERRIDES, SPLITS, add_hook, from_scratch, use_plugin
from .tracking import log_epoch_means, use_trackers

BASE_BATCH_SIZE = 256  # stock's 8 GPUs x 32 videos, which its learning rates belong to
logger = logging.getLogger("mmact_tiny")


@OVERRIDES.register_module()
def pretrained(
    cfg: Config,
    weights: str = "auto",
    search: str | None = None,
    resume: bool | str | None = None,
    work_dir: str | None = None,
    origin: str | None = None,
) -> None:
    """Chooses the weights that training starts from, or that are tested.

    Recognizer weights replace every backbone weight and random ones need none, so with both the
    ImageNet download of the stock config (`model.backbone.pretrained`) is switched off.

    Args:
        weights: `auto` (the file that `search` finds, else random), `none` (random), `imagenet`
            (leave the backbone's own), or a path or URL of recognizer weights.
        search: Pattern of the files that `auto` takes. By default the published weights of the
            config by name: `checkpoints/<config stem>_*.pth`.
        resume: True to go on from the newest checkpoint in the work directory, if there is one,
            or the checkpoint to go on from. `initial_weights` is then what the run once started
            from, whatever `weights` would find today: schedule and learning rate hang on it.
        work_dir: Where True looks, by default as `run` has it.
        origin: What the run of `weights` once started from, as `first_weights` tells, where those
            are to be tested: the size of their input hangs on it.
    """
    checkpoint = _resumed_checkpoint(cfg, resume, work_dir)
    if checkpoint is not None:
        weights = first_weights(checkpoint) or weights
        weights = "none" if weights == "random" else weights
    if weights == "auto":
        search = search or f"checkpoints/{Path(cfg.filename).stem}_*.pth"
        found = sorted(Path().glob(search))
        weights = str(found[-1]) if found else "none"
    elif (
        checkpoint is None
        and weights not in ("none", "imagenet")
        and "://" not in weights
        and not Path(weights).is_file()
    ):
        raise UserError(
            f"no pretrained weights {weights}\n"
            "  get them with: python tools/download.py tsn_r50_k400 (--list names more)\n"
            "  or train from random weights: --pretrained none"
        )
    cfg.initial_weights = origin or ("random" if weights == "none" else weights)
    cfg.load_from = None if weights in ("none", "imagenet") else weights
    if weights == "none":
        use_plugin(cfg, "mmact_tiny.hooks")
        add_hook(cfg, "ZeroInitResidualHook")
    if weights != "imagenet" and cfg.model.get("backbone", {}).get("pretrained"):
        cfg.model.backbone.pretrained = None
    cfg.resume = checkpoint is not None
    if checkpoint is not None:
        # For True stock looks into the work directory itself, so the dump can be run again.
        cfg.load_from = resume if isinstance(resume, str) else None


def _resumed_checkpoint(
    cfg: Config, resume: bool | str | None, work_dir: str | None
) -> str | Path | None:
    """Returns the checkpoint to go on from; None starts from the beginning."""
    if not resume:
        return None
    if isinstance(resume, str):
        if not Path(resume).is_file():
            raise UserError(f"no checkpoint {resume} to resume from")
        return resume
    folder = work_dir or cfg.get("work_dir") or default_work_dir(cfg)
    found = newest_checkpoint(folder)
    if found is None:
        logger.info("no checkpoint in %s to resume from: starting from the beginning", folder)
    return found


def default_work_dir(cfg: Config) -> str:
    """Returns `work_dirs/<config stem>`."""
    return f"{WORK_DIRS}/{Path(cfg.filename).stem}"


@OVERRIDES.register_module()
def schedule(cfg: Config, max_epochs: int, scratch_epochs: int | None = None) -> None:
    """Sets the number of epochs and rescales every scheduler that counts in epochs.

    Left alone, stock's milestones (40 and 80 of 100 epochs) would never fire in a short run.

    Args:
        max_epochs: Epochs of a run that starts from trained weights.
        scratch_epochs: Epochs from random weights, where more are needed.
    """
    if cfg.train_cfg.get("max_epochs") is None:
        raise UserError(f"schedule counts epochs; train_cfg is {dict(cfg.train_cfg)}")
    epochs = scratch_epochs if scratch_epochs and from_scratch(cfg) else max_epochs
    if epochs < 1:
        raise UserError(f"max_epochs={epochs}: expected 1 or more")
    ratio = epochs / cfg.train_cfg.max_epochs
    cfg.train_cfg.max_epochs = epochs
    if ratio == 1:
        return

    def rescale(epoch: int) -> int:
        return max(1, round(epoch * ratio)) if epoch else 0

    schedulers = cfg.get("param_scheduler") or []
    for scheduler in schedulers if isinstance(schedulers, list) else [schedulers]:
        if not scheduler.get("by_epoch", True):
            continue
        for key in ("begin", "end", "T_max", "step_size"):
            if scheduler.get(key):
                scheduler[key] = rescale(scheduler[key])
        if "milestones" in scheduler:
            scheduler.milestones = [rescale(epoch) for epoch in scheduler.milestones]
    if isinstance(schedulers, list):  # a warm-up as long as the run leaves nothing for the rest
        cfg.param_scheduler = [s for s in schedulers if s.get("begin", 0) < s.get("end", epochs)]


@OVERRIDES.register_module()
def learning_rate(
    cfg: Config, lr: float | None = None, scratch: Mapping[str, Any] | None = None
) -> None:
    """Sets the rate for a batch of 256 and lets the Runner scale it with the real batch.

    The rule is `lr * batch size * processes * accumulated steps / 256` (linear scaling, Goyal et
    al. 2017, arXiv 1706.02677). Stock's `scale_lr` leaves accumulated steps out, so they divide
    the base batch size instead.

    Args:
        lr: Rate at a batch of 256, by default the config's.
        scratch: The whole optimizer of a run from random weights, `dict(type=..., lr=...)` with
            its rate at a batch of 256, by default the config's.
    """
    optimizer = cfg.optim_wrapper.optimizer
    if scratch is not None and from_scratch(cfg):
        if "lr" not in scratch or "type" not in scratch:
            raise UserError(f"learning_rate scratch={dict(scratch)}: expected type and lr in it")
        cfg.optim_wrapper.optimizer = optimizer = ConfigDict(scratch)
    elif lr is not None:
        optimizer.lr = lr
    if not isinstance(optimizer.lr, (int, float)) or not optimizer.lr > 0:
        raise UserError(f"lr={optimizer.lr}: expected a positive number")
    base = BASE_BATCH_SIZE / cfg.optim_wrapper.get("accumulative_counts", 1)
    cfg.auto_scale_lr = dict(enable=True, base_batch_size=int(base) if base % 1 == 0 else base)


@OVERRIDES.register_module(name="hardware")
def hardware_override(cfg: Config, precision: str = "auto", num_workers: int | None = None) -> None:
    """Fits the run to the machine: precision, memory format, loader workers, process backend.

    Args:
        precision: `auto`, `fp32`, `bf16` or `fp16`, of the forward pass in training.
        num_workers: Loader processes for each training process, by default from the CPU cores.
    """
    chosen, _ = hardware.choose_precision(precision)
    cuda = hardware.has_cuda()
    wrapper = cfg.optim_wrapper
    if chosen == "fp32":
        wrapper.type = "OptimWrapper"
        wrapper.pop("dtype", None)
    else:
        wrapper.type = "AmpOptimWrapper" if cuda else "CpuAmpOptimWrapper"
        wrapper.dtype = hardware.DTYPES[chosen]
    if wrapper.type != "AmpOptimWrapper":
        wrapper.pop("loss_scale", None)
    if num_workers is None:
        num_workers, _ = hardware.choose_num_workers()
    if num_workers < 0:
        raise UserError(f"num_workers={num_workers}: expected 0 or more")
    for split in SPLITS:
        loader = cfg.get(f"{split}_dataloader")
        if loader is not None:
            loader.num_workers = num_workers
            loader.persistent_workers = num_workers > 0
            loader.pin_memory = cuda
    cfg.env_cfg.dist_cfg.backend = "nccl" if cuda else "gloo"
    use_plugin(cfg, "mmact_tiny.hooks")
    add_hook(cfg, "PrecisionHook")
    time_epochs(cfg)


@OVERRIDES.register_module()
def run(
    cfg: Config,
    work_dir: str | None = None,
    seed: int | None = None,
    deterministic: bool | None = None,
    launcher: str | None = None,
    track: list | None = None,
) -> None:
    """Sets what belongs to this run alone, and has its log tell the means of each epoch.

    Args:
        work_dir: Folder of its logs and checkpoints, by default `work_dirs/<config stem>`.
        seed: Seed of every random generator.
        deterministic: Whether PyTorch may use only deterministic algorithms.
        launcher: none, pytorch, slurm or mpi.
        track: Trackers to log to: tensorboard, wandb, mlflow; by default the config's.
    """
    if work_dir is not None and (not work_dir.strip() or "\0" in work_dir):
        raise UserError(f"--work-dir {work_dir!r}: expected the name of a folder")
    cfg.work_dir = work_dir or cfg.get("work_dir") or default_work_dir(cfg)
    log_epoch_means(cfg)
    if track is not None:
        use_trackers(cfg, track)
    randomness = dict(cfg.get("randomness") or {})
    if seed is not None:
        randomness["seed"] = seed
    if deterministic is not None:
        randomness["deterministic"] = deterministic
    if randomness:
        cfg.randomness = randomness
    if launcher is not None:
        if launcher not in hardware.LAUNCHERS:
            raise UserError(f"launcher {launcher!r}: expected {', '.join(hardware.LAUNCHERS)}")
        cfg.launcher = launcher
        if launcher != "none" and not hardware.has_cuda():
            # Without it MMEngine gives DistributedDataParallel a GPU's index.
            cfg.model_wrapper_cfg = dict(
                type="MMDistributedDataParallel",
                device_ids=None,
                broadcast_buffers=False,
                find_unused_parameters=cfg.get("find_unused_parameters", False),
            )
