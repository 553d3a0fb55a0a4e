"""Chooses and fits a linear probe: scikit-learn's logistic regression on standardized features."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from operator import itemgetter
from typing import Any

import numpy as np

from ..folds.divide import divide
from ..metrics import Accuracy, wilson_interval

POOLINGS = ("mean", "thirds")
STRENGTHS = (0.01, 0.001, 0.1, 1.0)  # scikit-learn's C; the first where there is no choice
UNEVEN = 1.5  # times as many videos of one class as of another
FOLDS = 5
MAX_CHOSEN_BY = 500  # videos: the choice needs no more, the fit takes all
NEVER = -30.0  # bias of a class without a training video: a score of 1e-13


@dataclass(frozen=True)
class Choice:
    """The settings of a probe.

    Attributes:
        pooling: `mean` of a video's frames, or those of its `thirds` side by side.
        balanced: Whether the videos of rare classes count for more.
        strength: scikit-learn's C, at a weight of 1 for each video.
    """

    pooling: str = POOLINGS[0]
    balanced: bool = False
    strength: float = STRENGTHS[0]

    def __str__(self) -> str:
        balanced = ", balanced classes" if self.balanced else ""
        return f"{self.pooling} of the frames, C={self.strength:g}{balanced}"


@dataclass(frozen=True)
class Probe:
    """A linear classifier of pooled features: weights (classes, features) and biases (classes,)."""

    choice: Choice
    weight: np.ndarray
    bias: np.ndarray

    def scores(self, features: np.ndarray) -> np.ndarray:
        """Returns scores (videos, classes), which sum to 1, of features (videos, parts, ...)."""
        logits = pool(features, self.choice.pooling) @ self.weight.T + self.bias
        odds = np.exp(logits - logits.max(axis=-1, keepdims=True))
        return odds / odds.sum(axis=-1, keepdims=True)


def parts_of(units: np.ndarray) -> np.ndarray:
    """Returns the mean of all units and those of their thirds, (4, channels); of few (1, ...)."""
    thirds = np.array_split(units, 3) if len(units) >= 3 else []
    return np.stack([each.mean(axis=0) for each in (units, *thirds)])


def pool(features: np.ndarray, pooling: str) -> np.ndarray:
    """Returns (..., features) of parts (..., parts, channels)."""
    if pooling == "mean":
        return features[..., 0, :]
    return features[..., 1:, :].reshape(*features.shape[:-2], -1)


def choose(
    features: np.ndarray,
    labels: np.ndarray,
    groups: Sequence[Any],
) -> tuple[Choice, Accuracy | None]:
    """Returns the probe of the highest accuracy in cross-validation, and that accuracy.

    The folds are stratified by class, and a group is in one of them. Of equal accuracies the
    mean's counts, then that of equal weights, then that of the lower log loss. The accuracy is of
    the best of several probes, so a little high. Of too few videos, also where a fold holds out
    all but one class, the defaults and None.

    Args:
        features: Of training videos, shape (videos, looks, parts, channels).
        labels: Shape (videos,).
        groups: Hashable; videos of one group would tell of each other. There are as many folds as
            the rarest class has groups, at most `FOLDS`. Of a class with one group nothing can be
            learned where it is held out: it counts as wrong.
    """
    from sklearn.decomposition import PCA
    from sklearn.model_selection import PredefinedSplit, cross_val_predict

    some = _sample(labels)
    features, labels, groups = features[some], labels[some], [groups[index] for index in some]
    each_group = np.bincount([label for label, _ in {*zip(labels.tolist(), groups, strict=True)}])
    folds = min(FOLDS, int(min(each_group[each_group > 1], default=0)))
    if folds < 2:
        return Choice(), None
    counts = np.bincount(labels)[np.unique(labels)]
    balances = (False, True) if counts.max() > UNEVEN * counts.min() else (False,)
    num_looks, fold_of = features.shape[1], divide(labels, groups, folds)
    if any(len({*labels[fold_of != fold].tolist()}) < 2 for fold in fold_of):
        return Choice(), None
    options = dict(cv=PredefinedSplit(fold_of.repeat(num_looks)), method="predict_proba")
    own = np.arange(len(labels)), np.searchsorted(np.unique(labels), labels)
    results = []
    with _one_thread(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of rare classes that a fold lacks
        for settings in product(POOLINGS[: features.shape[2]], balances, STRENGTHS):
            choice = Choice(*settings)
            samples = _samples(features, labels, choice)
            # As many dimensions as samples: what is fitted is the same, and sooner.
            model = _estimator(choice, num_looks, PCA(svd_solver="full"))
            scores = cross_val_predict(model, *samples, **options)[::num_looks]
            hits = int((scores.argmax(axis=1) == own[1]).sum())
            place = POOLINGS.index(choice.pooling), choice.balanced
            results.append(((-hits, *place, -np.log(scores[own] + 1e-12).mean()), choice))
    (hits, *_), choice = min(results, key=itemgetter(0))
    value, words = -hits / len(labels), f"{-hits} of {len(labels)} training videos, {folds} folds"
    interval = wilson_interval(value, len(labels))
    return choice, Accuracy("cross-validated top-1", value, *interval, words)


def fit(features: np.ndarray, labels: np.ndarray, choice: Choice, num_classes: int) -> Probe:
    """Returns the probe of all training videos; arguments are those of `choose`."""
    with _one_thread():
        model = _estimator(choice, features.shape[1]).fit(*_samples(features, labels, choice))
    scaler, regression = model[0], model[-1]
    weight, bias = regression.coef_, regression.intercept_
    if len(weight) == 1:  # of two classes scikit-learn has the difference
        weight, bias = (np.concatenate([-each / 2, each / 2]) for each in (weight, bias))
    weight = weight / scaler.scale_
    bias = bias - weight @ scaler.mean_
    weights, biases = np.zeros((num_classes, weight.shape[1])), np.full(num_classes, NEVER)
    weights[regression.classes_], biases[regression.classes_] = weight, bias
    return Probe(choice, weights, biases)


def _samples(
    features: np.ndarray, labels: np.ndarray, choice: Choice
) -> tuple[np.ndarray, np.ndarray]:
    """Returns each look as a sample of its own."""
    pooled = pool(features, choice.pooling)
    return pooled.reshape(-1, pooled.shape[-1]), labels.repeat(features.shape[1])


def _estimator(choice: Choice, num_looks: int, *steps: Any) -> Any:
    """Returns scikit-learn's: `steps` are between the scaler and the regression."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    weight = "balanced" if choice.balanced else None
    strength = choice.strength / num_looks
    regression = LogisticRegression(C=strength, class_weight=weight, max_iter=1000)
    return make_pipeline(StandardScaler(), *steps, regression)


def _one_thread() -> Any:
    """Returns a context in which BLAS has a thread: with two, small products never came back.

    Seen with the OpenBLAS 0.3.31 of numpy beside those of scipy and OpenCV; it is as fast.
    """
    from threadpoolctl import threadpool_limits

    return threadpool_limits(1, user_api="blas")


def _sample(labels: np.ndarray) -> np.ndarray:
    """Returns the indices of at most `MAX_CHOSEN_BY` videos, about the same part of each class."""
    order = np.random.default_rng(0).permutation(len(labels))
    by_class = order[np.argsort(labels[order], kind="stable")]
    step = max(1.0, len(labels) / MAX_CHOSEN_BY)
    return np.sort(by_class[np.arange(0, len(labels), step).astype(int)])
