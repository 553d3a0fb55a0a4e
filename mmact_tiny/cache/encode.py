"""Makes an entry of the clip cache from a video: decode, scale down, encode, check.

Luma and chroma are scaled as they come out of the decoder, by the bilinear rule that MMAction2's
`Resize` applies to RGB. Scaling and the colour matrix are both linear, so the frames are the same
but for rounding: measured, 1 to 2 dB nearer to the pipeline's than by way of RGB.
"""

import contextlib
from collections.abc import Iterator
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO

import av
import cv2
import numpy as np
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter

from ..errors import UserError
from ..video.files import best_stream, orientation_of, split_name, upright
from ..video.packets import UnclearPackets, open_video
from .clip import CODECS, ClipInfo, Codec, append_record, checksum


class ClipError(UserError):
    """A video that no entry can be made of; it is read from its source instead."""


def scaled_size(width: int, height: int, short_side: int) -> tuple[int, int]:
    """Returns the (width, height) that MMAction2's `Resize(scale=(-1, short_side))` gives.

    A smaller video keeps its size: `Resize` then enlarges the frames as it always did. The
    rounding is that of `mmcv.rescale_size`.
    """
    factor = min(1.0, short_side / min(width, height))
    return int(width * factor + 0.5), int(height * factor + 0.5)


def write_clip(
    video: str | Path, file: BinaryIO, *, source: str, short_side: int, format: str
) -> ClipInfo:
    """Encodes a video into an empty file that is open for reading and writing.

    The frames are those that the source shows, in number and order, so that a frame index means
    the same in both.

    Args:
        video: What to encode; of a stretch, by its name, the packets that it needs are read.
        file: Empty, opened with mode "w+b".
        source: The hash of the video's content, for the record.
        short_side: Of the scaled frames, in pixels.
        format: A key of `CODECS`.

    Raises:
        ClipError: the video cannot be decoded, or its frames vary in size.
        OSError: the file cannot be written; a full disk, for one.
    """
    codec = CODECS[format]
    path, stretch = split_name(video)
    with contextlib.ExitStack() as stack:
        try:
            if stretch is not None:
                reader = open_video(path, stretch=stretch)
                stack.callback(reader.close)
                frames, rate = reader.frames(), reader.average_fps
            else:
                container = stack.enter_context(av.open(path))
                stream = best_stream(container)
                stream.thread_type = "NONE"  # the cores are taken by other videos
                frames, rate = _frames(container, stream), stream.average_rate
        except (UserError, UnclearPackets, av.FFmpegError) as error:
            reason = getattr(error, "strerror", None) or error
            raise ClipError(f"cannot cache {video}: {reason}") from error
        encoder = _Encoder(file, codec, short_side, Fraction(rate or 25).limit_denominator(1001))
        encoder.run(_readable(frames, video), video)
    pts_step = _check_layout(file, encoder.num_frames, codec.keyint, video)
    num_bytes = file.seek(0, 2)
    info = ClipInfo(
        source=source,
        format=format,
        short_side=short_side,
        num_frames=encoder.num_frames,
        width=encoder.width,
        height=encoder.height,
        fps=float(encoder.fps),
        pts_step=pts_step,
        num_bytes=num_bytes,
        checksum=checksum(file, num_bytes),
    )
    append_record(file, info)
    return info


def _frames(container: Any, stream: Any) -> Iterator[av.VideoFrame]:
    """Yields all frames; what fails before the first one needs what was cut off before the file."""
    is_started = False
    for packet in container.demux(stream):
        try:
            frames = packet.decode()
        except av.FFmpegError:
            if is_started:
                raise
            continue
        is_started |= bool(frames)
        yield from frames


def _readable(frames: Iterator[av.VideoFrame], video: str | Path) -> Iterator[av.VideoFrame]:
    try:
        yield from frames
    except av.FFmpegError as error:
        raise ClipError(f"cannot cache {video}: {error.strerror or error}") from error


class _Encoder:
    """Scales frames and writes them into one mp4; knows the size and the count afterwards."""

    def __init__(self, file: BinaryIO, codec: Codec, short_side: int, fps: Fraction) -> None:
        self.file, self.codec, self.short_side, self.fps = file, codec, short_side, fps
        self.num_frames = self.width = self.height = 0
        self._to_codec = VideoReformatter()

    def run(self, frames: Iterator[av.VideoFrame], video: str | Path) -> None:
        """Encodes all frames; a ClipError where there are none, or of several sizes."""
        first = next(frames, None)
        if first is None:
            raise ClipError(f"cannot cache {video}: it has no frames")
        container: Any
        try:
            with av.open(self.file, "w", format="mp4") as container:
                stream = self._open_stream(container, first)
                for frame in chain([first], frames):
                    shapes = {(f.width, f.height, orientation_of(f)) for f in (first, frame)}
                    if len(shapes) > 1:
                        raise ClipError(f"cannot cache {video}: its frames vary in size")
                    scaled = self._scale(frame)
                    scaled.pts = None
                    container.mux(stream.encode(scaled))
                    self.num_frames += 1
                container.mux(stream.encode(None))
        except av.FFmpegError as error:
            if isinstance(error, OSError):  # of the file that is written
                raise
            raise ClipError(f"cannot cache {video}: {error}") from error

    def _open_stream(self, container: Any, frame: av.VideoFrame) -> Any:
        turned = orientation_of(frame).transposed
        size = (frame.height, frame.width) if turned else (frame.width, frame.height)
        self.width, self.height = scaled_size(*size, self.short_side)
        even = 2 if self.codec.name == "libx264" else 1  # 4:2:0 H.264 has no odd sizes
        self._padded = (-(-self.width // even) * even, -(-self.height // even) * even)
        # JPEG is full range; frames with alpha, more bits or other subsampling go over RGB too.
        self._by_plane = (
            frame.format.name == "yuv420p"
            and self.codec.pix_fmt == "yuv420p"
            and frame.color_range != ColorRange.JPEG
        )
        stream = container.add_stream(self.codec.name, rate=self.fps, options=self.codec.options)
        stream.width, stream.height = self._padded
        stream.pix_fmt = self.codec.pix_fmt
        stream.codec_context.thread_count = 1
        if self._by_plane:  # as the source says, so that decoders apply the same matrix
            stream.codec_context.colorspace = frame.colorspace
            stream.codec_context.color_range = ColorRange.MPEG
        return stream

    def _scale(self, frame: av.VideoFrame) -> av.VideoFrame:
        if not self._by_plane:
            range_ = ColorRange.JPEG if self.codec.name == "mjpeg" else ColorRange.MPEG
            image = _fit(upright(frame), (self.width, self.height), self._padded)
            return self._to_codec.reformat(
                av.VideoFrame.from_ndarray(image, format="rgb24"),
                format=self.codec.pix_fmt,
                dst_colorspace=Colorspace.ITU601,
                dst_color_range=range_,
                interpolation=Interpolation.BILINEAR | Interpolation.ACCURATE_RND,
                threads=1,
            )
        scaled, orientation = av.VideoFrame(*self._padded, "yuv420p"), orientation_of(frame)
        for number, (plane, target) in enumerate(zip(frame.planes, scaled.planes, strict=True)):
            padded = (target.width, target.height)
            size = padded if number else (self.width, self.height)
            pixels = orientation.turn(_pixels(plane))
            _pixels(target)[:] = _fit(pixels, size, padded)
        scaled.colorspace = frame.colorspace
        return scaled


def _fit(image: np.ndarray, size: tuple[int, int], padded: tuple[int, int]) -> np.ndarray:
    """Scales to `size`, then repeats the last column and row up to the padded size."""
    image = np.ascontiguousarray(image)
    if image.shape[1::-1] != size:
        image = cv2.resize(image, size, interpolation=cv2.INTER_LINEAR)
    right, below = padded[0] - size[0], padded[1] - size[1]
    return cv2.copyMakeBorder(image, 0, below, 0, right, cv2.BORDER_REPLICATE)


def _pixels(plane: Any) -> np.ndarray:
    rows = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)
    return rows[: plane.height, : plane.width]


def _check_layout(file: BinaryIO, num_frames: int, keyint: int, video: str | Path) -> int:
    """Returns the timestamps' step, having seen that frames and keyframes are where they should."""
    file.seek(0)
    container: Any
    with av.open(file) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
        step = packets[1].pts if len(packets) > 1 else 1
        good = len(packets) == num_frames and all(
            packet.pts == index * step and packet.is_keyframe == (index % keyint == 0)
            for index, packet in enumerate(packets)
        )
    if not good:
        raise ClipError(f"cannot cache {video}: the encoder did not keep its frames apart")
    return step
