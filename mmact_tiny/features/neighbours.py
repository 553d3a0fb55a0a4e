"""Says which videos look alike: across splits, against their labels, and what to label next.

Features are of one look at each video, shape (videos, parts, channels), see `probe.parts_of`.
"""

from collections.abc import Iterator, Sequence

import numpy as np

NEIGHBOURS = 7  # of the numbers tried, 3 to 9, one of those that found planted labels best
MAX_PAIRS = 20
# Where videos have no thirds: what the first and the last third of 3 in 4 filmed videos have.
ALIKE = 0.62
CHUNK = 1000  # videos whose similarities to all are held at once


def find_alike(
    features: np.ndarray, splits: Sequence[int] | np.ndarray
) -> list[tuple[int, int, float]]:
    """Returns pairs of videos of different splits that look like one scene, the most alike first.

    Such a pair is as alike as the first and the last third of a video are, in 3 of 4 videos.
    Returns at most `MAX_PAIRS`, as two indices and the cosine similarity.

    Args:
        features: Of all splits.
        splits: Of each video.
    """
    units, pairs, splits = _directions(features), [], np.asarray(splits)
    for start, similar in _similarities(units):
        rows = splits[start : start + len(similar), None]
        similar[(rows >= splits) | (similar < _least(units))] = -2  # and each pair once
        for place in np.argsort(-similar, axis=None, kind="stable")[:MAX_PAIRS]:
            row, column = np.unravel_index(place, similar.shape)
            if similar[row, column] > -2:
                pairs.append((int(row) + start, int(column), float(similar[row, column])))
    return sorted(pairs, key=lambda pair: -pair[2])[:MAX_PAIRS]


def nearest_labels(features: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Returns the labels of the videos most like each, (videos, at most `NEIGHBOURS`).

    Most of them contradict a label that is wrong (Bahri, Jiang and Gupta 2020, "Deep k-NN for
    Noisy Labels").
    """
    nearest = []
    for start, similar in _similarities(_directions(features)):
        similar[np.arange(len(similar)), np.arange(len(similar)) + start] = -2
        count = min(NEIGHBOURS, len(labels) - 1)
        nearest.append(labels[np.argsort(-similar, axis=1, kind="stable")[:, :count]])
    return np.concatenate(nearest)


def label_next(features: np.ndarray, scores: np.ndarray) -> list[int]:
    """Returns unlabelled videos, those first whose labels would tell a probe most.

    The smaller the margin between its first two scores, the more a label tells (Scheffer, Decomain
    and Wrobel 2001, "Active Hidden Markov Models for Information Extraction"). A video that is as
    like an earlier one as `find_alike` has it comes after all others.

    Args:
        features: Of the videos.
        scores: The probe's, shape (videos, classes).
    """
    top = np.sort(scores, axis=1)
    order = np.argsort(top[:, -1] - top[:, -2], kind="stable")
    units, later = _directions(features)[order], []
    for start, similar in _similarities(units):
        earlier = np.tri(len(similar), len(units), start - 1, dtype=bool)
        later.append((earlier & (similar >= _least(units))).any(axis=1))
    return order[np.argsort(np.concatenate(later), kind="stable")].tolist()


def _directions(features: np.ndarray) -> np.ndarray:
    """Returns features of length 1, as from their mean: after a ReLU all of them are alike."""
    centred = features - features[:, :1].mean(axis=0)
    return centred / np.linalg.norm(centred, axis=-1, keepdims=True).clip(1e-9)


def _similarities(units: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Yields the cosine similarities of some videos to all, and the index of the first of them."""
    for start in range(0, len(units), CHUNK):
        yield start, units[start : start + CHUNK, 0] @ units[:, 0].T


def _least(units: np.ndarray) -> float:
    """Returns the similarity from which two videos look like one scene."""
    if units.shape[1] == 1:
        return ALIKE
    return float(np.quantile((units[:, 1] * units[:, -1]).sum(axis=-1), 0.25))
