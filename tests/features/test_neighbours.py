"""Videos that look alike across splits or against their label, and which to label next."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mmact_tiny.config import load_config
from mmact_tiny.features import neighbours, run
from mmact_tiny.features.extract import Extractor
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


def named(features: np.ndarray, labels: np.ndarray) -> list[int]:
    """Returns the videos whose labels are named, as a probe of 5 folds and their likes have it."""
    folds, scores = divide(labels, range(len(labels)), 5), np.zeros((len(labels), 2))
    for fold in range(5):
        held_out = folds == fold
        probe = fit(features[~held_out, None], labels[~held_out], Choice(strength=0.1), 2)
        scores[held_out] = probe.scores(features[held_out])
    nearest = dict(enumerate(nearest_labels(features, labels).tolist()))
    rows: Any = [dict(video=index, label=int(label)) for index, label in enumerate(labels)]
    return [one["video"] for one in suspects(rows, scores, ["a", "b"], nearest)]


def is_found(features: np.ndarray, true: np.ndarray, seed: int) -> bool:
    """Swaps 3 of the labels of two classes; returns whether they are among the first 5 named."""
    planted = np.random.default_rng(seed).choice(30, 3, replace=False).tolist()
    labels = true.copy()
    labels[planted] = 1 - labels[planted]
    return {*planted} <= {*named(features, labels)[:5]}


def test_planted_labels_are_the_first_that_are_named() -> None:
    for seed in range(20):
        features, true = scenes(30, seed), np.arange(30) % 2
        features[..., :8] += 3 * true[:, None, None]
        assert is_found(features, true, seed), seed
    assert named(features, true) == []


@pytest.mark.slow
def test_planted_labels_of_filmed_videos(
    real_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """3 of the 30 training videos, 100 times, with the features of ImageNet's MobileNetV2."""
    monkeypatch.setenv("MMACT_TINY_FEATURES", str(tmp_path / "features"))
    weights = Path("checkpoints/mobilenetv2_imagenet.pth")
    if not weights.is_file():
        pytest.skip("no MobileNetV2: python tools/download.py mobilenetv2_imagenet")
    data = dict(data_root=str(real_data / "exercise_or_typing"))
    changes = dict(dataset_paths=data, pretrained=dict(weights=str(weights)))
    cfg = load_config("configs/tsn_mobilenetv2.py", changes=changes)
    run.prepare(cfg)
    extractor, train = Extractor(cfg, weights), run.listed_videos(cfg, "train")
    assert extractor.compute(dict.fromkeys(train, 1)) == {}
    _, labels, features = run.load_features(extractor, train, 1, {})
    found = [is_found(features[:, 0], labels, seed) for seed in range(100)]
    assert sum(found) >= 95


def test_the_least_sure_is_labelled_next_and_one_of_a_kind() -> None:
    features = scenes(6)
    features[4] = features[1] + 0.01
    top = np.array([0.99, 0.55, 0.9, 0.6, 0.56, 0.7])
    scores = np.stack([top, 1 - top], axis=1)
    assert label_next(features, scores) == [1, 3, 5, 2, 0, 4], "4 is as 1"
