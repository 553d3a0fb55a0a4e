"""Saves a run every so many iterations and at a signal, and ends one whose loss is no number."""

import logging
import math
import signal
import threading
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import torch

from ..compat import HOOKS, EMAHook, Hook, Runner, all_gather_object, get_rank, get_world_size
from ..runs import newest_checkpoint
from .processes import State, agree, gather_states, stop_all
from .resume import save_progress

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)  # the last is Slurm's warning
logger = logging.getLogger("mmact_tiny")


@HOOKS.register_module()
class StopHook(Hook):
    """Saves every so many iterations, and at SIGTERM, SIGINT or SIGUSR1, and then ends the process.

    The exit status is 128 + the signal's number, as the shell gives it: 143, 130 or 138. A second
    signal ends the process at once; not one that a launcher started, which signals it beside the
    terminal or Slurm. The processes of a job stop after the same iteration; within a validation
    each stops where it is.

    Args:
        every: Iterations between `iter_*.pth` checkpoints; None for none.
    """

    priority = "LOWEST"  # after ResumeHook, which counts the iteration

    def __init__(self, every: int | None = None) -> None:
        self.every = every
        self.received = 0
        self._before: dict[int, Any] = {}
        self._states: Sequence[State] | None = None

    def before_train(self, runner: Runner) -> None:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._note) for number in SIGNALS}

    def _note(self, number: int, frame: Any) -> None:
        if not torch.distributed.is_initialized():
            self._restore()
        self.received = self.received or number

    def _restore(self, runner: Runner | None = None) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    after_train = _restore

    def after_train_iter(self, runner: Runner, batch_idx: int, **batch: Any) -> None:
        received = agree(self.received)
        if received or self.every_n_train_iters(runner, self.every or 0):
            path = save_progress(runner, runner.iter + 1)
            if received:
                self._end(received, path)

    def before_val_epoch(self, runner: Runner) -> None:
        """Gathers what a signal within the validation saves: then no process waits for others."""
        if self._before:
            self._states = gather_states(runner)

    def after_val_iter(self, runner: Runner, batch_idx: int, **batch: Any) -> None:
        """Saves as the epoch before left the run: a resume starts the validation anew."""
        if self.received and self._states is not None:
            for hook in runner.hooks:
                if isinstance(hook, EMAHook):
                    hook.after_val_epoch(runner)  # it validates with its average in the model
            self._end(self.received, save_progress(runner, runner.iter, self._states))

    def after_val_epoch(self, runner: Runner, metrics: Any = None) -> None:
        self._states = None

    def _end(self, number: int, path: Path) -> None:
        name = signal.Signals(number).name
        logger.warning("%s: saved %s; --resume goes on from there", name, path)
        raise SystemExit(128 + number)


@HOOKS.register_module()
class LossHook(Hook):
    """Stops a run whose loss is nan or infinite, before anything of it is saved."""

    priority = "BELOW_NORMAL"  # after the loss is recorded, before any checkpoint

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Checks the loss of the iteration.

        Raises:
            UserError: it is not finite, in any process of the job; names the batch.
        """
        loss = torch.as_tensor((outputs or {}).get("loss", 0.0)).detach().item()
        finite = math.isfinite(loss)
        if not agree(not finite):
            return
        whose = f" of process {get_rank()}" if get_world_size() > 1 else ""
        samples = (data_batch or {}).get("data_samples", [])
        names = ", ".join(str(sample.get("filename", "?")) for sample in samples)
        own = None if finite else (loss, f"  videos{whose}: {names}\n")
        wrong, videos = zip(*filter(None, all_gather_object(own)), strict=True)
        rates = sorted(set(chain(*runner.optim_wrapper.get_lr().values())))
        norms = runner.message_hub.log_scalars.get("train/grad_norm")
        checkpoint = newest_checkpoint(runner.work_dir)
        kept = f"kept: {checkpoint}" if checkpoint else "no checkpoint was written yet"
        stop_all(
            f"the loss is {wrong[0]} at iteration {runner.iter + 1} "
            f"(epoch {runner.epoch + 1}, batch {batch_idx + 1}); {kept}\n"
            f"  learning rate: {', '.join(f'{rate:g}' for rate in rates)}\n"
            f"  gradient norm: {norms.current() if norms else 'not computed: no clip_grad'}\n"
            f"{''.join(videos)}"
            "  look at these videos, or lower the learning rate: "
            "--cfg-options optim_wrapper.optimizer.lr=..."
        )
