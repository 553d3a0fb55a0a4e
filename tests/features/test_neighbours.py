"""Videos that look alike across splits or against their label, and which to label next."""

import numpy as np
import pytest

from mmact_tiny.features import neighbours
from mmact_tiny.features.neighbours import find_alike, label_next, nearest_labels
from mmact_tiny.features.probe import Choice, fit
from mmact_tiny.folds.divide import divide
from mmact_tiny.report.labels import suspects

CHANNELS = 40


def scenes(count: int, seed: int = 0) -> np.ndarray:
    """Returns features of videos that are all different, but each the same from third to third."""
    generator = np.random.default_rng(seed)
    whole = generator.normal(size=(count, 1, CHANNELS))
    return (5 + whole + 0.4 * generator.normal(size=(count, 4, CHANNELS))).astype(np.float32)


@pytest.mark.parametrize("chunk", [1000, 3])
@pytest.mark.parametrize("parts", [4, 1])
def test_one_scene_on_both_sides(parts: int, chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbours, "CHUNK", chunk)
    features = scenes(20)
    features[13] = features[2] + 0.01
    features[7] = features[6] + 0.02  # on one side
    found = find_alike(features[:, :parts], [0] * 10 + [1] * 10)
    assert [pair[:2] for pair in found] == [(2, 13)] or [pair[:2] for pair in found] == [(13, 2)]
    assert found[0][2] > 0.99


def test_planted_labels_are_the_first_that_are_named() -> None:
    """3 of 30 labels swapped, in 20 draws: all of them among the first 5, from folds and likes."""
    for seed in range(20):
        generator = np.random.default_rng(seed)
        true = np.arange(30) % 2
        features = scenes(30, seed)
        features[..., :8] += 3 * true[:, None, None]
        planted = generator.choice(30, 3, replace=False)
        labels = true.copy()
        labels[planted] = 1 - labels[planted]
        folds, scores = divide(labels, range(30), 5), np.zeros((30, 2))
        for fold in range(5):
            held_out = folds == fold
            probe = fit(features[~held_out, None], labels[~held_out], Choice(), 2)
            scores[held_out] = probe.scores(features[held_out])
        nearest = dict(enumerate(nearest_labels(features, labels).tolist()))
        rows = [dict(video=index, label=int(label)) for index, label in enumerate(labels)]
        named = [one["video"] for one in suspects(rows, scores, ["a", "b"], nearest)]
        assert {*planted.tolist()} <= {*named[:5]}, seed


def test_the_least_sure_is_labelled_next_and_one_of_a_kind() -> None:
    features = scenes(6)
    features[4] = features[1] + 0.01
    top = np.array([0.99, 0.55, 0.9, 0.6, 0.56, 0.7])
    scores = np.stack([top, 1 - top], axis=1)
    assert label_next(features, scores) == [1, 3, 5, 2, 0, 4], "4 is as 1"
