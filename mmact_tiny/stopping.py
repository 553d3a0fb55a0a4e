"""Hooks that end or save a run in time: signals, iterations counted, losses that are no number."""

import logging
import math
import signal
import threading
from pathlib import Path
from typing import Any

from . import compat

compat.repair()

import torch  # noqa: E402
from mmaction.registry import HOOKS  # noqa: E402
from mmengine.dist import all_reduce, get_world_size  # noqa: E402
from mmengine.hooks import Hook  # noqa: E402

from .errors import UserError  # noqa: E402
from .resume import save_progress  # noqa: E402
from .runs import newest_checkpoint  # noqa: E402

SIGNALS = (signal.SIGTERM, signal.SIGINT)
logger = logging.getLogger("mmact_tiny")


@HOOKS.register_module()
class StopHook(Hook):
    """Saves every so many iterations, and at SIGTERM or SIGINT, after which the process ends.

    The exit status is 128 + the signal's number, as the shell gives it: 143 or 130. A second
    signal ends the process at once.

    Args:
        every: Iterations between `iter_*.pth` checkpoints; None for none.
    """

    priority = "LOWEST"  # after ResumeHook, which counts the iteration

    def __init__(self, every: int | None = None) -> None:
        self.every = every
        self.received = 0
        self._before: dict[int, Any] = {}

    def before_train(self, runner: Any) -> None:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._note) for number in SIGNALS}

    def _note(self, number: int, frame: Any) -> None:
        self._restore()
        self.received = number

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    def after_train_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        received = self._received_by_any(runner)
        due = self.every is not None and self.every_n_train_iters(runner, self.every)
        if (received or due) and not self._must_wait(runner):
            path = save_progress(runner, runner.iter + 1)
            if received:
                self._end(received, path)

    def after_val_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Validation starts anew when the run is resumed; only one process's can be ended."""
        if self.received and get_world_size() == 1:
            self._end(self.received, save_progress(runner, runner.iter))

    def _received_by_any(self, runner: Any) -> int:
        if get_world_size() == 1:
            return self.received
        device = next(runner.model.parameters()).device
        flag = torch.tensor(self.received, device=device)
        all_reduce(flag, "max")
        return int(flag)

    def _must_wait(self, runner: Any) -> bool:
        """Returns whether other processes hold gradients that the checkpoint would not have."""
        wrapper = runner.optim_wrapper
        between = wrapper._inner_count % wrapper._accumulative_counts != 0
        return get_world_size() > 1 and between

    def _end(self, number: int, path: Path) -> None:
        name = signal.Signals(number).name
        logger.warning("%s: saved %s; --resume goes on from there", name, path)
        raise SystemExit(128 + number)

    def after_train(self, runner: Any) -> None:
        self._restore()


@HOOKS.register_module()
class LossHook(Hook):
    """Stops a run whose loss is nan or infinite, before anything of it is saved."""

    priority = "BELOW_NORMAL"  # after the loss is recorded, before any checkpoint

    def after_train_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Checks the loss of the iteration.

        Raises:
            UserError: it is not finite; names the batch.
        """
        loss = torch.as_tensor((outputs or {}).get("loss", 0.0)).detach().item()
        if math.isfinite(loss):
            return
        rates = sorted({rate for group in runner.optim_wrapper.get_lr().values() for rate in group})
        norms = runner.message_hub.log_scalars.get("train/grad_norm")
        samples = (data_batch or {}).get("data_samples", [])
        videos = [str(sample.get("filename", "?")) for sample in samples]
        checkpoint = newest_checkpoint(runner.work_dir)
        kept = f"kept: {checkpoint}" if checkpoint else "no checkpoint was written yet"
        raise UserError(
            f"the loss is {loss} at iteration {runner.iter + 1} (epoch {runner.epoch + 1}, batch "
            f"{batch_idx + 1}); {kept}\n"
            f"  learning rate: {', '.join(f'{rate:g}' for rate in rates)}\n"
            f"  gradient norm: {norms.current() if norms else 'not computed: no clip_grad'}\n"
            f"  videos: {', '.join(videos)}\n"
            "  look at these videos, or lower the learning rate: "
            "--cfg-options optim_wrapper.optimizer.lr=..."
        )
