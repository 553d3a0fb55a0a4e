"""A dataset whose samples are seeded one by one, and whose broken videos cost only themselves."""

import multiprocessing
import random
import re
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.utils.data import get_worker_info

from ..compat.mm import DATASETS, BaseDataset, ClassBalancedDataset

MAX_ATTEMPTS = 20  # replacements of one sample; with a tenth of the videos broken, 1e-20 fail


DECORD_PLACE = re.compile(r"^\[[\d:]+\] \S+:\d+: ")


class Draw(NamedTuple):
    """One sample of a run: which video, and the place in the run that its randomness follows."""

    item: int
    seed: tuple[int, ...]


class Fault(NamedTuple):
    """A video that could not be read."""

    video: str
    reason: str


def seed_generators(*place: int) -> np.random.Generator:
    """Seeds `random`, numpy and torch by a place in the run, and returns a generator for it.

    A run that is resumed at a place draws what it would have drawn there, so the state of the
    generators is never saved. numpy's SeedSequence makes unrelated seeds of neighbouring places.
    """
    sequence = np.random.SeedSequence(place)
    first, second, third = (int(word) for word in sequence.generate_state(3))
    random.seed(first)
    np.random.seed(second)
    torch.manual_seed(third)
    return np.random.default_rng(sequence)


class Watch:
    """What each loader worker is reading and since when, in memory that they share."""

    def __init__(self, num_workers: int) -> None:
        self._indices = multiprocessing.Array("q", max(1, num_workers), lock=False)
        self._since = multiprocessing.Array("d", max(1, num_workers), lock=False)

    def begin(self, index: int) -> None:
        worker = get_worker_info()
        if worker is not None:
            self._since[worker.id] = time.monotonic()
            self._indices[worker.id] = index + 1

    def end(self) -> None:
        worker = get_worker_info()
        if worker is not None:
            self._indices[worker.id] = 0

    def index_of(self, worker: int) -> int | None:
        """Returns the index that a worker reads, None between two."""
        return self._indices[worker] - 1 if self._indices[worker] else None

    def overdue(self, seconds: float) -> list[int]:
        """Returns the workers that have been at one video for longer."""
        now = time.monotonic()
        return [
            worker
            for worker, index in enumerate(self._indices)
            if index and now - self._since[worker] > seconds
        ]

    def clear(self) -> None:
        for worker in range(len(self._indices)):
            self._indices[worker] = 0


class GuardedDataset:
    """Reads a `Draw` of a stock dataset; a video that fails is noted, and replaced in training.

    The replacement is a function of the draw alone, so a resumed run meets the same one.

    Args:
        dataset: Any dataset that MMEngine builds.
        num_workers: Loader workers that will read it.
        replace: Whether another video of the dataset takes the place of a broken one.
        skipped: Reasons by video of those that took a worker down: never opened again.
    """

    def __init__(
        self, dataset: Any, *, num_workers: int, replace: bool, skipped: dict[str, str]
    ) -> None:
        self.dataset = dataset
        self.replace = replace
        self.skipped = skipped
        self.watch = Watch(num_workers)

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, draw: Draw) -> tuple[Any, list[Fault]]:
        """Returns the sample, None where there is none, and the faults met on the way to it."""
        faults = []
        for attempt in range(MAX_ATTEMPTS if self.replace else 1):
            generator = seed_generators(*draw.seed, attempt)
            index = int(generator.integers(len(self.dataset))) if attempt else draw.item
            video = self.video(index)
            if video in self.skipped:
                faults.append(Fault(video, self.skipped[video]))
                continue
            self.watch.begin(index)
            try:
                _check_regular(video)
                return _name_video(self.dataset[index], video), faults
            except Exception as error:  # whatever a decoder throws at a broken file
                faults.append(Fault(video, reason_of(error)))
            finally:
                self.watch.end()
        return None, faults

    def video(self, index: int) -> str:
        """Returns the path of a sample's video, or folder of frames."""
        info = self.dataset.get_data_info(index)
        return str(info.get("filename") or info.get("frame_dir") or f"sample {index}")


def _check_regular(video: str) -> None:
    """Refuses a pipe or a device, which to open may wait for ever."""
    path = Path(video)
    if path.exists() and not path.is_file() and not path.is_dir():
        raise ValueError("not a regular file")


def _name_video(sample: Any, video: str) -> Any:
    """Adds the path to the sample's meta information, for the messages about its batch."""
    data_sample = sample.get("data_samples") if isinstance(sample, dict) else None
    if data_sample is not None and "filename" not in data_sample:
        data_sample.set_metainfo(dict(filename=video))
    return sample


def reason_of(error: BaseException) -> str:
    """Returns an error in a line; decord's begin with time and place, and end with a stack."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return DECORD_PLACE.sub("", lines[0])[:300] if lines else type(error).__name__


class Draws:
    """The batches of a stock loader as draws, from batch `first` on.

    The order of stock's sampler is a function of its seed and epoch, so the batches before
    `first` are counted past, not read.

    Args:
        loader: The stock loader.
        seed: The run's seed.
        rank: This process's.
        padded: Whether to read the videos that stock's sampler adds so that all processes have
            as many. Not to test on: once a video is left out, stock cannot tell them any more.
    """

    def __init__(self, loader: Any, *, seed: int, rank: int, padded: bool = True) -> None:
        self.loader = loader
        self.padded = padded
        self.seed = seed
        self.rank = rank
        self.first = 0
        self.drain = False  # ends a pass early: the batches under way are still read

    def __len__(self) -> int:
        return len(self.loader.batch_sampler)

    def __iter__(self) -> Iterator[list[Draw]]:
        epoch = getattr(self.loader.sampler, "epoch", 0)
        num_processes = getattr(self.loader.sampler, "world_size", 1)
        left = len(range(self.rank, len(self.loader.dataset), num_processes))
        for number, batch in enumerate(self.loader.batch_sampler):
            if self.drain:
                return
            if number >= self.first:
                place = (self.seed, epoch, self.rank, number)
                draws = [Draw(index, (*place, item)) for item, index in enumerate(batch)]
                yield draws if self.padded else draws[: max(0, left)]
            left -= len(batch)


def collate_readable(collate: Any, items: Sequence[tuple[Any, list[Fault]]]) -> tuple:
    """Returns the batch of the samples that could be read, None without any, and the faults."""
    samples = [sample for sample, _ in items if sample is not None]
    faults = [fault for _, found in items for fault in found]
    return collate(samples) if samples else None, faults


@DATASETS.register_module()
class BalancedVideos(ClassBalancedDataset):
    """MMEngine's `ClassBalancedDataset` over MMAction2's datasets, which lack `get_cat_ids`."""

    def __init__(self, dataset: BaseDataset | dict, oversample_thr: float, **kwargs: Any) -> None:
        if isinstance(dataset, dict):
            dataset = DATASETS.build(dataset)
        dataset.get_cat_ids = partial(labels_of, dataset)
        super().__init__(dataset, oversample_thr, **kwargs)


def labels_of(dataset: BaseDataset, index: int) -> list[int]:
    """Returns the labels of a video: one, or several in a `multi_class` dataset."""
    label = dataset.get_data_info(index)["label"]
    return [int(label)] if isinstance(label, int) else [int(one) for one in label]
