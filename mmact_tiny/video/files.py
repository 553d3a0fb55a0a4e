"""What a source of videos comes down to: a list of paths with labels, splits and origins."""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

from ..prepare.problems import Problem

VIDEO_SUFFIXES = frozenset(
    (
        *(".3gp", ".avi", ".flv", ".m2ts", ".m4v", ".mjpeg", ".mjpg", ".mkv", ".mov", ".mp4"),
        *(".mpeg", ".mpg", ".mts", ".ogv", ".ts", ".webm", ".wmv"),
    )
)
SPLIT_WORDS = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}


@dataclass(frozen=True, slots=True)
class Listed:
    """A video as the source lists it.

    Attributes:
        path: absolute, symbolic links kept.
        name: its path below `videos/` in a dataset, before encoding; one for one path.
        label: the class's name or number, as written.
        split: train, val, test, or None where the source does not say.
        where: file:line, or the folder.
    """

    path: str
    name: str
    label: str
    split: str | None
    where: str


@dataclass(slots=True)
class Source:
    """Everything that a source lists, and what is wrong with the listing."""

    layout: str
    videos: list[Listed]
    label_map: list[str] | None = None
    label_map_path: Path | None = None
    problems: list[Problem] = field(default_factory=list)


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


def clean_label(text: str) -> str:
    """Returns a label as one line of text: no control characters, single spaces."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def is_video(name: str) -> bool:
    """Returns whether a file's name ends like a video's."""
    return os.path.splitext(name)[1].lower() in VIDEO_SUFFIXES  # noqa: PTH122


def name_of(path: str, root: Path) -> str:
    """Returns a video's place below `videos/`: as below the source's root, or by its folder."""
    relative = os.path.relpath(path, root)
    if not relative.startswith(".."):
        return Path(relative).as_posix()
    folder, name = os.path.split(path)
    digest = sha256(os.fsencode(folder)).hexdigest()[:8]
    return f"outside/{digest}/{name}"


def read_text(file: Path) -> str:
    """Returns a file's text, lines ended by \\n; names that are not UTF-8 survive."""
    text = file.read_bytes().decode("utf-8-sig", "surrogateescape")
    return text.replace("\r\n", "\n").replace("\r", "\n")


_DECORD_PLACE = re.compile(r"^\[[\d:]+\] \S+:\d+: ")


def reason_of(error: BaseException) -> str:
    """Returns an error in a line; decord's begin with time and place, and end with a stack."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return _DECORD_PLACE.sub("", lines[0])[:300] if lines else type(error).__name__
