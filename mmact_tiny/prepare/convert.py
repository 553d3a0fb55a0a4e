"""Writes videos that the stock decoder cannot read as H.264, so that every tool can read them.

The originals stay as they are.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np

from ..files import open_atomically
from ..progress import Bar
from ..video.isolated import GuardedReader, Lost
from .examine_all import count_cores, time_limit
from .faults import is_read_by_decord
from .types import Findings, Settings, Verdict, Video
from .write import read_videos_table

OPTIONS = {"crf": "17", "preset": "veryfast", "g": "12"}  # crf 17: no loss that the eye sees
_TIMES_SLOWER = 10  # than decoding alone, at most


def convert_videos(findings: Findings, out: Path, settings: Settings) -> None:
    """Writes those videos as H.264 below `out`; what cannot be converted goes to quarantine."""
    unread = [video for video in findings.videos if not is_read_by_decord(video.record)]
    for video in unread:
        format_name = f"{video.record['codec']} in {video.record['container']}"
        done = "converted to H.264" if settings.convert else "left as it is, training fails on it"
        findings.report("not read by decord", video.listed.path, f"{format_name}: {done}")
    if not unread or not settings.convert:
        return
    earlier = {(row["video"], row["content"]) for row in read_videos_table(out)}
    todo: dict[str, list[Video]] = {}
    for video in unread:
        video.video += ".mp4"
        video.is_converted = True
        target = out / video.video
        is_done = (video.video, video.record["hash"]) in earlier and target.is_file()
        if not is_done or target.is_symlink():
            target.unlink(missing_ok=True)  # never write through a link to an original
            todo.setdefault(video.listed.path, []).append(video)

    def calls() -> Iterator[tuple[str, tuple[Any, ...], float]]:
        for path, videos in todo.items():
            limit = time_limit(path, settings) * _TIMES_SLOWER
            yield path, (path, out / videos[0].video), limit

    num_workers = min(settings.num_workers or count_cores(), len(todo))
    reader = GuardedReader(convert, calls_a_process=0, num_processes=num_workers, niceness=0)
    with Bar("converting videos to H.264", len(todo), keep=True) as bar:
        for path, result in reader.call_each(calls()):
            for video in todo[path] if isinstance(result, Lost) else ():
                verdict = Verdict("not converted", str(result))
                findings.quarantine.append((video.listed, video.label, verdict))
                findings.videos.remove(video)
            bar.advance()


def convert(path: str, target: Path) -> int:
    """Writes a video's frames to an .mp4 file, whole or not at all; returns how many.

    Times are kept, a rotation is carried out, sound is left out, odd sides lose a pixel.
    """
    with (
        av.open(path) as source,
        open_atomically(target) as file,
        av.open(file, "w", format="mp4") as sink,
    ):
        return _copy_frames(source, sink)


def _copy_frames(source: av.container.InputContainer, sink: av.container.OutputContainer) -> int:
    stream = source.streams.video[0]
    output = sink.add_stream("libx264", rate=stream.average_rate or 25, options=OPTIONS)
    output.pix_fmt = "yuv420p"
    count = 0
    start = 0
    for frame in source.decode(stream):
        pts, time_base = frame.pts, frame.time_base
        if turns := frame.rotation // 90 % 4:
            pixels = frame.to_ndarray(format="rgb24").astype(np.uint8, copy=False)
            pixels = np.ascontiguousarray(np.rot90(pixels, turns))
            frame = av.VideoFrame.from_ndarray(pixels, "rgb24")
        if count == 0:
            output.width, output.height = frame.width // 2 * 2, frame.height // 2 * 2
            if time_base is not None:
                output.codec_context.time_base = time_base
            start = pts or 0
        frame = frame.reformat(output.width, output.height, "yuv420p")
        frame.pts = None if pts is None else pts - start
        if time_base is not None:
            frame.time_base = time_base
        sink.mux(output.encode(frame))
        count += 1
    sink.mux(output.encode(None))
    return count
