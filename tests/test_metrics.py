import numpy as np
import pytest
import torch
from mmaction.evaluation import mean_class_accuracy, top_k_accuracy

from mmact_tiny.metrics import VideoScores, summarize, wilson_interval


@pytest.mark.parametrize(
    ("value", "n", "low", "high"),
    [
        # Published examples: Newcombe 1998, table I (method 3), and the closed form at 0 and 1.
        (81 / 263, 263, 0.2553, 0.3662),
        (15 / 148, 148, 0.0624, 0.1605),
        (0 / 20, 20, 0.0, 0.1611),
        (1 / 29, 29, 0.0061, 0.1718),
        (1.0, 10, 0.7225, 1.0),
        (0.9, 10, 0.5958, 0.9821),
        (0.5, 0.5, 0.0297, 0.9703),  # trials need not be whole
        (0.0, 0, 0.0, 1.0),
    ],
)
def test_wilson_interval(value, n, low, high):
    assert wilson_interval(value, n) == pytest.approx((low, high), abs=5e-5)


def test_an_interval_stays_within_0_and_1():
    assert all(wilson_interval(0, n)[0] >= 0 for n in range(1, 100))
    assert all(wilson_interval(1, n)[1] <= 1 for n in range(1, 100))


def test_summary_of_four_videos_of_three_classes():
    scores = np.array([[0.7, 0.2, 0.1], [0.6, 0.3, 0.1], [0.1, 0.8, 0.1], [0.5, 0.3, 0.2]])
    top1, top3, mean = summarize(scores, np.array([0, 0, 1, 1]))
    assert (top1.name, top1.value, top1.counts) == ("top-1", 0.75, "3 of 4 videos")
    assert (top3.name, top3.value, top3.counts) == ("top-3", 1.0, "4 of 4 videos")
    assert (top3.low, top3.high) == pytest.approx((0.5101, 1.0), abs=5e-5)
    assert (mean.name, mean.value) == ("mean class accuracy", 0.75)
    assert mean.counts == "2/2, 1/2 by class"
    # Two classes of two videos have the variance of one proportion of four.
    assert (mean.low, mean.high) == (top1.low, top1.high)
    assert str(top1) == "top-1: 75.00%  (95% interval 30.1% to 95.4%; 3 of 4 videos)"


@pytest.mark.parametrize(
    ("labels", "hits", "value", "low"),
    [
        ([0, 0, 0, 1], [1, 1, 1, 1], 1.0, 0.4385),  # 2^2 / (1/3 + 1/1) = 3 trials
        ([0, 0, 0, 2], [1, 1, 1, 1], 1.0, 0.4385),  # class 1 has no video
        ([0, 0, 0, 1], [1, 1, 1, 0], 0.5, 0.1253),
        ([0, 0, 0, 1], [0, 0, 0, 1], 0.5, 0.1253),
        ([2, 2, 2, 2], [1, 0, 0, 1], 0.5, 0.1500),
    ],
)
def test_each_class_counts_the_same(labels, hits, value, low):
    named = [label if hit else (label + 1) % 3 for label, hit in zip(labels, hits, strict=True)]
    *_, mean = summarize(np.eye(3)[named], np.array(labels))
    assert (mean.value, mean.low) == (value, pytest.approx(low, abs=5e-5))


@pytest.mark.parametrize(
    ("num_classes", "listed"),
    [(10, "1/1, " * 9 + "1/1 by class"), (11, "1/1, " * 10 + "... by class")],
)
def test_ten_classes_are_listed(num_classes, listed):
    *_, mean = summarize(np.eye(num_classes), np.arange(num_classes))
    assert mean.counts == listed


def test_top5_of_ten_classes_agrees_with_stock():
    rng = np.random.default_rng(0)
    scores, labels = rng.random((50, 10)), rng.integers(0, 10, 50)
    top1, top5, mean = summarize(scores, labels)
    assert top5.name == "top-5"
    assert [top1.value, top5.value] == top_k_accuracy(list(scores), list(labels), (1, 5))
    assert mean.value == pytest.approx(mean_class_accuracy(list(scores), list(labels)))


def test_one_class_has_one_accuracy_beside_the_mean():
    assert [each.name for each in summarize(np.ones((2, 1)), np.zeros(2, dtype=int))] == [
        *("top-1", "mean class accuracy")
    ]


def test_ties_count_as_stock_counts_them():
    scores, labels = np.full((6, 3), 1 / 3), np.array([0, 1, 2, 0, 1, 2])
    assert summarize(scores, labels)[0].value == top_k_accuracy(list(scores), list(labels))[0]


def test_video_scores_keeps_a_row_for_each_video():
    metric = VideoScores()
    samples = [
        dict(filename="a.mp4", gt_label=torch.tensor([1]), pred_score=torch.tensor([0.25, 0.75])),
        dict(gt_label=torch.tensor([0]), pred_score=torch.tensor([1, 0], dtype=torch.bfloat16)),
    ]
    metric.process(None, samples[:1])
    metric.process(None, samples[1:])
    assert metric.evaluate(size=2) == {}
    assert metric.rows == [
        dict(video="a.mp4", label=1, scores=[0.25, 0.75]),
        dict(video="", label=0, scores=[1.0, 0.0]),
    ]
