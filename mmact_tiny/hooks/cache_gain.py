"""How much faster a run's videos would be read from the clip cache, measured where it runs."""

import copy
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from ..compat.mm import Compose, Config
from ..dataset import read_annotations
from ..errors import UserError
from ..overrides.cache import clip_cache
from ..pipeline import split_datasets
from ..recognizer import sample_of
from ..video.guarded_reader import GuardedReader
from .timing import RAISE_WORKERS

NUM_VIDEOS = 3
SECONDS = 60.0  # to read and to encode them
WORTH = 1.5  # times as fast; below, an entry is not worth its room


def cache_hint(cfg: Config) -> str:
    """Returns what a run that waits for its videos should do: use the cache, or more workers.

    Takes a few seconds: some of the training videos are read, encoded, and read again.
    """
    reader = GuardedReader(lambda _: measure_gain(cfg), SECONDS)
    try:
        gain = reader({})
    except UserError:  # of videos, or of a pipeline that the cache does not fit
        return RAISE_WORKERS
    finally:
        reader.close()
    return f"use --cache (about {gain:.0f}x faster here)" if gain >= WORTH else RAISE_WORKERS


def measure_gain(cfg: Config) -> float:
    """Returns a training sample's time without the cache over that with it, the median of some.

    Raises:
        UserError: the cache does not fit the pipeline, or there is no video.
    """
    train = [dataset for split, dataset in split_datasets(cfg) if split == "train"]
    if not train or train[0].get("type") != "VideoDataset":
        raise UserError("the clip cache reads a VideoDataset")
    folder = Path(train[0].data_prefix.video)
    listed = read_annotations(train[0].ann_file)
    videos = [folder / line.path for line in listed[:: max(1, len(listed) // NUM_VIDEOS)]]
    with tempfile.TemporaryDirectory() as root:
        cached = copy.deepcopy(cfg)
        clip_cache(cached, root=root, splits=("train",))
        pipelines = [Compose(next(split_datasets(of))[1].pipeline) for of in (cfg, cached)]
        return statistics.median(_gain(pipelines, video) for video in videos[:NUM_VIDEOS])


def _gain(pipelines: list[Any], video: Path) -> float:
    """Returns the ratio of the second readings: the first one opens files, and makes an entry."""
    seconds = []
    for pipeline in pipelines:
        for _ in range(2):
            started = time.perf_counter()
            pipeline(sample_of(video))
            took = time.perf_counter() - started
        seconds.append(took)
    return seconds[0] / seconds[1]
