"""Decodes the frames of a video that are asked for, and tells when each of them is shown.

Decord decodes every frame up to the one that is wanted. Here the packets are read first, so that
it is known which frames are wanted before the decoder starts; it is fed from the keyframe before
each, and told to drop the frames in between that no other frame refers to (B-frames, often half
of a video; FFmpeg's `skip_frame=nonref`). What is left out changes no pixel of what is kept. A
file whose packets do not tell its frames apart goes to decord.
"""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import av
import numpy as np

from ..compat import NOT_A_VIDEO, TRANSFORMS, BaseTransform, DecordDecode, DecordInit, get
from ..errors import UserError
from .files import sample_of
from .isolated import GuardedReader

MAX_PACKET_BYTES = 512 << 20  # they stand in memory; decord streams a larger file


class UnclearPackets(Exception):
    """The packets of a file do not tell its frames apart; decord decides what they are."""


class PacketReader:
    """The packets of a video, and the frames that they decode to.

    A frame's index is its rank by presentation time, as decord counts.

    Args:
        source: Path, or the file in memory.
        num_threads: Threads of the decoder; 0 takes one for each CPU core.

    Raises:
        UnclearPackets: no video, packets without a time or with the same time, or more of them
            than should stand in memory.
        av.FFmpegError: a file that FFmpeg cannot open.
    """

    def __init__(self, source: str | Path | BytesIO, *, num_threads: int = 1) -> None:
        name = source if isinstance(source, BytesIO) else str(source)
        self._container = av.open(name, mode="r")
        if not self._container.streams.video:
            raise UnclearPackets("no video stream")
        self._stream = self._container.streams.video[0]
        self._stream.codec_context.thread_count = num_threads
        self._stream.codec_context.thread_type = "AUTO"
        self._packets: list[av.Packet] = []
        num_bytes = 0
        for packet in self._container.demux(self._stream):
            num_bytes += packet.size
            if num_bytes > MAX_PACKET_BYTES:
                raise UnclearPackets(f"more than {MAX_PACKET_BYTES >> 20} MB of packets")
            if packet.size:
                self._packets.append(packet)
        self._times = clear_times(self._packets)
        self._decode_order = [packet.pts for packet in self._packets if packet.pts is not None]
        self._position = {time: index for index, time in enumerate(self._decode_order)}
        self._keyframes = [i for i, packet in enumerate(self._packets) if packet.is_keyframe]

    def __len__(self) -> int:
        return len(self._packets)

    @property
    def average_fps(self) -> float:
        """Frames per second, 0 where the file does not say."""
        return float(self._stream.average_rate or 0)

    def get_batch(self, frame_inds: Sequence[int]) -> list[np.ndarray]:
        """Returns the frames of these indices, each uint8 RGB of shape (height, width, 3).

        An index that comes twice gives the same array twice.

        Raises:
            UnclearPackets: the decoder did not give a frame that its packets promise.
            IndexError: an index outside the video.
            av.FFmpegError: a packet that cannot be decoded.
        """
        wanted = {self._times[index] for index in frame_inds}
        frames: dict[int, np.ndarray] = {}
        following = 0
        for position in sorted(self._position[time] for time in wanted):
            start = self._keyframe_before(position)
            if start > following:  # the packets in between are of no use
                self._take(self._stream.codec_context.decode(None), wanted, frames)
                self._stream.codec_context.flush_buffers()
            for packet in self._packets[max(start, following) : position + 1]:
                self._feed(packet, wanted, frames)
            following = max(following, position + 1)
        self._take(self._stream.codec_context.decode(None), wanted, frames)
        self._stream.codec_context.flush_buffers()
        if frames.keys() != wanted:
            raise UnclearPackets("a packet that gives no frame")
        return [frames[self._times[index]] for index in frame_inds]

    def close(self) -> None:
        """Closes the file."""
        self._container.close()

    def _keyframe_before(self, position: int) -> int:
        """Returns the packet to start from for the frame of a packet.

        A frame that is shown before the keyframe ahead of it in the file (an open group of
        pictures) needs the keyframe before that.
        """
        time = self._decode_order[position]
        before = reversed(self._keyframes[: bisect_right(self._keyframes, position)])
        return next((index for index in before if self._decode_order[index] <= time), 0)

    def _feed(self, packet: av.Packet, wanted: set[int], frames: dict[int, np.ndarray]) -> None:
        context = self._stream.codec_context
        context.skip_frame = "DEFAULT" if packet.pts in wanted else "NONREF"
        self._take(context.decode(packet), wanted, frames)

    @staticmethod
    def _take(decoded: Any, wanted: set[int], frames: dict[int, np.ndarray]) -> None:
        for frame in decoded:
            if frame.pts in wanted and frame.pts not in frames:
                frames[frame.pts] = upright(frame)


def clear_times(packets: Sequence[Any]) -> list[int]:
    """Returns the presentation times of a stream's packets, sorted: a frame's index is its rank.

    Raises:
        UnclearPackets: no packets, some without a time or with the same time, or some not shown.
    """
    times: list[int] = sorted({packet.pts for packet in packets if packet.pts is not None})
    if not times or len(times) < len(packets):
        raise UnclearPackets("packets without a time of their own")
    if any(packet.is_discard for packet in packets):
        raise UnclearPackets("an edit list hides frames")
    return times


def upright(frame: av.VideoFrame) -> np.ndarray:
    """Returns a frame as it is shown, uint8 RGB, shape (height, width, 3).

    Raises:
        UnclearPackets: it is rotated by an angle that is not a quarter turn.
    """
    if frame.rotation % 90:
        raise UnclearPackets(f"rotated by {frame.rotation} degrees")
    image = frame.to_ndarray(format="rgb24")
    return np.ascontiguousarray(np.rot90(image, frame.rotation // 90))  # as decord turns it


@TRANSFORMS.register_module()
class PacketInit(DecordInit):
    """Opens a video for `PacketDecode`; takes the place of stock's `DecordInit`.

    Args:
        io_backend: MMEngine file client that reads the file.
        num_threads: Threads of the decoder; 0 takes one for each CPU core.
    """

    def transform(self, results: dict) -> dict:
        name = results["filename"]
        name = name if Path(name).suffix else f"{name}.mp4"  # as stock's DecordInit
        try:
            source: str | BytesIO = name
            if self.io_backend != "disk":
                backend = dict(backend=self.io_backend, **self.kwargs)
                source = BytesIO(get(name, backend_args=backend))
            reader = PacketReader(source, num_threads=self.num_threads)
        except av.InvalidDataError:
            raise ValueError(NOT_A_VIDEO) from None
        except (UnclearPackets, av.FFmpegError):
            return super().transform(results)
        results["video_reader"] = reader
        results["total_frames"] = len(reader)
        results["avg_fps"] = reader.average_fps
        return results


@TRANSFORMS.register_module()
class PacketDecode(BaseTransform):
    """Decodes `frame_inds`; takes the place of stock's `DecordDecode`, with the same pixels."""

    def __init__(self, mode: str = "accurate") -> None:
        self._decord_init = DecordInit()
        self._decord_decode = DecordDecode(mode)

    def transform(self, results: dict) -> dict:
        reader = results["video_reader"]
        if not isinstance(reader, PacketReader):
            return self._decord_decode(results)
        results["frame_inds"] = np.atleast_1d(np.squeeze(results["frame_inds"]))
        try:
            frames = reader.get_batch(results["frame_inds"])
        except (UnclearPackets, IndexError, av.FFmpegError):
            return self._decord_decode(self._decord_init(results))
        finally:
            reader.close()
        results["video_reader"] = None
        results["imgs"] = frames
        results["original_shape"] = results["img_shape"] = frames[0].shape[:2]
        return results

    def __repr__(self) -> str:
        return f"{type(self).__name__}(mode={self._decord_decode.mode})"


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


class _Packet(NamedTuple):
    """What is kept of a packet: an hour of video has 100,000."""

    pts: int | None
    duration: int
    is_discard: bool


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
    try:
        with av.open(str(video)) as container:
            if not container.streams.video:
                raise UserError("no video stream")
            stream = container.streams.video[0]
            packets = [
                _Packet(packet.pts, packet.duration or 0, packet.is_discard)
                for packet in container.demux(stream)
                if packet.size
            ]
            fps = float(stream.average_rate or stream.guessed_rate or 25)
            unit = stream.time_base or Fraction(1, 25)
        try:
            times = clear_times(packets)
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
    clear = [time for time in times if time is not None]
    seconds = np.array(clear) - clear[0] if clear else np.zeros(0)
    if len(clear) < len(times) or (np.diff(seconds) <= 0).any():
        seconds = np.arange(len(times)) / fps
    return FrameTimes(seconds, float(seconds[-1]) + 1 / fps, fps, [])


def decode(
    video: str | Path, wanted: set[int] | None = None
) -> Iterator[tuple[int | None, av.VideoFrame]]:
    """Yields `(pts, frame)` of a video in the order shown; a packet that is damaged is left out.

    Args:
        video: The file.
        wanted: The only `pts` that matter; the decoder may leave out what none of them needs.
    """
    container: Any
    with av.open(str(video)) as container:
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        for packet in container.demux(stream):
            if wanted is not None:
                stream.codec_context.skip_frame = "DEFAULT" if packet.pts in wanted else "NONREF"
            try:
                frames = packet.decode()
            except av.FFmpegError:
                continue
            yield from ((frame.pts, frame) for frame in frames)


def choose_evenly(count: int, most: int) -> list[int]:
    """Returns all indices of `count` things, or `most` of them from the first to the last."""
    return np.linspace(0, count - 1, min(count, most)).round().astype(int).tolist()
