"""Average precisions are stock's; thresholds and intervals are literal on small cases."""

import numpy as np
import pytest
from mmaction.evaluation import mean_average_precision

from mmact_tiny.multi_label import average_precisions, choose_thresholds

# Videos by their scores for one class, best first, and whether they have it; precision is 1 at the
# first hit and 2/3 at the second, so the average precision is (1 + 2/3) / 2.
SCORES = np.array([[0.9, 0.2], [0.8, 0.7], [0.6, 0.6], [0.1, 0.1]])
LABELS = np.array([[1, 0], [0, 1], [1, 0], [0, 0]])


def test_literal_values_and_intervals_around_them():
    mean, run, sit = average_precisions(SCORES, LABELS, ["run", "sit"])
    assert [one.name for one in (mean, run, sit)] == ["mAP", "AP of run", "AP of sit"]
    assert run.value == pytest.approx(5 / 6) and sit.value == 1.0
    assert mean.value == pytest.approx(11 / 12) and mean.counts == "3 of 4 videos with a label"
    assert run.low < run.value <= run.high == 1.0 and (sit.low, sit.high) == (1.0, 1.0)


def test_the_values_are_stocks():
    generator = np.random.default_rng(0)
    scores = generator.random((60, 7)).round(1)  # with ties
    labels = (generator.random((60, 7)) < 0.2).astype(int)
    labels[:, 3] = 0  # a class that no video has
    found = average_precisions(scores, labels, [f"c{index}" for index in range(7)])
    assert found[0].value == pytest.approx(mean_average_precision([*scores], [*labels]), abs=1e-6)
    assert "AP of c3" not in [one.name for one in found] and len(found) == 7


@pytest.mark.parametrize(
    ("scores", "labels", "threshold"),
    [
        ([0.9, 0.8, 0.6, 0.1], [1, 1, 0, 0], 0.7),  # F1 is 1 from 0.8 on
        ([0.9, 0.8, 0.6, 0.1], [1, 0, 1, 0], 0.35),  # 0.8 at three, 0.67 at one
        ([0.5, 0.5, 0.2, 0.2], [1, 0, 0, 0], 0.35),  # equal scores cannot be told apart
        ([0.9, 0.8, 0.6, 0.1], [1, 1, 1, 1], 0.05),
        ([0.9, 0.8, 0.6, 0.1], [0, 0, 0, 0], 0.5),
    ],
)
def test_thresholds(scores, labels, threshold):
    column = np.array(scores)[:, None], np.array(labels)[:, None]
    assert choose_thresholds(*column) == [pytest.approx(threshold)]
