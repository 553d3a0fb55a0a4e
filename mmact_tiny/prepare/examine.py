"""Decodes one video from start to end and says what it is."""

import itertools
from collections.abc import Collection, Iterator
from pathlib import Path

import av
import numpy as np
from av.container import InputContainer

from ..errors import UserError
from ..files import sha256
from ..video.files import best_stream, orientation_of
from .types import Record

NUM_THUMBNAILS = 8
THUMBNAIL_SHAPE = (8, 9)  # rows, columns: a 64-bit difference hash compares 8 neighbours in 8 rows
_LUMA_FIRST = {f"yuv{j}{sampling}p" for j in ("", "j") for sampling in (420, 422, 444)}
_PIXELS = 128  # on a thumbnail's shorter side before: 16 x 14 or more in a cell


def examine(path: str, known_hashes: Collection[str] = (), num_threads: int = 1) -> Record:
    """Returns what a pass through a video finds; faults are in the record, not raised.

    Args:
        path: the video.
        known_hashes: contents that need no decoding again: only `hash` is returned for them.
        num_threads: threads of the decoder.
    """
    record: Record = {"hash": sha256(path) or "", "error": None}
    if record["hash"] in known_hashes:
        return record
    try:
        if Path(path).stat().st_size == 0:
            record["error"] = "unreadable: the file is empty"
            return record
        expected = _read(path, None, num_threads, record)
        if abs(record.get("frames", expected) - expected) > max(2, expected // 50):
            _read(path, record["frames"], num_threads, record)  # now the thumbnails are in place
    except UserError as error:
        record["error"] = str(error)
    except (av.FFmpegError, OSError, ValueError) as error:
        record["error"] = f"unreadable: {getattr(error, 'strerror', None) or error}"
    return record


def _read(path: str, expected: int | None, num_threads: int, record: Record) -> int:
    """Fills the record; returns how many frames it expected, for where to take thumbnails."""
    # A playlist or a list of files to join stays what it is: nothing else is opened for it.
    with av.open(path, options={"protocol_whitelist": "file"}) as container:
        stream = best_stream(container)
        stream.codec_context.thread_count = num_threads
        fps = float(stream.average_rate or 0)
        seconds = _header_seconds(container, stream)
        record |= {
            "codec": stream.codec_context.codec.canonical_name,
            "container": container.format.name,
            "video_streams": len(container.streams.video),
            "stream": stream.index,
            "header_frames": stream.frames or None,
            "header_seconds": seconds,
        }
        if expected is None:
            expected = stream.frames or round((seconds or 0) * fps)
        _decode(container, stream, expected, record)
    if record["frames"] == 0:
        stopped_by = record.pop("stopped_by", "no frame can be decoded")
        record["error"] = f"unreadable: {stopped_by}"
    record["fps"] = fps or (record["frames"] / (record["duration_seconds"] or 1))
    return expected


def _header_seconds(container: InputContainer, stream: av.VideoStream) -> float | None:
    """Returns how long the stream, or else the whole file, is by its header, or None."""
    if stream.duration is not None and stream.time_base is not None:
        return float(stream.duration * stream.time_base)
    if tag := stream.metadata.get("DURATION"):  # Matroska: 00:00:01.500000000
        hours, minutes, seconds = tag.split(":")
        return int(hours) * 3600 + int(minutes) * 60 + float(seconds)
    return None if container.duration is None else container.duration / av.time_base


def _decode(
    container: InputContainer, stream: av.VideoStream, expected: int, record: Record
) -> None:
    wanted = {int((i + 0.5) * expected / NUM_THUMBNAILS) for i in range(NUM_THUMBNAILS)}
    thumbnails: list[bytes] = []
    sizes: set[tuple[int, int]] = set()
    record |= {"frames": 0, "packets": 0, "damaged_frames": 0}
    record |= {"discarded_packets": 0, "leading_packets": 0}
    keyframes: list[int] = []
    first = start = end = None
    for packet in _packets(container, stream, record):
        if packet.size:
            if packet.is_keyframe:
                keyframes.append(record["packets"])
                first = packet.pts if first is None else first
            record["packets"] += 1
            record["discarded_packets"] += packet.is_discard
            early = first is None or (packet.pts is not None and packet.pts < first)
            record["leading_packets"] += early and not packet.is_discard
        try:
            decoded = packet.decode()
        except av.FFmpegError:
            continue  # counted: a packet without its frame
        for frame in decoded:
            if frame.pts is not None:
                start = frame.pts if start is None else start
                end = frame.pts + (frame.duration or 0)
            if not sizes:
                record |= {"width": frame.width, "height": frame.height}
                orientation = orientation_of(frame)
                record["rotation"] = frame.rotation
                record["mirrored"] = orientation.is_mirrored
                record["interlaced"] = frame.interlaced_frame
            sizes.add((frame.width, frame.height))
            if record["frames"] in wanted:
                thumbnails.append(_thumbnail(frame))
            record["damaged_frames"] += frame.is_corrupt
            record["frames"] += 1
    seconds = None
    if start is not None and end is not None and stream.time_base is not None:
        seconds = float((end - start) * stream.time_base)
    spacings = itertools.pairwise([*keyframes, record["packets"]])
    record |= {
        "num_sizes": len(sizes),
        "keyframe_spacing": max((b - a for a, b in spacings), default=0),
        "duration_seconds": seconds,
        "thumbnails": b"".join(thumbnails),
    }


def _packets(
    container: InputContainer, stream: av.VideoStream, record: Record
) -> Iterator[av.Packet]:
    """Yields the stream's packets, and its flushing one at the end also of a broken file.

    The other streams are read too: a header may give only the length of the longest one.
    """
    ends: dict[int, int] = {}
    try:
        for packet in container.demux():
            index, pts = packet.stream_index, packet.pts
            if pts is not None:
                ends[index] = max(ends.get(index, pts), pts + (packet.duration or 0))
            if packet.stream is stream:  # the mark at the end has no index of its own
                yield packet
    except av.FFmpegError as error:
        record["stopped_by"] = error.strerror or str(error)
    seconds = (float(end * (container.streams[i].time_base or 0)) for i, end in ends.items())
    record["start_seconds"] = (container.start_time or 0) / av.time_base
    record["end_seconds"] = max(seconds, default=0.0) - record["start_seconds"]


def _thumbnail(frame: av.VideoFrame) -> bytes:
    """Returns a frame's brightness at 9 x 8, row by row: each value the mean of its cell.

    The luma plane is there already in the usual formats; of a large one, every n-th pixel does.
    In a frame of fewer pixels than cells, some are the same pixel.
    """
    if frame.format.name in _LUMA_FIRST:
        plane = frame.planes[0]
        gray: np.ndarray = np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)
    else:
        gray = frame.reformat(frame.width, frame.height, "gray").to_ndarray()
    step = max(1, min(frame.height, frame.width) // _PIXELS)
    gray = gray[: frame.height : step, : frame.width : step]
    starts = [np.arange(n) * size // n for n, size in zip(THUMBNAIL_SHAPE, gray.shape, strict=True)]
    sums = np.add.reduceat(np.add.reduceat(gray, starts[0], 0, np.uint32), starts[1], 1)
    sides = [np.diff(s, append=size).clip(1) for s, size in zip(starts, gray.shape, strict=True)]
    return (sums / np.outer(*sides)).round().astype(np.uint8).tobytes()
