"""Average precision with bootstrap intervals, and the thresholds that a label has to pass."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..compat import METRICS, BaseMetric, MessageHub
from ..metrics import Accuracy, VideoResult

NUM_DRAWS = 300  # of the videos, with replacement
DEFAULT_THRESHOLD = 0.5  # of a class that no video has
NAMES = "mAP"  # of the mean over classes; of a class it is `AP of <name>`


def sigmoid(logits: np.ndarray) -> np.ndarray:
    """Returns scores from 0 to 1, each label's by itself, of what a head gives."""
    return np.asarray(0.5 * (1 + np.tanh(0.5 * logits)))


def average_precisions(
    scores: np.ndarray, labels: np.ndarray, names: Sequence[str]
) -> list[Accuracy]:
    """Returns the mean average precision, then that of each class that a video has.

    The values are stock's, of `mmaction.evaluation`. The intervals are the 2.5% and 97.5%
    quantiles over draws of as many videos with replacement (Efron and Tibshirani 1993, "An
    Introduction to the Bootstrap", chapter 13).

    Args:
        scores: Of the classes, shape (videos, classes).
        labels: 1 where a video has the class, else 0, of the same shape.
        names: The classes.
    """
    generator = np.random.default_rng(0)
    draws = generator.integers(len(scores), size=(NUM_DRAWS, len(scores)))
    draws = np.vstack([np.arange(len(scores)), draws])
    with np.errstate(invalid="ignore"):  # a draw without the class has no value
        values = np.array([_by_class(scores[draw], labels[draw]) for draw in draws])
    found = []
    present = [index for index in range(len(names)) if labels[:, index].any()]
    for name, columns in [(NAMES, present), *((f"AP of {names[i]}", [i]) for i in present)]:
        means = np.array([_mean(row[columns]) for row in values])
        low, high = np.nanquantile(means[1:], (0.025, 0.975))
        count = int(labels[:, columns].any(axis=1).sum())
        counts = f"{count} of {len(scores)} videos" + (" with a label" if name == NAMES else "")
        found.append(Accuracy(name, float(means[0]), float(low), float(high), counts))
    return found


def summarize_labels(rows: Sequence[VideoResult], names: Sequence[str]) -> list[Accuracy]:
    """Returns the average precisions of a test's rows, whose labels are lists."""
    truth = np.zeros((len(rows), len(names)), dtype=int)
    for row, video in zip(truth, rows, strict=True):
        row[video["label"]] = 1
    return average_precisions(np.array([row["scores"] for row in rows]), truth, names)


def _by_class(scores: np.ndarray, labels: np.ndarray) -> list[float]:
    from mmaction.evaluation import mean_average_precision  # late: it takes a second

    columns = zip(scores.T, labels.T, strict=True)
    return [float(mean_average_precision([*s[:, None]], [*y[:, None]])) for s, y in columns]


def _mean(values: np.ndarray) -> float:
    return float(values[~np.isnan(values)].mean()) if (~np.isnan(values)).any() else np.nan


def choose_thresholds(scores: np.ndarray, labels: np.ndarray) -> list[float]:
    """Returns for each class the score from which on its F1 on these videos is best.

    It lies half-way to the next lower score; of several as good the highest counts (Lipton, Elkan
    and Naryanaswamy 2014, "Optimal Thresholding of Classifiers to Maximize F1 Measure").

    Args:
        scores, labels: As `average_precisions` has them.
    """
    thresholds = []
    for column, truth in zip(scores.T, labels.T, strict=True):
        order = np.argsort(-column, kind="stable")
        hits = np.cumsum(truth[order])
        f1 = 2 * hits / (np.arange(1, len(column) + 1) + truth.sum())
        ends = np.append(np.diff(column[order]) < 0, True)  # equal scores are taken together
        best = int(np.argmax(np.where(ends, f1, -1)))
        below = column[order[best + 1]] if best + 1 < len(column) else 0.0
        threshold = (column[order[best]] + below) / 2 if truth.any() else DEFAULT_THRESHOLD
        thresholds.append(round(float(threshold), 6))
    return thresholds


@METRICS.register_module()
class LabelThresholds(BaseMetric):
    """Chooses the thresholds by the validation videos, and has each checkpoint carry them."""

    default_prefix = "thresholds"

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        self.results += [
            (sample["pred_score"].float().cpu().numpy(), sample["gt_label"].cpu().numpy())
            for sample in data_samples
        ]

    def compute_metrics(self, results: list) -> dict:
        scores, labels = (np.stack(part) for part in zip(*results, strict=True))
        found = choose_thresholds(sigmoid(scores), labels)
        MessageHub.get_current_instance().update_info("thresholds", found)
        return {}
