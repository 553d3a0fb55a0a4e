"""Overrides of the training: initial weights, schedule."""

import logging
from pathlib import Path

from ..checkpoints.config_text import find_downloads, shown_name, without_downloads
from ..compat import Config
from ..download import fetch_zoo
from ..errors import UserError
from ..runs import WORK_DIRS, first_weights, last_checkpoint, newest_checkpoint, say_empty
from .registry import OVERRIDES, add_hook, comes_after, use_plugin

RANDOM = "random"  # what `initial_weights` says of a run that starts from random weights
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

    Recognizer weights replace every backbone weight and random ones need none, so with both all
    that the stock config's model would fetch is switched off, as `without_downloads` has it. The
    config notes under `initial_weights` what the run started from.

    Args:
        weights: `auto` (the file that `search` finds, else random), `none` (random), `imagenet`
            (leave the config's own, whatever they were trained on), `zoo` (what MMAction2
            published of the stock config, fetched to checkpoints/), or a path or URL of
            recognizer weights.
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

    Raises:
        UserError: no such file; `imagenet` or `zoo` where the config has none of these.
    """
    own = [*find_downloads(cfg.model)]
    if cfg.get("initial_weights", "imagenet") == "imagenet" and cfg.get("load_from"):
        own.append(cfg.load_from)
    cfg.initial_weights = find_weights(cfg, weights, search, resume, work_dir, origin)
    checkpoint = _resumed_checkpoint(cfg, resume, work_dir)
    named = checkpoint is None and weights not in ("auto", "none", "zoo")
    start = weights if named else cfg.initial_weights
    if start != "imagenet":
        cfg.model = without_downloads(cfg.model)
        cfg.load_from = None if start == RANDOM else start
    elif checkpoint is None and not own:
        raise UserError(
            f"{shown_name(cfg)} has no initial weights of its own for --pretrained imagenet\n"
            "  train from random weights: --pretrained none, or name weights: --pretrained FILE"
        )
    cfg.resume = checkpoint is not None
    if checkpoint is not None:
        # For True stock looks into the work directory itself, so the dump can be run again.
        cfg.load_from = resume if isinstance(resume, str) else None
    elif resume:
        why = say_empty(_folder_of(cfg, work_dir))
        logger.info("%s to resume from: starting from the beginning", why)


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
        UserError: no such file; `zoo` has none, or it cannot be fetched.
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
    if weights == "zoo":
        weights = str(fetch_zoo(cfg.get("stock_base") or [cfg.filename]))
    named = weights not in (RANDOM, "none", "imagenet") and "://" not in weights
    if checkpoint is None and named and not Path(weights).is_file():
        raise UserError(
            f"no pretrained weights {weights}\n"
            "  get published ones: --pretrained zoo, or python tools/download.py NAME (--list)\n"
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
@comes_after("recipe")
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
        return max(1, round(epoch * ratio))

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
