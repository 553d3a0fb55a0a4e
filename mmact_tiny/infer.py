"""Inference over files and folders: the printed answer, and its JSON, CSV and JSON Lines."""

import logging
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from . import log as terminal
from . import progress
from .errors import EXIT_ERROR, EXIT_OK, EXIT_PARTIAL, UserError
from .files import printable, write_answers
from .recognizer import Recognizer, find_videos
from .video.guarded_reader import VIDEO_SECONDS
from .view.cam import check_cam_extra, draw_cam
from .view.segments import cells_of, say_segments, window_rows, write_segments
from .view.windows import check_window

logger = logging.getLogger("mmact_tiny")
OUT_SUFFIXES = (".json", ".csv", ".jsonl")
DEFAULT_TOP_K = 5
COLUMNS = ("video", "rank", "label", "score", "error")


def infer(
    paths: Sequence[str | Path],
    *,
    top_k: int | None = None,
    precision: str = "auto",
    time_limit: float | None = None,
    out: str | Path | None = None,
    window: float | None = None,
    stride: float | None = None,
    render: str | Path | None = None,
    cam: str | Path | None = None,
    **settings: Any,
) -> int:
    """Prints the best labels of each video, and writes them to `out`.

    Args:
        paths: Videos, and folders of videos.
        top_k: Labels of each, by default 5 or all.
        precision: As `Recognizer` has it.
        time_limit: Seconds that reading one video may take, by default `VIDEO_SECONDS`.
        out: A JSON, JSON Lines or CSV file.
        window: Seconds; scores each window of a video by itself, see `windows`.
        stride: Seconds from one window to the next, by default half a window.
        render: An MP4 to write, the video with its labels burnt in.
        cam: A picture to write, the frames with what spoke for the label.
        **settings: The other arguments of `Recognizer`.

    Returns:
        An exit status: 0, 3 where some videos could not be read, 2 where none could.

    Raises:
        UserError: a path, checkpoint, label map, `top_k` or `out` that cannot be used.
    """
    terminal.keep_stock_log_off()
    videos = find_videos(paths)
    if out is not None and Path(out).suffix not in OUT_SUFFIXES:
        raise UserError(f"--out {out}: expected a name that ends in {', '.join(OUT_SUFFIXES)}")
    _check_flags(videos, window=window, stride=stride, render=render, cam=cam)
    settings["video_seconds"] = time_limit or VIDEO_SECONDS
    recognizer = Recognizer(precision=precision, **settings)
    top_k = _choose_top_k(top_k, len(recognizer.labels))
    if window is None:
        scores = recognizer.score_videos(videos)  # reading begins before the model is built
        answers = predict_rows(recognizer, videos, scores, top_k)
    else:
        stride = window / 2 if stride is None else stride
        answers = window_rows(recognizer, videos, top_k, window=window, stride=stride)
    logger.info("checkpoint: %s", recognizer.checkpoint)
    logger.info("protocol: %s", recognizer.protocol)
    logger.info("engine: %s", recognizer.engine)
    rows = []
    for row in progress.track(answers, "inference", len(videos)):
        _print_row(row, top_k, name_video=len(videos) > 1)
        rows.append(row)
    if out is not None:
        (write_rows if window is None else write_segments)(Path(out), rows)
        logger.info("written: %s", out)
    _draw(rows[0], recognizer, render=render, cam=cam)
    failed = sum("error" in row for row in rows)
    if failed:
        logger.error("%d of %d videos could not be read", failed, len(rows))
    return EXIT_OK if not failed else EXIT_ERROR if failed == len(rows) else EXIT_PARTIAL


def _choose_top_k(top_k: int | None, num_classes: int) -> int:
    if top_k is not None and not 1 <= top_k <= num_classes:
        raise UserError(f"--top-k {top_k}: the checkpoint has {num_classes} classes")
    return top_k or min(DEFAULT_TOP_K, num_classes)


def _check_flags(
    videos: Sequence[Path],
    *,
    window: float | None,
    stride: float | None,
    render: str | Path | None,
    cam: str | Path | None,
) -> None:
    """Raises a UserError for what cannot be done, before any work."""
    if window is not None:
        check_window(window, window / 2 if stride is None else stride)
    elif stride is not None:
        raise UserError(f"--stride {stride:g}: expected --window SECONDS too")
    if render is not None:
        check_target(videos, render, "--render", ".mp4")
    if cam is not None:
        check_target(videos, cam, "--cam", ".png")
        check_cam_extra()


def check_target(videos: Sequence[Path], out: str | Path, flag: str, suffix: str) -> None:
    """Raises a UserError where an output made of one video cannot be meant."""
    if len(videos) != 1:
        raise UserError(f"{flag} {out}: expected one video, not {len(videos)}")
    path = Path(out)
    if path.suffix.lower() != suffix:
        raise UserError(f"{flag} {out}: expected a name that ends in {suffix}")
    if path.resolve() == videos[0].resolve() or (path.exists() and videos[0].samefile(path)):
        raise UserError(f"{flag} {out}: that is the video itself; name another file")


def _draw(
    row: dict[str, Any],
    recognizer: Recognizer,
    *,
    render: str | Path | None,
    cam: str | Path | None,
) -> None:
    """Writes the pictures that were asked for, of a video that could be read."""
    if "error" in row:
        return
    video = row["video"]
    if render is not None:
        from .view.render import render_video

        render_video(video, render, cells_of(row), duration=row.get("duration", 0.0))
        logger.info("written: %s", render)
    if cam is not None:
        best = row["predictions"][0] if "predictions" in row else None
        label, score = (best["label"], best["score"]) if best else recognizer.predict(video, 1)[0]
        draw_cam(recognizer, video, (label, score), cam)
        logger.info("written: %s", cam)


def predict_rows(
    recognizer: Recognizer,
    videos: Sequence[Path],
    scores: Iterable[np.ndarray | UserError],
    top_k: int,
) -> Iterator[dict[str, Any]]:
    """Yields `dict(video, predictions=[dict(label, score)])`, or `dict(video, error)`."""
    for video, found in zip(videos, scores, strict=True):
        if isinstance(found, UserError):
            yield dict(video=str(video), error=str(found))
        else:
            best = recognizer.top_k(found, top_k)
            predictions = [dict(label=label, score=score) for label, score in best]
            yield dict(video=str(video), predictions=predictions)


def _print_row(row: dict[str, Any], top_k: int, name_video: bool) -> None:
    lines = [f"\n{printable(row['video'])}"] if name_video else []
    if "error" in row:
        lines.append(f"error: {printable(row['error'])}")
    elif "segments" in row:
        lines += say_segments(row)
    else:
        lines.append(f"The top-{top_k} labels with corresponding scores are:")
        lines += [f"{printable(best['label'])}: {best['score']}" for best in row["predictions"]]
    progress.say("\n".join(lines))


def write_rows(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Writes answers as a JSON list, JSON Lines, or a CSV row for each label.

    Raises:
        UserError: the file cannot be written; what was there is as before.
    """
    write_answers(path, rows, COLUMNS, _table)


def _table(row: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for rank, best in enumerate(row.get("predictions", []), start=1):
        yield dict(video=row["video"], rank=rank, **best)
    if "error" in row:
        yield dict(video=row["video"], error=row["error"])
