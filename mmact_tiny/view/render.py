"""Burns the best labels into a copy of a video as bars, and keeps its times and its sound.

The frames are upright and have square pixels, so that any player shows them as they are meant; a
video whose short side is below 240 pixels is enlarged by a whole factor, so that its labels can
be read. For windows a track along the bottom shows the label of each moment, with a play head.
"""

import logging
import math
from bisect import bisect_right
from collections.abc import Sequence
from fractions import Fraction
from functools import lru_cache
from itertools import cycle
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.video.reformatter import ColorRange, Colorspace, VideoReformatter
from matplotlib.patheffects import withStroke

from ..errors import UserError
from ..files import open_atomically
from ..progress import Bar
from ..video.files import best_stream, orientation_of
from ..video.packets import decode
from .sheet import GREY, PALETTE, draw_text, new_canvas, shorten, text_width, to_pixels
from .windows import Cell, merge

logger = logging.getLogger("mmact_tiny")
READABLE = 240  # pixels of the short side
# By the number that H.264 gives the source's colour matrix: the one to apply, the number to write.
# 2 is a source that does not say; then a player makes of the copy what it makes of the source.
MATRICES = {
    1: (Colorspace.ITU709, 1),
    2: (Colorspace.ITU601, 2),
    5: (Colorspace.ITU601, 5),
    6: (Colorspace.ITU601, 6),
}
MP4_CODECS = {"aac", "mp3", "ac3", "eac3", "opus", "flac", "alac"}  # of sound
AAC_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000, 64000, 88200, 96000)
SHADE = (0.0, 0.0, 0.0, 0.6)  # behind the labels
ENCODER = {"preset": "veryfast", "crf": "20"}


def render_video(video: str | Path, out: str | Path, cells: Sequence[Cell]) -> None:
    """Writes the labelled video to `out`, whole or not at all.

    Args:
        video: The file; it is decoded once here, whatever its scores took.
        out: An MP4 of H.264 and the sound as it was (AAC where MP4 cannot hold it).
        cells: Which answer counts when, from `windows.cells_of`; one cell has no track.

    Raises:
        UserError: the video has no frame that can be decoded, or `out` cannot be written.
    """
    try:
        first = next(decode(video), None)
    except (av.FFmpegError, UserError) as error:
        raise UserError(f"cannot read video {video}: {error}") from error
    if first is None:
        raise UserError(f"cannot read video {video}: no frame can be decoded")
    try:
        damaged = _copy_drawn(video, first[1], out, cells)
    except av.FFmpegError as error:
        raise UserError(f"cannot render {video}: {error}") from error
    if damaged:
        logger.warning("%d damaged part(s) of %s left out", damaged, video)


def _copy_drawn(
    video: str | Path, first: av.VideoFrame, out: str | Path, cells: Sequence[Cell]
) -> int:
    """Writes the labelled video; returns how many packets could not be decoded."""
    damaged = 0
    source: Any
    with av.open(str(video)) as source, open_atomically(out) as file:
        stream = best_stream(source)
        stream.thread_type = "AUTO"
        start = Fraction(source.start_time or 0, 1_000_000)
        total = stream.frames or round((source.duration or 0) / 1e6 * (stream.average_rate or 25))
        bar = Bar("rendering", total, unit="frames")
        with av.open(file, "w", format="mp4") as sink, bar:
            pictures = _Pictures(sink, stream, first, start)
            overlay = Overlay(pictures.size, cells)
            sounds = Sounds(source, sink, start)
            for packet in source.demux([stream, *sounds.streams]):
                if packet.stream.type == "audio":
                    sounds.add(packet)
                    continue
                try:
                    frames = packet.decode()
                except av.FFmpegError:
                    damaged += 1
                    continue
                for frame in frames:
                    pictures.add(frame, overlay)
                    bar.advance()
            pictures.finish()
            sounds.finish()
    return damaged


class _Pictures:
    """Encodes frames as they are shown: upright, square pixels, even sides, the times they had.

    Attributes:
        size: Width and height of the new video.
    """

    def __init__(self, sink: Any, source: Any, first: av.VideoFrame, start: Fraction) -> None:
        width = max(1, round(first.width * (source.sample_aspect_ratio or 1)))
        factor = max(1, math.ceil(READABLE / min(width, first.height)))
        self._stored = (width * factor, first.height * factor)
        shown = self._stored[::-1] if orientation_of(first).transposed else self._stored
        # 4:2:0 H.264 has no odd sizes: the last column or row is repeated
        self.size = (shown[0] + shown[0] % 2, shown[1] + shown[1] % 2)
        rate = source.average_rate or source.guessed_rate or Fraction(25)
        self._unit = source.time_base or 1 / rate
        self._step = max(1, round(1 / rate / self._unit))
        self._offset = round(start / self._unit)
        self._sink, self._stream = sink, sink.add_stream("libx264", rate=rate, options=ENCODER)
        self._stream.width, self._stream.height = self.size
        self._stream.pix_fmt = "yuv420p"
        context = self._stream.codec_context
        context.time_base, context.color_range = self._unit, ColorRange.MPEG
        colors = int(source.codec_context.colorspace)
        self._matrix, context.colorspace = MATRICES.get(colors, (Colorspace.ITU709, 1))
        self._read, self._write = VideoReformatter().reformat, VideoReformatter().reformat
        self._first: int | None = None
        self._last = -self._step

    def add(self, frame: av.VideoFrame, overlay: "Overlay") -> None:
        """Draws on a frame and encodes it; one without a time of its own follows the last."""
        pts = self._last + self._step if frame.pts is None else frame.pts - self._offset
        if self._first is None:
            self._first = pts
        elif pts <= self._last:
            pts = self._last + 1
        self._last = pts
        width, height = self._stored
        rgb = self._read(frame, width=width, height=height, format="rgb24").to_ndarray()
        image = orientation_of(frame).turn(rgb)
        missing = [(0, self.size[1] - image.shape[0]), (0, self.size[0] - image.shape[1]), (0, 0)]
        picture = np.ascontiguousarray(np.pad(image, missing, mode="edge"))
        overlay.draw(picture, float((pts - self._first) * self._unit))
        drawn = self._write(
            av.VideoFrame.from_ndarray(picture, format="rgb24"),
            format="yuv420p",
            dst_colorspace=self._matrix,
            dst_color_range=ColorRange.MPEG,
        )
        drawn.pts, drawn.time_base = pts, self._unit
        drawn.duration = frame.duration or self._step
        self._sink.mux(self._stream.encode(drawn))

    def finish(self) -> None:
        """Writes what the encoder still holds."""
        self._sink.mux(self._stream.encode(None))


class Sounds:
    """Takes the audio packets of one file into another, every track, at the same times.

    Args:
        source: The container that is read.
        sink: The container that is written; its header must not be written yet.
        start: Seconds that the new file begins later than the old one counts.
    """

    def __init__(self, source: Any, sink: Any, start: Fraction) -> None:
        self._sink, self._start = sink, start
        self._targets: dict[int, Any] = {}
        self._last: dict[int, float] = {}  # dts of those that are copied
        for stream in source.streams.audio:
            codec = stream.codec_context
            if codec is None or not codec.sample_rate:
                logger.warning("sound track %d left out: its codec is not known", stream.index)
                continue
            if codec.codec.canonical_name in MP4_CODECS:
                target = sink.add_stream_from_template(stream)
                self._last[stream.index] = -math.inf
            else:
                rate = codec.sample_rate if codec.sample_rate in AAC_RATES else 48000
                target = sink.add_stream("aac", rate=rate)
                target.codec_context.layout = "mono" if codec.channels == 1 else "stereo"
            self._targets[stream.index] = target
        self.streams = [s for s in source.streams.audio if s.index in self._targets]

    def add(self, packet: Any) -> None:
        """Copies a packet, or decodes it and encodes what it holds."""
        index, offset = packet.stream.index, round(self._start / packet.time_base)
        if index in self._last:
            if packet.dts is None or packet.dts <= self._last[index]:
                return  # the mark at the end; or damaged: MP4 has no steps back in time
            self._last[index] = packet.dts
            packet.pts = None if packet.pts is None else packet.pts - offset
            packet.dts -= offset
            packet.stream = self._targets[index]
            self._sink.mux(packet)
            return
        try:
            frames = packet.decode()
        except av.FFmpegError:
            return
        for frame in frames:
            if frame.pts is not None:
                frame.pts -= offset
            self._sink.mux(self._targets[index].encode(frame))

    def finish(self) -> None:
        """Writes what the encoders still hold."""
        for index in self._targets.keys() - self._last:
            self._sink.mux(self._targets[index].encode(None))


class Overlay:
    """Draws the answer of a moment on a picture: bars above, and the track along the bottom."""

    def __init__(self, size: tuple[int, int], cells: Sequence[Cell]) -> None:
        self._size, self._cells = size, cells
        self._text = max(12, round(min(size) / 24))
        self._margin = max(4, self._text // 2)
        names = dict.fromkeys(cell.label for cell in cells if cell.label is not None)
        self._colors = dict(zip(names, cycle(PALETTE), strict=False))
        self._ends = [cell.end for cell in cells]
        self._bars_of = lru_cache(1)(self._draw_bars)
        self._track = self._draw_track() if len(cells) > 1 else None

    def draw(self, picture: np.ndarray, seconds: float) -> None:
        """Draws in place on uint8 RGB, (height, width, 3)."""
        number = min(bisect_right(self._ends, seconds), len(self._cells) - 1)
        _blend(picture, self._bars_of(number), (self._margin, self._margin))
        if self._track is None:
            return
        height, half = len(self._track), max(1, self._text // 10)
        _blend(picture, self._track, (0, self._size[1] - height))
        x = round(min(seconds / self._ends[-1], 1.0) * (self._size[0] - 1))
        track = picture[-height - 2 * half :]
        track[:, max(0, x - 2 * half) : x + 2 * half + 1] = 0  # the play head
        track[:, max(0, x - half) : x + half + 1] = 255

    def _draw_bars(self, number: int) -> np.ndarray:
        """Returns the panel, with as many rows as take less than half of the height."""
        rows = max(1, round(self._size[1] * 0.45 / (1.5 * self._text)))
        best = self._cells[number].predictions[:rows]
        shown = [(label, score, self._colors.get(label, GREY)) for label, score in best]
        width = max(self._size[0] - 2 * self._margin, 40)
        return draw_bars(shown, size=self._text, width=width)

    def _draw_track(self) -> np.ndarray:
        """Returns the labels over the whole video, with their names where they fit."""
        width, height = self._size[0], round(self._text * 1.6)
        figure, canvas = new_canvas(width, height, SHADE)
        for one in merge(self._cells):
            left, right = (round(one[key] / self._ends[-1] * width) for key in ("start", "end"))
            length, color = max(1, right - left - 2), self._colors[one["label"]]
            canvas.barh([2], [length], height - 2, left, align="edge", color=color, alpha=0.9)
            room = right - left - self._text
            name = shorten(one["label"], self._text, room) if room > 0 else ""
            if len(name) > 4 or name == one["label"]:
                _draw_white(canvas, (left + self._text / 2, height / 2 + 1), name, self._text)
        return to_pixels(figure)


def draw_bars(rows: Sequence[tuple[str, float, str]], *, size: int, width: int) -> np.ndarray:
    """Returns a panel of bars, see-through, uint8 RGBA: a row for each `(label, score, colour)`.

    Args:
        rows: The best first; scores from 0 to 1.
        size: Of the font, in pixels.
        width: The panel is never wider, in pixels; a label that is too long is shortened.
    """
    if not rows:
        return np.zeros((0, 0, 4), np.uint8)
    pad, row_height = max(2, size // 3), round(size * 1.5)
    score_width = text_width("0.00", size)
    longest = max(text_width(label, size) for label, _, _ in rows)
    inside = round(min(width - 2 * pad, max(longest + score_width + 4 * pad, 12 * size)))
    figure, canvas = new_canvas(inside + 2 * pad, len(rows) * row_height + 2 * pad, SHADE)
    tops = [pad + number * row_height for number in range(len(rows))]
    filled = [round(inside * min(max(score, 0.0), 1.0)) for _, score, _ in rows]
    for lengths, colors in ((inside, "#323232"), (filled, [color for _, _, color in rows])):
        canvas.barh(tops, lengths, row_height - 3, pad, align="edge", color=colors, alpha=0.85)
    for top, (label, score, _) in zip(tops, rows, strict=True):
        middle = top + row_height / 2 - 1
        label = shorten(label, size, inside - score_width - 3 * pad)
        _draw_white(canvas, (2 * pad, middle), label, size)
        _draw_white(canvas, (inside, middle), f"{score:.2f}", size, ha="right")
    return to_pixels(figure)


def _draw_white(
    canvas: Any, place: tuple[float, float], text: str, size: int, **style: Any
) -> None:
    """Draws a text that can be read on any ground: white, outlined in black."""
    outline = withStroke(linewidth=2 * max(1, size // 12), foreground="black")
    draw_text(canvas, place, text, size, color="white", path_effects=[outline], **style)


def _blend(picture: np.ndarray, panel: np.ndarray, place: tuple[int, int]) -> None:
    """Lays a see-through panel over a picture, in place; what sticks out is cut off."""
    x, y = place
    over = panel[: picture.shape[0] - y, : picture.shape[1] - x].astype(np.uint16)
    under = picture[y : y + over.shape[0], x : x + over.shape[1]]
    alpha = over[..., 3:]
    under[:] = (over[..., :3] * alpha + under * (255 - alpha) + 127) // 255
