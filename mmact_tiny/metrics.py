"""Accuracy with honest intervals, from each video's scores."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Required, TypedDict

import numpy as np

from .compat import METRICS, BaseMetric

Z_95 = 1.959964  # 97.5% quantile of the normal distribution: a two-sided 95% interval


@dataclass(frozen=True)
class Accuracy:
    """An accuracy in 0 .. 1, its 95% interval, and the counts behind it."""

    name: str
    value: float
    low: float
    high: float
    counts: str

    def __str__(self) -> str:
        interval = f"95% interval {self.low:.1%} to {self.high:.1%}"
        return f"{self.name}: {self.value:.2%}  ({interval}; {self.counts})"


def wilson_interval(value: float, n: float) -> tuple[float, float]:
    """Returns the 95% Wilson score interval of a proportion observed in `n` trials.

    Unlike the normal interval it stays inside 0 .. 1 and is right at 0 and 1 (Wilson 1927;
    Brown, Cai and DasGupta 2001, "Interval Estimation for a Binomial Proportion").
    """
    if n <= 0:
        return 0.0, 1.0
    z2 = Z_95**2
    center = (value + z2 / (2 * n)) / (1 + z2 / n)
    margin = Z_95 * math.sqrt(value * (1 - value) / n + z2 / (4 * n * n)) / (1 + z2 / n)
    return max(0.0, center - margin), min(1.0, center + margin)


def summarize(scores: np.ndarray, labels: np.ndarray) -> list[Accuracy]:
    """Returns top-1, top-5 and mean class accuracy.

    Top-5 is clamped to the number of classes. A class without a video is left out of the mean,
    whose interval is Wilson's at the number of trials that gives a proportion the variance of
    the mean: `C^2 / sum(1 / n_c)` for C classes of n_c videos.

    Args:
        scores: Class scores, shape (videos, classes).
        labels: Class indices, shape (videos,).
    """
    num_videos, num_classes = scores.shape
    # The rank of the true class; ties fall as in stock's metric, which reverses argsort too.
    order = np.argsort(scores, axis=1)[:, ::-1]
    ranks = np.argmax(order == labels[:, None], axis=1)
    accuracies = []
    for k in sorted({1, min(5, num_classes)}):
        hits = int((ranks < k).sum())
        value = hits / num_videos
        interval = wilson_interval(value, num_videos)
        accuracies.append(Accuracy(f"top-{k}", value, *interval, f"{hits} of {num_videos} videos"))
    counts = np.bincount(labels, minlength=num_classes)
    hits_by_class = np.bincount(labels[ranks == 0], minlength=num_classes)
    present = counts > 0
    value = float((hits_by_class[present] / counts[present]).mean())
    trials = present.sum() ** 2 / (1 / counts[present]).sum()
    fractions = zip(hits_by_class[present], counts[present], strict=True)
    listing = ", ".join(f"{hit}/{count}" for hit, count in list(fractions)[:10])
    more = ", ..." if present.sum() > 10 else ""
    accuracies.append(
        Accuracy(
            "mean class accuracy",
            value,
            *wilson_interval(value, float(trials)),
            f"{listing}{more} by class",
        )
    )
    return accuracies


class VideoResult(TypedDict, total=False):
    """What a test gave for one video: its label and scores, or why it could not be read."""

    video: Required[str]
    label: int | list[int]  # the class's index, of several labels all of them
    scores: list[float]  # of each class; of several labels each from 0 to 1 by itself
    error: str


@METRICS.register_module()
class VideoScores(BaseMetric):
    """Keeps each video's scores, collected from all processes, in `rows` on rank 0."""

    default_prefix = "scores"

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.rows: list[VideoResult] = []

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        for sample in data_samples:
            label, scores = sample["gt_label"], sample["pred_score"].float().cpu()
            several = label.numel() > 1
            self.results.append(
                dict(
                    video=sample.get("filename", ""),
                    label=label.nonzero().flatten().tolist() if several else int(label.item()),
                    scores=(scores.sigmoid() if several else scores).tolist(),
                )
            )

    def compute_metrics(self, results: list) -> dict:
        self.rows = list(results)
        return {}
