"""Says what the scores of a test mean: by class, which classes are mixed up, how far to trust."""

from collections.abc import Sequence
from typing import Any, cast

import numpy as np

from ..metrics import VideoResult, wilson_interval
from .labels import hard_pairs, suspects
from .types import Test

NUM_BINS = 10
NUM_DRAWS = 400  # of what a calibrated recognizer would show by chance
MAX_CLASSES = 15  # of the confusion matrix that is shown; a row and column more for the rest
MAX_VIDEOS = 6  # of each list of hard videos
MAX_PAIRS = 10
TOP_K = 5
FEW = 100  # videos, below which a reliability diagram shows mostly chance


def analyze(results: dict[str, Any]) -> Test:
    """Returns what a report says of a test: what the test noted, and what its scores say."""
    rows, unreadable = split_rows(results["videos"])
    num_classes = len(rows[0]["scores"]) if rows else 0
    names = [str(name) for name in results.get("classes") or []]
    if len(names) != num_classes and rows:
        names = [f"class {index}" for index in range(num_classes)]
    counted = {"num_videos": len(rows), "classes": names, "unreadable": unreadable}
    kept = {key: results[key] for key in results if key not in ("videos", "nearest")}
    found = cast(Test, kept | counted)
    if not rows or isinstance(rows[0]["label"], list):  # several: see the accuracies of each
        return found
    scores = np.array([row["scores"] for row in rows], dtype=float)
    labels = np.array([row["label"] for row in rows])
    order = np.argsort(scores, axis=1)[:, ::-1]  # ties as metrics.summarize has them
    matrix = np.zeros((num_classes, num_classes), dtype=int)
    np.add.at(matrix, (labels, order[:, 0]), 1)
    top = scores.max(axis=1)
    right = order[:, 0] == labels
    true = scores[np.arange(len(rows)), labels]
    second = np.partition(scores, -2, axis=1)[:, -2] if num_classes > 1 else np.zeros_like(top)
    wrong = [i for i in np.argsort(true - top, kind="stable") if not right[i]][:MAX_VIDEOS]
    unsure = [i for i in np.argsort(top - second, kind="stable") if i not in wrong][:MAX_VIDEOS]
    probabilities = (scores >= -1e-6).all() and np.allclose(scores.sum(axis=1), 1, atol=1e-3)
    found |= {
        "by_class": accuracy_by_class(matrix, names),
        "confusion": confusion_shown(matrix, names),
        "reliability": reliability(top, right) if probabilities else None,
        "num_wrong": int((~right).sum()),
        "hard_pairs": hard_pairs(scores, labels, names),
        "suspects": suspects(rows, scores, names, results.get("nearest") or {})
        if probabilities
        else [],
        "wrong": [_video(rows[i], order[i], names) for i in wrong],
        "unsure": [_video(rows[i], order[i], names) for i in unsure],
    }
    return found


def split_rows(videos: Sequence[VideoResult]) -> tuple[list[VideoResult], list[VideoResult]]:
    """Returns the rows whose scores can be used, and the others with the reason."""
    rows: list[VideoResult] = []
    unreadable: list[VideoResult] = []
    for row in videos:
        scores, label = row.get("scores"), row.get("label")
        if not isinstance(scores, list) or not isinstance(label, int | list):
            reason = str(row.get("error") or "no scores were written")
        elif not all(isinstance(score, int | float) for score in scores):
            reason = "its scores are not finite numbers"
        elif not all(0 <= one < len(scores) for one in np.atleast_1d(label).tolist()) or (
            rows and len(scores) != len(rows[0]["scores"])
        ):
            reason = f"label {label} and {len(scores)} scores do not fit the other videos"
        else:
            rows.append(row)
            continue
        unreadable.append({"video": str(row["video"]), "error": reason})
    return rows, unreadable


def _video(row: VideoResult, ranked: np.ndarray, names: Sequence[str]) -> dict[str, Any]:
    label, scores = cast(int, row["label"]), row["scores"]
    best = ranked[:TOP_K].tolist()
    return {
        "video": row["video"],
        "label": names[label],
        "label_score": scores[label],
        "top": [{"name": names[i], "score": scores[i], "right": i == label} for i in best],
    }


def accuracy_by_class(matrix: np.ndarray, names: Sequence[str]) -> list[dict[str, Any]]:
    """Returns each class's counts and its accuracy with the Wilson interval.

    Args:
        matrix: Videos by true class (rows) and first label (columns).
        names: The classes.
    """
    rows = []
    for index, name in enumerate(names):
        videos, right = int(matrix[index].sum()), int(matrix[index, index])
        taken = int(matrix[:, index].sum()) - right
        row = {"name": name, "videos": videos, "right": right, "taken_for_it": taken}
        value = right / videos if videos else None
        low, high = (None, None) if value is None else wilson_interval(value, videos)
        rows.append({**row, "value": value, "low": low, "high": high})
    return rows


def confusion_shown(matrix: np.ndarray, names: Sequence[str]) -> dict[str, Any]:
    """Returns the confusion matrix; of many classes those most mixed up, the rest as one.

    Returns:
        `classes`: names and indices (None for the rest); `counts`: videos by true class and first
        label; `num_rest`: classes that the last row and column sum up; `pairs`: the largest
        confusions of all classes, as true class, first label, videos.
    """
    wrong = matrix - np.diag(np.diag(matrix))
    pairs = sorted(np.argwhere(wrong).tolist(), key=lambda pair: -wrong[*pair])[:MAX_PAIRS]
    shown = list(range(len(names)))
    if len(names) > MAX_CLASSES + 1:
        share = wrong.sum(axis=0) + wrong.sum(axis=1)
        shown = sorted(np.argsort(-share, kind="stable")[:MAX_CLASSES].tolist())
    rest = sorted(set(range(len(names))) - set(shown))
    groups = [[index] for index in shown] + ([rest] if rest else [])
    classes: list[dict[str, Any]] = [{"index": index, "name": names[index]} for index in shown]
    if rest:
        classes.append({"index": None, "name": f"the other {len(rest)} classes"})
    counts = [[int(matrix[np.ix_(true, answer)].sum()) for answer in groups] for true in groups]
    listed = [{"true": names[i], "answer": names[j], "videos": int(wrong[i, j])} for i, j in pairs]
    return {"classes": classes, "counts": counts, "num_rest": len(rest), "pairs": listed}


def reliability(top: np.ndarray, right: np.ndarray) -> dict[str, Any]:
    """Returns how far the score of the first label is the chance that it is right.

    The expected calibration error is the mean distance between accuracy and score over bins of
    equal width, weighted with their videos (Guo et al. 2017, "On Calibration of Modern Neural
    Networks", equation 3; bins are open below, as there). A few videos give an error also where
    the scores are perfect, so `by_chance` has what perfect ones would show: mean and 95% quantile
    over draws of right and wrong with the scores as their chances (consistency resampling,
    Broecker and Smith 2007, "Increasing the Reliability of Reliability Diagrams").

    Args:
        top: Score of each video's first label.
        right: Whether it is the true one.

    Returns:
        `bins`: those with videos, as `from`, `to`, `videos`, `score`, `accuracy`, `low`, `high`;
        `ece`; `mean_score`; `accuracy`; `by_chance`; `few`: whether there are too few to tell.
    """
    bins = np.ceil(np.round(top * NUM_BINS, 6)).astype(int).clip(1, NUM_BINS) - 1
    rows = []
    for index in np.unique(bins).tolist():
        inside = bins == index
        videos, accuracy = int(inside.sum()), float(right[inside].mean())
        low, high = wilson_interval(accuracy, videos)
        edges = {"from": index / NUM_BINS, "to": (index + 1) / NUM_BINS, "videos": videos}
        score = float(top[inside].mean())
        rows.append({**edges, "score": score, "accuracy": accuracy, "low": low, "high": high})
    draw = np.random.default_rng(0).random
    errors = [_calibration_error(top, draw(len(top)) < top, bins) for _ in range(NUM_DRAWS)]
    return {
        "bins": rows,
        "ece": _calibration_error(top, right, bins),
        "mean_score": float(top.mean()),
        "accuracy": float(right.mean()),
        "by_chance": {"mean": float(np.mean(errors)), "high": float(np.quantile(errors, 0.95))},
        "few": len(top) < FEW,
    }


def _calibration_error(top: np.ndarray, right: np.ndarray, bins: np.ndarray) -> float:
    """Returns the sum over bins of |right answers - scores|, by video."""
    gaps = np.bincount(bins, weights=right.astype(float) - top, minlength=NUM_BINS)
    return float(np.abs(gaps).sum() / len(top))
