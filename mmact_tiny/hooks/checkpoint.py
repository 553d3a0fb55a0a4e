"""Hooks of the stock Runner around checkpoints: matching weights, and never losing the last."""

import os.path
from collections import deque
from pathlib import Path
from typing import Any

from ..checkpoints.stock import register
from ..checkpoints.weights import match_weights
from ..compat.mm import (
    HOOKS,
    BaseLoop,
    CheckpointHook,
    Hook,
    find_latest_checkpoint,
    is_main_process,
    is_model_wrapper,
)
from ..errors import UserError
from ..files import write_atomically
from ..log import SHOWN
from .processes import gather_states
from .resume import check_resumable

register()  # a dumped config imports this module, also under a Runner that we did not start


@HOOKS.register_module()
class WeightsHook(Hook):
    """Checks weights against the model before stock code loads them, and says what was loaded.

    Fine-tuning may bring a head of its own; to test or to resume, all has to fit. What does not
    fit is replaced by the model's own fresh tensors, so stock has nothing left to warn about.
    """

    priority = "HIGH"  # before EMAHook, which copies the weights

    def after_load_checkpoint(self, runner: Any, checkpoint: dict) -> None:
        """Replaces the checkpoint's state dict by one that fits.

        Raises:
            UserError: it does not fit, or has not what a resumed run needs.
        """
        path = runner._load_from or find_latest_checkpoint(runner.work_dir)
        if runner._resume:
            check_resumable(checkpoint, path, runner)
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        new_head = isinstance(runner._train_loop, BaseLoop) and not runner._resume
        state_dict, message = match_weights(model, checkpoint, path=path, new_head=new_head)
        if "state_dict" not in checkpoint:
            checkpoint.clear()
        checkpoint["state_dict"] = state_dict
        runner.logger.info(message, extra=SHOWN)


class _LateRemovals:
    """A file backend that notes what is to be removed and does it when told."""

    def __init__(self, backend: Any) -> None:
        self.backend = backend
        self.removals: list[tuple[Any, str]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self.backend, name)

    def remove(self, path: str) -> None:
        self.removals.append((self.backend.remove, path))

    def rmtree(self, path: str) -> None:
        self.removals.append((self.backend.rmtree, path))


@HOOKS.register_module()
class SafeCheckpointHook(CheckpointHook):
    """Removes old checkpoints after the new one is on the disk, not before as stock does.

    The pointer `last_checkpoint` is renamed into place after the checkpoint that it names. All of
    it happens in a thread, in that order, while training goes on with the next epoch.
    Arguments are those of `CheckpointHook`. A run needs room for one checkpoint more.
    """

    file_backend: Any
    keep_ckpt_ids: deque

    def before_train(self, runner: Any) -> None:
        """Takes up what is this run's own: a checkpoint may name any file as the best to remove."""
        info = runner.message_hub.runtime_info
        ids = info.get("keep_ckpt_ids")
        if not isinstance(ids, list) or not all(type(step) is int for step in ids):
            info.pop("keep_ckpt_ids", None)
        super().before_train(runner)
        folder = Path(self.out_dir).resolve()

        def own(best: Any) -> str | None:
            path = Path(best) if isinstance(best, str) else Path()
            is_own = path.resolve().parent == folder and path.match("best_*.pth")
            return best if is_own else None

        self.best_ckpt_path = own(getattr(self, "best_ckpt_path", None))
        paths = getattr(self, "best_ckpt_path_dict", {})
        self.best_ckpt_path_dict = {key: own(best) for key, best in paths.items()}

    def after_train(self, runner: Any) -> None:
        super().after_train(runner)

    def _save_best_checkpoint(self, runner: Any, metrics: dict) -> None:
        """Saves the best as stock does.

        Raises:
            UserError: `save_best` names what a validation does not give.
        """
        unknown = {*(self.key_indicators if self.save_best else [])} - {*metrics, "auto"}
        if unknown:
            raise UserError(
                f"save_best={', '.join(sorted(unknown))}: a validation gives {', '.join(metrics)} "
                "(default_hooks.checkpoint); the epoch is saved, --resume goes on from it"
            )
        backend = self.file_backend
        self.file_backend = late = _LateRemovals(backend)
        try:
            super()._save_best_checkpoint(runner, metrics)
        finally:
            self.file_backend = backend
        best = {getattr(self, "best_ckpt_path", None)}
        best.update(getattr(self, "best_ckpt_path_dict", {}).values())
        for remove, path in late.removals:
            if path not in best:  # a resumed run writes the same name again
                remove(path)

    def _save_checkpoint_with_step(self, runner: Any, step: int, meta: dict) -> None:
        self._save_step(runner, step, meta)

    def _save_step(self, runner: Any, step: int, meta: dict) -> None:
        expired = self._keep(runner, step)
        filename = self.filename_tmpl.format(step)
        self.last_ckpt = self.file_backend.join_path(self.out_dir, filename)
        runner.message_hub.update_info("last_ckpt", self.last_ckpt)
        runner.save_checkpoint(
            self.out_dir,
            filename,
            self.file_client_args,
            save_optimizer=self.save_optimizer,
            save_param_scheduler=self.save_param_scheduler,
            meta=dict(meta, states=gather_states(runner)),
            by_epoch=self.by_epoch,
            backend_args=self.backend_args,
            **self.args,
        )
        if not is_main_process():
            return
        pointer = os.path.join(runner.work_dir, "last_checkpoint")  # noqa: PTH118
        write_atomically(str(self.last_ckpt).encode(), pointer)
        backend = self.file_backend
        if isinstance(backend, _LateRemovals):  # the best one is being saved around this one
            backend = backend.backend
        for old in expired:
            path = backend.join_path(self.out_dir, self.filename_tmpl.format(old))
            if backend.isfile(path):
                backend.remove(path)

    def _keep(self, runner: Any, step: int) -> list[int]:
        """Notes the step among those to keep; returns those that are one too many."""
        if self.max_keep_ckpts <= 0 or (self.keep_ckpt_ids and self.keep_ckpt_ids[-1] == step):
            return []
        steps = [*self.keep_ckpt_ids, step]
        self.keep_ckpt_ids = deque(steps[-self.max_keep_ckpts :], self.max_keep_ckpts)
        runner.message_hub.update_info("keep_ckpt_ids", list(self.keep_ckpt_ids))
        return steps[: -self.max_keep_ckpts]
