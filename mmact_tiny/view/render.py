"""The labelled video: a video with its best labels as bars burnt in, its sound kept.

Every frame keeps its time. The frames are upright and have square pixels, so that any player
shows them as they are meant; a video whose short side is below 240 pixels is enlarged by a whole
factor, so that its labels can be read. For windows a track along the bottom shows the label of
each moment, with a play head.
"""

import logging
import math
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.video.reformatter import ColorRange, Colorspace, VideoReformatter
from PIL import Image, ImageDraw

from ..errors import UserError
from ..files import open_atomically
from ..progress import show_progress
from .drawing import PALETTE, Color, bars, draw_text, shorten
from .segments import Cell, merge
from .sound import Sounds

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
ENCODER = {"preset": "veryfast", "crf": "20"}


def render_video(
    video: str | Path, out: str | Path, cells: Sequence[Cell], duration: float
) -> None:
    """Writes the labelled video to `out`, whole or not at all.

    Args:
        video: The file; it is decoded once here, whatever its scores took.
        out: An MP4 of H.264 and the sound as it was (AAC where MP4 cannot hold it).
        cells: Which answer counts when, from `segments.cells_of`; one cell has no track.
        duration: Of the video, in seconds; 0 where there is no track.

    Raises:
        UserError: the video has no frame that can be decoded, or `out` cannot be written.
    """
    first = _first_frame(video)
    try:
        damaged = _copy_drawn(video, first, out, cells, duration)
    except av.FFmpegError as error:
        raise UserError(f"cannot render {video}: {error}") from error
    if damaged:
        logger.warning("%d damaged part(s) of %s left out", damaged, video)


def _copy_drawn(
    video: str | Path, first: av.VideoFrame, out: str | Path, cells: Sequence[Cell], duration: float
) -> int:
    """Writes the labelled video; returns how many packets could not be decoded."""
    damaged = 0
    source: Any
    with av.open(str(video)) as source, open_atomically(out) as file:
        canvas = _Canvas(first, source.streams.video[0])
        overlay = Overlay(canvas.size, cells, duration)
        stream = source.streams.video[0]
        stream.thread_type = "AUTO"
        start = Fraction(source.start_time or 0, 1_000_000)
        total = stream.frames or round((source.duration or 0) / 1e6 * (stream.average_rate or 25))
        bar = show_progress("rendering", total, unit="frames", keep=False)
        with av.open(file, "w", format="mp4") as sink, bar as advance:
            encoder = _Encoder(sink, stream, canvas, start)
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
                    encoder.add(frame, overlay)
                    advance()
            encoder.finish()
            sounds.finish()
    return damaged


def _first_frame(video: str | Path) -> av.VideoFrame:
    from ..video.frame_times import decode

    try:
        found = next(decode(video), None)
    except (av.FFmpegError, IndexError) as error:
        raise UserError(f"cannot read video {video}: {error}") from error
    if found is None:
        raise UserError(f"cannot read video {video}: no frame can be decoded")
    return found[1]


class _Canvas:
    """Turns frames into pictures as they are shown: upright, square pixels, even sides."""

    def __init__(self, first: av.VideoFrame, stream: Any) -> None:
        aspect = stream.sample_aspect_ratio or Fraction(1)
        width, height = max(1, round(first.width * aspect)), first.height
        factor = max(1, math.ceil(READABLE / min(width, height)))
        self._stored = (width * factor, height * factor)
        turned = first.rotation % 180 == 90
        self._shown = self._stored[::-1] if turned else self._stored
        # 4:2:0 H.264 has no odd sizes: the last column or row is repeated
        self.size = (self._shown[0] + self._shown[0] % 2, self._shown[1] + self._shown[1] % 2)
        self._reformat = VideoReformatter().reformat

    def picture(self, frame: av.VideoFrame) -> np.ndarray:
        """Returns uint8 RGB, (height, width, 3)."""
        width, height = self._stored
        rgb = self._reformat(frame, width=width, height=height, format="rgb24").to_ndarray()
        image = np.rot90(rgb, round(frame.rotation / 90))
        missing = [(0, self.size[1] - image.shape[0]), (0, self.size[0] - image.shape[1]), (0, 0)]
        return np.ascontiguousarray(np.pad(image, missing, mode="edge"))


class _Encoder:
    """Writes frames with the times that they had."""

    def __init__(self, sink: Any, source: Any, canvas: _Canvas, start: Fraction) -> None:
        self._sink, self._canvas, self._source = sink, canvas, source
        rate = source.average_rate or source.guessed_rate or Fraction(25)
        self._unit = source.time_base or 1 / rate
        self._step = max(1, round(1 / rate / self._unit))
        self._offset = round(start / self._unit)
        self._stream = sink.add_stream("libx264", rate=rate, options=ENCODER)
        self._stream.width, self._stream.height = canvas.size
        self._stream.pix_fmt = "yuv420p"
        self._stream.codec_context.time_base = self._unit
        self._matrix, tag = MATRICES.get(
            int(source.codec_context.colorspace), (Colorspace.ITU709, 1)
        )
        self._stream.codec_context.colorspace = tag
        self._stream.codec_context.color_range = ColorRange.MPEG
        self._reformat = VideoReformatter().reformat
        self._first: int | None = None
        self._last: int | None = None

    def add(self, frame: av.VideoFrame, overlay: "Overlay") -> None:
        """Draws on a frame and encodes it; one without a time of its own follows the last."""
        follows = 0 if self._last is None else self._last + self._step
        pts = follows if frame.pts is None else frame.pts - self._offset
        if self._last is not None and pts <= self._last:
            pts = self._last + 1
        self._first = pts if self._first is None else self._first
        self._last = pts
        picture = self._canvas.picture(frame)
        overlay.draw(picture, float((pts - self._first) * self._unit))
        drawn = self._reformat(
            av.VideoFrame.from_ndarray(picture, format="rgb24"),
            format="yuv420p",
            dst_colorspace=self._matrix,
            dst_color_range=ColorRange.MPEG,
        )
        drawn.pts, drawn.time_base = pts, self._unit
        drawn.duration = frame.duration or self._step
        self._sink.mux(self._stream.encode(drawn))

    def finish(self) -> None:
        self._sink.mux(self._stream.encode(None))


class Overlay:
    """Draws the answer of a moment on a picture: bars above, and the track along the bottom."""

    def __init__(self, size: tuple[int, int], cells: Sequence[Cell], duration: float) -> None:
        self._size, self._cells, self._duration = size, cells, duration
        self._text = max(12, round(min(size) / 24))
        self._margin = max(4, self._text // 2)
        names = dict.fromkeys(c.predictions[0][0] for c in cells if c.predictions)
        self._colors = {name: PALETTE[i % len(PALETTE)] for i, name in enumerate(names)}
        self._ends = np.array([cell.end for cell in cells])
        self._panels: tuple[int, Image.Image | None] = (-1, None)
        self._track = self._draw_track() if len(cells) > 1 else None

    def draw(self, picture: np.ndarray, seconds: float) -> None:
        """Draws in place on uint8 RGB, (height, width, 3)."""
        number = min(int(np.searchsorted(self._ends, seconds, side="right")), len(self._cells) - 1)
        if number != self._panels[0]:
            self._panels = (number, self._draw_bars(self._cells[number]))
        if self._panels[1] is not None:
            _blend(picture, self._panels[1], (self._margin, self._margin))
        if self._track is not None:
            _blend(picture, self._track, (0, self._size[1] - self._track.height))
            self._draw_play_head(picture, seconds)

    def _draw_bars(self, cell: Cell) -> Image.Image | None:
        """Returns the panel, with as many rows as take less than half of the height."""
        rows = max(1, round(self._size[1] * 0.45 / (1.5 * self._text)))
        shown = [
            (label, score, self._colors.get(label, (130, 130, 130)))
            for label, score in cell.predictions[:rows]
        ]
        width = max(self._size[0] - 2 * self._margin, 40)
        return bars(shown, size=self._text, width=width) if shown else None

    def _draw_track(self) -> Image.Image:
        """Returns the strip of labels over the whole video, with its names where they fit."""
        width, height = self._size[0], round(self._text * 1.6)
        track = Image.new("RGBA", (width, height), (0, 0, 0, 150))
        draw = ImageDraw.Draw(track)
        for one in merge(self._cells):
            left, right = (round(one[key] / self._duration * width) for key in ("start", "end"))
            color: Color = (*self._colors[one["label"]], 230)
            draw.rectangle((left, 2, max(left, right - 2), height - 1), fill=color)
            room = right - left - self._text
            name = shorten(one["label"], self._text, room) if room > 0 else ""
            if len(name) > 4 or name == one["label"]:
                place = (left + self._text / 2, height / 2 + 1)
                white, black = (255, 255, 255, 255), (0, 0, 0, 255)
                draw_text(draw, place, name, self._text, fill=white, outline=black)
        return track

    def _draw_play_head(self, picture: np.ndarray, seconds: float) -> None:
        assert self._track is not None
        half = max(1, self._text // 10)
        x = round(min(seconds / self._duration, 1.0) * (self._size[0] - 1))
        strip = picture[-self._track.height - 2 * half :]
        strip[:, max(0, x - 2 * half) : x + 2 * half + 1] = 0
        strip[:, max(0, x - half) : x + half + 1] = 255


def _blend(picture: np.ndarray, panel: Image.Image, place: tuple[int, int]) -> None:
    """Lays a see-through panel over a picture, in place; what sticks out is cut off."""
    x, y = place
    over = np.asarray(panel)[: picture.shape[0] - y, : picture.shape[1] - x].astype(np.uint16)
    under = picture[y : y + over.shape[0], x : x + over.shape[1]]
    alpha = over[..., 3:]
    under[:] = (over[..., :3] * alpha + under * (255 - alpha) + 127) // 255
