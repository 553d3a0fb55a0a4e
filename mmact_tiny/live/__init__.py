"""Recognizes what happens now in a stream or before a camera: the newest window, never an older.

`source` opens a stream and reads its packets, again when it is lost; `frames` decodes them and
keeps those of the newest window; `events` smooths scores and makes events of them; `watch` scores
one window after the other.

What a tool needs of it is here; it imports the rest when it is used, so that a wrong flag, or a
source that cannot be opened, is told before PyTorch is imported.
"""

import argparse
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from ..errors import UserError
from ..video.window import check_window

__all__ = ["Settings", "open_reader", "open_watch", "settings_of", "watch_stream"]

OF_FILES = ("cam", "collect", "parquet", "part", "ray", "render", "time_limit", "tool", "top_k")
SMOOTH, THRESHOLD = 3, 0.6


@dataclass(frozen=True)
class Settings:
    """How a source is watched.

    Args:
        window, stride: Seconds.
        smooth: How many windows' mean score counts.
        threshold: The score that begins an event; by default `THRESHOLD`, or each label's own
            where a video may have several.
        background: The label that stands for nothing.
        out: A JSON Lines file for events and losses.

    Raises:
        UserError: a value that cannot be used.
    """

    window: float
    stride: float
    smooth: int = SMOOTH
    threshold: float | None = None
    background: str | None = None
    out: str | Path | None = None

    def __post_init__(self) -> None:
        check_window(self.window, self.stride)
        if self.smooth < 1:
            raise UserError(f"--smooth {self.smooth}: expected 1 window or more")
        if self.threshold is not None and not 0 < self.threshold <= 1:
            words = "expected a score above 0 and at most 1"
            raise UserError(f"--threshold {self.threshold:g}: {words}")


def settings_of(args: argparse.Namespace, source: str) -> Settings:
    """Returns how the flags of `infer.py` say that a stream is watched.

    Raises:
        UserError: a flag that a stream needs, or that files alone have, or a wrong value.
    """
    if args.videos != [source]:
        raise UserError(f"{source}: expected no other video beside a stream")
    if args.window is None:
        raise UserError(f"{source}: a stream is scored in windows; expected --window SECONDS")
    given = [name for name in OF_FILES if getattr(args, name) not in (None, False)]
    given += ["launcher"] * (args.launcher != "none")
    if given:
        flag = "for" if given[0] == "tool" else given[0].replace("_", "-")
        raise UserError(f"--{flag}: expected video files, not the stream {source}")
    if args.out is not None and not args.out.endswith(".jsonl"):
        raise UserError(f"--out {args.out}: expected a name that ends in .jsonl for a stream")
    stride = args.window / 2 if args.stride is None else args.stride
    smooth = SMOOTH if args.smooth is None else args.smooth
    return Settings(args.window, stride, smooth, args.threshold, args.background, args.out)


def open_reader(source: str) -> Any:
    """Returns a `source.Reader`, which is to be closed."""
    return import_module(".source", __name__).Reader(source)


def open_watch(reader: Any, recognizer: dict[str, Any], settings: Settings) -> Any:
    """Returns a `watch.Watch`, see `watch.open_watch`."""
    return import_module(".watch", __name__).open_watch(reader, recognizer, settings)


def watch_stream(reader: Any, recognizer: dict[str, Any], settings: Settings) -> None:
    """Watches a stream until it ends, see `watch.watch_stream`."""
    import_module(".watch", __name__).watch_stream(reader, recognizer, settings)
