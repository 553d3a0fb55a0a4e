"""Tells when each frame of a video is shown."""

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from ..errors import UserError
from .files import best_stream, sample_of, split_name
from .isolated import GuardedReader
from .packets import UnclearPackets, clear_times, decode, packet_times, shown_times


@dataclass(frozen=True)
class FrameTimes:
    """The frames of a video by index, in the order shown, as decord counts them.

    `seconds` counts from the first frame, shape (frames,); `duration` is from the first frame to
    the end of the last, in seconds. `pts` has the time stamps of the packets, and is empty where
    they do not tell the frames apart.
    """

    seconds: np.ndarray
    duration: float
    fps: float
    pts: list[int]

    def __len__(self) -> int:
        return len(self.seconds)


def ask_frame_times(video: str | Path) -> FrameTimes:
    """Returns when the frames are shown, read in a process of its own, as `GuardedReader` does.

    Raises:
        UserError: the video cannot be read, or has no frames.
    """
    reader = GuardedReader(lambda sample: read_frame_times(sample["filename"]))
    try:
        return reader(sample_of(video))
    except UserError as error:
        raise UserError(f"cannot read video {video}: {error}") from None
    finally:
        reader.close()


def read_frame_times(video: str | Path) -> FrameTimes:
    """Returns when the frames are shown; decodes the video where its packets do not say.

    Raises:
        UserError: the video cannot be read, or has no frames.
    """
    if split_name(video)[1] is not None:
        raise UserError("expected a whole video, not a stretch of one")
    try:
        with av.open(str(video)) as container:
            stream = best_stream(container)
            packets = packet_times(container)
            fps = float(stream.average_rate or stream.guessed_rate or 25)
            unit = stream.time_base or Fraction(1, 25)
        try:
            times = clear_times(packets, str(video))
        except UnclearPackets:
            return _decoded_times(video, fps)
    except av.FFmpegError as error:
        raise UserError(str(error.strerror or error)) from error
    last = next(packet for packet in packets if packet.pts == times[-1])
    seconds = (np.array(times, dtype=np.int64) - times[0]) * float(unit)
    length = last.duration * float(unit) or 1 / fps
    return FrameTimes(seconds, float(seconds[-1]) + length, fps, times)


def _decoded_times(video: str | Path, fps: float) -> FrameTimes:
    """Returns the times of the frames that decoding gives; evenly spread where they are unclear."""
    times = [frame.time for _, frame in decode(video)]
    if not times:
        raise UserError("no frames")
    seconds, length = shown_times(times, fps)
    return FrameTimes(seconds, float(seconds[-1]) + length, fps, [])
