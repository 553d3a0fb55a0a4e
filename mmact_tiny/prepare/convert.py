"""Writes videos that the stock decoder cannot read as H.264, so that every tool can read them.

The originals stay as they are.
"""

from collections import defaultdict
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import av

from ..files import open_atomically
from ..video.files import best_stream, orientation_of, upright
from ..video.isolated import Lost
from .checks import is_read_by_decord
from .examine_all import call_each
from .types import Findings, Settings, Video
from .write import read_videos_table

OPTIONS = {"crf": "17", "preset": "veryfast", "g": "12"}  # crf 17: no loss that the eye sees
_TIMES_SLOWER = 10  # than decoding alone, at most


def convert_videos(findings: Findings, out: Path, settings: Settings) -> None:
    """Writes those videos as H.264 below `out`; what cannot be converted goes to quarantine."""
    unread = [video for video in findings.videos if not is_read_by_decord(video.record)]
    for video in unread:
        format_name = f"{video.record['codec']} in {video.record['container']}"
        done = "converted to H.264" if settings.convert else "left as it is"
        findings.report("not read by decord", video.path, f"{format_name}: {done}")
    if not settings.convert:
        return
    earlier = {(row["video"], row["content"]) for row in read_videos_table(out)}
    todo: dict[str, list[Video]] = defaultdict(list)
    for video in unread:
        video.place += ".mp4"
        video.is_converted = True
        target = out / video.place
        is_done = (video.place, video.record["hash"]) in earlier and target.is_file()
        if not is_done or target.is_symlink():
            target.unlink(missing_ok=True)  # never write through a link to an original
            todo[video.path].append(video)

    def arguments(path: str) -> tuple[str, Path]:
        return path, (out / todo[path][0].place).absolute()

    what = "converting videos to H.264"
    for path, result in call_each(convert, todo, arguments, what, settings, _TIMES_SLOWER):
        for video in todo[path] if isinstance(result, Lost) else ():
            video.fault = "not converted", str(result)
            findings.videos.remove(video)


def convert(path: str, target: Path) -> None:
    """Writes a video's frames to an .mp4 file, whole or not at all.

    Times are kept, rotation and mirroring carried out, sound is left out, odd sides lose a pixel.
    """
    with (
        av.open(path) as source,
        open_atomically(target) as file,
        av.open(file, "w", format="mp4") as sink,
    ):
        stream = best_stream(source)
        output = sink.add_stream("libx264", rate=stream.average_rate or 25, options=OPTIONS)
        output.pix_fmt = "yuv420p"
        start: int | None = None
        for frame in _frames(source, stream):
            pts, time_base = frame.pts, frame.time_base
            if any(orientation_of(frame)):
                frame = av.VideoFrame.from_ndarray(upright(frame), "rgb24")
            if start is None:
                output.width, output.height = frame.width // 2 * 2, frame.height // 2 * 2
                if time_base is not None:
                    output.codec_context.time_base = time_base
                start = pts or 0
            frame = frame.reformat(output.width, output.height, "yuv420p")
            frame.pts = None if pts is None else pts - start
            if time_base is not None:
                frame.time_base = time_base
            sink.mux(output.encode(frame))
        sink.mux(output.encode(None))


def _frames(source: Any, stream: Any) -> Iterator[av.VideoFrame]:
    """Yields the frames that can be decoded; what a recording begins with may not be."""
    for packet in source.demux(stream):
        with suppress(av.FFmpegError):
            yield from packet.decode()
