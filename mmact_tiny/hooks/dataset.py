"""Datasets around stock's: samples seeded one by one, broken videos replaced, classes balanced."""

import random
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.utils.data import Dataset, get_worker_info

from ..compat.mm import DATASETS, BaseDataset, ClassBalancedDataset
from ..video.files import reason_of
from ._mmengine import failing_step

MAX_ATTEMPTS = 20  # replacements of one sample; with a tenth of the videos broken, 1e-20 fail


class Draw(NamedTuple):
    """One sample of a run: which video, and the place in the run that its randomness follows."""

    item: int
    seed: tuple[int, ...]


class Fault(NamedTuple):
    """A video that could not be read.

    Attributes:
        video: Its path.
        reason: What the decoder says.
        trace: The traceback, where the video was read and a transform or the collation failed.
    """

    video: str
    reason: str
    trace: str = ""


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
        self._reading = torch.zeros(max(1, num_workers), 2, dtype=torch.float64).share_memory_()

    @contextmanager
    def reading(self, index: int) -> Iterator[None]:
        """Notes that this worker is at a video while the block lasts."""
        worker = get_worker_info()
        row = self._reading[worker.id] if worker is not None else torch.zeros(2)
        row[1] = time.monotonic()
        row[0] = index + 1
        try:
            yield
        finally:
            row[0] = 0

    def index_of(self, worker: int) -> int | None:
        """Returns the index that a worker reads, None between two."""
        return int(self._reading[worker, 0]) - 1 if self._reading[worker, 0] else None

    def late(self, seconds: float) -> list[int]:
        """Returns the workers that have been at one video for longer."""
        at_work = self._reading[:, 0] > 0
        long = time.monotonic() - self._reading[:, 1] > seconds
        return (at_work & long).nonzero().flatten().tolist()

    def clear(self) -> None:
        self._reading.zero_()


class GuardedDataset(Dataset):
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
        faults: list[Fault] = []
        for attempt in range(MAX_ATTEMPTS if self.replace else 1):
            generator = seed_generators(*draw.seed, attempt)
            index = int(generator.integers(len(self.dataset))) if attempt else draw.item
            video = self.video(index)
            if video in self.skipped:
                faults.append(Fault(video, self.skipped[video]))
                continue
            try:
                with self.watch.reading(index):
                    _check_regular(video)
                    return _name_video(self.dataset[index], video), faults
            except Exception as error:  # whatever a decoder throws at a broken file
                faults.append(fault_of(error, video))
                if faults[-1].trace:
                    break
        return None, faults

    def video(self, index: int) -> str:
        """Returns the path of a sample's video, or folder of frames."""
        info = self.dataset.get_data_info(index)
        return str(info.get("filename") or info.get("frame_dir") or f"sample {index}")


def fault_of(error: Exception, video: str) -> Fault:
    """Returns what an error of a dataset says of a video, or of the pipeline.

    Decoding puts the frames into the sample as `imgs`. What fails before opens, samples or
    decodes, and is blamed on the file; what fails behind it is a transform.
    """
    step, sample = failing_step(error) or (None, {})
    if not isinstance(sample, dict) or "imgs" not in sample:
        return Fault(video, reason_of(error))
    reason = f"{type(step).__name__} failed ({type(error).__name__}: {reason_of(error)})"
    return Fault(video, reason, "".join(traceback.format_exception(error)))


def _check_regular(video: str) -> None:
    """Refuses a pipe or a device: opening one may block without end."""
    path = Path(video)
    if path.exists() and not path.is_file() and not path.is_dir():
        raise ValueError("not a regular file")


def _name_video(sample: Any, video: str) -> Any:
    """Adds the path to the sample's meta information, for the messages about its batch."""
    data_sample = sample.get("data_samples") if isinstance(sample, dict) else None
    if data_sample is not None and "filename" not in data_sample:
        data_sample.set_metainfo(dict(filename=video))
    return sample


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


def collate_readable(
    collate: Callable[[list[Any]], Any], items: Sequence[tuple[Any, list[Fault]]]
) -> tuple[Any, list[Fault]]:
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
