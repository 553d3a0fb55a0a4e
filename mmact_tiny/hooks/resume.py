"""Completes what stock MMEngine saves of a run and restores, so that a resumed run is exact."""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypedDict

import torch

from ..compat import (
    HOOKS,
    CheckpointHook,
    EarlyStoppingHook,
    EpochBasedTrainLoop,
    Hook,
    Runner,
    ValLoop,
    get_rank,
    get_world_size,
    is_main_process,
)
from ..errors import UserError
from ..files import write_atomically
from ..hardware import MAX_SEED
from ..log import SHOWN
from ..runs import checkpoint_number
from ._mmengine import is_resumed, loop_of
from .dataset import seed_generators
from .guard import GuardedLoader
from .processes import State, gather_states, own_state, restore_state

RATES = ("lr", "momentum", "weight_decay", "betas", "eps", "nesterov")
# Of a scheduler's state: what moves with the run, and what follows from the rates.
MOVING = ("last_step", "_global_step", "_last_value", "verbose", "base_values")
# What a checkpoint that does not fit the run makes of restoring it.
UNFIT = (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)


class LogPlace(TypedDict):
    """How long a run's log was when it was saved; `path` is relative to the work directory."""

    path: str
    bytes: int


class Progress(TypedDict):
    """What `ResumeHook` adds to a checkpoint; the order of batches depends on the first three."""

    batch_size: int
    num_videos: int
    num_processes: int
    batches: int  # done of the epoch
    log: LogPlace
    states: Sequence[State]  # what each process has of its own
    stopping: list[tuple[int, float, bool]]  # what each `EarlyStoppingHook` has counted


def check_resumable(checkpoint: dict, path: str | Path, runner: Runner) -> None:
    """Compares a checkpoint with the run that is to go on from it.

    Warns where the optimizer or the schedule of the config are others: stock goes on with those
    of the checkpoint; but another number of epochs has the schedule of that number from here on.

    Raises:
        UserError: what is missing, as in a best or published checkpoint, or does not fit.
    """
    needed = ("state_dict", "meta", "message_hub", "optimizer")
    missing = [key for key in needed if key not in checkpoint]
    if missing:
        raise UserError(
            f"cannot resume from checkpoint {path}: it has no {', '.join(missing)}. Resume from "
            "an epoch_*.pth or iter_*.pth, or start a new run with its weights (load_from)"
        )
    wrong = _misfit(checkpoint, runner)
    if wrong is None and _has_other_length(checkpoint, runner):
        reschedule(checkpoint, runner)
    wrong = wrong or _other_schedule(checkpoint, runner)
    if wrong:
        raise UserError(
            f"cannot resume from checkpoint {path}: {wrong}. Resume with the config that it was "
            "trained with, or start a new run with its weights (load_from)"
        )
    changed = _changed_settings(checkpoint, runner)
    if changed:
        message = "resumed with the checkpoint's, not the config's: %s"
        runner.logger.warning(message, "; ".join(changed), extra=SHOWN)


def _misfit(checkpoint: dict, runner: Runner) -> str | None:
    """Returns what of the seed, place, optimizer or length does not fit the run, if anything."""
    for key in ("seed", "epoch", "iter"):
        number = checkpoint["meta"].get(key)
        fits = type(number) is int and 0 <= number <= MAX_SEED
        if not fits and (key, number) != ("seed", None):
            return f"its {key} is {number!r:.40}"
    done, most = checkpoint["meta"]["epoch"], getattr(loop_of(runner, "train"), "max_epochs", None)
    if most and done + bool((checkpoint.get("progress") or {}).get("batches")) > most:
        return f"it is past epoch {most}, the last of this run; --epochs {done + 1} would go on"
    saved, own = checkpoint["optimizer"], runner.optim_wrapper.state_dict()
    if "param_groups" not in own:  # several optimizers
        return None
    groups = saved.get("param_groups") if isinstance(saved, dict) else None
    if not isinstance(groups, list) or not all(isinstance(group, dict) for group in groups):
        return "its optimizer has no groups of parameters"
    sizes = [len(group.get("params") or ()) for group in groups]
    own_sizes = [len(group["params"]) for group in own["param_groups"]]
    if sizes != own_sizes:
        return f"its optimizer has groups of {sizes} parameters, the config's of {own_sizes}"
    unknown = sorted(own["param_groups"][0].keys() - groups[0].keys() - {"initial_lr"})
    if unknown:
        return f"its optimizer is of another type, without {', '.join(unknown)}"
    return None


def _other_schedule(checkpoint: dict, runner: Runner) -> str | None:
    """Returns how the checkpoint's schedule does not fit the run's, if it does not."""
    schedulers, own = checkpoint.get("param_schedulers") or [], runner.param_schedulers
    if isinstance(own, list) and len(schedulers) != len(own):
        return f"it has {len(schedulers)} schedulers, the config {len(own)}"
    return None


def _has_other_length(checkpoint: dict, runner: Runner) -> bool:
    """Returns whether the checkpoint's run was to have another number of epochs."""
    had = (checkpoint["message_hub"].get("runtime_info") or {}).get("max_epochs")
    if had is None or not runner.cfg.get("param_scheduler"):  # a Runner of no config file
        return False
    schedulers, loop = runner.param_schedulers, loop_of(runner, "train")
    by_metrics = any(getattr(one, "need_val_args", False) for one in schedulers or ())
    is_usual = isinstance(loop, EpochBasedTrainLoop) and isinstance(schedulers, list)
    is_built = is_usual and not any(isinstance(one, dict) for one in schedulers)
    return is_built and not by_metrics and had != loop.max_epochs


def reschedule(checkpoint: dict, runner: Runner) -> None:
    """Sets a checkpoint's schedule to where a run of the config's number of epochs would be.

    From here on the rates are those of that run. Stock goes on with the checkpoint's schedule,
    which is at its end or past it: further epochs would have its smallest rate.
    """
    groups, state = runner.optim_wrapper.param_groups, checkpoint["optimizer"]
    base = state.get("base_param_settings")  # stock's, beside several groups
    saved = [*state["param_groups"], *([base] if base else [])]
    before, own = saved[0]["lr"], [dict(group) for group in groups]
    for group, theirs in zip(groups, saved, strict=True):
        for key in [key for key in theirs if f"initial_{key}" in theirs]:
            group[key] = group[f"initial_{key}"] = theirs[f"initial_{key}"]
    schedulers = runner.build_param_scheduler(runner.cfg.param_scheduler)
    length, epochs = len(runner.train_loop.dataloader), checkpoint["meta"]["epoch"]
    batches = (checkpoint.get("progress") or {}).get("batches", 0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that no optimizer steps
        for iteration in range(1, epochs * length + batches + 1):
            ends_epoch = iteration % length == 0 and iteration <= epochs * length
            for by_epoch in (False, True) if ends_epoch else (False,):
                for scheduler in schedulers:
                    if scheduler.by_epoch is by_epoch:
                        scheduler.step()
    for group, theirs, kept in zip(groups, saved, own, strict=True):
        theirs.update({key: group[key] for key in theirs if f"initial_{key}" in theirs})
        group.update(kept)
    runner.param_schedulers = schedulers
    checkpoint["param_schedulers"] = [scheduler.state_dict() for scheduler in schedulers]
    runner.logger.warning(
        "resumed for %d epochs: from here on the rates of a run of so many (%g, was %g)",
        runner.train_loop.max_epochs,
        saved[0]["lr"],
        before,
        extra=SHOWN,
    )


def _changed_settings(checkpoint: dict, runner: Runner) -> list[str]:
    """Returns `lr 0.01, not 0.02` for each of the config's values that the checkpoint changes."""
    pairs: list[tuple[str, dict, dict]] = []  # a name, the config's state, the checkpoint's
    if groups := runner.optim_wrapper.state_dict().get("param_groups"):
        first = (groups[0], checkpoint["optimizer"]["param_groups"][0])
        own, saved = (group | {"lr": group.get("initial_lr", group["lr"])} for group in first)
        pairs.append(("", {key: own[key] for key in RATES if key in own}, saved))
    if isinstance(runner.param_schedulers, list):
        schedulers = checkpoint.get("param_schedulers") or []
        for scheduler, saved in zip(runner.param_schedulers, schedulers, strict=True):
            if not isinstance(scheduler, dict):  # built later, where a program resumes by itself
                own = {key: v for key, v in scheduler.state_dict().items() if key not in MOVING}
                pairs.append((f"{type(scheduler).__name__} ", own, saved))
    return [
        f"{name}{key} {_short(saved[key])}, not {_short(value)}"
        for name, own, saved in pairs
        for key, value in own.items()
        if key in saved and saved[key] != value
    ]


def _short(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def save_progress(runner: Runner, num_iters: int, states: Sequence[State] | None = None) -> Path:
    """Saves a run after `num_iters` iterations as `iter_N.pth`, then removes the older ones.

    All processes of a job have to call, unless `states` has what `gather_states` gave.

    Raises:
        UserError: it cannot be written; what was there is as before.
    """
    folder = Path(runner.work_dir)
    path = folder / f"iter_{num_iters}.pth"
    meta = dict(epoch=runner.epoch, iter=num_iters, states=states or gather_states(runner))
    runner.save_checkpoint(runner.work_dir, path.name, meta=meta, by_epoch=False)
    if is_main_process():
        write_atomically(str(path).encode(), folder / "last_checkpoint")
        _remove_progress(runner, before=num_iters)
    return path


def _remove_progress(runner: Runner, before: int) -> None:
    for old in Path(runner.work_dir).glob("iter_*.pth"):
        if checkpoint_number(old) < before:
            old.unlink(missing_ok=True)


@HOOKS.register_module()
class ResumeHook(Hook):
    """Completes what stock saves and restores, so that a resumed run is the undisturbed one.

    Randomness is a function of the seed and of the place in the run, here for the training
    process and in `GuardedDataset` for the samples. Adds a `Progress` to each checkpoint.
    """

    priority = "LOWEST"  # the other hooks have prepared the run when this one sets it forward

    def __init__(self) -> None:
        self.batches = 0
        self.progress: Progress | None = None

    def before_train(self, runner: Runner) -> None:
        loop = runner.train_loop
        if not isinstance(loop, EpochBasedTrainLoop):
            runner.logger.warning(
                "%s: a resume goes on with the weights, the optimizer and the schedule, but reads "
                "the videos before it again and is not exact; a video that cannot be read ends "
                "the run. Use EpochBasedTrainLoop (max_epochs) for both",
                type(loop).__name__,
                extra=SHOWN,
            )
            return
        if isinstance(loop.dataloader, GuardedLoader):
            # An unseeded run draws its seed; resumed, it has the one in the checkpoint.
            loop.dataloader.draws.seed = runner.seed
            if hasattr(loop.dataloader.sampler, "seed"):
                loop.dataloader.sampler.seed = runner.seed
        if is_resumed(runner) and self.progress:
            try:
                self._restore(runner, self.progress)
            except UNFIT as error:
                raise UserError(f"cannot resume: the checkpoint's progress: {error}") from error
            if not self.batches and _validation_is_due(runner):
                runner.val_loop.run()

    def _restore(self, runner: Runner, progress: Progress) -> None:
        loop = runner.train_loop
        _restore_log(runner, progress["log"])
        for hook in _hooks_of(runner, CheckpointHook):
            hook.last_ckpt = runner.message_hub.runtime_info.get("last_ckpt")
        hooks = _hooks_of(runner, EarlyStoppingHook)
        for hook, counted in zip(hooks, progress["stopping"], strict=False):
            hook.wait_count, hook.best_score, loop.stop_training = counted
        restore_state(runner, progress["states"])
        now = _facts(runner)
        changed = {key: value for key, value in now.items() if progress[key] != value}  # type: ignore[literal-required]
        if progress["batches"] and changed:
            raise UserError(
                "cannot resume in the middle of an epoch: "
                + ", ".join(f"{k} was {progress[k]}, now {now}" for k, now in changed.items())  # type: ignore[literal-required]
                + ". Resume from an epoch_*.pth, or with what it was"
            )
        if changed:
            message = "resumed with other %s: not the same run"
            runner.logger.warning(message, ", ".join(changed), extra=SHOWN)
        self.batches = progress["batches"]
        if not 0 <= self.batches <= len(loop.dataloader):  # all of them: saved before its end
            raise ValueError(f"{self.batches} batches of an epoch of {len(loop.dataloader)}")
        if self.batches:
            loop.dataloader.skip = self.batches
            # The loop counts a pass's batches from 0; `before_train_epoch` stays as it is.
            run_iter, first = loop.run_iter, self.batches
            loop.run_iter = lambda index, batch: run_iter(first + index, batch)

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        seed_generators(runner.seed, get_rank(), runner.iter)

    def after_train_iter(self, runner: Runner, batch_idx: int, **batch: Any) -> None:
        self.batches = batch_idx + 1

    def after_train_epoch(self, runner: Runner) -> None:
        self.batches = 0
        runner.train_loop.__dict__.pop("run_iter", None)
        last = runner.message_hub.runtime_info.get("last_ckpt")
        if is_main_process() and last and Path(last).name == f"epoch_{runner.epoch + 1}.pth":
            _remove_progress(runner, before=runner.iter + 1)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Adds `progress`.

        Raises:
            UserError: a weight is not finite: nothing is written.
        """
        for name, tensor in checkpoint["state_dict"].items():
            if tensor.is_floating_point() and not torch.isfinite(tensor).all():
                raise UserError(
                    f"weight {name} is not finite after iteration {runner.iter + 1}: nothing "
                    "was saved, the checkpoints before are as they were. Lower the learning rate"
                )
        meta = checkpoint["meta"]
        states = meta.pop("states", None)
        loop, log = loop_of(runner, "train"), _scalars(runner)
        if isinstance(loop, EpochBasedTrainLoop) and "optimizer" in checkpoint:
            length = log.stat().st_size if log.is_file() else 0
            hooks = _hooks_of(runner, EarlyStoppingHook)
            checkpoint["progress"] = Progress(
                **_facts(runner),  # type: ignore[typeddict-item]
                batches=0 if meta["epoch"] > runner.epoch else self.batches,
                log=LogPlace(path=str(log.relative_to(runner.work_dir)), bytes=length),
                states=states or [own_state(runner)],
                stopping=[(h.wait_count, h.best_score, loop.stop_training) for h in hooks],
            )

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        if is_resumed(runner):
            self.progress = checkpoint.pop("progress", None)


@HOOKS.register_module()
class ValidatedHook(Hook):
    """Notes which epoch was validated, before the checkpoint of the best one is written."""

    priority = "LOW"

    def after_val_epoch(self, runner: Runner, metrics: Any = None) -> None:
        if isinstance(loop_of(runner, "train"), EpochBasedTrainLoop):
            runner.message_hub.update_info("last_validated", runner.epoch)


def _facts(runner: Runner) -> dict[str, int]:
    """Returns what the order of the batches depends on, besides seed and epoch."""
    loader = runner.train_dataloader
    return dict(
        batch_size=loader.batch_sampler.batch_size,
        num_videos=len(loader.dataset),
        num_processes=get_world_size(),
    )


def _hooks_of(runner: Runner, kind: type) -> list[Any]:
    return [hook for hook in runner.hooks if isinstance(hook, kind)]


def _validation_is_due(runner: Runner) -> bool:
    """Returns whether the epoch that ended was to be validated and was not, because of a kill."""
    loop, epoch = runner.train_loop, runner.epoch
    due = epoch % loop.val_interval == 0 or epoch == loop.max_epochs
    done = runner.message_hub.runtime_info.get("last_validated") == epoch
    begun = epoch >= max(1, loop.val_begin)
    return isinstance(runner.val_loop, ValLoop) and begun and due and not done


def _scalars(runner: Runner) -> Path:
    """Returns the file that stock's LocalVisBackend logs to."""
    return Path(runner.log_dir) / "vis_data" / "scalars.json"


def _restore_log(runner: Runner, log: LogPlace) -> None:
    """Starts this process's log with what the run had logged when it was saved."""
    if not is_main_process():
        return
    folder = Path(runner.work_dir).resolve()
    before = (folder / log["path"]).resolve()
    if not before.is_relative_to(folder) or before.name != _scalars(runner).name:
        raise ValueError(f"{log['path']!r:.80} is no log of this run")
    path = _scalars(runner)
    if before.is_file() and before != path:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(before.read_bytes()[: log["bytes"]])
