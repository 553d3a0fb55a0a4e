"""TimingHook finds the part of an epoch that was slowed on purpose, in MMEngine's own loops."""

import json
import logging
import time
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

from mmact_tiny.hooks import cache_gain
from mmact_tiny.hooks.timing import TimingHook, describe

SLOW = 0.05


class Numbers(Dataset):
    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> tuple[torch.Tensor]:
        time.sleep(self.seconds)
        return (torch.ones(1),)


class Line(BaseModel):
    def __init__(self, train_seconds: float, val_seconds: float) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)
        self.seconds = {"loss": train_seconds, "predict": val_seconds}

    def forward(self, inputs: Any, mode: str = "tensor") -> Any:
        time.sleep(self.seconds[mode])
        loss = self.layer(inputs).sum()
        return dict(loss=loss) if mode == "loss" else [loss]


class Nothing(BaseMetric):
    def process(self, data_batch: Any, data_samples: Any) -> None:
        self.results.append(0)

    def compute_metrics(self, results: list) -> dict:
        return dict(zero=0.0)


class SlowCheckpoint(Hook):
    priority = "VERY_LOW"

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def after_train_epoch(self, runner: Any) -> None:
        time.sleep(self.seconds)


@pytest.mark.parametrize("slow", ["data", "device", "validation", "checkpoint"])
def test_the_slow_part_is_found(slow: str, tmp_path: Path) -> None:
    seconds = {part: SLOW if part == slow else 0.0 for part in ("data", "device", "validation")}
    runner = Runner(
        model=Line(seconds["device"], seconds["validation"]),
        work_dir=str(tmp_path),
        train_dataloader=DataLoader(Numbers(seconds["data"]), batch_size=1),
        train_cfg=dict(by_epoch=True, max_epochs=2, val_interval=1),
        optim_wrapper=dict(optimizer=dict(type="SGD", lr=0.01)),
        val_dataloader=DataLoader(Numbers(0), batch_size=1),
        val_cfg=dict(),
        val_evaluator=[Nothing()],
        default_hooks=dict(checkpoint=None),
        custom_hooks=[SlowCheckpoint(4 * SLOW if slow == "checkpoint" else 0), TimingHook()],
        experiment_name=f"timing_{slow}",
    )
    runner.train()
    lines = Path(runner.log_dir, "timing.jsonl").read_text().splitlines()
    times = [json.loads(line) for line in lines]
    assert [row["epoch"] for row in times] == [1, 2]
    for row in times:
        parts = {key: row[key] for key in ("data", "device", "validation", "checkpoint")}
        assert max(parts, key=parts.__getitem__) == slow
        assert parts[slow] >= 4 * SLOW
    log = next(Path(runner.log_dir).glob("*.log")).read_text()
    word = {"device": "compute"}.get(slow, slow)
    assert log.count(f"{word}-bound: ") == 2


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
def test_the_line_says_what_to_do(seconds: tuple[float, ...], expected: str) -> None:
    parts = dict(zip(("data", "device", "validation", "checkpoint"), seconds, strict=True))
    assert describe(parts, "use --cache").startswith(expected)
    assert describe(parts, "use --cache").endswith(f"checkpoint {seconds[3]:.1f} s)")
    assert "use --cache" not in describe(parts, None)


def test_a_validation_made_up_for_on_resume_counts_to_its_own_epoch(tmp_path: Path) -> None:
    """No epoch of this process came before it, and no time since the machine's start."""
    logger = logging.getLogger("quiet")
    runner = SimpleNamespace(epoch=3, rank=0, log_dir=tmp_path, logger=logger, cfg={})
    hook = TimingHook()
    hook.before_run(runner)
    hook.after_val_iter(runner)
    hook.after_val_epoch(runner)
    hook.before_train_epoch(runner)
    row = json.loads((tmp_path / "timing.jsonl").read_text())
    assert row.pop("epoch") == 3
    assert sum(row.values()) < 60


@pytest.mark.parametrize(
    ("hook", "pipeline", "expected"),
    [
        (TimingHook(), [dict(type="DecordInit")], "measured"),
        (TimingHook(), [dict(type="CachedVideo")], "the first epoch fills the cache; after it, "),
        (TimingHook(data_hint="buy disks"), [dict(type="CachedVideo")], "buy disks"),
    ],
)
def test_the_hint_knows_of_the_cache(
    hook: TimingHook, pipeline: list, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured = iter(["measured"])  # once a run
    monkeypatch.setattr(cache_gain, "cache_hint", lambda cfg: next(measured))
    runner = SimpleNamespace(cfg=dict(train_dataloader=dict(dataset=dict(pipeline=pipeline))))
    waits = dict(data=1.0, device=1.0, validation=0.0, checkpoint=0.0)
    computes = dict(waits, data=0.0)
    assert "compute-bound: 100% (" in hook.describe(runner, computes)
    for _ in range(2):
        said = hook.describe(runner, waits)
        assert said.startswith(f"data-bound: 50% of the epoch waited for videos; {expected}")


def test_one_process_of_a_job_measures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    monkeypatch.setattr(cache_gain, "cache_hint", lambda cfg: asked.append(1) or "measured")
    for rank in (0, 1):
        logger = logging.getLogger("quiet")
        runner = SimpleNamespace(epoch=1, rank=rank, log_dir=tmp_path, logger=logger, cfg={})
        hook = TimingHook()
        hook.seconds["data"] = 1.0
        hook.after_train(runner)
    assert len(asked) == 1
    assert len((tmp_path / "timing.jsonl").read_text().splitlines()) == 1
