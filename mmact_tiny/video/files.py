"""Tells videos by their names, finds them in folders, and says in a line why one cannot be read."""

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ..errors import UserError

VIDEO_SUFFIXES = frozenset(
    (
        *(".3gp", ".avi", ".flv", ".m2ts", ".m4v", ".mjpeg", ".mjpg", ".mkv", ".mov", ".mp4"),
        *(".mpeg", ".mpg", ".mts", ".ogv", ".ts", ".webm", ".wmv"),
    )
)
_DECORD_PLACE = re.compile(r"^\[[\d:]+\] \S+:\d+: ")


def is_video(name: str) -> bool:
    """Returns whether a file's name ends like a video's."""
    return os.path.splitext(name)[1].lower() in VIDEO_SUFFIXES  # noqa: PTH122


def walk_videos(folder: Path, skip: Path | None = None) -> Iterator[Path]:
    """Yields the video files below a folder in order, also through symbolic links; none hidden."""
    seen = set()
    for parent, folders, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(parent)
        if real in seen or (skip is not None and Path(parent) == skip):
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith((".", "__MACOSX")))
        for name in sorted(files):
            if is_video(name) and not name.startswith("."):
                yield Path(parent, name)


def find_videos(paths: Sequence[str | Path]) -> list[Path]:
    """Returns the files named, and the videos below each folder, sorted; each once.

    Raises:
        UserError: a path that does not exist, or a folder without a video.
    """
    videos: list[Path] = []
    for text in map(str, paths):
        path = Path(text)
        if ("://" in text or text.isdigit()) and not path.exists():
            raise UserError(
                f"{text} is no file: streams and cameras are not read; record some seconds first: "
                f"ffmpeg -i {'/dev/video' * text.isdigit()}{text} -t 10 clip.mp4"
            )
        if path.is_dir():
            found = sorted(walk_videos(path))
            if not found:
                suffixes = " ".join(sorted(VIDEO_SUFFIXES))
                raise UserError(f"no video in {path}; looked for {suffixes}")
            videos.extend(found)
        elif path.exists():
            videos.append(path)
        else:
            raise UserError(f"no video file {path}")
    return list(dict.fromkeys(videos))


def sample_of(video: str | Path) -> dict[str, Any]:
    """Returns what a test pipeline starts from, for one video without a label.

    Raises:
        UserError: no such file; or no regular one, as a pipe, which might never give anything.
    """
    path = Path(video)
    if not path.is_file():
        raise UserError("not a regular file" if path.exists() else "no such file")
    return dict(filename=str(video), label=-1, start_index=0, modality="RGB")


def reason_of(error: BaseException) -> str:
    """Returns an error in a line; decord's begin with time and place, and end with a stack."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return _DECORD_PLACE.sub("", lines[0])[:300] if lines else type(error).__name__
