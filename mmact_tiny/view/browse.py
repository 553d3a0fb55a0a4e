"""What the network sees: a split's videos after their whole pipeline, or one video's time line."""

import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.patches import ConnectionPatch
from matplotlib.ticker import MaxNLocator

from ..compat import DATASETS, Compose, Config, init_default_scope
from ..errors import UserError
from ..hooks.dataset import seed_generators
from ..pipeline import split_datasets
from ..video.frames import FrameTimes, PacketDecode, PacketInit, ask_frame_times, choose_evenly
from ..video.isolated import GuardedReader
from .sampling import Sampling, quiet, read_samplings, run_transforms, say_sampling
from .sheet import ALARM, DPI, GREY, PALE, PALETTE, TEXT, Panel, draw_text, lay_out

MAX_PICTURES = 24  # of one video on a sheet; a test protocol has 250 views
MAX_FRAMES = 10  # below a time line
WIDTH, MARGIN = 1500, 40  # pixels
HEADING, SPLIT, FAILURE = 40, 340, 40  # heights of the parts of a page
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
        raise UserError(f"the config has no {split} split of annotated RGB videos")
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
        return Panel(title=title, subtitle=name, error=f"cannot be read: {error}")
    title += f"   {' x '.join(map(str, shape))}"
    notes = [f"frame {frame}" for frame in frames]
    return Panel(title=title, subtitle=name, pictures=pictures, notes=notes)


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
    if not Path(info.get("filename", ".")).exists():
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
    found = read_samplings(cfg, video=video, seed=seed)
    heights = [FAILURE if isinstance(one, UserError) else SPLIT for one in found.values()]
    page = Figure(figsize=(WIDTH / DPI, (HEADING + sum(heights)) / DPI), dpi=DPI)
    grid = page.add_gridspec(1 + len(heights), 1, height_ratios=[HEADING, *heights], hspace=0)
    top, *parts = (page.add_subfigure(grid[row]) for row in range(grid.nrows))
    heading = f"{Path(video).name}: {len(times)} frames, {times.duration:.2f} s (seed {seed})"
    _draw_words(top, heading, 0.5, TEXT + 3)
    for part, (split, one) in zip(parts, found.items(), strict=True):
        if isinstance(one, UserError):
            _draw_words(part, f"{split}: {one}", 0.5, color=ALARM)
        else:
            words = say_sampling(one)
            _draw_words(part, f"{split}: {words[0]}; {words[1]}", 1 - 16 / SPLIT)
            _draw_split(part, one, times, str(video))
    return page


def _draw_words(
    part: SubFigure, text: str, height: float, size: float = TEXT, **style: Any
) -> None:
    place = (MARGIN / WIDTH, height)
    draw_text(part, place, text, size, room=WIDTH - 2 * MARGIN, **style)


def seconds_of(times: FrameTimes, frame: float) -> float:
    """Returns when a frame begins, or a place between two; `len(times)` is the video's end."""
    return float(np.interp(frame, range(len(times) + 1), [*times.seconds, times.duration]))


def _draw_split(part: SubFigure, sampling: Sampling, times: FrameTimes, video: str) -> None:
    """Draws one split: axis, time line, and the pictures below their places."""
    pairs = [(i, frame) for i, clip in enumerate(sampling.frame_inds) for frame in clip]
    shown = [pairs[i] for i in choose_evenly(len(pairs), MAX_FRAMES)]
    grid = part.add_gridspec(
        2, len(shown), height_ratios=(30, 170), hspace=0.3, wspace=0.06,
        left=MARGIN / WIDTH, right=1 - MARGIN / WIDTH, top=1 - 78 / SPLIT, bottom=42 / SPLIT,
    )  # fmt: skip
    line = part.add_subplot(grid[0, :])
    _draw_axis(line, times)
    _draw_line(line, sampling, times)
    reader = GuardedReader(Compose([PacketInit(), PacketDecode()]))
    try:
        frame_inds = np.array([frame for _, frame in shown])
        pictures = reader(dict(filename=video, frame_inds=frame_inds))["imgs"]
    finally:
        reader.close()
    for column, ((clip, frame), picture) in enumerate(zip(shown, pictures, strict=True)):
        axes = part.add_subplot(grid[1, column], xticks=[], yticks=[], anchor="N")
        axes.imshow(picture)
        color, seconds = PALETTE[clip % len(PALETTE)], seconds_of(times, frame)
        axes.spines[:].set(color=color, linewidth=2)
        axes.set_xlabel(f"frame {frame}\n{seconds:.2f} s, clip {clip + 1}", fontsize=13)
        part.add_artist(
            ConnectionPatch((seconds, 0), (0.5, 1), line.transData, axes.transAxes, color=color)
        )


def _draw_axis(line: Axes, times: FrameTimes) -> None:
    """Has seconds and frame numbers above the time line."""

    def label(seconds: float, _: float) -> str:
        frame = int(np.searchsorted(times.seconds, seconds - 1e-6))
        return f"{seconds:g} s\nframe {min(frame, len(times) - 1)}"

    line.set(xlim=(0, times.duration), ylim=(0, 1), yticks=[], facecolor=PALE)
    line.xaxis.set_major_locator(MaxNLocator(15, steps=[1, 2, 5, 10]))
    line.xaxis.set_major_formatter(label)
    line.tick_params(top=True, labeltop=True, bottom=False, labelbottom=False, labelsize=12)
    line.spines[:].set_color(GREY)


def _draw_line(line: Axes, sampling: Sampling, times: FrameTimes) -> None:
    """Draws the segments, in turn dark and pale, the clips, and a mark at each sampled frame."""

    def stretch(first: float, after: float) -> tuple[float, float]:
        begin = seconds_of(times, first)
        return begin, seconds_of(times, after) - begin

    segments = [stretch(*segment) for segment in sampling.segments]
    line.broken_barh(segments, (0, 1), facecolors=SEGMENT_COLORS, edgecolor=GREY)
    for number, clip in enumerate(sampling.frame_inds):
        color = PALETTE[number % len(PALETTE)]
        if sampling.clip_len > 1:  # clips may overlap: each at a height of its own
            level = 0.75 - number % 4 * 0.2
            line.broken_barh([stretch(min(clip), max(clip))], (level, 0.12), color=color)
        seconds = [seconds_of(times, frame) for frame in clip]
        line.vlines(seconds, 0, 1, color=color, linewidth=3 if sampling.clip_len == 1 else 1)
