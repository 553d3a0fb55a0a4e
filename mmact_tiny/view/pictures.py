"""Draws the answer for one video: its labels burnt in, and the regions behind the best one."""

import importlib.util
import logging
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from ..errors import UserError
from ..files import Row, check_out
from ..recognizer import Recognizer
from ..video.files import find_videos
from .render import render_video
from .windows import cells_of

logger = logging.getLogger("mmact_tiny")


def check_pictures(
    videos: Sequence[str | Path],
    checkpoint: str | None = None,
    *,
    render: str | None = None,
    cam: str | None = None,
) -> None:
    """Checks what `draw_pictures` will write, before any work.

    Raises:
        UserError: regions of an `.onnx` file, several videos, a name with another suffix, a
            missing package, or a file that is the video itself.
    """
    if cam is not None and str(checkpoint).endswith(".onnx"):
        raise UserError(f"--cam {cam}: {checkpoint} gives scores alone; expected the .pth file")
    found = find_videos(videos)
    for flag, out, suffix in (("--render", render, ".mp4"), ("--cam", cam, ".png")):
        if out is None:
            continue
        if len(found) != 1:
            raise UserError(f"{flag} {out}: expected one video, not {len(found)}")
        check_out(out, [suffix], flag)
        path = Path(out)
        if path.resolve() == found[0].resolve() or (path.exists() and found[0].samefile(path)):
            raise UserError(f"{flag} {out}: that is the video itself; name another file")
    if cam is not None and importlib.util.find_spec("pytorch_grad_cam") is None:
        raise UserError("--cam needs the package grad-cam: pip install 'mmact-tiny[cam]'")


def draw_pictures(
    row: Row, recognizer: Recognizer, *, render: str | None = None, cam: str | None = None
) -> None:
    """Writes the pictures that were asked for, of a video that could be read.

    Args:
        row: Of `infer`, for the whole video or its windows.
        recognizer: What gave the row.
        render: An MP4 to write.
        cam: A PNG to write.
    """
    if "error" in row:
        return
    video, cells = row["video"], cells_of(row)
    if render is not None:
        render_video(video, render, cells)
        logger.info("written: %s", render)
    if cam is not None:
        best = cells[0].predictions if "predictions" in row else recognizer.predict(video, 1)
        if not best:
            raise UserError(f"--cam {cam}: no label of {video} reaches its threshold")
        import_module("mmact_tiny.view.cam").draw_cam(recognizer, video, best[0], cam)
        logger.info("written: %s", cam)
