"""Overrides of the training: initial weights, schedule, batch size, learning rate."""

import gc
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from .. import dataset as datasets
from .. import hardware
from ..compat.mm import DATASETS, MODELS, Config, init_default_scope, pseudo_collate
from ..errors import UserError
from ..hooks.precision import fit_for_autocast
from ..pipeline import split_datasets
from ..runs import WORK_DIRS, first_weights, last_checkpoint, newest_checkpoint
from .registry import OVERRIDES, add_hook, comes_after, use_plugin

BASE_BATCH_SIZE = 256  # stock TSN's 8 GPUs x 32 videos, which its learning rates belong to
CPU_BATCH_SIZE = 8
RANDOM = "random"  # what `initial_weights` says of a run that starts from random weights
# What stays free: fragments, the other processes' contexts, a validation with larger views.
MEMORY_SHARE = 0.85
STEPS = 2  # the first one makes the optimizer's state, which the second has to fit beside
VIDEOS_TRIED = 10  # for a sample to train on, until one can be read
logger = logging.getLogger("mmact_tiny")


@OVERRIDES.register_module()
def pretrained(
    cfg: Config,
    weights: str = "auto",
    search: str | None = None,
    scratch: str | None = None,
    resume: bool | str | None = None,
    work_dir: str | None = None,
    origin: str | None = None,
) -> None:
    """Chooses the weights that training starts from, or that are tested.

    Recognizer weights replace every backbone weight and random ones need none, so with both the
    ImageNet download of the stock config (`model.backbone.pretrained`) is switched off. The config
    notes under `initial_weights` what the run started from; no override reads it.

    Args:
        weights: `auto` (the file that `search` finds, else random), `none` (random), `imagenet`
            (leave the backbone's own), or a path or URL of recognizer weights.
        search: Pattern of the files that `auto` takes. By default the published weights of the
            config by name: `checkpoints/<config stem>_*.pth`.
        scratch: Config for random weights. Where the run starts from them, or once started, or a
            test is of such a run, `load_config` lays its lines over the config before any
            override is applied.
        resume: True to go on from the newest checkpoint in the work directory, if there is one,
            or the checkpoint to go on from.
        work_dir: Where True looks, by default as `run` has it.
        origin: What the run that is resumed, or whose weights are tested, once started from, by
            default as the checkpoint that is resumed says.
    """
    cfg.initial_weights = find_weights(cfg, weights, search, resume, work_dir, origin)
    checkpoint = _resumed_checkpoint(cfg, resume, work_dir)
    named = checkpoint is None and weights not in ("auto", "none")
    start = weights if named else cfg.initial_weights
    cfg.load_from = None if start in (RANDOM, "imagenet") else start
    if start != "imagenet" and cfg.model.get("backbone", {}).get("pretrained"):
        cfg.model.backbone.pretrained = None
    cfg.resume = checkpoint is not None
    if checkpoint is not None:
        # For True stock looks into the work directory itself, so the dump can be run again.
        cfg.load_from = resume if isinstance(resume, str) else None
    elif resume:
        folder = _folder_of(cfg, work_dir)
        logger.info("no checkpoint in %s to resume from: starting from the beginning", folder)


def find_weights(
    cfg: Config,
    weights: str = "auto",
    search: str | None = None,
    resume: bool | str | None = None,
    work_dir: str | None = None,
    origin: str | None = None,
) -> str:
    """Returns what a run starts from, or once started: `random`, `imagenet`, a path or URL.

    The arguments are those of `pretrained`. A resumed run started from what its checkpoint says,
    whatever `weights` would find today.

    Raises:
        UserError: no such file.
    """
    if origin is not None:
        return origin
    checkpoint = _resumed_checkpoint(cfg, resume, work_dir)
    if checkpoint is not None:
        if not isinstance(resume, str):
            checkpoint = newest_checkpoint(_folder_of(cfg, work_dir)) or checkpoint
        weights = first_weights(checkpoint) or weights
    if weights == "auto":
        pattern = Path(search or f"checkpoints/{Path(cfg.filename).stem}_*.pth")
        found = Path(pattern.anchor).glob(str(pattern.relative_to(pattern.anchor)))
        weights = max(map(str, found), default=RANDOM)
    named = weights not in (RANDOM, "none", "imagenet") and "://" not in weights
    if checkpoint is None and named and not Path(weights).is_file():
        raise UserError(
            f"no pretrained weights {weights}\n"
            "  get them with: python tools/download.py tsn_r50_k400 (--list names more)\n"
            "  or train from random weights: --pretrained none"
        )
    return RANDOM if weights == "none" else weights


def _resumed_checkpoint(
    cfg: Config, resume: bool | str | None, work_dir: str | None
) -> str | Path | None:
    """Returns a checkpoint of the run to go on with, unread; None starts from the beginning."""
    if not isinstance(resume, str):
        return last_checkpoint(_folder_of(cfg, work_dir)) if resume else None
    if not Path(resume).is_file():
        raise UserError(f"no checkpoint {resume} to resume from")
    return resume


def _folder_of(cfg: Config, work_dir: str | None) -> str:
    return work_dir or cfg.get("work_dir") or default_work_dir(cfg)


def default_work_dir(cfg: Config) -> str:
    """Returns `work_dirs/<config stem>`."""
    return f"{WORK_DIRS}/{Path(cfg.filename).stem}"


@OVERRIDES.register_module()
def zero_init_residual(cfg: Config) -> None:
    """Starts each residual block of a ResNet as the identity, where no weights are loaded."""
    use_plugin(cfg, "mmact_tiny.hooks")
    add_hook(cfg, "ZeroInitResidualHook")


@OVERRIDES.register_module()
def schedule(cfg: Config, max_epochs: int) -> None:
    """Sets the number of epochs and rescales every scheduler that counts in epochs.

    Left alone, stock's milestones (40 and 80 of 100 epochs) would never fire in a short run.
    """
    if cfg.train_cfg.get("max_epochs") is None:
        raise UserError(f"schedule counts epochs; train_cfg is {dict(cfg.train_cfg)}")
    if max_epochs < 1:
        raise UserError(f"max_epochs={max_epochs}: expected 1 or more")
    ratio = max_epochs / cfg.train_cfg.max_epochs
    cfg.train_cfg.max_epochs = max_epochs
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
        cfg.param_scheduler = [
            s for s in schedulers if s.get("begin", 0) < s.get("end", max_epochs)
        ]


@OVERRIDES.register_module()
@comes_after("dataset_paths", "input_size")
def batch_size(
    cfg: Config,
    train: int | str | None = None,
    val: int | None = None,
    test: int | None = None,
    accumulate: int | None = None,
) -> None:
    """Sets the batch sizes, each at least 1 and at most its dataset.

    Args:
        train: Videos a process and step; by default stock's, made for a GPU, or 8 on a CPU;
            `auto` tries what fits in the GPU's memory, which a CPU has none of.
        val: Videos a step in validation, by default as in training.
        test: Videos a step in testing, by default the config's: a test video has many views.
        accumulate: Steps whose gradients are added up before the weights change, by default the
            config's; the learning rate counts them.
    """
    if train == "auto" and hardware.has_cuda():
        ann_file = next(split_datasets(cfg))[1].ann_file
        train = fit_batch(cfg, len(datasets.read_annotations(ann_file)))
    if train in (None, "auto"):
        train = cfg.train_dataloader.batch_size if hardware.has_cuda() else CPU_BATCH_SIZE
    wanted = {"train": train, "val": train if val is None else val, "test": test}
    for key, value in {**wanted, "accumulate": accumulate}.items():
        if value is not None and (isinstance(value, bool) or not isinstance(value, int)):
            raise UserError(f"batch_size {key}={value!r}: expected a whole number or 'auto'")
        if value is not None and value < 1:
            raise UserError(f"batch_size {key}={value}: expected 1 or more")
    for split, dataset in split_datasets(cfg):
        loader = cfg[f"{split}_dataloader"]
        size = wanted[split] or loader.batch_size
        num_videos = len(datasets.read_annotations(dataset.ann_file))
        loader.batch_size = max(1, min(size, num_videos))
    if accumulate is not None and accumulate != accumulated_steps(cfg):
        cfg.optim_wrapper.accumulative_counts = accumulate


@OVERRIDES.register_module()
def learning_rate(cfg: Config, lr: float | None = None) -> None:
    """Has the Runner scale the learning rate with the real batch.

    The rule is `lr * batch size * processes * accumulated steps / base_batch_size` (linear scaling,
    Goyal et al. 2017, arXiv 1706.02677). The base batch size is the config's own, which its rate
    was chosen for, or 256 where it has none. `count_accumulation` puts the steps in.

    Args:
        lr: Rate at the base batch size, by default the config's.
    """
    optimizer = cfg.optim_wrapper.optimizer
    if lr is not None:
        optimizer.lr = lr
    if not isinstance(optimizer.lr, (int, float)) or not optimizer.lr > 0:
        raise UserError(f"lr={optimizer.lr}: expected a positive number")
    base = {"base_batch_size": BASE_BATCH_SIZE, **(cfg.get("auto_scale_lr") or {})}
    cfg.auto_scale_lr = dict(base, enable=True)


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


def largest_batch(fits: Callable[[int], bool], limit: int) -> int:
    """Returns the largest power of two up to `limit` that fits, or `limit` where that fits too.

    Args:
        fits: Whether a batch of so many videos fits; not asked again above one that does not.
        limit: Number of videos of the dataset.

    Raises:
        UserError: not even one video fits.
    """
    if not fits(1):
        raise UserError(
            "batch_size auto: the training step of one video does not fit in the device's memory\n"
            "  use a smaller model, input_size, or fewer clips"
        )
    size = 1
    while size < limit and fits(min(2 * size, limit)):
        size = min(2 * size, limit)
    return size


class TrainingStep:
    """A config's model with one sample, to run the training step of any batch size.

    Args:
        cfg: A config whose dataset, classes and model are set.
        device: Where it trains.
        memory_bytes: What a step may take there, by default most of a GPU's memory.
    """

    def __init__(self, cfg: Config, device: str, memory_bytes: int | None = None) -> None:
        init_default_scope("mmaction")
        self.device = torch.device(device)
        self.memory_bytes = memory_bytes
        if memory_bytes is None and self.device.type == "cuda":
            total = torch.cuda.get_device_properties(self.device).total_memory
            self.memory_bytes = int(total * MEMORY_SHARE)
        self.sample = _first_sample(cfg)
        precision, _ = hardware.choose_precision("auto", cuda=self.device.type == "cuda")
        self.dtype = getattr(torch, hardware.DTYPES[precision])
        self.model = MODELS.build(cfg.model).to(self.device)
        fit_for_autocast(self.model)
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.0, momentum=0.9)

    def fits(self, batch_size: int) -> bool:
        """Returns whether a training step of so many videos stays within the memory."""
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
        try:
            for _ in range(STEPS):
                self._run(batch_size)
        except torch.OutOfMemoryError:
            return False
        finally:
            self.optimizer.zero_grad(set_to_none=True)
            gc.collect()
            if self.device.type == "cuda":
                torch.cuda.empty_cache()
        if self.memory_bytes is None or self.device.type != "cuda":
            return True
        return torch.cuda.max_memory_reserved(self.device) <= self.memory_bytes

    def _run(self, batch_size: int) -> None:
        self.model.train()
        with torch.autocast(self.device.type, dtype=self.dtype, enabled=self.dtype.itemsize < 4):
            data = self.model.data_preprocessor(pseudo_collate([self.sample] * batch_size), True)
            losses = self.model(**data, mode="loss")
        loss, _ = self.model.parse_losses(losses)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()


def _first_sample(cfg: Config) -> Any:
    """Returns a training sample of a video that can be read."""
    dataset = DATASETS.build(cfg.train_dataloader.dataset)
    for index in range(min(VIDEOS_TRIED, len(dataset))):
        try:
            return dataset[index]
        except Exception as error:  # whatever a decoder throws at a broken file
            logger.warning("batch_size auto: passed over a video: %s", error)
    raise UserError("batch_size auto: none of the first training videos can be read")


def fit_batch(cfg: Config, limit: int) -> int:
    """Returns the largest batch for this process's GPU, and logs it."""
    device = f"cuda:{hardware.local_rank()}"
    size = largest_batch(TrainingStep(cfg, device).fits, limit)
    logger.info("batch size: %d videos fit in the memory of %s (of %d)", size, device, limit)
    return size
