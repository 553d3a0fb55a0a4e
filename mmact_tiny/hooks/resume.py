"""Completes what stock MMEngine saves of a run and restores, so that a resumed run is exact."""

import math
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypedDict

import torch

from ..compat import (
    HOOKS,
    CheckpointHook,
    DefaultSampler,
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
from ._mmengine import is_resumed, loop_of, set_max_iters
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
    accumulated: int  # iterations a step of the optimizer
    start: int  # videos of the epoch that were done when the job last had another size
    batches: int  # done of the epoch since then
    log: LogPlace
    states: Sequence[State]  # what each process has of its own
    stopping: list[tuple[int, float, bool]]  # what each `EarlyStoppingHook` has counted


def check_resumable(checkpoint: dict, path: str | Path, runner: Runner) -> None:
    """Compares a checkpoint with the run that is to go on from it.

    Warns where the optimizer or the schedule of the config are others: stock goes on with those
    of the checkpoint; but another number of epochs, or another batch of all processes, has the
    rates of such a run from here on.

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
    if wrong is None and (other := _other_pace(checkpoint, runner)):
        reschedule(checkpoint, runner, other)
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


def _other_pace(checkpoint: dict, runner: Runner) -> str:
    """Returns what of the run changes its schedule: its epochs, or how many videos a step has."""
    had = (checkpoint["message_hub"].get("runtime_info") or {}).get("max_epochs")
    if had is None or "param_groups" not in checkpoint["optimizer"]:  # several optimizers
        return ""
    loop, progress = loop_of(runner, "train"), checkpoint.get("progress") or {}
    if not isinstance(loop, EpochBasedTrainLoop):
        return ""
    words = [f"for {loop.max_epochs} epochs"] if had != loop.max_epochs else []
    changed = _changed_facts(progress, runner) if progress else {}
    words += [f"with {fact}" for key, fact in changed.items() if key != "num_videos"]
    return ", ".join(words)


def _rate_factor(progress: Any, runner: Runner) -> float:
    """Returns what the rates are multiplied with where the batch of all processes is another."""
    if not (runner.cfg.get("auto_scale_lr") or {}).get("enable") or not progress:
        return 1.0
    keys, now = ("batch_size", "num_processes", "accumulated"), _facts(runner)
    return math.prod(now[key] / progress.get(key, now[key]) for key in keys)


def reschedule(checkpoint: dict, runner: Runner, other: str) -> None:
    """Sets a checkpoint's schedule to where a run of the config's pace would be.

    From here on the rates are those of that run, scaled with the batch of all processes where the
    config says so. Stock goes on with the checkpoint's schedule: further epochs would have its
    smallest rate, and more processes the rate of fewer.

    Args:
        checkpoint, runner: As for `check_resumable`.
        other: What is different, in words.
    """
    groups, state = runner.optim_wrapper.param_groups, checkpoint["optimizer"]
    progress = checkpoint.get("progress") or {}
    base = state.get("base_param_settings")  # stock's, beside several groups
    saved = [*state["param_groups"], *([base] if base else [])]
    before, own = saved[0]["lr"], [dict(group) for group in groups]
    factor = _rate_factor(progress, runner)
    for theirs in saved:
        theirs.update({k: theirs[k] * factor for k in ("lr", "initial_lr") if k in theirs})
    if _is_rebuildable(runner):
        for group, theirs in zip(groups, saved, strict=True):
            for key in [key for key in theirs if f"initial_{key}" in theirs]:
                group[key] = group[f"initial_{key}"] = theirs[f"initial_{key}"]
        schedulers = _step_schedule(runner, checkpoint["meta"]["epoch"], _videos_done(progress))
        for group, theirs, kept in zip(groups, saved, own, strict=True):
            theirs.update({key: group[key] for key in theirs if f"initial_{key}" in theirs})
            group.update(kept)
        runner.param_schedulers = schedulers
        checkpoint["param_schedulers"] = [scheduler.state_dict() for scheduler in schedulers]
    elif factor == 1:
        return
    runner.logger.warning(
        "resumed %s: from here on the rates of such a run (%g, was %g)",
        *(other, saved[0]["lr"], before),
        extra=SHOWN,
    )


def _is_rebuildable(runner: Runner) -> bool:
    """Returns whether the config alone says what the rates are at a place in the run."""
    schedulers = runner.param_schedulers
    if not isinstance(schedulers, list) or not runner.cfg.get("param_scheduler"):
        return False
    return not any(isinstance(s, dict) or getattr(s, "need_val_args", False) for s in schedulers)


def _step_schedule(runner: Runner, epochs: int, videos: int) -> list[Any]:
    """Returns the config's schedulers as they are after so many epochs and videos of the next."""
    schedulers = runner.build_param_scheduler(runner.cfg.param_scheduler)
    length = len(runner.train_loop.dataloader)
    batches = min(length, videos // _videos_a_batch(_facts(runner)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that no optimizer steps
        for iteration in range(1, epochs * length + batches + 1):
            ends_epoch = iteration % length == 0 and iteration <= epochs * length
            for by_epoch in (False, True) if ends_epoch else (False,):
                for scheduler in schedulers:
                    if scheduler.by_epoch is by_epoch:
                        scheduler.step()
    return schedulers


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
        self.start = 0
        self.before = 0  # where an epoch's batches count from, of whose videos some were done
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
        changed, done = _changed_facts(progress, runner), _videos_done(progress)
        movable = isinstance(loop.dataloader.sampler, DefaultSampler)
        if done and changed and ("num_videos" in changed or not movable):
            raise UserError(
                f"cannot resume in the middle of an epoch: {', '.join(changed.values())}. "
                "Resume from an epoch_*.pth, or with what it was"
            )
        if changed:
            message = "resumed with other %s: not the same run"
            runner.logger.warning(message, ", ".join(changed), extra=SHOWN)
        self.batches, self.start = progress["batches"], progress.get("start", 0)
        if done and changed:  # the videos that are left are divided anew
            self.batches, self.start = 0, min(done, progress["num_videos"])
        length = len(loop.dataloader)
        if self.start:
            loop.dataloader.draws.start = self.start
            self.before = length - len(loop.dataloader.draws)
        if not 0 <= self.batches <= length - self.before:  # all of them: saved before its end
            raise ValueError(f"{self.batches} batches of an epoch of {length}")
        set_max_iters(runner, begun=runner.iter - self.before - self.batches)
        if done:
            loop.dataloader.skip = self.batches
            # The loop counts a pass's batches from 0; `before_train_epoch` stays as it is.
            run_iter, first = loop.run_iter, self.before + self.batches
            loop.run_iter = lambda index, batch: run_iter(first + index, batch)

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        seed_generators(runner.seed, get_rank(), runner.iter)

    def after_train_iter(self, runner: Runner, batch_idx: int, **batch: Any) -> None:
        self.batches = batch_idx + 1 - self.before

    def after_train_epoch(self, runner: Runner) -> None:
        self.batches = self.start = self.before = 0
        if isinstance(runner.train_dataloader, GuardedLoader):
            runner.train_dataloader.draws.start = 0
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
                start=0 if meta["epoch"] > runner.epoch else self.start,
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
        accumulated=(runner.cfg.get("optim_wrapper") or {}).get("accumulative_counts", 1),
    )


def _changed_facts(progress: Any, runner: Runner) -> dict[str, str]:
    """Returns `batch_size was 4, now 2` for each of the run's facts that is another now."""
    now = _facts(runner)
    return {
        key: f"{key} was {progress[key]}, now {value}"
        for key, value in now.items()
        if progress.get(key, value) != value
    }


def _videos_a_batch(facts: Any) -> int:
    return facts["batch_size"] * facts["num_processes"]


def _videos_done(progress: Any) -> int:
    """Returns how many videos of its epoch a run had done, the first ones of the epoch's order.

    Process r of N has the videos r, r + N, ... of the order, so after as many whole batches in each
    process, all of them together have a beginning of it.
    """
    if not progress:
        return 0
    return progress.get("start", 0) + progress["batches"] * _videos_a_batch(progress)


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
