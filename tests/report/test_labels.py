"""Labels that are probably wrong, and classes that are not told apart."""

import numpy as np
from run_folders import scored

from mmact_tiny.report.labels import hard_pairs, suspects

NAMES = ["walk", "run", "jump"]


def test_suspects_are_those_nearer_to_another_class() -> None:
    rows = [
        scored("right.mp4", 0, 0.8, 0.1, 0.1),
        scored("unsure.mp4", 0, 0.4, 0.5, 0.1),
        scored("wrong.mp4", 2, 0.1, 0.9, 0.0),
    ]
    scores = np.array([row["scores"] for row in rows])
    found = suspects(rows, scores, NAMES, {})
    assert [(one["video"], one["label"], one["other"]) for one in found] == [
        ("wrong.mp4", "jump", "run"),
        ("unsure.mp4", "walk", "run"),
    ]
    assert round(found[0]["margin"], 6) == -0.9 and "like_label" not in found[0]
    # What is most like the unsure one has its label; nothing is like the other.
    nearest = {"unsure.mp4": [0, 0, 0, 0], "wrong.mp4": [1, 1, 1, 9]}
    (one,) = suspects(rows, scores, NAMES, nearest)
    assert (one["video"], one["like_label"], one["like_other"]) == ("wrong.mp4", 0, 3)
    assert round(one["margin"], 6) == -0.95, "a label that cannot be is no vote"


def test_classes_that_are_not_told_apart() -> None:
    """Runs are told from walks; jumps are taken for walks half of the time."""
    labels = np.repeat([0, 1, 2], 10)
    scores = np.eye(3)[labels] * 0.8 + 0.1
    scores[20:26] = [0.6, 0.1, 0.3]
    (pair,) = hard_pairs(scores, labels, NAMES)
    assert (pair["classes"], pair["right"], pair["videos"]) == (["walk", "jump"], [10, 4], [10, 10])
    assert (round(pair["value"], 3), round(pair["low"], 3)) == (0.7, 0.481)
    assert hard_pairs(scores[:20], labels[:20], NAMES) == []
    assert hard_pairs(scores[[0, 10]], labels[[0, 10]], NAMES) == [], "all right, if but two"
