"""Says what to look at in a dataset: labels that are probably wrong, classes not told apart."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..metrics import VideoResult, wilson_interval

MAX_SUSPECTS = 20
# A margin below it is not clear. On 40 filmed videos with 3 labels swapped, 25 times, all 3 were
# below it and among the first 5, of 4.8 named; at 0 the third was not named in 4 of 25.
CLEAR = 0.25
MAX_PAIRS = 10


def suspects(
    rows: Sequence[VideoResult],
    scores: np.ndarray,
    names: Sequence[str],
    nearest: Mapping[str, Sequence[int]],
) -> list[dict[str, Any]]:
    """Returns the videos that look like another class as much as theirs, or more; these first.

    Ranked by the margin of a video's own class over the best other one (the normalized margin of
    Northcutt, Jiang and Chuang 2021, "Confident Learning: Estimating Uncertainty in Dataset
    Labels"), in the scores of a recognizer that was not trained on it; where they are known, in
    the mean of these and of the shares of the classes among the videos most like it.

    Args:
        rows: Of the videos; at most `MAX_SUSPECTS` are returned.
        scores: Theirs, which sum to 1, shape (videos, classes).
        names: Of the classes.
        nearest: Of each video, the labels of those most like it; of none where it is not known.
    """
    found: list[dict[str, Any]] = []
    for row, own in zip(rows, scores, strict=True):
        label = int(np.atleast_1d(row["label"])[0])  # one: several are not looked at
        labels = [one for one in nearest.get(row["video"], []) if one in range(len(own))]
        votes = np.bincount(np.array(labels, dtype=int), minlength=len(own))
        values = (own + votes / len(labels)) / 2 if labels else own
        other = int(np.argmax(np.where(np.arange(len(own)) == label, -np.inf, values)))
        margin = float(values[label] - values[other])
        if margin < CLEAR:
            alike = dict(like_label=int(votes[label]), like_other=int(votes[other]))
            seen = dict(video=row["video"], label=names[label], other=names[other], margin=margin)
            seen |= dict(label_score=float(own[label]), other_score=float(own[other]))
            found.append(seen | (alike if labels else {}))
    return sorted(found, key=lambda one: one["margin"])[:MAX_SUSPECTS]


def hard_pairs(
    scores: np.ndarray, labels: np.ndarray, names: Sequence[str]
) -> list[dict[str, Any]]:
    """Returns pairs of classes that the scores are not shown to tell apart, the hardest first.

    Of two classes alone, a video is told right if its own has the higher score. Where the 95%
    interval (Wilson's, as of the mean class accuracy) of the mean of both shares has one half in
    it, and not all are right, chance would do as well.

    Returns:
        At most `MAX_PAIRS`: `classes`, `right` and `videos` of each, `value`, `low` and `high`.
    """
    present = np.unique(labels).tolist()
    own = {label: scores[labels == label] for label in present}
    right = {label: (rows[:, [label]] > rows).sum(axis=0) for label, rows in own.items()}
    found: list[dict[str, Any]] = []
    for place, one in enumerate(present):
        for other in present[place + 1 :]:
            hits, counts = (right[one][other], right[other][one]), (len(own[one]), len(own[other]))
            value = float(hits[0] / counts[0] + hits[1] / counts[1]) / 2
            low, high = wilson_interval(value, 4 / (1 / counts[0] + 1 / counts[1]))
            if low <= 0.5 and value < 1:
                pair = dict(classes=[names[one], names[other]], right=[int(hit) for hit in hits])
                found.append(pair | dict(videos=[*counts], value=value, low=low, high=high))
    return sorted(found, key=lambda pair: pair["value"])[:MAX_PAIRS]
