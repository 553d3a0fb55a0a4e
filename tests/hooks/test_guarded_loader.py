"""A loader that goes on where it stopped, and outlives its workers."""

import json
import os
import random
import re
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from bad_inputs import misbehave
from mmengine.dataset import Compose, DefaultSampler, pseudo_collate
from torch.utils.data import DataLoader

from mmact_tiny import hardware
from mmact_tiny.errors import UserError
from mmact_tiny.hooks import guard
from mmact_tiny.hooks._mmengine import workers_of
from mmact_tiny.hooks.guard import BadVideo, BadVideos, GuardedLoader
from mmact_tiny.video.isolated import GuardedReader


class Names:
    """A dataset as stock's are: `get_data_info` and samples by index."""

    def __init__(self, names: list[str]) -> None:
        self.names = names
        self.metainfo = dict(classes=["a"])

    def __len__(self) -> int:
        return len(self.names)

    def get_data_info(self, index: int) -> dict:
        return dict(filename=self.names[index])

    def __getitem__(self, index: int) -> dict:
        draws = (random.random(), float(np.random.rand()), float(torch.rand(())))
        return dict(misbehave(self.get_data_info(index)), draws=repr(draws))


def loader_of(
    names: list[str],
    folder: Path,
    *,
    split: str = "train",
    fraction: float | None = 1.0,
    workers: int = 2,
    batch_size: int = 3,
    dataset: Names | None = None,
    collate: Callable = pseudo_collate,
) -> GuardedLoader:
    dataset = dataset or Names(names)
    sampler = DefaultSampler(dataset, shuffle=split == "train", seed=5)
    stock = DataLoader(
        dataset,  # type: ignore[arg-type]
        batch_size=batch_size,
        sampler=sampler,
        num_workers=workers,
        persistent_workers=workers > 0,
        collate_fn=collate,
    )
    bad = BadVideos(folder / "bad_videos.json", fraction)
    return GuardedLoader(
        stock, split=split, seed=5, bad=bad, video_seconds=2 if "hang.mp4" in names else 120
    )


def epoch_of(loader: GuardedLoader, epoch: int = 0, skip: int = 0) -> list[Any]:
    loader.sampler.set_epoch(epoch)
    loader.skip = skip
    return list(map(pairs, loader))


def pairs(batch: dict) -> list[tuple[str, str]]:
    return list(zip(batch["inputs"], batch["draws"], strict=True))


def pids_of(loader: GuardedLoader) -> list[int]:
    return [worker.pid for worker in workers_of(loader._inner._iterator)]


GOOD = [f"good{n}" for n in range(12)]


def test_an_epoch_goes_on_at_any_batch_as_it_would_have(tmp_path):
    """With and without workers: what is skipped is not read, what follows is the same."""
    whole = [epoch_of(loader_of(GOOD, tmp_path), epoch) for epoch in range(2)]
    drawn = [dict(pair for batch in epoch for pair in batch) for epoch in whole]
    assert all(drawn[0][name] != drawn[1][name] for name in GOOD), "draws of its own each epoch"
    assert sorted(drawn[0]) == sorted(GOOD)
    for workers in (0, 2):
        loader = loader_of(GOOD, tmp_path, workers=workers)
        assert epoch_of(loader, 1, skip=3) == whole[1][3:]
        assert epoch_of(loader, 0) == whole[0], "the skip counts once"
    reads: list[int] = []
    loader = loader_of(GOOD, tmp_path, workers=0)
    stock_read = loader.guarded.dataset.get_data_info
    loader.guarded.dataset.get_data_info = lambda index: reads.append(index) or stock_read(index)
    epoch_of(loader, 1, skip=3)
    assert {GOOD[index] for index in reads} == {name for name, _ in whole[1][3]}


@pytest.mark.parametrize(("start", "world", "left"), [(5, 1, 3), (4, 3, 1), (12, 2, 0), (0, 1, 4)])
def test_the_videos_that_are_left_of_an_epoch_are_divided_once(start, world, left, tmp_path):
    """How many batches they make is known before the order is; each process draws that once."""
    seen: list[int] = []
    for rank in range(world):
        draws, passes = loader_of(GOOD, tmp_path, workers=0).draws, []
        sampler = draws.loader.sampler
        sampler.world_size, sampler.rank, draws.rank, draws.start = world, rank, rank, start
        draws._batches = lambda own=draws._batches, passes=passes: passes.append(1) or own()
        assert len(draws) == left and passes == []
        batches = list(draws)
        assert len(batches) == left and passes == [1]
        seen += [draw.item for batch in batches for draw in batch]
    sampler.rank, sampler.world_size = 0, 1
    assert set(seen) >= set(list(sampler)[start:])


def test_bad_videos_are_replaced_counted_and_recorded(tmp_path, monkeypatch):
    names = [*GOOD[:9], "bad.mp4", "crash.mp4", "hang.mp4"]
    loader = loader_of(names, tmp_path)
    batches = epoch_of(loader)
    again = epoch_of(loader)
    assert batches == again, "the replacement is the draw's alone"
    drawn = [name for batch in batches for name, _ in batch]
    assert len(drawn) == 12 and set(drawn) == set(GOOD[:9])
    rows = {row["video"]: row for row in json.loads(loader.bad.path.read_text())}
    assert {video: row["reason"] for video, row in rows.items()} == {
        "bad.mp4": "no video in bad.mp4",
        "crash.mp4": "the decoder crashed (SIGSEGV)",
        "hang.mp4": "timed out after 2 s",
    }
    assert [rows[name]["skipped"] for name in ("bad.mp4", "crash.mp4", "hang.mp4")] == [0, 1, 1]
    # A resumed run knows them, and reads the same without meeting the crash again.
    resumed = loader_of(names, tmp_path)
    resumed.bad.load()
    monkeypatch.setattr(guard._mmengine, "kill_workers", lambda *_: pytest.fail("lost"))
    assert epoch_of(resumed) == batches


class Piped(Names):
    """Names that go through a pipeline: decoding, and a transform that fails on some."""

    def __getitem__(self, index: int) -> dict:
        return self.pipeline(self.get_data_info(index))  # type: ignore[return-value]

    def fail(self, sample: dict) -> dict:
        if "wide" in sample["filename"]:
            raise OverflowError("-17 out of bounds for uint8\nmore")
        return dict(inputs=sample["filename"], draws="")

    @property
    def pipeline(self) -> Compose:
        return Compose([lambda sample: dict(sample, imgs=[misbehave(sample)]), self.fail])


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("split", ["train", "test"])
def test_a_transform_that_fails_is_not_blamed_on_the_video(split, workers, tmp_path, caplog):
    names = [*GOOD[:4], "wide.mp4", "bad.mp4"]
    loader = loader_of(names, tmp_path, split=split, workers=workers, dataset=Piped(names))
    message = (
        f"the {split} pipeline fails on wide.mp4, which can be read: "
        "method failed (OverflowError: -17 out of bounds for uint8)\n  correct the pipeline"
    )
    with pytest.raises(UserError, match=f"^{re.escape(message)}"):
        epoch_of(loader)
    assert "wide.mp4" not in loader.bad.reasons(split)
    assert 'raise OverflowError("-17 out of bounds' in caplog.text, "the traceback, for the log"
    loader.close()
    good = [*GOOD[:4], "bad.mp4"]  # what decoding raises is the video's
    loader = loader_of(good, tmp_path, split=split, workers=workers, dataset=Piped(good))
    epoch_of(loader)
    assert loader.bad.reasons(split) == {"bad.mp4": "no video in bad.mp4"}
    loader.close()


def test_what_collating_raises_is_raised(tmp_path):
    def collate(samples: list) -> None:
        raise RuntimeError("sizes differ")  # the loader's own errors are of this type too

    loader = loader_of(GOOD, tmp_path, collate=collate)
    with pytest.raises(RuntimeError, match="sizes differ"):
        epoch_of(loader)
    assert loader.bad.rows == {}
    loader.close()


def test_testing_leaves_bad_videos_out(tmp_path):
    """Of a batch that crashes one video after the other takes its worker down, and none twice."""
    mixed = ["good0", "bad1", "good2", "bad3", "bad4", "bad5", "crash6"]
    crashing = ["crash0", "crash1", "crash2", "good3"]
    for names, size in ((mixed, 3), (crashing, 4)):
        loader = loader_of(names, tmp_path, split="test", batch_size=size, fraction=None)
        read = [name for batch in epoch_of(loader) for name, _ in batch]
        assert read == [name for name in names if "good" in name]
        assert sorted(loader.bad.reasons("test")) == [n for n in names if "good" not in n]
        assert sorted(loader.bad.skipped) == [name for name in names if "crash" in name]
    nothing = loader_of(["bad0", "bad1"], tmp_path, split="test", fraction=None)
    with pytest.raises(UserError, match="no test video can be read\n  bad0: no video in bad0"):
        epoch_of(nothing)


def test_too_many_bad_videos_stop_the_run_with_the_list(tmp_path):
    names = [*GOOD[:10], "bad10", "bad11"]
    with pytest.raises(UserError) as caught:
        epoch_of(loader_of(names, tmp_path, fraction=0.1))
    message = str(caught.value)
    assert message.startswith("2 of 12 train videos cannot be read, more than max_bad_fraction=0.1")
    assert "bad10: no video in bad10" in message and "bad11" in message
    epoch_of(loader_of([*GOOD[:11], "bad11"], tmp_path, fraction=0.1))  # 1 of 12 is below


@pytest.mark.parametrize("workers", [0, 2])
def test_a_closed_loader_leaves_no_worker_and_reads_on(tmp_path, workers):
    loader = loader_of(GOOD, tmp_path, workers=workers)
    expected = epoch_of(loader)
    kept = pids_of(loader) if workers else []
    assert len(kept) == workers
    loader.close()
    loader.close()  # nothing is left to end
    assert not [pid for pid in kept if Path(f"/proc/{pid}").exists()]
    assert epoch_of(loader) == expected


@pytest.mark.parametrize(("cuda", "steps"), [(False, 10), (True, 0)])
def test_what_reads_videos_stands_back_where_the_model_has_the_same_cores(
    cuda, steps, tmp_path, monkeypatch
):
    monkeypatch.setattr(hardware, "has_cuda", lambda: cuda)
    expected = min(19, os.nice(0) + steps)
    loader = loader_of(GOOD, tmp_path)
    epoch_of(loader)
    assert [os.getpriority(os.PRIO_PROCESS, pid) for pid in pids_of(loader)] == [expected] * 2
    loader.close()
    reader = GuardedReader(lambda sample: os.nice(0))
    assert reader({}) == expected
    reader.close()
    assert hardware.reader_niceness() == steps


@pytest.mark.parametrize("sender", ["this process", "another"])
def test_workers_that_are_asked_to_end_at_a_video_cost_none(sender, tmp_path, monkeypatch):
    expected = epoch_of(loader_of(GOOD, tmp_path))
    read = Names.__getitem__

    def read_slowly(names: Names, index: int) -> dict:
        time.sleep(0.1)
        return read(names, index)

    monkeypatch.setattr(Names, "__getitem__", read_slowly)
    loader = loader_of(GOOD, tmp_path)
    loader.sampler.set_epoch(0)
    found = []
    for number, batch in enumerate(loader):
        found.append(pairs(batch))
        if number == 1 and sender == "another":
            subprocess.run(["kill", *map(str, pids_of(loader))], check=True)
        for pid in pids_of(loader) if number == 1 and sender == "this process" else []:
            os.kill(pid, signal.SIGTERM)
    assert found == expected
    assert loader.bad.rows == {}


def test_workers_that_end_between_two_passes_are_replaced(tmp_path):
    loader = loader_of(GOOD, tmp_path)
    first = epoch_of(loader)
    for pid in pids_of(loader):
        os.kill(pid, signal.SIGTERM)
    assert epoch_of(loader) == first
    loader.close()


def test_workers_that_have_grown_are_replaced(tmp_path, monkeypatch):
    """decord leaks; what was read does not change with the worker that reads it."""
    names = [f"grow{n}" for n in range(60)]
    expected = epoch_of(loader_of(names, tmp_path, workers=0))
    monkeypatch.setattr("mmact_tiny.hooks.guard.MAX_GROWTH_BYTES", 50 * 2**20)
    loader = loader_of(names, tmp_path)
    loader.sampler.set_epoch(0)
    found, workers = [], set()
    for batch in loader:
        found.append(pairs(batch))
        workers.update(pids_of(loader))
    assert found == expected
    assert len(workers) > 2


def test_a_video_is_named_once(tmp_path, caplog):
    bad = BadVideos(tmp_path / "bad.json", 0.5)
    bad.num_videos["train"] = 10
    with caplog.at_level("WARNING", logger="mmact_tiny"):
        for _ in range(3):
            bad.add(BadVideo("train", "a.mp4", "torn"))
    assert caplog.messages == ["cannot read a.mp4: torn (train: replaced by another)"]
    bad.write()
    (row,) = json.loads(bad.path.read_text())
    assert row == dict(split="train", video="a.mp4", reason="torn", times=3, skipped=False)
