"""Has the videos of a preparation converted that the stock decoder cannot read."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..progress import show_progress
from ..video.isolated import Lost, run_isolated
from .examine_all import SECONDS_PER_MEGABYTE, count_cores
from .faults import Fault, is_read_by_decord
from .types import Preparation, Settings, Video
from .write import read_videos_table

TASK = "mmact_tiny.prepare.convert:convert"
_TIMES_SLOWER = 10  # than decoding alone, at most


def convert_videos(preparation: Preparation, out: Path, settings: Settings) -> None:
    """Writes those videos as H.264 below `out`; what cannot be converted goes to quarantine."""
    unread = [video for video in preparation.videos if not is_read_by_decord(video.record)]
    for video in unread:
        format_name = f"{video.record['codec']} in {video.record['container']}"
        done = "converted to H.264" if settings.convert else "left as it is, training fails on it"
        preparation.report("not read by decord", video.listed.path, f"{format_name}: {done}")
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
    lost: dict[str, Lost] = {}
    workers = min(settings.num_workers or count_cores(), len(todo))
    calls = _calls(todo, out, settings)
    with show_progress("converting videos to H.264", len(todo)) as advance:
        for path, result in run_isolated(TASK, calls, num_workers=workers):
            if isinstance(result, Lost):
                lost[path] = result
            advance()
    for path, reason in lost.items():
        for video in todo[path]:
            fault = Fault("not converted", reason.reason)
            preparation.quarantine.append((video.listed, video.label, fault))
            preparation.videos.remove(video)


def _calls(
    todo: dict[str, list[Video]], out: Path, settings: Settings
) -> Iterator[tuple[str, dict[str, Any], float]]:
    for path, videos in todo.items():
        seconds = (
            settings.seconds_per_video + Path(path).stat().st_size / 1e6 * SECONDS_PER_MEGABYTE
        )
        arguments = {"path": path, "target": str((out / videos[0].video).absolute())}
        yield path, arguments, seconds * _TIMES_SLOWER
