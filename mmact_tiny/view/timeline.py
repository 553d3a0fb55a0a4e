"""Which frames a config takes of one video, marked on a time line, for each of its splits."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from ..compat.mm import Compose, Config
from ..errors import UserError
from ..pipeline import SPLITS
from ..video.frame_times import FrameTimes, ask_frame_times
from ..video.frames import PacketDecode, PacketInit, choose_evenly
from ..video.guarded_reader import GuardedReader
from .drawing import (
    ALARM,
    GREY,
    INK,
    PALE,
    PALETTE,
    PAPER,
    Color,
    draw_text,
    fit,
    shorten,
    text_width,
)
from .sampling import Sampling, quiet, read_sampling, say_sampling

WIDTH, LEFT = 1500, 30  # pixels of the page, and of its margins
TEXT = 15
BAR = 30  # height of the time line
MAX_THUMBS = 10


def browse_video(cfg: Config, video: str | Path, *, seed: int) -> Image.Image:
    """Returns a page with a time line a split: segments, sampled frames, and their pictures.

    Args:
        cfg: From `load_config` or `read_config`.
        video: The file.
        seed: Of the draw that is shown of a random sampler.

    Raises:
        UserError: the video cannot be read, or no split's pipeline samples a video.
    """
    times = ask_frame_times(video)
    rows, failures = [], []
    for split in SPLITS:
        try:
            with quiet():
                sampling = read_sampling(cfg, split, video=video, seed=seed)
        except UserError as error:
            failures.append(error)
            rows.append(_draw_failure(split, error))
        else:
            rows.append(_draw_sampling(sampling, times, str(video)))
    if len(failures) == len(SPLITS):
        raise UserError(f"cannot read video {video}: {failures[0]}")
    heading = f"{Path(video).name}: {len(times)} frames, {times.duration:.2f} s (seed {seed})"
    page = Image.new("RGB", (WIDTH, 40 + sum(row.height for row in rows)), PAPER)
    size = TEXT + 3
    draw_text(ImageDraw.Draw(page), (LEFT, 22), shorten(heading, size, WIDTH - 2 * LEFT), size)
    top = 40
    for row in rows:
        page.paste(row, (0, top))
        top += row.height
    return page


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


def _draw_failure(split: str, error: UserError) -> Image.Image:
    page = Image.new("RGB", (WIDTH, 40), PAPER)
    text = shorten(f"{split}: {error}", TEXT, WIDTH - 2 * LEFT)
    draw_text(ImageDraw.Draw(page), (LEFT, 20), text, TEXT, fill=ALARM)
    return page


def _draw_sampling(sampling: Sampling, times: FrameTimes, video: str) -> Image.Image:
    """Returns a split's strip: words, axis, time line, and the pictures below their places."""
    shown = _chosen(sampling)
    pictures = _decode(video, [frame for _, frame in shown])
    thumb_width = (WIDTH - 2 * LEFT) // len(shown) - 8
    thumbs = [fit(picture, min(thumb_width, 300), 170) for picture in pictures]
    bar_top, thumbs_top = 78, 78 + BAR + 34
    bottom = thumbs_top + max(thumb.height for thumb in thumbs)
    page = Image.new("RGB", (WIDTH, bottom + 54), PAPER)
    draw = ImageDraw.Draw(page)
    words = say_sampling(sampling)
    views = f"{sampling.split}: {words[0]}; {words[1]}"
    draw_text(draw, (LEFT, 16), shorten(views, TEXT, WIDTH - 2 * LEFT), TEXT)
    _draw_axis(draw, times, bar_top)
    _draw_line(draw, sampling, times, bar_top)
    pitch = (WIDTH - 2 * LEFT) / len(shown)
    for number, ((clip, frame), thumb) in enumerate(zip(shown, thumbs, strict=True)):
        middle = LEFT + (number + 0.5) * pitch
        color = PALETTE[clip % len(PALETTE)]
        place = (_x(times, frame), bar_top + BAR + 2)
        draw.line((*place, middle, thumbs_top - 3), fill=color, width=2)
        left = round(middle - thumb.width / 2)
        page.paste(thumb, (left, thumbs_top))
        draw.rectangle(
            (left - 2, thumbs_top - 2, left + thumb.width + 1, thumbs_top + thumb.height + 1),
            outline=color,
            width=2,
        )
        seconds = times.seconds[min(frame, len(times) - 1)]
        room = round(pitch) - 4
        notes = (f"frame {frame}", f"{seconds:.2f} s, clip {clip + 1}")
        for line, note in enumerate(notes):
            place = (middle, thumbs_top + thumb.height + 12 + 17 * line)
            fill = GREY if line else INK
            draw_text(draw, place, shorten(note, 13, room), 13, fill=fill, anchor="mm")
    return page


def _chosen(sampling: Sampling) -> list[tuple[int, int]]:
    """Returns `(clip, frame)` of the frames that get a picture, evenly chosen."""
    pairs = [(i, frame) for i, clip in enumerate(sampling.frame_inds) for frame in clip]
    return [pairs[place] for place in choose_evenly(len(pairs), MAX_THUMBS)]


def _x(times: FrameTimes, frame: float) -> float:
    """Returns the pixel column of a frame's time; `len(times)` is the end."""
    before = min(int(frame), len(times) - 1)
    after = times.seconds[before + 1] if before + 1 < len(times) else times.duration
    part = min(frame - before, 1.0)
    seconds = times.seconds[before] + part * (after - times.seconds[before])
    return LEFT + float(seconds) / times.duration * (WIDTH - 2 * LEFT)


def _draw_axis(draw: ImageDraw.ImageDraw, times: FrameTimes, bar_top: int) -> None:
    """Draws seconds and frame numbers above the time line, at round seconds."""
    steps = [m * 10.0**e for e in range(-3, 5) for m in (1, 2, 5)]
    step = next((step for step in steps if times.duration / step <= 15), times.duration)
    for number in range(int(times.duration / step + 1e-9) + 1):
        seconds = number * step
        x = LEFT + seconds / times.duration * (WIDTH - 2 * LEFT)
        frame = min(int(np.searchsorted(times.seconds, seconds - 1e-6)), len(times) - 1)
        draw.line((x, bar_top - 6, x, bar_top), fill=GREY)
        label = f"{seconds:g} s"
        anchor = "lm" if number == 0 else "mm"
        if x + text_width(label, 13) / 2 > WIDTH - 4:
            continue
        draw_text(draw, (x, bar_top - 30), label, 13, anchor=anchor)
        draw_text(draw, (x, bar_top - 15), f"frame {frame}", 11, fill=GREY, anchor=anchor)


def _draw_line(
    draw: ImageDraw.ImageDraw, sampling: Sampling, times: FrameTimes, bar_top: int
) -> None:
    """Draws the time line: segments in turn pale and white, clips, and each sampled frame."""
    bottom = bar_top + BAR
    draw.rectangle((LEFT, bar_top, WIDTH - LEFT, bottom), fill=PALE)
    for number, (first, after) in enumerate(borders_of(sampling)):
        box = (_x(times, first), bar_top, _x(times, after), bottom)
        draw.rectangle(box, fill=(238, 244, 250) if number % 2 else (205, 220, 235), outline=GREY)
    draw.rectangle((LEFT, bar_top, WIDTH - LEFT, bottom), outline=GREY)
    for number, clip in enumerate(sampling.frame_inds):
        color: Color = PALETTE[number % len(PALETTE)]
        if sampling.clip_len > 1:  # clips may overlap: each at a height of its own
            level = bar_top + 4 + number % 4 * 6
            draw.rectangle(
                (_x(times, min(clip)), level, _x(times, max(clip)), level + 3), fill=color
            )
        for frame in clip:
            x = _x(times, frame)
            draw.line((x, bar_top, x, bottom), fill=color, width=3 if sampling.clip_len == 1 else 1)


def _decode(video: str, frames: Sequence[int]) -> list[np.ndarray]:
    """Returns frames of a video as they are shown, uint8 RGB; read in a process of its own."""
    reader = GuardedReader(Compose([PacketInit(), PacketDecode()]))
    try:
        return reader(dict(filename=video, frame_inds=np.array(frames)))["imgs"]
    finally:
        reader.close()
