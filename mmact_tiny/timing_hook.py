"""Where each epoch's time went, in one line that a person can act on."""

import json
import time
from pathlib import Path
from typing import Any

from . import compat

compat.repair()

from mmaction.registry import HOOKS  # noqa: E402
from mmengine.hooks import Hook  # noqa: E402

PARTS = ("data", "device", "validation", "checkpoint")
DATA_BOUND = 0.25  # a quarter of an epoch spent waiting is worth a person's attention


@HOOKS.register_module()
class TimingHook(Hook):
    """Measures how long each epoch waited for data, computed, validated and wrote checkpoints.

    It runs after every other hook, so what it sees between two calls is: `data`, from the end of
    a step to the next batch; `device`, the step and the logging of it (stock's loss reads its
    accuracies back, so a GPU has finished); `checkpoint`, everything after the last step of an
    epoch and after the last batch of a validation; `validation`, its batches. The shares go to
    the log, the seconds to `timing.jsonl` beside it: not among the scalars, which a resumed run
    continues as if nothing had been, while time passes only once.

    Args:
        data_hint: What to do about an epoch that waits for data.
    """

    priority = "LOWEST"

    def __init__(self, data_hint: str = "use --cache") -> None:
        self.data_hint = data_hint
        self._seconds = dict.fromkeys(PARTS, 0.0)
        self._epoch = 0
        self._mark = 0.0

    def _spent(self, part: str | None) -> None:
        """Adds the time since the last call to a part, or to none."""
        now = time.perf_counter()
        if part is not None:
            self._seconds[part] += now - self._mark
        self._mark = now

    def before_run(self, runner: Any) -> None:
        self._spent(None)

    def before_train_epoch(self, runner: Any) -> None:
        self._report(runner)
        self._epoch = runner.epoch + 1
        self._spent(None)

    def before_train_iter(self, runner: Any, *args: Any, **kwargs: Any) -> None:
        self._spent("data")

    def after_train_iter(self, runner: Any, *args: Any, **kwargs: Any) -> None:
        self._spent("device")

    def after_train_epoch(self, runner: Any) -> None:
        self._spent("checkpoint")

    def after_val_iter(self, runner: Any, *args: Any, **kwargs: Any) -> None:
        self._spent("validation")

    def after_val_epoch(self, runner: Any, metrics: Any = None) -> None:
        # A resumed run makes up for the validation that a kill cut off, before its first epoch.
        self._epoch = self._epoch or runner.epoch
        self._spent("checkpoint")

    def after_train(self, runner: Any) -> None:
        self._report(runner)

    def _report(self, runner: Any) -> None:
        """Logs and records the epoch that is over, and begins another."""
        seconds, self._seconds = self._seconds, dict.fromkeys(PARTS, 0.0)
        if not any(seconds.values()):
            return
        runner.logger.info(f"epoch {self._epoch}: {describe(seconds, self.data_hint)}")
        if runner.rank == 0:
            with Path(runner.log_dir, "timing.jsonl").open("a") as file:
                file.write(json.dumps({"epoch": self._epoch, **seconds}) + "\n")


def describe(seconds: dict[str, float], data_hint: str) -> str:
    """Returns what bounds an epoch, from the seconds of its parts, and the parts' shares."""
    total = sum(seconds.values())
    shares = {part: value / total for part, value in seconds.items()}
    largest = max(PARTS, key=shares.__getitem__)
    if shares["data"] >= DATA_BOUND:
        verdict = f"data-bound: {shares['data']:.0%} of the epoch waited for videos; {data_hint}"
    elif largest == "device":
        verdict = f"compute-bound: {shares['device']:.0%}"
    elif largest == "validation":
        verdict = f"validation-bound: {shares['validation']:.0%}; raise train_cfg.val_interval"
    else:
        share = shares["checkpoint"]
        verdict = f"checkpoint-bound: {share:.0%}; raise default_hooks.checkpoint.interval"
    listing = ", ".join(f"{part} {seconds[part]:.1f} s" for part in PARTS)
    return f"{verdict} ({listing})"
