"""Which frames and crops of a video a pipeline takes, found by running the pipeline itself."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import compat
from ..errors import UserError
from ..pipeline import SPLITS, split_datasets
from ..video.window import find_sampler

if TYPE_CHECKING:
    from ..compat import Config

FRAME_SIZE = (256, 340)  # height and width of the stand-in frames: Kinetics after its resizing
NUM_FRAMES = 300  # of the stand-in video: 10 seconds at 30 frames a second
SEED = 0  # of the draw that is shown of a random pipeline


@contextmanager
def quiet() -> Iterator[None]:
    """Holds MMEngine's log back: some backbones log each weight, `DecordInit` its deprecations."""
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(disabled)


@dataclass(frozen=True)
class Sampling:
    """How one pipeline samples a video of `num_frames` frames.

    `frame_inds` has a row of frame indices a clip. `segments` has the parts of the video that the
    clips are taken from, each as its first frame and the first after it; it is empty where the
    sampler has none. `frame_interval` is None where the frames are spread over the video.
    `sample` is what the pipeline hands to the model.
    """

    num_frames: int
    sampler: str
    random: bool
    frame_interval: int | None
    num_crops: int
    crop: str
    frame_inds: list[list[int]]
    segments: list[tuple[float, float]]
    sample: dict[str, Any]

    @property
    def num_clips(self) -> int:
        return len(self.frame_inds)

    @property
    def clip_len(self) -> int:
        return len(self.frame_inds[0])


def read_samplings(cfg: "Config", **settings: Any) -> dict[str, Sampling | UserError]:
    """Returns how each split samples, or why it does not; `settings` are `read_sampling`'s.

    Raises:
        UserError: none of them does.
    """
    found: dict[str, Sampling | UserError] = {}
    for split in SPLITS:
        try:
            with quiet():
                found[split] = read_sampling(cfg, split, **settings)
        except UserError as error:
            found[split] = error
    if not any(isinstance(one, Sampling) for one in found.values()):
        raise UserError(str(found["val"]))
    return found


def read_sampling(
    cfg: "Config",
    split: str,
    *,
    num_frames: int = NUM_FRAMES,
    video: str | Path | None = None,
    seed: int = SEED,
) -> Sampling:
    """Runs a split's pipeline on stand-in frames and returns how it samples.

    Args:
        cfg: Any config of a recognizer of RGB frames or optical flow.
        split: train, val or test.
        num_frames: Length of the video.
        video: A file whose length counts instead, opened as the pipeline opens it.
        seed: Of the draw of a random pipeline.

    Raises:
        UserError: the config has no such split, or its pipeline is not one for video, or fails.
    """
    dataset = dict(split_datasets(cfg)).get(split, {})
    pipeline, modality = dataset.get("pipeline"), dataset.get("modality", "RGB")
    if not pipeline:
        raise UserError(f"the config has no {split} pipeline")
    if num_frames < 1:
        raise UserError(f"--num-frames {num_frames}: expected 1 or more")
    if video is not None and not Path(video).is_file():
        raise UserError(f"no video {video}")
    channels = 2 if modality == "Flow" else 3
    start, end = find_sampler(pipeline, split)
    results = dict(total_frames=num_frames, start_index=0, modality=modality, label=0, filename="")
    np.random.seed(seed)
    if video is not None:
        results["filename"] = str(video)
        results = _apply(pipeline[:start], results, split)
    sampler = compat.TRANSFORMS.build(pipeline[start])
    results = sampler(results)
    sampled = np.asarray(results["frame_inds"])
    frames = [np.zeros((*FRAME_SIZE, channels), np.uint8)] * sampled.size
    results.update(imgs=frames, original_shape=FRAME_SIZE, img_shape=FRAME_SIZE)
    packed = _apply(pipeline[end:], results, split)
    height, width = packed["inputs"].shape[-2:]
    total_frames = int(results["total_frames"])
    return Sampling(
        num_frames=total_frames,
        sampler=type(sampler).__name__,
        random=not getattr(sampler, "test_mode", False),
        frame_interval=results.get("frame_interval"),
        num_crops=packed["inputs"].numel() // (sampled.size * height * width * channels),
        crop=_say_crop(pipeline[end:], height, width),
        frame_inds=sampled.reshape(-1, int(results["clip_len"])).tolist(),
        segments=_segments(sampler, total_frames),
        sample=packed,
    )


def _apply(steps: Sequence[Any], results: dict[str, Any], split: str) -> dict[str, Any]:
    for step in steps:
        try:
            results = compat.TRANSFORMS.build(step)(results)
        except Exception as error:  # a transform of any kind; the cause is in its own words
            raise UserError(
                f"{split} pipeline: {step['type']}: {type(error).__name__}: {error}"
            ) from error
    return results


def run_transforms(
    transforms: Sequence[Any], results: dict[str, Any]
) -> tuple[dict[str, Any], list[int]]:
    """Returns what transforms make of a sample, and the index of the frame in each picture.

    The frames repeat where there are several crops: a crop of all frames comes before the next.

    Args:
        transforms: Of one pipeline, built.
        results: What the first of them starts from.
    """
    frame_inds = np.zeros(1, dtype=int)
    for transform in transforms:
        frame_inds = np.asarray(results.get("frame_inds", frame_inds)).ravel()
        results = transform(results)
    inputs = results["inputs"]
    num_pictures = len(inputs) * (inputs.shape[2] if inputs.ndim == 5 else 1)
    return results, [int(frame_inds[i % len(frame_inds)]) for i in range(num_pictures)]


def _segments(sampler: Any, num_frames: int) -> list[tuple[float, float]]:
    """Returns the parts of a video that `SampleFrames` takes its clips from.

    Training draws each clip's start from its part, a test of single frames takes the middle of
    equal parts (its `_get_train_clips` and `_get_test_clips`). Other samplers have none.
    """
    if type(sampler) is not compat.SampleFrames:
        return []
    length = num_frames / sampler.num_clips
    if sampler.test_mode:
        known = sampler.clip_len == 1
    else:
        clip = sampler.clip_len * sampler.frame_interval
        length = (num_frames - clip + 1) // sampler.num_clips
        known = length >= 1 and not sampler.keep_tail_frames and sampler.target_fps is None
    return [(i * length, (i + 1) * length) for i in range(sampler.num_clips)] if known else []


CROP_WORDS = {
    "TenCrop": "the corners and the centre, each also mirrored",
    "ThreeCrop": "both ends and the centre of the long side",
    "CenterCrop": "the centre",
    "MultiScaleCrop": "a random corner or the centre, at a random scale",
    "RandomResizedCrop": "a random place, size and shape",
    "RandomCrop": "a random place",
}


def _say_crop(steps: Sequence[Mapping[str, Any]], height: int, width: int) -> str:
    words = [CROP_WORDS[step["type"]] for step in steps if step["type"] in CROP_WORDS]
    flips = [step.get("flip_ratio", 0.5) for step in steps if step["type"] == "Flip"]
    text = f"{width} x {height} pixels: {', '.join(words) or 'the whole frame'}"
    return f"{text}; mirrored with probability {flips[0]:g}" if any(flips) else text


def say_sampling(sampling: Sampling) -> list[str]:
    """Returns the strategy in words: clips, crops, views, then the frames."""
    num_clips, num_crops = sampling.num_clips, sampling.num_crops
    unit = "frame" if sampling.clip_len == 1 else "frames"
    interval = f"interval {sampling.frame_interval}"
    if sampling.frame_interval is None:
        interval = "spread over the video"
    how = "at random" if sampling.random else "at fixed places"
    lines = [
        f"{num_clips} clip(s) x {sampling.clip_len} {unit} x {interval}, {how} "
        f"({sampling.sampler})",
        f"{num_crops} crop(s) of {sampling.crop}",
        f"views: {num_clips} clip(s) x {num_crops} crop(s) = {num_clips * num_crops}",
    ]
    if sampling.random and sampling.segments:
        shown = ", ".join(f"{first}-{after - 1}" for first, after in sampling.segments)
        lines.append(f"of {sampling.num_frames} frames, a clip starts in each of: {shown}")
    title = f"one draw (seed {SEED})" if sampling.random else "frames"
    frames = (", " if sampling.clip_len == 1 else "; ").join(map(_say_clip, sampling.frame_inds))
    return [*lines, f"{title} of {sampling.num_frames}: {frames}"]


def _say_clip(clip: Sequence[int]) -> str:
    steps = set(np.diff(clip).tolist())
    if len(steps) == 1 and len(clip) > 3:
        return (
            f"{clip[0]}, {clip[1]}, ... {clip[-1]}" if steps != {0} else f"{clip[0]} x {len(clip)}"
        )
    return ", ".join(map(str, clip))
