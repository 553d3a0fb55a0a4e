"""An int8 model of a recognizer, for CPUs: made from some videos, kept beside the checkpoint.

The convolutions and their inputs become 8-bit integers, whose ranges are those seen on the videos
(post-training quantization by NNCF, https://github.com/openvinotoolkit/nncf). How far the scores
are from those in fp32 is measured on the same videos, and told.
"""

import importlib.util
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .. import progress
from ..engine.engine import cache_dir_of
from ..engine.openvino import SINGLE_FRAMES, exported_path, keep, load_exported
from ..errors import UserError
from ..recognizer import Recognizer
from ..video.files import find_videos

MAX_VIDEOS = 100  # x 3 views: NNCF's own default is 300 samples
PROTOCOL = "val"
logger = logging.getLogger("mmact_tiny")


@dataclass(frozen=True)
class Quantized:
    """An int8 model, what it was made from, and how its scores compare with those in fp32."""

    checkpoint: Path
    path: Path
    num_views: int
    num_videos: int
    unreadable: list[UserError]
    largest_difference: float
    num_same_label: int


def quantize(paths: Sequence[str | Path], checkpoint: str | Path | None = None) -> Quantized:
    """Makes the int8 model of a checkpoint, in the place of an older one.

    Args:
        paths: Videos, and folders of videos, like those that it will be asked about; of more
            than `MAX_VIDEOS` as many are taken, at equal distances.
        checkpoint: By default the best of the newest run.

    Raises:
        UserError: the extra is not installed, OpenVINO cannot run the model, no video can be
            read, or the model cannot be written.
    """
    for name in ("openvino", "nncf"):
        if importlib.util.find_spec(name) is None:
            raise UserError(f"int8 needs the package {name}: pip install 'mmact-tiny[int8]'")
    videos = choose_videos(find_videos(paths))
    exact = Recognizer(checkpoint, protocol=PROTOCOL, precision="fp32", engine="openvino")
    if exact.engine.takes_clips:
        raise UserError(f"precision int8: {SINGLE_FRAMES}")
    logger.info("checkpoint: %s", exact.checkpoint)
    logger.info("calibrating on %d videos", len(videos))
    read = list(progress.track(exact.read_videos(videos), "reading", len(videos)))
    samples = [sample for sample in read if isinstance(sample, dict)]
    unreadable = [sample for sample in read if isinstance(sample, UserError)]
    if not samples:
        raise UserError(f"no video to quantize with: {unreadable[0]}")
    model, cache_dir = exact.engine.model, cache_dir_of(exact.checkpoint)
    of_videos = [sample["inputs"].permute(0, 2, 3, 1).contiguous().numpy() for sample in samples]
    views = [view[None] for of_video in of_videos for view in of_video]
    path = exported_path(model, cache_dir, int8=True)
    keep(calibrate(load_exported(model, cache_dir), views), path)
    if not path.is_file():
        raise UserError(f"cannot write {path}")
    fast = Recognizer(exact.checkpoint, protocol=PROTOCOL, precision="int8")
    wanted, got = (_scores(recognizer, samples) for recognizer in (exact, fast))
    return Quantized(
        checkpoint=exact.checkpoint,
        path=path,
        num_views=len(views),
        num_videos=len(samples),
        unreadable=unreadable,
        largest_difference=float(np.abs(got - wanted).max()),
        num_same_label=int((got.argmax(1) == wanted.argmax(1)).sum()),
    )


def _scores(recognizer: Recognizer, samples: Sequence[dict]) -> np.ndarray:
    """Returns the scores of videos that were read, shape (videos, classes)."""
    return np.stack(
        [row for row in recognizer.score_samples(samples) if not isinstance(row, UserError)]
    )


def choose_videos(videos: Sequence[Path]) -> Sequence[Path]:
    """Returns at most `MAX_VIDEOS` of the videos, at equal distances."""
    return videos[:: -(-len(videos) // MAX_VIDEOS)]


def calibrate(graph: Any, inputs: Sequence[Any]) -> Any:
    """Returns a model of OpenVINO or ONNX in int8, with the ranges seen on inputs of it.

    Averages and the head stay float: they cost nothing, and that over the views, in 8 bits,
    changed the scores six times as much as all of the rest (TSN-R50, docs/export.md).
    """
    for noisy in ("nncf", "torch.utils.cpp_extension"):  # the latter on machines with nvcc
        logging.getLogger(noisy).setLevel(logging.ERROR)
    import nncf

    floats = nncf.IgnoredScope(types=["ReduceMean", "Gemm"], validate=False)
    dataset, size = nncf.Dataset(inputs), len(inputs)
    return nncf.quantize(graph, dataset, subset_size=size, ignored_scope=floats)
