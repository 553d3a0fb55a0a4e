"""Decodes the frames of a video that are asked for, as they are shown.

Decord decodes every frame up to the one that is wanted. Here the packets are read first, so that
it is known which frames are wanted before the decoder starts; it is fed from the keyframe before
each, and told to drop the frames in between that no other frame refers to (B-frames, often half
of a video; FFmpeg's `skip_frame=nonref`). What is left out changes no pixel of what is kept. A
file whose packets do not tell its frames apart is decoded from its start.

Which stream is read, which of its frames count, and which way up they are is decided here for
all tools: `best_stream`, `clear_times` and `decode`, `orientation_of`.
"""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import BytesIO
from itertools import islice, takewhile
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any, BinaryIO, NamedTuple

import av
import numpy as np

from ..errors import UserError
from .files import best_stream, upright

EDGE = 1e-6  # seconds; times are sums of fractions
# Containers with an index of times, which FFmpeg seeks in; others are read from their start.
INDEXED = ("mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm")
Source = str | Path | bytes | BinaryIO | np.ndarray  # a video, see `as_file`
Stretch = tuple[float, float]  # start and end in seconds, from the first frame
MAX_PACKET_BYTES = 512 << 20  # they stand in memory; decord streams a larger file


class UnclearPackets(Exception):
    """The packets of a file do not tell its frames apart; decord decides what they are."""


class TooLarge(UnclearPackets):
    """More packets than should stand in memory; decord streams them."""


class PacketReader:
    """The packets of a video, and the frames that they decode to.

    A frame's index is its rank by presentation time, as decord counts. Frames that an edit list
    hides have none, as in FFmpeg and players.

    Args:
        source: Path, or the file in memory.
        num_threads: Threads of the decoder; 0 takes one for each CPU core.
        stretch: The only frames that there are then, counted from 0; no other packets are kept
            than those that decoding them needs.

    Raises:
        UserError: no video stream; a stretch that begins where the video has ended.
        UnclearPackets: packets without a time or with the same time.
        TooLarge: more packets than should stand in memory.
        av.FFmpegError: a file that FFmpeg cannot open.
    """

    def __init__(
        self,
        source: str | Path | BytesIO,
        *,
        num_threads: int = 1,
        stretch: Stretch | None = None,
    ) -> None:
        self.source, self.stretch = source, stretch
        name = source if isinstance(source, BytesIO) else str(source)
        self._container: Any = av.open(name, mode="r")
        self._stream = best_stream(self._container)
        self._stream.codec_context.thread_count = num_threads
        self._stream.codec_context.thread_type = "AUTO"
        if stretch is None:
            self._packets = self._read(None, None)
            self._times = clear_times(self._packets, source)
        else:
            self._packets, self._times = self._read_stretch(*stretch)
        self._decode_order: list[int] = [packet.pts or 0 for packet in self._packets]
        self._position = {time: index for index, time in enumerate(self._decode_order)}
        self._keyframes = [i for i, packet in enumerate(self._packets) if packet.is_keyframe]

    def _read(self, begin: int | None, end: int | None) -> list[Any]:
        """Returns the packets from here on; with times, those that frames between them need."""
        packets: list[Any] = []
        num_bytes = 0
        for packet in self._container.demux(self._stream):
            if end is not None and packets and packet.dts is not None and packet.dts >= end:
                break  # no later packet has a frame that is shown earlier
            if begin is not None and packet.is_keyframe and (packet.pts or 0) <= begin:
                packets, num_bytes = [], 0
            num_bytes += packet.size
            if num_bytes > MAX_PACKET_BYTES:
                raise TooLarge(f"more than {MAX_PACKET_BYTES >> 20} MB of packets")
            if packet.size:
                packets.append(packet)
        return packets

    def _read_stretch(self, start: float, end: float) -> tuple[list[Any], list[int]]:
        """Returns the packets that a stretch needs, and the times of its frames."""
        origin, first_packet = self._first_times()
        unit = float(self._stream.time_base)
        begin, finish = (origin + int(seconds / unit) for seconds in (start, end + unit))
        can_seek = self._container.format.name in INDEXED
        for place in (begin, first_packet) if can_seek else (first_packet,):
            try:
                self._container.seek(place, stream=self._stream)
            except av.FFmpegError:
                raise UnclearPackets("a file that cannot be read twice") from None
            packets = self._read(begin, finish)
            if packets and packets[0].pts is not None and packets[0].pts <= begin:
                break
        else:  # the index led past the frame that the stretch begins with
            raise UnclearPackets("no keyframe before the stretch")
        stamps = [packet.pts for packet in packets]
        if not packets or len({*stamps} - {None}) < len(stamps):
            raise UnclearPackets("packets without a time of their own")
        # What is shown before the keyframe is before the stretch, too.
        times = sorted(p.pts for p in packets if not p.is_discard and p.pts >= stamps[0])
        seconds = (np.array(times, dtype=np.int64) - origin) * unit
        first, last = frames_between(seconds, start, end)
        if start >= seconds[-1] + (self._last_duration(packets, times[-1]) * unit or EDGE):
            raise UserError(f"it ends after {seconds[-1]:.1f} s, before the stretch begins")
        return packets, times[first:last]

    def _first_times(self) -> tuple[int, int]:
        """Returns when the first frame is shown, and when the first packet is decoded."""
        start = first = None
        keyframe = 0
        for packet in self._container.demux(self._stream):
            if not packet.size:
                continue
            if packet.pts is None:
                raise UnclearPackets("packets without a time of their own")
            if start is None:
                start = packet.pts if packet.dts is None else packet.dts
                keyframe = packet.pts
            if packet.pts < keyframe and not packet.is_discard:
                raise UnclearPackets("frames that need what was cut off before the file")
            if not packet.is_discard:
                first = packet.pts if first is None else min(first, packet.pts)
            if first is not None and (packet.dts is None or packet.dts >= first):
                break
        if first is None or start is None:
            raise UnclearPackets("an edit list hides all frames")
        return first, start

    @staticmethod
    def _last_duration(packets: Sequence[av.Packet], last: int) -> int:
        return next(packet.duration or 0 for packet in packets if packet.pts == last)

    def __len__(self) -> int:
        return len(self._times)

    def frames(self) -> Iterator[av.VideoFrame]:
        """Yields all frames in the order shown, as the decoder gives them."""
        context, wanted = self._stream.codec_context, set(self._times)
        for packet in [*self._packets, None]:
            yield from (frame for frame in context.decode(packet) if frame.pts in wanted)

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

    def _take(self, decoded: Any, wanted: set[int], frames: dict[int, np.ndarray]) -> None:
        for frame in decoded:
            if frame.pts in wanted and frame.pts not in frames:
                frames[frame.pts] = upright(frame)


class DecodedReader:
    """The frames of a video as decoding from its start gives them, with a `PacketReader`'s methods.

    Raises:
        UserError: no video stream.
        av.FFmpegError: a file that FFmpeg cannot open.
    """

    def __init__(self, source: str | Path | BytesIO, stretch: Stretch | None = None) -> None:
        self.source, self.stretch = source, stretch
        with av.open(rewound(source)) as container:
            self.average_fps = float(best_stream(container).average_rate or 0)
        times = [frame.time for _, frame in decode(source)]
        self._first, self._last = 0, len(times)
        if stretch is not None:
            seconds, length = shown_times(times, self.average_fps or 25)
            if stretch[0] >= seconds[-1] + length:
                raise UserError(f"it ends after {seconds[-1]:.1f} s, before the stretch begins")
            self._first, self._last = frames_between(seconds, *stretch)

    def __len__(self) -> int:
        return self._last - self._first

    def frames(self) -> Iterator[av.VideoFrame]:
        """Yields all frames in the order shown, as the decoder gives them."""
        return (frame for _, frame in islice(decode(self.source), self._first, self._last))

    def get_batch(self, frame_inds: Sequence[int]) -> list[np.ndarray]:
        """Returns the frames of these indices, each uint8 RGB of shape (height, width, 3)."""
        wanted = {int(index) for index in frame_inds}
        found = enumerate(islice(self.frames(), max(wanted) + 1))
        frames = {index: upright(frame) for index, frame in found if index in wanted}
        return [frames[int(index)] for index in frame_inds]

    def close(self) -> None:
        """Does nothing: the file is open only while it is read."""


def open_video(
    source: str | Path | BytesIO, *, num_threads: int = 1, stretch: Stretch | None = None
) -> PacketReader | DecodedReader:
    """Returns a reader of the frames of a video or a stretch; raises what the two raise."""
    try:
        return PacketReader(source, num_threads=num_threads, stretch=stretch)
    except TooLarge:
        raise
    except UnclearPackets:
        return DecodedReader(source, stretch)


def rewound(source: str | Path | BytesIO) -> Any:
    if not isinstance(source, BytesIO):
        return str(source)
    source.seek(0)
    return source


class PacketTime(NamedTuple):
    """What is kept of a packet: an hour of video has 100,000."""

    pts: int | None
    duration: int
    is_discard: bool
    is_keyframe: bool


def packet_times(container: Any) -> list[PacketTime]:
    """Returns them of the best stream."""
    return [
        PacketTime(packet.pts, packet.duration or 0, packet.is_discard, packet.is_keyframe)
        for packet in container.demux(best_stream(container))
        if packet.size
    ]


def clear_times(packets: Sequence[Any], source: str | Path | BytesIO) -> list[int]:
    """Returns the presentation times of the frames that packets hold, sorted.

    A frame's index is its rank. The packets that an edit list hides are needed to decode others,
    and have no frame. Those that are shown before the first keyframe may need what was cut off
    before the file, a segment or a recording: they count where the decoder gives a frame.

    Args:
        packets: Of the best stream.
        source: The video, for the decoder.

    Raises:
        UnclearPackets: no packets, or some without a time or with the same time.
    """
    if not packets or len({packet.pts for packet in packets} - {None}) < len(packets):
        raise UnclearPackets("packets without a time of their own")
    times: list[int] = sorted(packet.pts for packet in packets if not packet.is_discard)
    if not times:
        raise UnclearPackets("an edit list hides all frames")
    first = next((packet.pts for packet in packets if packet.is_keyframe), times[0])
    if times[0] < first:
        decoded = (first if stamp is None else stamp for stamp, _ in decode(source))
        given = set(takewhile(lambda stamp: stamp < first, decoded))
        times = [time for time in times if time >= first or time in given]
    return times


def shown_times(times: Sequence[float | None], fps: float) -> tuple[np.ndarray, float]:
    """Returns the seconds from the first of decoded frames to each, and how long the last is shown.

    They are spread evenly, `fps` a second, where the decoder's times do not tell them apart.
    """
    clear = [time for time in times if time is not None]
    seconds = np.array(clear) - clear[0] if clear else np.zeros(0)
    if len(clear) < len(times) or (np.diff(seconds) <= 0).any():
        seconds = np.arange(len(times)) / fps
    return seconds, 1 / fps


def frames_between(seconds: np.ndarray, start: float, end: float) -> tuple[int, int]:
    """Returns the first frame of a stretch, and the first after it.

    A frame belongs to it where its time is from `start` up to, not including, `end`. A stretch
    between two frames has the one that is on the screen then.
    """
    first, last = np.searchsorted(seconds, (start - EDGE, end - EDGE)).tolist()
    return min(first, max(last, 1) - 1), max(last, 1)


def decode(
    video: str | Path | BytesIO, wanted: set[int] | None = None
) -> Iterator[tuple[int | None, av.VideoFrame]]:
    """Yields `(pts, frame)` of a video in the order shown; a packet that is damaged is left out.

    Args:
        video: The file, or what is in it.
        wanted: The only `pts` that matter; the decoder may leave out what none of them needs.
    """
    container: Any
    with av.open(rewound(video)) as container:
        stream = best_stream(container)
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


def read_frames(
    reader: PacketReader | DecodedReader, frame_inds: Sequence[int], total_frames: int
) -> list[np.ndarray]:
    """Returns the frames of these indices, each an array of its own: Flip changes one in place.

    They are decoded from the start where the packets promised too much, and `total_frames` are
    still as many.

    Raises:
        UnclearPackets: they are not.
        IndexError: an index outside the video.
        av.FFmpegError: a packet that cannot be decoded.
    """
    try:
        frames = reader.get_batch(frame_inds)
    except UnclearPackets:
        whole = DecodedReader(reader.source, reader.stretch)
        if len(whole) != total_frames:
            raise
        frames = whole.get_batch(frame_inds)
    own = dict.fromkeys(map(id, frames), True)
    return [frame if own.pop(id(frame), False) else frame.copy() for frame in frames]


@contextmanager
def as_file(source: Source) -> Iterator[str | Path]:
    """Gives the path of a video; what is no path yet lies in a temporary file until the end.

    Args:
        source: A path; the bytes of a file; a binary file object, which is read to its end; or
            frames, an array of uint8 RGB, shape (T, H, W, 3), which are kept as they are.

    Raises:
        UserError: another array, or an object that gives no bytes.
    """
    if isinstance(source, str | Path):
        yield source
        return
    is_array = hasattr(source, "__array__")
    with NamedTemporaryFile(suffix=".nut" if is_array else ".mp4") as file:
        if is_array:
            _write_frames(np.asarray(source), file.name)
        else:
            data: Any = source.read() if hasattr(source, "read") else source
            if not isinstance(data, bytes | bytearray | memoryview):
                raise UserError(
                    f"{type(source).__name__}: expected a path, bytes, a binary file object, "
                    "or an array (T, H, W, 3) of uint8 RGB"
                )
            file.write(data)
            file.flush()
        yield file.name


def _write_frames(frames: np.ndarray, path: str) -> None:
    shape = frames.shape
    if frames.dtype != np.uint8 or len(shape) != 4 or shape[3] != 3 or 0 in shape:
        raise UserError(
            f"an array of {frames.dtype}, shape {shape}: expected uint8 RGB, (T, H, W, 3)"
        )
    with av.open(path, "w", format="nut") as sink:
        stream = sink.add_stream("rawvideo", rate=25)
        stream.height, stream.width, stream.pix_fmt = shape[1], shape[2], "rgb24"
        for frame in frames:
            sink.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(frame))))
        sink.mux(stream.encode(None))
