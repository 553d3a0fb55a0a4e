"""What is said of scores, on tables small enough to count by hand."""

import numpy as np
import pytest
from run_folders import scored

from mmact_tiny.report.scores import analyze, confusion_shown, reliability

NAMES = ("walk", "run", "jump")
ROWS = [
    scored("a.mp4", 0, 0.90, 0.06, 0.04),  # right
    scored("b.mp4", 0, 0.30, 0.60, 0.10),  # run for walk, by 0.30
    scored("c.mp4", 1, 0.10, 0.45, 0.45),  # a tie: jump, as argsort in stock's metric
    scored("d.mp4", 1, 0.05, 0.80, 0.15),  # right
    scored("e.mp4", 2, 0.95, 0.03, 0.02),  # walk for jump, by 0.93
    scored("f.mp4", 2, 0.10, 0.35, 0.55),  # right, by 0.20
]


def analyzed(rows: list[dict], classes: tuple[str, ...] = NAMES) -> dict:
    return dict(analyze(dict(videos=rows, classes=list(classes), accuracies=[])))


def test_confusion_and_classes_are_counted() -> None:
    found = analyzed(ROWS)
    assert found["confusion"]["counts"] == [[1, 1, 0], [0, 1, 1], [1, 0, 1]]
    assert found["confusion"]["num_rest"] == 0
    assert found["confusion"]["pairs"] == [
        dict(true="walk", answer="run", videos=1),
        dict(true="run", answer="jump", videos=1),
        dict(true="jump", answer="walk", videos=1),
    ]
    # With Wilson's interval of 1 in 2.
    ends = dict(low=pytest.approx(0.0945, abs=5e-5), high=pytest.approx(0.9055, abs=5e-5))
    walk = dict(name="walk", videos=2, right=1, taken_for_it=1, value=0.5, **ends)
    assert found["by_class"][0] == walk
    # A class without a video has no accuracy.
    nothing = dict(videos=0, right=0, value=None, low=None, high=None)
    assert analyzed(ROWS[:4])["by_class"][2] == dict(name="jump", taken_for_it=1, **nothing)


def test_the_hardest_videos_come_first() -> None:
    found = analyzed(ROWS)
    assert [row["video"] for row in found["wrong"]] == ["e.mp4", "b.mp4", "c.mp4"]
    assert [row["video"] for row in found["unsure"]] == ["f.mp4", "d.mp4", "a.mp4"]
    assert found["num_wrong"] == 3
    top = [("walk", 0.95, False), ("run", 0.03, False), ("jump", 0.02, True)]
    assert found["wrong"][0] == dict(
        video="e.mp4",
        label="jump",
        label_score=0.02,
        top=[dict(name=name, score=score, right=right) for name, score, right in top],
    )


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (dict(video="x.mp4", error="moov atom not found"), "moov atom not found"),
        (dict(video="x.mp4", label=0, scores=[None, 0.5, 0.5]), "not finite"),
        (dict(video="x.mp4", label=3, scores=[0.1, 0.2, 0.7]), "do not fit"),
        (dict(video="x.mp4", label=0, scores=[0.5, 0.5]), "do not fit"),
    ],
)
def test_what_has_no_scores_is_listed_with_its_reason(row: dict, reason: str) -> None:
    found = analyzed([*ROWS, row])
    assert found["num_videos"] == 6
    (left_out,) = found["unreadable"]
    assert left_out["video"] == "x.mp4" and reason in left_out["error"]


def test_what_a_test_may_lack() -> None:
    found = analyzed([dict(video="x.mp4", error="no such file")])
    assert found["num_videos"] == 0 and "confusion" not in found
    assert analyzed(ROWS, classes=())["classes"] == ["class 0", "class 1", "class 2"]
    no_probabilities = [scored("a.mp4", 0, 3.0, -1.0), scored("b.mp4", 1, 0.5, 2.5)]
    assert analyzed(no_probabilities, ("walk", "run"))["reliability"] is None


def test_calibration_error_of_a_table_done_by_hand() -> None:
    """Bins (0.5, 0.6]: 4 videos, mean 0.6, 2 right; (0.9, 1]: 6 videos, mean 0.95, 6 right.

    (4 * |2/4 - 0.6| + 6 * |6/6 - 0.95|) / 10 = (0.4 + 0.3) / 10 = 0.07.
    """
    top = np.array([0.6] * 4 + [0.95] * 6)
    right = np.array([True, True, False, False] + [True] * 6)
    found = reliability(top, right)
    assert found["ece"] == pytest.approx(0.07)
    low, high = found["bins"]
    assert (low["from"], low["to"], low["videos"], low["accuracy"]) == (0.5, 0.6, 4, 0.5)
    assert (high["from"], high["to"], high["videos"], high["accuracy"]) == (0.9, 1.0, 6, 1.0)
    assert (found["mean_score"], found["accuracy"]) == pytest.approx((0.81, 0.8))
    assert found["few"]
    # A score on the edge is in the bin below.
    edges = np.arange(1, 11) / 10  # 0.7 * 10 is 7.000000000000001
    found = reliability(edges, np.ones(10, dtype=bool))
    assert [row["to"] for row in found["bins"]] == pytest.approx(edges.tolist())


def test_chance_covers_calibrated_scores_and_not_others() -> None:
    """Of 2,000 videos, and the error of calibrated ones is small: 10 bins of 200 or so."""
    generator = np.random.default_rng(1)
    top = generator.uniform(0.2, 1, 2000)
    honest = reliability(top, generator.random(2000) < top)
    assert honest["ece"] <= honest["by_chance"]["high"] < 0.05
    boasting = reliability(top, generator.random(2000) < top - 0.2)
    assert boasting["ece"] > 4 * boasting["by_chance"]["high"]


def test_many_classes_collapse_to_those_mixed_up_most() -> None:
    """400 classes: 15 pairs are mixed up, class 100 with all of 101 to 115."""
    matrix = np.diag(np.full(400, 10))
    for other in range(101, 116):
        matrix[100, other] = 1
    matrix[7, 8] = 5
    found = confusion_shown(matrix, [f"c{i}" for i in range(400)])
    indices = [row["index"] for row in found["classes"]]
    assert indices == [7, 8, 100, *range(101, 113), None]
    assert found["num_rest"] == 385
    assert found["classes"][-1]["name"] == "the other 385 classes"
    assert found["counts"][0][:2] == [10, 5]
    assert found["counts"][2] == [0, 0, 10, *[1] * 12, 3]
    assert found["counts"][-1] == [0] * 15 + [3850]
    assert sum(map(sum, found["counts"])) == matrix.sum()
    assert found["pairs"][0] == dict(true="c7", answer="c8", videos=5)
