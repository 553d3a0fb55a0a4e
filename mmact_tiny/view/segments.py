"""The answer for a long video: scores for each window, and the stretches of equal label.

At any moment the window counts whose middle is nearest, so the border between two windows is
half-way between their middles. Neighbours with the same best label make one segment, with the
mean of their scores for it.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby, pairwise
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import UserError
from ..files import write_answers
from ..recognizer import Recognizer
from .windows import score_windows


class Cell(NamedTuple):
    """The stretch of seconds where one answer counts; no predictions where it has an error."""

    start: float
    end: float
    predictions: list[tuple[str, float]]


def window_rows(
    recognizer: Recognizer,
    videos: Sequence[Path],
    top_k: int,
    *,
    window: float,
    stride: float,
) -> Iterator[dict[str, Any]]:
    """Yields for each video its answer, or `dict(video, error)`.

    An answer has `video`, `duration`, `window`, `stride` (seconds), `windows`, each with `start`,
    `end` and `predictions` or `error`, and `segments`, each with `start`, `end`, `label`, `score`.
    """
    for video in videos:
        try:
            scored = score_windows(recognizer, video, window=window, stride=stride)
        except UserError as error:
            yield dict(video=str(video), error=str(error))
            continue
        answers = [_answer(recognizer, scores, top_k) for scores in scored.scores]
        if all("error" in answer for answer in answers):
            reason = answers[0]["error"]
            yield dict(video=str(video), error=f"cannot read video {video}: {reason}")
            continue
        rows = [
            dict(start=round(part.start, 3), end=round(part.end, 3), **answer)
            for part, answer in zip(scored.windows, answers, strict=True)
        ]
        row = dict(
            video=str(video),
            duration=round(scored.duration, 3),
            window=window,
            stride=stride,
            windows=rows,
        )
        yield dict(row, segments=merge(cells_of(row)))


def _answer(recognizer: Recognizer, scores: Any, top_k: int) -> dict[str, Any]:
    if isinstance(scores, UserError):
        return dict(error=str(scores))
    best = recognizer.top_k(scores, top_k)
    return dict(predictions=[dict(label=label, score=score) for label, score in best])


def cells_of(row: Mapping[str, Any]) -> list[Cell]:
    """Returns which answer counts when, without a gap from 0 to the end.

    Args:
        row: From `window_rows`; or an answer for the whole video, with `predictions` alone.
    """
    windows = row.get("windows") or [dict(row, start=0.0, end=float("inf"))]
    middles = [(one["start"] + one["end"]) / 2 for one in windows]
    borders = [0.0, *((a + b) / 2 for a, b in pairwise(middles))]
    ends = [*borders[1:], windows[-1]["end"]]
    return [
        Cell(start, end, [(best["label"], best["score"]) for best in one.get("predictions", [])])
        for start, end, one in zip(borders, ends, windows, strict=True)
    ]


def merge(cells: Sequence[Cell]) -> list[dict[str, Any]]:
    """Returns `dict(start, end, label, score)` of neighbours with the same best label.

    The stretch of windows that have no answer is left out.
    """
    segments = []
    for label, group in groupby(
        cells, key=lambda c: c.predictions[0][0] if c.predictions else None
    ):
        same = list(group)
        if label is not None:
            score = sum(cell.predictions[0][1] for cell in same) / len(same)
            start, end = round(same[0].start, 3), round(same[-1].end, 3)
            segments.append(dict(start=start, end=end, label=label, score=score))
    return segments


def say_segments(row: dict[str, Any]) -> list[str]:
    """Returns a line for each segment: `   0.0 -   5.0 s  typing: 0.93`."""
    return [
        f"{s['start']:7.1f} - {s['end']:7.1f} s  {s['label']}: {s['score']:.4f}"
        for s in row["segments"]
    ]


COLUMNS = ("video", "kind", "start", "end", "label", "score", "error")


def write_segments(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Writes answers as a JSON list, JSON Lines, or CSV.

    The CSV has the best label of each window (kind `window`), then the merged stretches (kind
    `segment`); a video that cannot be read is a row of kind `video`.

    Raises:
        UserError: the file cannot be written; what was there is as before.
    """
    write_answers(path, rows, COLUMNS, _table)


def _table(row: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    video = row["video"]
    if "error" in row:
        yield dict(video=video, kind="video", error=row["error"])
        return
    for one in row["windows"]:
        best = one["predictions"][0] if "predictions" in one else dict(error=one["error"])
        yield dict(video=video, kind="window", start=one["start"], end=one["end"], **best)
    for one in row["segments"]:
        yield dict(video=video, kind="segment", **one)
