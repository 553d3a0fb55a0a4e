"""Which frames and crops of a video a pipeline takes, found by running the pipeline itself."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..compat.mm import TRANSFORMS, Config, SampleFrames
from ..errors import UserError
from ..pipeline import split_datasets

FRAME_SIZE = (
    256,
    340,
)  # height and width of the stand-in frames: a Kinetics video after its resizing
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

    `frame_inds` has a row of frame indices a clip. `segments` has, for a random pipeline, the
    first and last frame that each clip can start at; it is empty where the sampler has no fixed
    segments. `frame_interval` is None where the frames are spread over the video. `sample` is
    what the pipeline hands to the model.
    """

    split: str
    num_frames: int
    sampler: str
    random: bool
    frame_interval: int | None
    num_crops: int
    crop: str
    frame_inds: list[list[int]]
    segments: list[tuple[int, int]]
    sample: dict[str, Any]

    @property
    def num_clips(self) -> int:
        return len(self.frame_inds)

    @property
    def clip_len(self) -> int:
        return len(self.frame_inds[0])

    @property
    def views(self) -> int:
        return self.num_clips * self.num_crops


def read_sampling(
    cfg: Config,
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
    state = np.random.get_state()
    np.random.seed(seed)
    torch.manual_seed(seed)
    try:
        if video is not None:
            results["filename"] = str(video)
            results = _apply(pipeline[:start], results, split)
        sampler = TRANSFORMS.build(pipeline[start])
        results = sampler(results)
        sampled = np.asarray(results["frame_inds"])
        frames = [np.zeros((*FRAME_SIZE, channels), np.uint8)] * sampled.size
        results.update(imgs=frames, original_shape=FRAME_SIZE, img_shape=FRAME_SIZE)
        packed = _apply(pipeline[end:], results, split)
    finally:
        np.random.set_state(state)
    height, width = packed["inputs"].shape[-2:]
    num_values = sampled.size * height * width * channels
    total_frames = results["total_frames"]
    return Sampling(
        split=split,
        num_frames=int(total_frames),
        sampler=type(sampler).__name__,
        random=not getattr(sampler, "test_mode", False),
        frame_interval=results.get("frame_interval"),
        num_crops=packed["inputs"].numel() // num_values,
        crop=_say_crop(pipeline[end:], height, width),
        frame_inds=sampled.reshape(-1, int(results["clip_len"])).tolist(),
        segments=_segments(sampler, int(total_frames)),
        sample=packed,
    )


def find_sampler(pipeline: Sequence[Mapping[str, Any]], split: str) -> tuple[int, int]:
    """Returns where the frames are chosen and where they are decoded images."""
    types = [str(step["type"]) for step in pipeline]
    start = next((i for i, name in enumerate(types) if "Sample" in name), None)
    decoders = [i for i, name in enumerate(types) if "Decode" in name]
    if start is None or not decoders:
        raise UserError(
            f"the {split} pipeline does not sample and decode a video: {', '.join(types)}\n"
            "  describe.py reads recognizers of video, not of audio, poses or features"
        )
    return start, decoders[-1] + 1


def _apply(steps: Sequence[Any], results: dict[str, Any], split: str) -> dict[str, Any]:
    for step in steps:
        try:
            results = TRANSFORMS.build(step)(results)
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


def _segments(sampler: Any, num_frames: int) -> list[tuple[int, int]]:
    """Returns the first and last start of each clip, as `SampleFrames._get_train_clips` has it."""
    if type(sampler) is not SampleFrames or sampler.test_mode or sampler.keep_tail_frames:
        return []
    clip = sampler.clip_len * sampler.frame_interval
    length = (num_frames - clip + 1) // sampler.num_clips
    if length < 1 or sampler.target_fps is not None:
        return []
    return [(i * length, (i + 1) * length - 1) for i in range(sampler.num_clips)]


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
    unit = "frame" if sampling.clip_len == 1 else "frames"
    interval = f"interval {sampling.frame_interval}"
    if sampling.frame_interval is None:
        interval = "spread over the video"
    how = "at random" if sampling.random else "at fixed places"
    lines = [
        f"{sampling.num_clips} clip(s) x {sampling.clip_len} {unit} x {interval}, {how} "
        f"({sampling.sampler})",
        f"{sampling.num_crops} crop(s) of {sampling.crop}",
        f"views: {sampling.num_clips} clip(s) x {sampling.num_crops} crop(s) = {sampling.views}",
    ]
    if sampling.segments:
        shown = ", ".join(f"{first}-{last}" for first, last in sampling.segments)
        lines.append(f"of {sampling.num_frames} frames, a clip starts in each of: {shown}")
    title = f"one draw (seed {SEED})" if sampling.random else "frames"
    return [*lines, f"{title} of {sampling.num_frames}: {_say_frames(sampling.frame_inds)}"]


def _say_frames(clips: Sequence[Sequence[int]]) -> str:
    if len(clips[0]) == 1:
        return ", ".join(str(clip[0]) for clip in clips)
    return "; ".join(_say_clip(clip) for clip in clips)


def _say_clip(clip: Sequence[int]) -> str:
    steps = set(np.diff(clip).tolist())
    if len(steps) == 1 and len(clip) > 3:
        step = steps.pop()
        return f"{clip[0]}, {clip[1]}, ... {clip[-1]}" if step else f"{clip[0]} x {len(clip)}"
    return ", ".join(str(frame) for frame in clip)
