"""Exact resume: what stock MMEngine leaves out of a checkpoint and of going on from it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from ..compat.mm import (
    HOOKS,
    CheckpointHook,
    EarlyStoppingHook,
    EpochBasedTrainLoop,
    Hook,
    ValLoop,
    get_rank,
    get_world_size,
    is_main_process,
)
from ..errors import UserError
from ..files import write_atomically
from ..log import SHOWN
from ..runs import checkpoint_number
from .dataset import seed_generators
from .guard import GuardedLoader
from .later_writes import writes
from .rank_state import State, gather_states, own_state, restore_state


def save_progress(runner: Any, num_iters: int, states: Sequence[State] | None = None) -> Path:
    """Saves a run after `num_iters` iterations as `iter_N.pth`, then removes the older ones.

    Args:
        runner: MMEngine's.
        num_iters: Names the file.
        states: What `gather_states` gave; without, all processes of a job have to call.

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
        writes.wait()
    return path


def _remove_progress(runner: Any, before: int) -> None:
    for old in Path(runner.work_dir).glob("iter_*.pth"):
        if checkpoint_number(old) < before:
            writes.later(old.unlink, True)


@HOOKS.register_module()
class ResumeHook(Hook):
    """Completes what stock saves and restores, so that a resumed run is the undisturbed one.

    Randomness is a function of the seed and of the place in the run, here for the training
    process and in `GuardedDataset` for the samples, so no generator's state is saved. Added to a
    checkpoint, under `progress`, are the batches done of the epoch, the length of the log, what
    each process has of its own (`rank_state`), and what `EarlyStoppingHook` has counted.
    """

    priority = "LOWEST"  # the other hooks have prepared the run when this one sets it forward

    def __init__(self) -> None:
        self.batches = 0
        self.progress: dict[str, Any] = {}

    def before_train(self, runner: Any) -> None:
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
        if runner._resume and self.progress:
            try:
                self._restore(runner)
            except (
                ArithmeticError,
                AttributeError,
                LookupError,
                RuntimeError,
                TypeError,
                ValueError,
            ) as error:
                raise UserError(f"cannot resume: the checkpoint's progress: {error}") from error
            if not self.batches and _validation_is_due(runner):
                runner.val_loop.run()

    def _restore(self, runner: Any) -> None:
        loop, progress = runner.train_loop, self.progress
        _restore_log(runner, progress)
        for hook in runner.hooks:
            if isinstance(hook, CheckpointHook):
                hook.last_ckpt = runner.message_hub.runtime_info.get("last_ckpt")
        for hook, counted in zip(_early_stopping(runner), progress["stopping"], strict=False):
            hook.wait_count, hook.best_score, loop.stop_training = counted
        restore_state(runner, progress["states"])
        now = _facts(runner)
        changed = [k for k, v in now.items() if progress[k] != v]
        if progress["batches"] and changed:
            raise UserError(
                "cannot resume in the middle of an epoch: "
                + ", ".join(f"{k} was {progress[k]}, now {now[k]}" for k in changed)
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

    def before_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
        seed_generators(runner.seed, get_rank(), runner.iter)

    def after_train_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        self.batches = batch_idx + 1

    def after_train_epoch(self, runner: Any) -> None:
        self.batches = 0
        runner.train_loop.__dict__.pop("run_iter", None)
        last = runner.message_hub.runtime_info.get("last_ckpt")
        if is_main_process() and last and Path(last).name == f"epoch_{runner.epoch + 1}.pth":
            _remove_progress(runner, before=runner.iter + 1)

    def before_save_checkpoint(self, runner: Any, checkpoint: dict) -> None:
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
        states = checkpoint["meta"].pop("states", None)
        if not isinstance(runner._train_loop, EpochBasedTrainLoop) or "optimizer" not in checkpoint:
            return
        epoch_is_done = checkpoint["meta"]["epoch"] > runner.epoch
        progress: dict[str, Any] = dict(
            _facts(runner), batches=0 if epoch_is_done else self.batches
        )
        progress["log"] = _log_length(runner)
        progress["states"] = states or [own_state(runner)]
        progress["stopping"] = [
            (hook.wait_count, hook.best_score, runner.train_loop.stop_training)
            for hook in _early_stopping(runner)
        ]
        checkpoint["progress"] = progress

    def after_load_checkpoint(self, runner: Any, checkpoint: dict) -> None:
        if runner._resume:
            self.progress = checkpoint.pop("progress", {})


@HOOKS.register_module()
class ValidatedHook(Hook):
    """Notes which epoch was validated, before the checkpoint of the best one is written."""

    priority = "LOW"

    def after_val_epoch(self, runner: Any, metrics: Any = None) -> None:
        if isinstance(runner._train_loop, EpochBasedTrainLoop):
            runner.message_hub.update_info("last_validated", runner.epoch)


def _facts(runner: Any) -> dict[str, int]:
    """Returns what the order of the batches depends on, besides seed and epoch."""
    loader = runner.train_dataloader
    return dict(
        batch_size=loader.batch_sampler.batch_size,
        num_videos=len(loader.dataset),
        num_processes=get_world_size(),
    )


def _early_stopping(runner: Any) -> list[Any]:
    return [hook for hook in runner.hooks if isinstance(hook, EarlyStoppingHook)]


def _validation_is_due(runner: Any) -> bool:
    """Returns whether the epoch that ended was to be validated and was not, because of a kill."""
    loop, epoch = runner.train_loop, runner.epoch
    if not isinstance(runner.val_loop, ValLoop) or epoch < max(1, loop.val_begin):
        return False
    if runner.message_hub.runtime_info.get("last_validated") == epoch:
        return False
    return epoch % loop.val_interval == 0 or epoch == loop.max_epochs


def _scalars(runner: Any) -> Path:
    """Returns the file that stock's LocalVisBackend logs to."""
    return Path(runner.log_dir) / "vis_data" / "scalars.json"


def _log_length(runner: Any) -> dict[str, Any]:
    path = _scalars(runner)
    length = path.stat().st_size if path.is_file() else 0
    return dict(path=str(path.relative_to(runner.work_dir)), bytes=length)


def _restore_log(runner: Any, progress: dict[str, Any]) -> None:
    """Starts this process's log with what the run had logged when it was saved."""
    if not is_main_process():
        return
    folder = Path(runner.work_dir).resolve()
    before = (folder / progress["log"]["path"]).resolve()
    if not before.is_relative_to(folder) or before.name != _scalars(runner).name:
        raise ValueError(f"{progress['log']['path']!r:.80} is no log of this run")
    path = _scalars(runner)
    if before.is_file() and before != path:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(before.read_bytes()[: progress["log"]["bytes"]])
