"""TimingHook gives each second of an epoch to its part, in MMEngine's own loops."""

import json
import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from mmengine.evaluator import BaseMetric
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.runner import Runner
from torch.utils.data import DataLoader, Dataset

from mmact_tiny.hooks import timing
from mmact_tiny.hooks.timing import TimingHook, describe


class Clock:
    """Stands still but for what the parts of an epoch spend."""

    now = 1e6  # as of a machine that has run for days

    def perf_counter(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    monkeypatch.setattr(timing, "time", Clock())
    return timing.time


class Numbers(Dataset):
    def __init__(self, clock: Clock, seconds: float) -> None:
        self.clock, self.seconds = clock, seconds

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> tuple[torch.Tensor]:
        self.clock.now += self.seconds
        return (torch.ones(1),)


class Line(BaseModel):
    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)
        self.clock = clock

    def forward(self, inputs: Any, mode: str = "tensor") -> Any:
        self.clock.now += {"loss": 3.0, "predict": 5.0}[mode]
        loss = self.layer(inputs).sum()
        return dict(loss=loss) if mode == "loss" else [loss]


class Nothing(BaseMetric):
    def process(self, data_batch: Any, data_samples: Any) -> None:
        self.results.append(0)

    def compute_metrics(self, results: list) -> dict:
        return dict(zero=0.0)


class Writes(Hook):
    priority = "VERY_LOW"

    def __init__(self, clock: Clock) -> None:
        self.clock = clock

    def after_train_epoch(self, runner: Runner) -> None:
        self.clock.now += 7.0

    def after_val_epoch(self, runner: Runner, metrics: Any = None) -> None:
        self.clock.now += 11.0


def test_each_part_has_its_seconds(clock, tmp_path):
    runner = Runner(
        model=Line(clock),
        work_dir=str(tmp_path),
        train_dataloader=DataLoader(Numbers(clock, 2.0), batch_size=1),
        train_cfg=dict(by_epoch=True, max_epochs=2, val_interval=1),
        optim_wrapper=dict(optimizer=dict(type="SGD", lr=0.01)),
        val_dataloader=DataLoader(Numbers(clock, 1.0), batch_size=1),
        val_cfg=dict(),
        val_evaluator=[Nothing()],
        default_hooks=dict(checkpoint=None),
        custom_hooks=[Writes(clock), TimingHook()],
        experiment_name="timing",
        default_scope="mmaction",  # a Runner leaves its scope behind
    )
    runner.train()
    lines = Path(runner.log_dir, "timing.jsonl").read_text().splitlines()
    seconds = dict(data=8.0, device=12.0, validation=24.0, checkpoint=18.0)
    hint = "use --cache, or raise train_dataloader.num_workers"
    assert [json.loads(line) for line in lines] == [
        {"epoch": epoch, **seconds, "hint": hint} for epoch in (1, 2)
    ]
    log = next(Path(runner.log_dir).glob("*.log")).read_text()
    assert log.count("validation-bound: 39%; raise train_cfg.val_interval (data 8.0 s, ") == 2


@pytest.mark.parametrize(
    "seconds, expected",
    [
        ((6.1, 3.0, 0.5, 0.4), "data-bound: 61% of the epoch waited for videos; use --cache ("),
        ((2.5, 7.5, 0.0, 0.0), "data-bound: 25% of the epoch waited for videos; use --cache ("),
        ((0.1, 9.7, 0.1, 0.1), "compute-bound: 97% ("),
        ((0.0, 1.0, 3.0, 0.0), "validation-bound: 75%; raise train_cfg.val_interval ("),
        ((0.0, 1.0, 0.0, 3.0), "checkpoint-bound: 75%; raise default_hooks.checkpoint.interval ("),
    ],
)
def test_the_line_says_what_to_do(seconds, expected):
    parts = dict(zip(("data", "device", "validation", "checkpoint"), seconds, strict=True))
    assert describe(parts, "use --cache").startswith(expected)
    assert describe(parts, "use --cache").endswith(f"checkpoint {seconds[3]:.1f} s)")
    assert "use --cache" not in describe(parts, None)


def quiet_runner(epoch: int, rank: int, folder: Path) -> Any:
    logger = logging.getLogger("quiet")
    return SimpleNamespace(epoch=epoch, rank=rank, log_dir=folder, logger=logger)


def test_a_validation_made_up_for_on_resume_counts_to_its_own_epoch(clock, tmp_path):
    """No epoch of this process came before it, and no time since the machine's start."""
    runner = quiet_runner(3, 0, tmp_path)
    hook = TimingHook(data_hint="buy disks")
    hook.before_run(runner)
    clock.now += 5.0
    hook.after_val_iter(runner)
    hook.after_val_epoch(runner)
    hook.before_train_epoch(runner)
    hook.seconds["data"] = 1.0
    hook.after_train(quiet_runner(4, 1, tmp_path))  # rank 0 alone reports
    assert json.loads((tmp_path / "timing.jsonl").read_text()) == dict(
        epoch=3, data=0.0, device=0.0, validation=5.0, checkpoint=0.0, hint="buy disks"
    )
