"""Makes the views of a video as MMAction2's test pipelines do, with NumPy and OpenCV alone.

A pipeline is a list of MMAction2's own steps, as JSON has them. What they are given and give is in
MMAction2 1.2.0, mmaction/datasets/transforms: loading.py, processing.py and formatting.py.
"""

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import av
import cv2
import numpy as np

from ..compat import NOT_A_VIDEO
from ..errors import UserError
from ..pipeline import num_views, sampling_step
from ..video.files import split_name
from ..video.packets import DecodedReader, TooLarge, UnclearPackets, open_video, read_frames

MAX_FRAMES = 10_000  # of all views of a video; 250 are usual
MAX_SIDE = 4096  # pixels of a view, and of what it is cut from
MAX_COUNT = 1_000_000  # of frames, of clips
INTERPOLATIONS = {
    "nearest": cv2.INTER_NEAREST,
    "bilinear": cv2.INTER_LINEAR,
    "bicubic": cv2.INTER_CUBIC,
    "area": cv2.INTER_AREA,
    "lanczos": cv2.INTER_LANCZOS4,
}
Sample = dict[str, Any]
Allowed = tuple[Callable[[Any], bool], str]  # whether a value of an argument is, and what is


def _is_number(value: Any, most: int) -> bool:
    return type(value) is int and 1 <= value <= most


def _is_pair(value: Any) -> bool:
    return isinstance(value, list | tuple) and len(value) == 2


def _one_of(*allowed: Any) -> Allowed:
    return lambda value: value in list(allowed), " or ".join(map(str, allowed))


def _is_scale(value: Any) -> bool:
    """Returns whether it is a factor, or two sides; one of them may be -1, which is any."""
    if not _is_pair(value):
        return type(value) is float and 0 < value <= MAX_SIDE
    sides = [side for side in value if side != -1]
    return bool(sides) and all(_is_number(side, MAX_SIDE) for side in sides)


COUNT: Allowed = (lambda v: _is_number(v, MAX_COUNT), f"a whole number, 1 to {MAX_COUNT}")
ALLOWED: dict[str, Allowed] = {
    "clip_len": COUNT,
    "frame_interval": COUNT,
    "num_clips": COUNT,
    "sample_range": COUNT,
    "num_sample_positions": COUNT,
    "twice_sample": _one_of(True, False),
    "test_mode": _one_of(True, False),
    "keep_ratio": _one_of(True, False),
    "target_fps": (
        lambda v: v is None or (type(v) in (int, float) and 0 < v <= MAX_COUNT),
        "frames a second",
    ),
    "out_of_bound_opt": _one_of("loop", "repeat_last"),
    "scale": (_is_scale, f"a factor, or two sides of at most {MAX_SIDE} pixels, one of them -1"),
    "interpolation": _one_of(*INTERPOLATIONS),
    "crop_size": (
        lambda v: all(_is_number(side, MAX_SIDE) for side in (v if _is_pair(v) else [v])),
        f"one or two sides, 1 to {MAX_SIDE} pixels",
    ),
    "input_format": _one_of("NCHW", "NCTHW"),
}


class Views:
    """Called with a sample, gives it with `inputs`: uint8, (views, 3, H, W) or (views, 3, T, H, W).

    Args:
        steps: Of a test pipeline, or some that follow each other in one.

    Raises:
        UserError: a step or an argument that is not known here.
    """

    def __init__(self, steps: Sequence[dict[str, Any]]) -> None:
        for step in steps:
            check_step(step)
        self.steps = steps

    def __call__(self, sample: Sample) -> Sample:
        for step in self.steps:
            sample = STEPS[step["type"]](sample, **_settings(step))
        return sample


def check_step(step: dict[str, Any]) -> None:
    """Raises a UserError for a step that `Views` cannot do."""
    kind = step.get("type")
    if kind not in STEPS:
        raise UserError(f"the step {kind} of its test pipeline is none of {', '.join(STEPS)}")
    known = inspect.signature(STEPS[kind])
    try:
        known.bind({}, **_settings(step))
    except TypeError as error:  # as "got an unexpected keyword argument 'lazy'"
        raise UserError(f"{kind} of its test pipeline {error}") from None
    for name, value in _settings(step).items():
        is_allowed, expected = ALLOWED[name]
        if not is_allowed(value):
            got = f"{name}={value!r}"[:100]
            raise UserError(f"{kind} of its test pipeline has {got}: expected {expected}")
    if "test_mode" in known.parameters and not step.get("test_mode"):
        raise UserError(f"{kind} of its test pipeline draws at random: expected test_mode=True")


def _settings(step: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in step.items() if key != "type"}


def views_shape(steps: Sequence[dict[str, Any]]) -> tuple[int, int, int, int]:
    """Returns how many views a whole pipeline makes, and the frames, height and width of each.

    Raises:
        UserError: a pipeline that does not crop all videos to one size, or makes too much.
    """
    Views(steps)
    types = [step["type"] for step in steps]
    parts = ["PacketInit", "Sample", "PacketDecode", "Crop", "FormatShape"]
    where = [next((i for i, kind in enumerate(types) if part in kind), -1) for part in parts]
    if where != sorted(set(where)) or where[0] < 0:
        raise UserError(f"its test pipeline {', '.join(types)}: expected {', '.join(parts)}")
    clips, crops = num_views(steps)
    frames = sampling_step(steps)["clip_len"]
    width, height = _pair(steps[where[3]]["crop_size"])
    if clips * crops * frames > MAX_FRAMES:
        raise UserError(f"its test pipeline makes {clips * crops} views of {frames} frames")
    for step in steps[: where[3]]:
        if step["type"] == "Resize":
            _check_room(step, width, height)
    if steps[where[4]]["input_format"] == "NCHW":
        clips, frames = clips * frames, 1
    return clips * crops, frames, height, width


def _check_room(resize: dict[str, Any], width: int, height: int) -> None:
    """Raises a UserError where no frame is as large after a `Resize` as what is cut from it."""
    scale, short, long = resize["scale"], MAX_SIDE, MAX_SIDE  # of a factor: any
    has_both = _is_pair(scale) and -1 not in scale
    if _is_pair(scale):
        short, long = sorted(scale) if has_both else (max(scale), MAX_SIDE)
    fits = max(width, height) <= long and min(width, height) <= short
    if not fits or not (has_both or resize.get("keep_ratio", True)):
        raise UserError(f"its test pipeline cuts {width} x {height} pixels, resized to {scale}")


def _open(sample: Sample) -> Sample:
    name, stretch = split_name(sample["filename"])
    try:
        reader: Any = open_video(name, stretch=stretch)
    except av.InvalidDataError:
        raise ValueError(NOT_A_VIDEO) from None
    except TooLarge:
        reader = DecodedReader(name, stretch)
    return sample | dict(video_reader=reader, total_frames=len(reader), avg_fps=reader.average_fps)


def _decode(sample: Sample) -> Sample:
    sample = dict(sample)
    reader = sample.pop("video_reader")
    try:
        images = read_frames(reader, sample["frame_inds"].tolist(), sample["total_frames"])
    except (UnclearPackets, IndexError, av.FFmpegError):
        raise UserError("some of its frames cannot be decoded") from None
    finally:
        reader.close()
    return sample | dict(imgs=images)


def _sample_frames(
    sample: Sample,
    *,
    clip_len: int,
    frame_interval: int = 1,
    num_clips: int = 1,
    twice_sample: bool = False,
    out_of_bound_opt: str = "loop",
    target_fps: float | None = None,
    test_mode: bool = False,
) -> Sample:
    total, fps = sample["total_frames"], sample.get("avg_fps")
    length: float = (clip_len - 1) * frame_interval + 1
    if target_fps is not None:
        length = max(1, clip_len * frame_interval * (fps / target_fps if fps else 1.0))
    if clip_len == 1:
        between = total / num_clips
        starts = np.arange(num_clips) * between + between / 2
        if twice_sample:
            starts = np.concatenate([starts, np.arange(num_clips) * between])
    else:
        room, count = max(total - length, 0), num_clips * (1 + bool(twice_sample))
        starts = np.array([room // 2])
        if count > 1:
            between = room / (num_clips - 1)
            starts = np.arange(count) * (np.floor(between) if target_fps else between)
            starts = starts if target_fps else np.round(starts)
    within = np.arange(clip_len) * frame_interval
    if target_fps:
        within = np.linspace(0, length - 1, clip_len).astype(np.int32)
    return _clips(sample, starts[:, None] + within, out_of_bound_opt, num_clips)


def _dense_sample_frames(
    sample: Sample,
    *,
    clip_len: int,
    frame_interval: int = 1,
    num_clips: int = 1,
    sample_range: int = 64,
    num_sample_positions: int = 10,
    out_of_bound_opt: str = "loop",
    test_mode: bool = False,
) -> Sample:
    total = sample["total_frames"]
    positions = np.linspace(0, max(0, total - sample_range), num_sample_positions, dtype=int)
    offsets = np.arange(num_clips) * (sample_range // num_clips)
    starts = (positions[:, None] + offsets).ravel() % total
    inds = starts[:, None] + np.arange(clip_len) * frame_interval
    return _clips(sample, inds, out_of_bound_opt, num_clips)


def _uniform_sample(
    sample: Sample, *, clip_len: int, num_clips: int = 1, test_mode: bool = False
) -> Sample:
    size = (sample["total_frames"] - 1) / clip_len
    offsets = (size / (num_clips + 1) * np.arange(1, num_clips + 1)).astype(int)
    inds = offsets[:, None] + np.round(size * np.arange(clip_len)).astype(int)
    return sample | dict(frame_inds=inds.ravel(), clip_len=clip_len, num_clips=num_clips)


def _clips(sample: Sample, inds: np.ndarray, out_of_bound: str, num_clips: int) -> Sample:
    """Returns a sample with `frame_inds`; `inds` has a row a clip, perhaps past the last frame."""
    total = sample["total_frames"]
    if out_of_bound == "loop":
        inds = np.mod(inds, total)
    else:
        inside = inds < total
        inds = np.where(inside, inds, np.max(inside * inds, axis=1)[:, None])
    frame_inds = inds.astype(np.int32).ravel()
    return sample | dict(frame_inds=frame_inds, clip_len=inds.shape[1], num_clips=num_clips)


def _resize(
    sample: Sample, *, scale: Any, keep_ratio: bool = True, interpolation: str = "bilinear"
) -> Sample:
    height, width = sample["imgs"][0].shape[:2]
    size = scale
    if keep_ratio:
        factor = scale
        if not isinstance(scale, float):
            long, short = max(scale), min(scale)
            factor = long / min(height, width)
            if short != -1:
                factor = min(long / max(height, width), short / min(height, width))
        size = int(width * float(factor) + 0.5), int(height * float(factor) + 0.5)
    how = INTERPOLATIONS[interpolation]
    return sample | dict(imgs=[cv2.resize(img, size, interpolation=how) for img in sample["imgs"]])


def _center_crop(sample: Sample, *, crop_size: Any) -> Sample:
    height, width = sample["imgs"][0].shape[:2]
    columns, rows = _pair(crop_size)
    return _crop(sample, crop_size, [((width - columns) // 2, (height - rows) // 2)])


def _three_crop(sample: Sample, *, crop_size: Any) -> Sample:
    height, width = sample["imgs"][0].shape[:2]
    columns, rows = _pair(crop_size)
    if rows != height and columns != width:
        raise ValueError(f"{width} x {height} pixels: a side differs from the crop's")
    across, down = (width - columns) // 2, (height - rows) // 2
    if rows == height:
        return _crop(sample, crop_size, [(0, 0), (2 * across, 0), (across, 0)])
    return _crop(sample, crop_size, [(0, 0), (0, 2 * down), (0, down)])


def _ten_crop(sample: Sample, *, crop_size: Any) -> Sample:
    height, width = sample["imgs"][0].shape[:2]
    columns, rows = _pair(crop_size)
    across, down = (width - columns) // 4, (height - rows) // 4
    places = [(0, 0), (4, 0), (0, 4), (4, 4), (2, 2)]
    corners = [(x * across, y * down) for x, y in places]
    return _crop(sample, crop_size, corners, mirrored=True)


def _crop(
    sample: Sample, crop_size: Any, corners: Sequence[tuple[int, int]], *, mirrored: bool = False
) -> Sample:
    """Returns a sample with a crop of all images after the other, each also mirrored."""
    columns, rows = _pair(crop_size)
    images = []
    for left, top in corners:
        crop = [image[top : top + rows, left : left + columns] for image in sample["imgs"]]
        images += crop + [image[:, ::-1] for image in crop] * mirrored
    return sample | dict(imgs=images)


def _format_shape(sample: Sample, *, input_format: str) -> Sample:
    images = np.array(sample["imgs"])
    if input_format == "NCTHW":
        images = images.reshape(-1, sample["clip_len"], *images.shape[1:])
    return sample | dict(imgs=np.moveaxis(images, -1, 1))


def _pack(sample: Sample) -> Sample:
    return dict(inputs=sample["imgs"])


def _pair(size: Any) -> tuple[int, int]:
    """Returns the width and height of a crop."""
    return (size, size) if isinstance(size, int) else (size[0], size[1])


STEPS: dict[Any, Callable[..., Sample]] = {
    "PacketInit": _open,
    "SampleFrames": _sample_frames,
    "DenseSampleFrames": _dense_sample_frames,
    "UniformSample": _uniform_sample,
    "PacketDecode": _decode,
    "Resize": _resize,
    "CenterCrop": _center_crop,
    "ThreeCrop": _three_crop,
    "TenCrop": _ten_crop,
    "FormatShape": _format_shape,
    "PackActionInputs": _pack,
}
