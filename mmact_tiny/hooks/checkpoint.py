"""Matches the weights that a Runner loads with its model, and never loses its last checkpoint."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..checkpoints.config_text import config_to_json
from ..checkpoints.load import CONFIG_KEY, checkpoint_config, match_weights, without_classes
from ..checkpoints.stock import register
from ..compat import HOOKS, BaseLoop, CheckpointHook, Config, Hook, find_latest_checkpoint
from ..errors import UserError
from ..log import SHOWN
from ..pipeline import split_datasets
from ._mmengine import checkpoint_of, is_resumed, loop_of, model_of
from .dataset import input_side
from .finetune import split_adapters
from .processes import gather_states
from .resume import check_resumable

if TYPE_CHECKING:
    from ..compat import Runner

register()  # a dumped config imports this module, also under a Runner that we did not start


@HOOKS.register_module()
class WeightsHook(Hook):
    """Checks weights against the model before stock code loads them, and says what was loaded.

    Fine-tuning may bring a head of its own; to test or to resume, all has to fit. What does not
    fit is replaced by the model's own fresh tensors, so stock has nothing left to warn about.
    """

    priority = "HIGH"  # before EMAHook, which copies the weights

    def after_load_checkpoint(self, runner: "Runner", checkpoint: dict) -> None:
        """Replaces the checkpoint's state dict by one that fits.

        Raises:
            UserError: it does not fit, or has not what a resumed run needs.
        """
        path = checkpoint_of(runner) or find_latest_checkpoint(runner.work_dir)
        if is_resumed(runner):
            check_resumable(checkpoint, path, runner)
            split_adapters(checkpoint)
        model = model_of(runner)
        new_head = isinstance(loop_of(runner, "train"), BaseLoop) and not is_resumed(runner)
        state_dict, message = match_weights(model, checkpoint, path=path, new_head=new_head)
        checkpoint["state_dict"] = state_dict
        runner.logger.info(message, extra=SHOWN)
        if new_head:
            _compare_runs(checkpoint, path, runner)


def _compare_runs(checkpoint: dict, path: Any, runner: "Runner") -> None:
    """Warns where weights of a run go on with another input size or optimizer than they had."""
    try:
        theirs = Config(checkpoint_config(checkpoint, source=str(path)))
        had, has = _size_and_optimizer(theirs), _size_and_optimizer(runner.cfg)
    except (AttributeError, LookupError, TypeError, ValueError, UserError):
        return  # published weights have no config, or one of another kind
    if had != has:
        runner.logger.warning(
            "*** %s was trained with %s; this run has %s: to go on as before, train the config in "
            "its folder with --pretrained ***",
            *(path, had, has),
            extra=SHOWN,
        )


def _size_and_optimizer(cfg: Config) -> str:
    side = input_side(dict(split_datasets(cfg))["train"].pipeline)
    return f"{side} pixels and {cfg.optim_wrapper.optimizer.type}"


class _LateRemovals:
    """A file backend that notes what is to be removed."""

    def __init__(self, backend: Any) -> None:
        self.backend = backend
        self.paths: list[str] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self.backend, name)

    def remove(self, path: str) -> None:
        self.paths.append(path)


@HOOKS.register_module()
class SafeCheckpointHook(CheckpointHook):
    """Removes old checkpoints after the new one is on the disk, not before as stock does.

    Arguments are those of `CheckpointHook`. A run needs room for one checkpoint more.
    """

    file_backend: Any

    def before_train(self, runner: "Runner") -> None:
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

    def before_save_checkpoint(self, runner: "Runner", checkpoint: dict) -> None:
        """Makes it plain data, so that `torch.load` takes it as it is, and adds the config's JSON.

        Stock's `meta['cfg']` stays for stock tools; it is code.
        """
        for key in ("meta", "message_hub"):
            checkpoint[key] = without_classes(checkpoint[key])
        try:
            checkpoint["meta"][CONFIG_KEY] = config_to_json(runner.cfg.to_dict())
        except TypeError:
            runner.logger.debug("the config is no plain data: its text alone is saved")

    @contextmanager
    def _removals_last(self) -> Iterator[None]:
        """Has stock remove what it replaces once the block is done, and nothing if it fails."""
        backend = self.file_backend
        if isinstance(backend, _LateRemovals):  # the best one is being saved around this one
            yield
            return
        self.file_backend = late = _LateRemovals(backend)
        try:
            yield
        finally:
            self.file_backend = backend
        # A resumed run writes the same names again.
        kept = {self.last_ckpt, self.best_ckpt_path, *self.best_ckpt_path_dict.values()}
        for path in late.paths:
            if path not in kept:
                backend.remove(path)

    def _save_best_checkpoint(self, runner: "Runner", metrics: dict) -> None:
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
        with self._removals_last():
            super()._save_best_checkpoint(runner, metrics)

    def _save_checkpoint_with_step(self, runner: "Runner", step: int, meta: dict) -> None:
        with self._removals_last():
            meta = dict(meta, states=gather_states(runner))
            super()._save_checkpoint_with_step(runner, step, meta)
