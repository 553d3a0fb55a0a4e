"""Recognizes what happens now in a stream or before a camera: the newest window, never an older.

`source` opens a stream and reads its packets, again when it is lost; `frames` decodes them and
keeps those of the newest window; `events` smooths scores and makes events of them; `watch` scores
one window after the other.

What a tool needs of it is here; it imports the rest when it is used.
"""

import argparse
from importlib import import_module
from typing import Any

from ..errors import UserError

__all__ = ["check_flags", "open_watch", "watch_stream"]

OF_FILES = ("cam", "collect", "parquet", "part", "ray", "render", "time_limit", "tool", "top_k")


def check_flags(args: argparse.Namespace, source: str) -> None:
    """Raises a UserError for flags of `infer.py` that a stream needs, or that files alone have."""
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


def open_watch(source: str, recognizer: dict[str, Any], **settings: Any) -> Any:
    """Returns a `watch.Watch`, see `watch.open_watch`."""
    return import_module(".watch", __name__).open_watch(source, recognizer, **settings)


def watch_stream(source: str, recognizer: dict[str, Any], **settings: Any) -> None:
    """Watches a stream until it ends, see `watch.watch_stream`."""
    import_module(".watch", __name__).watch_stream(source, recognizer, **settings)
