"""Answers for files and folders of videos: printed, and written as JSON, JSON Lines or CSV."""

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Required, TypedDict

from . import progress
from .errors import EXIT_ERROR, EXIT_OK, EXIT_PARTIAL, UserError
from .files import Row, check_out, printable, write_answers
from .recognizer import Recognizer
from .video.files import find_videos
from .video.isolated import VIDEO_SECONDS

logger = logging.getLogger("mmact_tiny")
OUT_SUFFIXES = (".json", ".csv", ".jsonl")
DEFAULT_TOP_K = 5
COLUMNS = ("video", "rank", "label", "score", "error")


class Prediction(TypedDict):
    """A label with its score."""

    label: str
    score: float


class VideoRow(TypedDict, total=False):
    """The answer for a video: its predictions, best first, or why it could not be read."""

    video: Required[str]
    predictions: list[Prediction]
    error: str


@dataclass(frozen=True)
class Inference:
    """What `infer` gave: the recognizer, and a row for each video in order."""

    recognizer: Recognizer
    rows: list[Row]

    @property
    def status(self) -> int:
        """The exit status: 0, 3 where some videos could not be read, 2 where none could."""
        failed = sum("error" in row for row in self.rows)
        return EXIT_OK if not failed else EXIT_ERROR if failed == len(self.rows) else EXIT_PARTIAL


def video_rows(recognizer: Recognizer, videos: Sequence[Path], top_k: int) -> Iterable[VideoRow]:
    """Gives the answer for each video as a whole; reading begins with the call."""
    return answer_rows(recognizer, videos, recognizer.score_videos(videos), top_k)


def answer_rows(
    recognizer: Recognizer, videos: Iterable[str | Path], scores: Iterable[Any], top_k: int
) -> Iterator[VideoRow]:
    """Yields the answer for each video from its scores, or from the UserError in their place."""
    for video, found in zip(videos, scores, strict=True):
        if isinstance(found, UserError):
            yield VideoRow(video=str(video), error=str(found))
        else:
            best = recognizer.top_k(found, top_k)
            predictions = [Prediction(label=label, score=score) for label, score in best]
            yield VideoRow(video=str(video), predictions=predictions)


def video_lines(row: Row) -> list[str]:
    """Returns what is printed of the answer for a video."""
    best = row["predictions"]
    scores = [f"{printable(each['label'])}: {each['score']}" for each in best]
    if not best:
        return ["No label reaches its threshold."]
    return [f"The top-{len(best)} labels with corresponding scores are:", *scores]


def _table(row: Row) -> Iterator[dict[str, Any]]:
    for rank, best in enumerate(row.get("predictions", []), start=1):
        yield dict(video=row["video"], rank=rank, **best)
    if not row.get("predictions"):
        yield dict(video=row["video"], error=row.get("error", ""))


write_rows = partial(write_answers, columns=COLUMNS, table=_table)


def open_recognizer(
    top_k: int | None = None, default: int = DEFAULT_TOP_K, **settings: Any
) -> tuple[Recognizer, int]:
    """Returns a recognizer, and how many labels of each video to tell; see `infer`."""
    recognizer = Recognizer(**{"precision": "auto", **settings})
    num_classes = len(recognizer.labels)
    if top_k is not None and not 1 <= top_k <= num_classes:
        raise UserError(f"--top-k {top_k}: the checkpoint has {num_classes} classes")
    most = default if recognizer.thresholds is None else num_classes
    return recognizer, top_k or min(most, num_classes)


def infer(
    paths: Sequence[str | Path],
    *,
    top_k: int | None = None,
    time_limit: float | None = None,
    out: str | Path | None = None,
    rows_of: Callable[[Recognizer, Sequence[Path], int], Iterable[Row]] = video_rows,
    lines_of: Callable[[Row], list[str]] = video_lines,
    write: Callable[[Path, Iterable[Row]], str | None] = write_rows,
    suffixes: Sequence[str] = OUT_SUFFIXES,
    default_top_k: int = DEFAULT_TOP_K,
    **settings: Any,
) -> Inference:
    """Prints the best labels of each video, and writes them to `out`.

    Args:
        paths: Videos, and folders of videos.
        top_k: Labels of each, by default `default_top_k` or all.
        time_limit: Seconds that reading one video may take, by default `VIDEO_SECONDS`.
        out: A JSON, JSON Lines or CSV file.
        rows_of: Gives the rows, one for each video, in the place of the answer for it as a whole.
        lines_of: Returns what is printed of a row that has no error.
        write: Writes the rows to `out`; returns what it wrote, in words, where that is not `out`.
        suffixes: What the name of `out` may end in.
        **settings: The other arguments of `Recognizer`; the precision is `auto` by default.

    Raises:
        UserError: a path, checkpoint, label map, `top_k` or `out` that cannot be used.
    """
    videos = find_videos(paths)
    if out is not None:
        check_out(out, suffixes)
    settings["video_seconds"] = time_limit or VIDEO_SECONDS
    recognizer, top_k = open_recognizer(top_k, default_top_k, **settings)
    answers = rows_of(recognizer, videos, top_k)
    for name in ("checkpoint", "protocol", "engine"):
        logger.info("%s: %s", name, getattr(recognizer, name))
    rows = []
    for row in progress.track(answers, "inference", len(videos)):
        lines = [f"\n{printable(row['video'])}"] if len(videos) > 1 else []
        lines += [f"error: {printable(row['error'])}"] if "error" in row else lines_of(row)
        progress.say("\n".join(lines))
        rows.append(row)
    if out is not None:
        logger.info("written: %s", write(Path(out), rows) or out)
    if failed := sum("error" in row for row in rows):
        logger.error("no answer for %d of %d videos", failed, len(rows))
    return Inference(recognizer, rows)
