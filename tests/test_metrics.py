import numpy as np
import pytest

from mmact_tiny.metrics import VideoScores, summarize, wilson_interval


@pytest.mark.parametrize(
    ("value", "n", "low", "high"),
    [
        # Published examples: Newcombe 1998, table I (method 3), and the closed form at 0 and 1.
        (81 / 263, 263, 0.2553, 0.3662),
        (15 / 148, 148, 0.0624, 0.1605),
        (0 / 20, 20, 0.0, 0.1611),
        (1 / 29, 29, 0.0061, 0.1718),
        (1.0, 1, 0.2065, 1.0),
        (1.0, 10, 0.7225, 1.0),
        (0.9, 10, 0.5958, 0.9821),
    ],
)
def test_wilson_interval(value: float, n: float, low: float, high: float) -> None:
    assert wilson_interval(value, n) == pytest.approx((low, high), abs=5e-5)


def test_no_video_gives_no_knowledge() -> None:
    assert wilson_interval(0.0, 0) == (0.0, 1.0)


def test_rounding_does_not_lead_out_of_0_to_1() -> None:
    assert wilson_interval(0.0, 7)[0] == 0.0
    assert wilson_interval(1.0, 20)[1] == 1.0


def test_trials_of_classes_of_unequal_size() -> None:
    mean = summarize(np.eye(2)[[0, 0, 0, 1]], np.array([0, 0, 0, 1]))[-1]
    assert (mean.value, mean.counts) == (1.0, "3/3, 1/1 by class")
    assert mean.low == pytest.approx(0.4385, abs=5e-5)  # 3 trials: 2^2 / (1/3 + 1)


def test_counts_of_ten_classes_are_listed() -> None:
    for num_classes, end in ((10, "1/1 by class"), (11, "1/1, ... by class")):
        counts = summarize(np.eye(num_classes), np.arange(num_classes))[-1].counts
        assert counts.count("1/1") == 10 and counts.endswith(end)


def test_summary_of_four_videos_of_three_classes() -> None:
    scores = np.array([[0.7, 0.2, 0.1], [0.6, 0.3, 0.1], [0.1, 0.8, 0.1], [0.5, 0.3, 0.2]])
    top1, top3, mean = summarize(scores, np.array([0, 0, 1, 1]))
    assert (top1.name, top1.value, top1.counts) == ("top-1", 0.75, "3 of 4 videos")
    assert (top3.name, top3.value, top3.counts) == ("top-3", 1.0, "4 of 4 videos")
    assert (mean.name, mean.value) == ("mean class accuracy", 0.75)
    assert mean.counts == "2/2, 1/2 by class"
    # Two classes of two videos have the variance of one proportion of four.
    assert (mean.low, mean.high) == (top1.low, top1.high)
    assert str(top1).startswith("top-1: 75.00%  (95% interval 30.1% to 95.4%; 3 of 4")


def test_top5_of_ten_classes_agrees_with_stock() -> None:
    from mmaction.evaluation import mean_class_accuracy, top_k_accuracy

    rng = np.random.default_rng(0)
    scores, labels = rng.random((50, 10)), rng.integers(0, 10, 50)
    top1, top5, mean = summarize(scores, labels)
    assert top5.name == "top-5"
    assert [top1.value, top5.value] == top_k_accuracy(list(scores), list(labels), (1, 5))
    assert mean.value == pytest.approx(mean_class_accuracy(list(scores), list(labels)))


def test_ties_count_as_stock_counts_them() -> None:
    from mmaction.evaluation import top_k_accuracy

    scores, labels = np.full((6, 3), 1 / 3), np.array([0, 1, 2, 0, 1, 2])
    assert summarize(scores, labels)[0].value == top_k_accuracy(list(scores), list(labels))[0]


def test_video_scores_keeps_a_row_for_each_video() -> None:
    import torch

    metric = VideoScores()
    sample = dict(
        filename="a.mp4", gt_label=torch.tensor([1]), pred_score=torch.tensor([0.25, 0.75])
    )
    metric.process(None, [sample])
    assert metric.evaluate(size=1) == {}
    assert metric.rows == [dict(video="a.mp4", label=1, scores=[0.25, 0.75])]
