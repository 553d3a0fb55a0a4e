"""What the network sees: a split's videos after their whole pipeline, or one video's time line."""

import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ..compat import DATASETS, Compose, Config, init_default_scope
from ..errors import UserError
from ..hooks.dataset import seed_generators
from ..pipeline import split_datasets
from ..video.files import split_name
from ..video.frames import PacketDecode, PacketInit
from ..video.isolated import PIPELINE, GuardedReader
from ..video.packets import choose_evenly
from ..video.times import FrameTimes, ask_frame_times
from .sampling import Sampling, quiet, read_samplings, run_transforms, say_sampling
from .sheet import DPI, GREY, PALE, PALETTE, Panel, lay_out, to_pixels

MAX_PICTURES = 24  # of one video on a sheet; a test protocol has 250 views
MAX_FRAMES = 10  # below a time line
LINE_WIDTH, LINE_HEIGHT = 1500, 80  # pixels of a time line
SEGMENT_COLORS = ("#cddceb", "#eef4fa")


def browse_split(cfg: Config, split: str, *, num: int, seed: int) -> Figure:
    """Returns a sheet of up to `num` videos of a split, as the model would get them.

    Random transforms are really applied, seeded by `seed` and the video's line. A video that
    cannot be read is a cell with the reason.

    Raises:
        UserError: no such split, `num` below 1, or a dataset that is not one of RGB videos.
    """
    if num < 1:
        raise UserError(f"--num {num}: expected 1 or more")
    node = dict(split_datasets(cfg)).get(split)
    if node is None or node.get("modality", "RGB") != "RGB" or not node.get("ann_file"):
        missing = f"the config has no {split} split of annotated RGB videos"
        raise UserError(f"{missing}: name your dataset with --data DIR")
    if not Path(node.ann_file).is_file():
        raise UserError(f"no annotation file {node.ann_file}: name your dataset with --data DIR")
    init_default_scope("mmaction")
    with quiet():
        dataset = DATASETS.build(node)
    labels = (node.get("metainfo") or {}).get("classes") or []
    chosen = sorted(random.Random(seed).sample(range(len(dataset)), min(num, len(dataset))))
    reader = GuardedReader(lambda item: read_pictures(dataset, item["index"], seed=seed))
    try:
        with quiet():  # the transforms run in the reader's process, which begins here
            panels = [
                _read_panel(dataset.get_data_info(index), index, reader, labels) for index in chosen
            ]
    finally:
        reader.close()
    heading = [
        f"{split}: {len(chosen)} of {len(dataset)} videos as the network gets them (seed {seed})",
        f"after {', '.join(step['type'] for step in node.pipeline)}",
    ]
    return lay_out(panels, heading=heading)


def _read_panel(
    info: Mapping[str, Any], index: int, reader: GuardedReader, labels: Sequence[str]
) -> Panel:
    name = str(info.get("filename") or info.get("frame_dir"))
    number = info["label"]
    known = isinstance(number, int) and 0 <= number < len(labels)
    title = labels[number] if known else f"label {number}"
    try:
        pictures, frames, shape = reader(dict(index=index))
    except UserError as error:
        what = "" if getattr(error, "kind", "") == PIPELINE else "cannot be read: "
        return Panel(title=title, subtitle=name, error=f"{what}{error}")
    title += f"   {' x '.join(map(str, shape))}"
    noted = [(picture, f"frame {frame}") for picture, frame in zip(pictures, frames, strict=True)]
    return Panel(title=title, subtitle=name, pictures=noted)


def read_pictures(
    dataset: Any, index: int, *, seed: int
) -> tuple[list[np.ndarray], list[int], tuple[int, ...]]:
    """Returns what the model would get of the video in line `index`, as uint8 RGB pictures.

    The dataset is one that MMEngine built; its whole pipeline runs.

    Returns:
        At most `MAX_PICTURES`, evenly chosen; the index of the frame in each; the shape of all.

    Raises:
        UserError: what the pipeline makes is not RGB pictures.
    """
    seed_generators(seed, index)
    info = dataset.get_data_info(index)
    if not Path(split_name(info.get("filename", "."))[0]).exists():
        raise UserError("no such file")
    sample, frames = run_transforms(dataset.pipeline.transforms, info)
    inputs = sample["inputs"]
    if inputs.ndim not in (4, 5) or inputs.shape[1] != 3:
        raise UserError(f"inputs of shape {tuple(inputs.shape)} are not RGB frames")
    shape = tuple(inputs.shape)
    if inputs.ndim == 5:  # views, 3, frames, height, width
        inputs = inputs.transpose(1, 2).flatten(0, 1)
    shown = choose_evenly(len(inputs), MAX_PICTURES)
    images = inputs[shown].permute(0, 2, 3, 1).numpy()
    if images.dtype != np.uint8:
        for transform in dataset.pipeline.transforms:  # one of the user's: stock normalizes later
            if hasattr(transform, "mean") and hasattr(transform, "std"):
                images = images * np.asarray(transform.std) + np.asarray(transform.mean)
        images = images.round().clip(0, 255).astype(np.uint8)
    return list(images), [frames[i] for i in shown], shape


def browse_video(cfg: Config, video: str | Path, *, seed: int) -> Figure:
    """Returns a page with a time line a split: segments, sampled frames, and their pictures.

    Of a random sampler it shows the draw of `seed`.

    Raises:
        UserError: the video cannot be read, or no split's pipeline samples a video.
    """
    times = ask_frame_times(video)
    reader = GuardedReader(Compose([PacketInit(), PacketDecode()]))
    panels = []
    try:
        for split, one in read_samplings(cfg, video=video, seed=seed).items():
            if isinstance(one, UserError):
                panels.append(Panel(title=split, error=str(one)))
                continue
            pairs = [(i, frame) for i, clip in enumerate(one.frame_inds) for frame in clip]
            shown = [pairs[i] for i in choose_evenly(len(pairs), MAX_FRAMES)]
            frame_inds = np.array([frame for _, frame in shown])
            images = reader(dict(filename=str(video), frame_inds=frame_inds))["imgs"]
            pictures = []
            for (clip, frame), image in zip(shown, images, strict=True):
                note = f"{frame}: {seconds_of(times, frame):.2f} s, clip {clip + 1}"
                pictures.append((_framed(image, PALETTE[clip % len(PALETTE)]), note))
            clips, crops, *_ = say_sampling(one)
            title, banner = f"{split}: {clips}; {crops}", draw_time_line(one, times)
            panels.append(Panel(title=title, pictures=pictures, banner=banner))
    finally:
        reader.close()
    heading = [
        f"{Path(video).name}: {len(times)} frames, {times.duration:.2f} s (seed {seed})",
        "below a time line: frames that are taken, with their number, time and clip",
    ]
    return lay_out(panels, heading=heading, columns=MAX_FRAMES)


def _framed(image: np.ndarray, color: str) -> np.ndarray:
    edge = max(image.shape) // 50 + 1
    framed = np.pad(image, [(edge, edge), (edge, edge), (0, 0)])
    inside = np.pad(np.ones(image.shape[:2], bool), edge)
    framed[~inside] = np.round(255 * np.array(to_rgb(color)))
    return framed


def seconds_of(times: FrameTimes, frame: float) -> float:
    """Returns when a frame begins, or a place between two; `len(times)` is the video's end."""
    return float(np.interp(frame, range(len(times) + 1), [*times.seconds, times.duration]))


def draw_time_line(sampling: Sampling, times: FrameTimes) -> np.ndarray:
    """Returns the segments, in turn dark and pale, the clips, and a mark at each sampled frame.

    Above are seconds and frame numbers. It is uint8 RGB, (height, width, 3).
    """

    def label(seconds: float, _: float) -> str:
        frame = int(np.searchsorted(times.seconds, seconds - 1e-6))
        return f"{seconds:g} s\nframe {min(frame, len(times) - 1)}"

    def stretch(first: float, after: float) -> tuple[float, float]:
        begin = seconds_of(times, first)
        return begin, seconds_of(times, after) - begin

    figure = Figure(figsize=(LINE_WIDTH / DPI, LINE_HEIGHT / DPI), dpi=DPI)
    line = figure.add_axes((0.02, 0.05, 0.96, 0.45))
    line.set(xlim=(0, times.duration), ylim=(0, 1), yticks=[], facecolor=PALE)
    line.xaxis.set_major_locator(MaxNLocator(15, steps=[1, 2, 5, 10]))
    line.xaxis.set_major_formatter(label)
    line.tick_params(top=True, labeltop=True, bottom=False, labelbottom=False, labelsize=12)
    line.spines[:].set_color(GREY)
    segments = [stretch(*segment) for segment in sampling.segments]
    line.broken_barh(segments, (0, 1), facecolors=SEGMENT_COLORS, edgecolor=GREY)
    for number, clip in enumerate(sampling.frame_inds):
        color = PALETTE[number % len(PALETTE)]
        if sampling.clip_len > 1:  # clips may overlap: each at a height of its own
            level = 0.75 - number % 4 * 0.2
            line.broken_barh([stretch(min(clip), max(clip))], (level, 0.12), color=color)
        seconds = [seconds_of(times, frame) for frame in clip]
        line.vlines(seconds, 0, 1, color=color, linewidth=3 if sampling.clip_len == 1 else 1)
    return to_pixels(figure)[..., :3]
