"""Draws the bars of training, validation and testing, and logs one line for each epoch."""

import logging
import time
from typing import Any

from .. import progress
from ..compat import HOOKS, EpochBasedTrainLoop, Hook, Runner, get_world_size
from ._mmengine import loop_of
from .timing import TimingHook, describe, find_bound

logger = logging.getLogger("mmact_tiny")
SECONDS_TO_JUDGE = 5.0  # of an epoch: its first batch waits for the workers to start
WINDOW = 20  # iterations that the loss and top-1 of the bar are the means of, as in stock's log


@HOOKS.register_module()
class ProgressHook(Hook):
    """Draws how far the Runner is, and says in a line what came of each epoch.

    It is registered where the Runner is built: what a terminal shows is no part of a run's
    config, and a config that an older release dumped is shown like a new one.
    """

    priority = "VERY_LOW"  # after the checkpoints, before TimingHook begins another epoch

    def __init__(self) -> None:
        self._bar: progress.Bar | None = None
        self._metrics: dict[str, float] = {}
        self._ended: tuple[int, str] | None = None  # batches and speed of the epoch that is over
        self._advised: set[str] = set()

    def before_train(self, runner: Runner) -> None:
        self._first_iter = runner.iter
        self._started = time.monotonic()

    def before_train_epoch(self, runner: Runner) -> None:
        self.after_train(runner)
        self._open_train(runner)

    def _open_train(self, runner: Runner) -> None:
        by_epoch = isinstance(runner.train_loop, EpochBasedTrainLoop)
        what = _position(runner) if by_epoch else "training"
        self._open(what, len(runner.train_dataloader) if by_epoch else runner.max_iters)

    def _open(self, what: str, total: int) -> None:
        self._bar = progress.Bar(what, total)
        self._opened = time.monotonic()
        self._videos = self._right = 0

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        if self._bar is None:  # closed for a validation within the pass
            self._open_train(runner)

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        if self._bar is None:
            return
        self._videos += _num_videos(data_batch)
        done = batch_idx + 1
        window = min(WINDOW, done)
        facts = [self._speed(), *_mean(runner, "loss", window, "loss {:.3f}")]
        facts += _mean(runner, "top1_acc", window, "top-1 {:.0%}")
        timing = _timing(runner)
        if timing is not None and sum(timing.seconds.values()) >= SECONDS_TO_JUDGE:
            facts.append("{}-bound {:.0%}".format(*find_bound(timing.seconds)))
        per_iter = (time.monotonic() - self._started) / (runner.iter + 1 - self._first_iter)
        # To the end of the whole run, validations included.
        seconds_left = per_iter * (runner.max_iters - runner.iter - 1)
        self._bar.update(done, facts=facts, seconds_left=seconds_left)
        if done == self._bar.total:
            self._ended = done, self._speed()

    def _speed(self) -> str:
        rate = self._videos * get_world_size() / max(time.monotonic() - self._opened, 1e-9)
        return progress.per_second(rate)

    def before_val_epoch(self, runner: Runner) -> None:
        self._open("validation", len(runner.val_dataloader))

    def before_test_epoch(self, runner: Runner) -> None:
        self._open("testing", len(runner.test_dataloader))

    def after_val_iter(self, runner: Runner, batch_idx: int, data_batch: Any, outputs: Any) -> None:
        if self._bar is None:
            return
        self._videos += _num_videos(data_batch)
        facts = [self._speed()]
        right = [_is_right(sample) for sample in outputs or []]
        if right and None not in right:
            self._right += sum(map(bool, right))
            facts.append(f"top-1 {self._right / max(self._videos, 1):.0%}")
        self._bar.update(batch_idx + 1, facts=facts)

    after_test_iter = after_val_iter

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        self._close()
        self._metrics = dict(metrics or {})
        if self._ended is None:  # within a pass, or made up for when a run is resumed
            words = [_position(runner, done=True), *describe_metrics(runner, self._metrics)]
            logger.info("  ".join(words))
            self._metrics = {}

    def _close(self, *args: Any, **kwargs: Any) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    after_train_epoch = after_test_epoch = _close

    def after_train(self, runner: Runner) -> None:
        """Says what came of the epoch that is over, and once what to do about what slows it."""
        if self._ended is None:
            return
        num_batches, speed = self._ended
        words = [_position(runner, done=True), *_mean(runner, "loss", num_batches, "loss {:.3f}")]
        words += _mean(runner, "lr", 1, "lr {:.1e}")
        words += [*describe_metrics(runner, self._metrics), speed]
        self._ended, self._metrics = None, {}
        timing = _timing(runner)
        bound = find_bound(timing.seconds)[0] if timing else "compute"
        logger.info("  ".join([*words, f"{bound}-bound"] if timing else words))
        if timing and bound not in {"compute", *self._advised}:
            self._advised.add(bound)
            logger.info("  %s", describe(timing.seconds, timing.data_hint))


def describe_metrics(runner: Runner, metrics: dict[str, float]) -> list[str]:
    """Returns `val top-1 93.8%`, top-5 where it says more, or else what the evaluator names."""
    if "acc/top1" not in metrics:
        return [f"val {key} {value:.4g}" for key, value in metrics.items() if "time" not in key]
    words = [f"val top-1 {metrics['acc/top1']:.1%}"]
    head = runner.cfg.get("model", {}).get("cls_head") or {}
    if "acc/top5" in metrics and head.get("num_classes", 0) > 5:
        words.append(f"top-5 {metrics['acc/top5']:.1%}")
    return words


def _mean(runner: Runner, name: str, window: int, words: str) -> list[str]:
    """Returns the mean of a number's last values in words; nothing where nobody logs it."""
    scalar = runner.message_hub.log_scalars.get(f"train/{name}")
    return [] if scalar is None else [words.format(scalar.mean(window))]


def _timing(runner: Runner) -> TimingHook | None:
    """Returns the hook that measures this epoch, if one has measured anything."""
    found = (hook for hook in runner.hooks if isinstance(hook, TimingHook))
    return next((hook for hook in found if any(hook.seconds.values())), None)


def _position(runner: Runner, *, done: bool = False) -> str:
    """Returns `epoch  3/30`, of the epoch that goes on or of the last that is done."""
    if not isinstance(loop_of(runner, "train"), EpochBasedTrainLoop):
        return f"iteration {runner.iter + (not done)}/{runner.max_iters}"
    last = str(runner.max_epochs)
    return f"epoch {runner.epoch + (not done):>{len(last)}}/{last}"


def _num_videos(data_batch: Any) -> int:
    return len(data_batch.get("inputs", ())) if isinstance(data_batch, dict) else 0


def _is_right(sample: Any) -> bool | None:
    """Returns whether the best label is the true one; None where a video has several or none."""
    label, score = sample.get("gt_label"), sample.get("pred_score")
    if label is None or score is None or label.numel() != 1:
        return None
    return bool(score.argmax() == label.item())
