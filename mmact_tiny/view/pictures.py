"""Draws the answer for one video: the video with its labels, and the regions behind the label."""

import logging
from collections.abc import Sequence
from pathlib import Path

from ..errors import UserError
from ..infer import Row
from ..recognizer import Recognizer
from ..video.files import find_videos
from .cam import check_cam_extra, draw_cam
from .render import render_video
from .windows import cells_of

logger = logging.getLogger("mmact_tiny")


def check_pictures(
    videos: Sequence[str | Path], *, render: str | None = None, cam: str | None = None
) -> None:
    """Checks what `draw_pictures` will write, before any work.

    Raises:
        UserError: several videos, a name with another suffix, a missing package, or a file that is
            the video itself.
    """
    found = find_videos(videos)
    for flag, out, suffix in (("--render", render, ".mp4"), ("--cam", cam, ".png")):
        if out is None:
            continue
        if len(found) != 1:
            raise UserError(f"{flag} {out}: expected one video, not {len(found)}")
        path = Path(out)
        if path.suffix.lower() != suffix:
            raise UserError(f"{flag} {out}: expected a name that ends in {suffix}")
        if path.resolve() == found[0].resolve() or (path.exists() and found[0].samefile(path)):
            raise UserError(f"{flag} {out}: that is the video itself; name another file")
    if cam is not None:
        check_cam_extra()


def draw_pictures(
    row: Row, recognizer: Recognizer, *, render: str | None = None, cam: str | None = None
) -> None:
    """Writes the pictures that were asked for, of a video that could be read.

    Args:
        row: Of `infer`, for the whole video or its windows.
        recognizer: What gave it.
        render: An MP4, the video with its labels burnt in.
        cam: A PNG, the frames with the regions behind the best label.
    """
    if "error" in row:
        return
    video = row["video"]
    if render is not None:
        render_video(video, render, cells_of(row), duration=row.get("duration", 0.0))
        logger.info("written: %s", render)
    if cam is not None:
        best = row["predictions"][0] if "predictions" in row else None
        label, score = (best["label"], best["score"]) if best else recognizer.predict(video, 1)[0]
        draw_cam(recognizer, video, (label, score), cam)
        logger.info("written: %s", cam)
