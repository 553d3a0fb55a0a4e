"""Datasets on and around stock's: stretches, samples seeded one by one, broken videos replaced."""

import copy
import os
import pickle
import random
import time
import traceback
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import cycle, islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.utils.data import BatchSampler, Dataset, get_worker_info

from ..annotations import iter_annotations
from ..compat import DATASETS, BaseDataset, ClassBalancedDataset, VideoDataset
from ..errors import UserError
from ..pipeline import Step
from ..video.files import explain, split_name

# The keys of Resize, RandomRescale, RandomCrop, the crops and MultiScaleCrop, in pixels.
SIZE_KEYS = ("scale", "scale_range", "size", "crop_size", "input_size")
OPENERS = ("PacketInit", "ClipInit")  # of stretches
MAX_ATTEMPTS = 20  # replacements of one sample; with a tenth of the videos broken, 1e-20 fail


def input_side(pipeline: Sequence[Step]) -> int:
    """Returns the side of the square that the last resizing or cropping step makes.

    Raises:
        UserError: none makes a square.
    """
    for step in reversed(pipeline):
        for key in SIZE_KEYS:
            sides = step.get(key)
            sides = {sides} if isinstance(sides, int) else set(sides or ())
            if len(sides) == 1:
                return sides.pop()
    types = ", ".join(step["type"] for step in pipeline)
    raise UserError(f"input_size: the training pipeline makes no square input: {types}")


class Draw(NamedTuple):
    """One sample of a run: which video, and the place in the run that its randomness follows."""

    item: int
    seed: tuple[int, ...]


class Fault(NamedTuple):
    """A video that could not be read; `trace` is set where it was read and a transform failed."""

    video: str
    reason: str
    trace: str = ""


def seed_generators(*place: int) -> np.random.Generator:
    """Seeds `random`, numpy and torch by a place in the run, and returns a generator for it.

    A run resumed at a place draws what it would have drawn there: no generator's state is saved.
    numpy's SeedSequence makes unrelated seeds of neighbouring places.
    """
    sequence = np.random.SeedSequence(place)
    first, second, third = (int(word) for word in sequence.generate_state(3))
    random.seed(first)
    np.random.seed(second)
    torch.manual_seed(third)
    return np.random.default_rng(sequence)


class GuardedDataset(Dataset):
    """Reads a `Draw` of a stock dataset; with `replace` another video takes a broken one's place.

    The replacement is a function of the draw alone, so a resumed run meets the same one. Videos
    in `skipped` took a worker down, for the reason there, and are never opened again.
    """

    def __init__(
        self, dataset: Any, *, num_workers: int, replace: bool, skipped: dict[str, str]
    ) -> None:
        self.dataset, self.replace, self.skipped = dataset, replace, skipped
        # What each worker is reading (the index + 1, or 0) and since when, in shared memory.
        self.reading = torch.zeros(max(1, num_workers), 2, dtype=torch.float64).share_memory_()

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
                self._note(index + 1)
                _check_regular(video)
                sample = self.dataset[index]
            except Exception as error:  # whatever a decoder throws at a broken file
                faults.append(fault_of(error, video))
                if faults[-1].trace:
                    break
            else:
                for one in sample if isinstance(sample, list) else [sample]:  # RepeatAugDataset's
                    data_sample = one.get("data_samples") if isinstance(one, dict) else None
                    if data_sample is not None and "filename" not in data_sample:
                        data_sample.set_metainfo(dict(filename=video))  # for messages of its batch
                return sample, faults
            finally:
                self._note(0)
        return None, faults

    def _note(self, place: int) -> None:
        worker = get_worker_info()
        row = self.reading[worker.id if worker else 0]
        row[1] = time.monotonic()  # first: a place that is there has its time
        row[0] = place

    def read_by(self, worker: int) -> int | None:
        """Returns the index that a worker reads, None between two."""
        place = int(self.reading[worker, 0])
        return place - 1 if place else None

    def late(self, seconds: float) -> list[int]:
        """Returns the workers that have been at one video for longer."""
        long = time.monotonic() - self.reading[:, 1] > seconds
        return ((self.reading[:, 0] > 0) & long).nonzero().flatten().tolist()

    def video(self, index: int) -> str:
        """Returns the path of a sample's video, or folder of frames."""
        info = self.dataset.get_data_info(index)
        return str(info.get("filename") or info.get("frame_dir") or f"sample {index}")


def fault_of(error: Exception, video: str) -> Fault:
    """Returns what an error of a dataset says of a video, or of the pipeline."""
    reason, after_decoding = explain(error)
    return Fault(
        video, reason, "".join(traceback.format_exception(error)) if after_decoding else ""
    )


def _check_regular(video: str) -> None:
    """Refuses a pipe or a device: opening one may block without end."""
    path = Path(split_name(video)[0])
    if path.exists() and not path.is_file() and not path.is_dir():
        raise ValueError("not a regular file")


class Draws:
    """The batches of a stock loader as draws, from batch `first` on.

    The order of stock's sampler is a function of its seed and epoch, so the batches before
    `first` are counted past, not read, and where `start` videos of an epoch are done, the others
    are divided anew. With `padded`, the videos that the sampler adds so that all processes have as
    many are read too. Not to test on: once a video is left out, stock cannot tell them any more.
    """

    def __init__(self, loader: Any, *, seed: int, rank: int, padded: bool = True) -> None:
        self.loader, self.seed, self.rank, self.padded = loader, seed, rank, padded
        self.first = 0
        self.start = 0  # videos of the epoch's order that are done, over all processes
        self.drain = False  # ends a pass early: the batches under way are still read

    def __len__(self) -> int:
        stock = self.loader.batch_sampler
        if not self.start:
            return len(stock)
        left = range(self.start, len(self.loader.dataset), self.loader.sampler.world_size)
        return len(BatchSampler(left, stock.batch_size, stock.drop_last))

    def _batches(self) -> BatchSampler:
        """Returns stock's batches, or those of the videos that are left, divided as stock does."""
        stock: BatchSampler = self.loader.batch_sampler
        if not self.start:
            return stock
        whole, world = copy.copy(self.loader.sampler), self.loader.sampler.world_size
        whole.rank, whole.world_size, whole.total_size = 0, 1, len(self.loader.dataset)
        order = list(whole)
        left = order[self.start :]
        left += islice(cycle(order), -len(left) % world)  # all processes have as many
        return BatchSampler(left[self.rank :: world], stock.batch_size, stock.drop_last)

    def __iter__(self) -> Iterator[list[Draw]]:
        epoch = getattr(self.loader.sampler, "epoch", 0)
        num_processes = getattr(self.loader.sampler, "world_size", 1)
        left = len(range(self.rank, len(self.loader.dataset), num_processes))
        began = (self.start,) if self.start else ()
        for number, batch in enumerate(self._batches()):
            if self.drain:
                return
            if number >= self.first:
                place = (self.seed, epoch, self.rank, number, *began)
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


@DATASETS.register_module(name="VideoDataset", force=True)
class LeanVideoDataset(VideoDataset):
    """Stock's `VideoDataset`, in its place, that reads its list a line at a time.

    What it keeps is what stock keeps, a pickle of each line in one array, which workers share. But
    stock has all lines as text, dicts and pickles in the meantime: 700 MB for 1,000,000 videos.
    """

    data_list: Iterable[dict]

    def load_data_list(self) -> Iterable[dict]:
        if self.delimiter != " ":
            return super().load_data_list()
        lean = self.serialize_data and self._indices is None
        return self._read_rows() if lean else list(self._read_rows())

    def _read_rows(self) -> Iterator[dict]:
        folder = self.data_prefix["video"] or ""
        for row in iter_annotations(self.ann_file):
            several = [int(label) for label in row.labels]
            label = several if self.multi_class else int(row.label or -1)
            yield dict(filename=os.path.join(folder, row.name), label=label)  # noqa: PTH118  as stock

    def _serialize_data(self) -> tuple[np.ndarray, np.ndarray]:
        pickles, ends = bytearray(), array("q")
        for info in self.data_list:
            pickles += pickle.dumps(info, protocol=4)
            ends.append(len(pickles))
        self.data_list = []
        return np.frombuffer(pickles, np.uint8), np.frombuffer(ends, np.int64)


@DATASETS.register_module()
class StretchDataset(LeanVideoDataset):
    """A `VideoDataset` of a CSV that lists stretches: `filename` is `stretch_name`'s.

    Stock's sampler draws within a stretch as in a video: `PacketInit` or the clip cache give its
    frames alone. Other steps that open a file know no stretches, and find none of that name.

    Raises:
        UserError: the pipeline opens its videos with another step.
    """

    def load_data_list(self) -> Iterable[dict]:
        steps = [type(step).__name__ for step in self.pipeline.transforms]
        opener = next((step for step in steps if step.endswith("Init")), "none")
        if opener not in OPENERS:
            raise UserError(
                f"{self.ann_file} lists stretches, which {opener} cannot open: expected the "
                "override `decoder` with name='packets', or `clip_cache` with reader='clip'"
            )
        return super().load_data_list()


@DATASETS.register_module()
class BalancedVideos(ClassBalancedDataset):
    """MMEngine's `ClassBalancedDataset` over MMAction2's datasets, which lack `get_cat_ids`."""

    def full_init(self) -> None:
        self.dataset.get_cat_ids = partial(_labels_of, self.dataset)
        super().full_init()


def _labels_of(dataset: BaseDataset, index: int) -> list[int]:
    """Returns the labels of a video: one, or several of a `multi_class` dataset's 0 and 1."""
    label = dataset.get_data_info(index)["label"]
    return label.nonzero().flatten().tolist() if dataset.multi_class else [label]
