"""Measures where each epoch's time goes, and says in one line what to do about it."""

import json
import time
from functools import partialmethod
from pathlib import Path
from typing import Any

from ..compat import HOOKS, Hook, Runner

PARTS = ("data", "device", "validation", "checkpoint")
DATA_BOUND = 0.25  # a quarter of an epoch spent waiting is worth a person's attention
RAISE_WORKERS = "raise train_dataloader.num_workers"
USE_CACHE = f"use --cache, or {RAISE_WORKERS}"
ADVICE = {
    "validation": "; raise train_cfg.val_interval",
    "checkpoint": "; raise default_hooks.checkpoint.interval",
}


@HOOKS.register_module()
class TimingHook(Hook):
    """Measures how long each epoch waited for data, computed, validated and wrote checkpoints.

    It runs after every other hook, so what it sees between two calls is: `data`, from the end of
    a step to the next batch; `device`, the step and the logging of it (stock's loss reads its
    accuracies back, so a GPU has finished); `checkpoint`, everything after the last step of an
    epoch and after the last batch of a validation; `validation`, its batches. The shares go to
    the log, the seconds to `timing.jsonl` beside it: a resumed run goes on with the scalars as if
    nothing had been, while time passes only once.

    Args:
        data_hint: What to do about an epoch that waits for data.
    """

    priority = "LOWEST"

    def __init__(self, data_hint: str = USE_CACHE) -> None:
        self.data_hint = data_hint
        self.seconds = dict.fromkeys(PARTS, 0.0)  # of the epoch that is not reported yet
        self._epoch = 0
        self._mark = 0.0

    def _spend(self, part: str | None, *args: Any, **kwargs: Any) -> None:
        """Adds the time since the last call to a part, or to none."""
        now = time.perf_counter()
        if part is not None:
            self.seconds[part] += now - self._mark
        self._mark = now

    before_run = partialmethod(_spend, None)
    before_train_iter = partialmethod(_spend, "data")
    after_train_iter = partialmethod(_spend, "device")
    after_train_epoch = partialmethod(_spend, "checkpoint")
    after_val_iter = partialmethod(_spend, "validation")

    def before_train_epoch(self, runner: Runner) -> None:
        self.after_train(runner)
        self._epoch = runner.epoch + 1
        self._spend(None)

    def after_val_epoch(self, runner: Runner, metrics: Any = None) -> None:
        # A resumed run makes up for the validation that a kill cut off, before its first epoch.
        self._epoch = self._epoch or runner.epoch
        self._spend("checkpoint")

    def after_train(self, runner: Runner) -> None:
        """Logs and records the epoch that is over, and begins another."""
        seconds, self.seconds = self.seconds, dict.fromkeys(PARTS, 0.0)
        if runner.rank != 0 or not any(seconds.values()):  # one speaks for the job
            return
        runner.logger.info(f"epoch {self._epoch}: {describe(seconds, self.data_hint)}")
        row = {"epoch": self._epoch, **seconds, "hint": self.data_hint}
        with Path(runner.log_dir, "timing.jsonl").open("a") as file:
            file.write(json.dumps(row) + "\n")


def find_bound(seconds: dict[str, float]) -> tuple[str, float]:
    """Returns what bounds an epoch, and its share: data, compute, validation or checkpoint."""
    total = sum(seconds.values())
    if seconds["data"] >= DATA_BOUND * total:
        return "data", seconds["data"] / total
    largest = max(PARTS, key=seconds.__getitem__)
    return ("compute" if largest == "device" else largest), seconds[largest] / total


def describe(seconds: dict[str, float], data_hint: str | None) -> str:
    """Returns what bounds an epoch, from the seconds of its parts, and the parts' shares."""
    bound, share = find_bound(seconds)
    waits = " of the epoch waited for videos" + (f"; {data_hint}" if data_hint else "")
    advice = waits if bound == "data" else ADVICE.get(bound, "")
    listing = ", ".join(f"{part} {seconds[part]:.1f} s" for part in PARTS)
    return f"{bound}-bound: {share:.0%}{advice} ({listing})"
