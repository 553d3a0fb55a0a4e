"""Draws which frames of one video a config takes, on a time line for each of its splits."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.patches import ConnectionPatch
from matplotlib.ticker import MaxNLocator

from ..compat.mm import Compose, Config
from ..errors import UserError
from ..pipeline import SPLITS
from ..video.frames import FrameTimes, PacketDecode, PacketInit, ask_frame_times, choose_evenly
from ..video.isolated import GuardedReader
from .sampling import Sampling, quiet, read_sampling, say_sampling
from .sheet import ALARM, DPI, GREY, PALE, PALETTE, TEXT, draw_text

WIDTH, MARGIN = 1500, 40  # pixels
HEADING, SPLIT, FAILURE = 40, 340, 40  # heights of the parts of a page
SEGMENT_COLORS = ("#cddceb", "#eef4fa")
MAX_PICTURES = 10


def browse_video(cfg: Config, video: str | Path, *, seed: int) -> Figure:
    """Returns a page with a time line a split: segments, sampled frames, and their pictures.

    Args:
        cfg: From `load_config` or `read_config`.
        video: The file.
        seed: Of the draw that is shown of a random sampler.

    Raises:
        UserError: the video cannot be read, or no split's pipeline samples a video.
    """
    times = ask_frame_times(video)
    found: dict[str, Sampling | UserError] = {}
    for split in SPLITS:
        try:
            with quiet():
                found[split] = read_sampling(cfg, split, video=video, seed=seed)
        except UserError as error:
            found[split] = error
    if all(isinstance(one, UserError) for one in found.values()):
        raise UserError(f"cannot read video {video}: {found[SPLITS[0]]}")
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
            _draw_split(part, one, times, str(video))
    return page


def _draw_words(
    part: SubFigure, text: str, height: float, size: float = TEXT, **style: Any
) -> None:
    place = (MARGIN / WIDTH, height)
    draw_text(part, place, text, size, room=WIDTH - 2 * MARGIN, **style)


def borders_of(sampling: Sampling) -> list[tuple[float, float]]:
    """Returns the segments of a sampler, each as its first frame and the first after it.

    Training draws each clip's start from its segment. A test of single frames takes the middle of
    equal parts (stock's `SampleFrames._get_test_clips`). Other samplers have none.
    """
    if sampling.segments:
        return [(first, last + 1) for first, last in sampling.segments]
    if sampling.sampler == "SampleFrames" and sampling.clip_len == 1 and not sampling.random:
        part = sampling.num_frames / sampling.num_clips
        return [(i * part, (i + 1) * part) for i in range(sampling.num_clips)]
    return []


def seconds_of(times: FrameTimes, frame: float) -> float:
    """Returns when a frame begins, or a place between two; `len(times)` is the video's end."""
    return float(np.interp(frame, range(len(times) + 1), [*times.seconds, times.duration]))


def _draw_split(part: SubFigure, sampling: Sampling, times: FrameTimes, video: str) -> None:
    """Draws one split: words, axis, time line, and the pictures below their places."""
    words = say_sampling(sampling)
    _draw_words(part, f"{sampling.split}: {words[0]}; {words[1]}", 1 - 16 / SPLIT)
    pairs = [(i, frame) for i, clip in enumerate(sampling.frame_inds) for frame in clip]
    shown = [pairs[i] for i in choose_evenly(len(pairs), MAX_PICTURES)]
    grid = part.add_gridspec(
        2, len(shown), height_ratios=(30, 170), hspace=0.3, wspace=0.06,
        left=MARGIN / WIDTH, right=1 - MARGIN / WIDTH, top=1 - 78 / SPLIT, bottom=42 / SPLIT,
    )  # fmt: skip
    line = part.add_subplot(grid[0, :])
    _draw_axis(line, times)
    _draw_line(line, sampling, times)
    pictures = _decode(video, [frame for _, frame in shown])
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

    borders = [stretch(*border) for border in borders_of(sampling)]
    line.broken_barh(borders, (0, 1), facecolors=SEGMENT_COLORS, edgecolor=GREY)
    for number, clip in enumerate(sampling.frame_inds):
        color = PALETTE[number % len(PALETTE)]
        if sampling.clip_len > 1:  # clips may overlap: each at a height of its own
            level = 0.75 - number % 4 * 0.2
            line.broken_barh([stretch(min(clip), max(clip))], (level, 0.12), color=color)
        seconds = [seconds_of(times, frame) for frame in clip]
        line.vlines(seconds, 0, 1, color=color, linewidth=3 if sampling.clip_len == 1 else 1)


def _decode(video: str, frames: Sequence[int]) -> list[np.ndarray]:
    """Returns frames of a video as they are shown, uint8 RGB; read in a process of its own."""
    reader = GuardedReader(Compose([PacketInit(), PacketDecode()]))
    try:
        return reader(dict(filename=video, frame_inds=np.array(frames)))["imgs"]
    finally:
        reader.close()
