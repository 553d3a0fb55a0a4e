"""The probe is chosen by the training videos alone, and a stock head gives its scores."""

import numpy as np
import pytest
import torch
from mmengine.config import Config

from mmact_tiny.compat import MODELS, init_default_scope
from mmact_tiny.errors import UserError
from mmact_tiny.features.head import last_layer, put_into_head, use_relation_head
from mmact_tiny.features.probe import Choice, choose, fit, parts_of

CHANNELS, FRAMES = 6, 8


def videos(count: int, classes: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Returns features of frames (videos, looks, frames, channels), of noise, and labels."""
    noise = np.random.default_rng(seed).normal(size=(count, 2, FRAMES, CHANNELS))
    return noise.astype(np.float32), np.arange(count) % classes


def parts(frames: np.ndarray) -> np.ndarray:
    return np.stack([[parts_of(look) for look in video] for video in frames])


def test_parts() -> None:
    """Of 8 frames the thirds are 3, 3 and 2; of two there are none."""
    units = np.arange(8, dtype=np.float32)[:, None]
    assert parts_of(units).ravel().tolist() == [3.5, 1.0, 4.0, 6.5]
    assert parts_of(units[:2]).ravel().tolist() == [0.5]


@pytest.mark.parametrize("pooling", ["mean", "thirds"])
@pytest.mark.parametrize("classes", [2, 5])
def test_a_stock_head_gives_the_scores_of_a_probe(pooling: str, classes: int) -> None:
    init_default_scope("mmaction")
    head = dict(type="TSNHead", num_classes=classes, in_channels=CHANNELS, dropout_ratio=0.4)
    head["average_clips"] = "prob"
    cfg = Config(dict(model=dict(type="Recognizer2D", cls_head=head)))
    frames, labels = videos(20, classes)
    probe = fit(parts(frames), labels, Choice(pooling, strength=1.0), classes)
    if pooling == "thirds":
        use_relation_head(cfg, FRAMES)
    built = MODELS.build(cfg.model.cls_head).eval()
    put_into_head(built, probe)
    views = torch.from_numpy(frames[:, 0]).reshape(-1, CHANNELS, 1, 1).expand(-1, -1, 7, 7)
    with torch.no_grad():
        scores = built(views, num_segs=FRAMES).softmax(dim=1).numpy()
    np.testing.assert_allclose(scores, probe.scores(parts(frames)[:, 0]), atol=1e-6)
    assert scores.std(axis=0).min() > 0.05, "they are not all the same"


def test_what_is_fitted_is_logistic_regression() -> None:
    """Against scikit-learn itself on the standardized means, each look a half of a sample."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    frames, labels = videos(30, 3)
    features = parts(frames)
    x = features[:, :, 0].reshape(60, CHANNELS)
    scaler = StandardScaler().fit(x)
    expected = LogisticRegression(C=0.05, max_iter=1000).fit(scaler.transform(x), labels.repeat(2))
    scores = fit(features, labels, Choice(strength=0.1), 3).scores(features[:, 0])
    of_first = expected.predict_proba(scaler.transform(x[::2]))
    np.testing.assert_allclose(scores, of_first, atol=1e-4)


def test_thirds_are_chosen_where_the_order_tells() -> None:
    """The classes differ in whether the last frames are brighter than the first: not by a mean."""
    frames, labels = videos(40, 2)
    ramp = np.linspace(-3, 3, FRAMES)
    frames[..., 0] += np.where(labels == 0, 1, -1)[:, None, None] * ramp
    choice, accuracy = choose(parts(frames), labels, range(40))
    assert choice.pooling == "thirds" and accuracy is not None
    assert accuracy.value == 1.0 and accuracy.counts == "40 of 40 training videos, 5 folds"
    frames, labels = videos(40, 2)
    frames[..., 0] += 6 * labels[:, None, None]
    choice, accuracy = choose(parts(frames), labels, range(40))
    assert accuracy is not None and accuracy.value == 1.0
    assert choice.pooling == "mean", "of two that are as good the simpler one"


def test_copies_tell_nothing_of_each_other() -> None:
    """Noise in eight copies is learned by heart, unless the copies are in one fold."""
    noise, labels = videos(12, 2, seed=1)
    features, labels = parts(np.tile(noise, (8, 1, 1, 1))), np.tile(labels, 8)
    _, alone = choose(features, labels, range(96))
    _, grouped = choose(features, labels, [index % 12 for index in range(96)])
    assert alone is not None and alone.value > 0.9
    assert grouped is not None and grouped.value < 0.75


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        ([0, 1], None),  # no fold without a class
        ([0] * 10 + [1], None),
        ([0, 0, 1, 1], "training videos, 2 folds"),
        ([0, 0, 0, 1, 1, 1, 2], "of 7 training videos, 3 folds"),
        ([0] * 9 + [3] * 3, "of 12 training videos, 3 folds"),
    ],
)
def test_few_and_uneven_videos(labels: list[int], words: str | None) -> None:
    frames, _ = videos(len(labels), 1)
    features = parts(frames + 5 * np.array(labels)[:, None, None, None])
    choice, accuracy = choose(features, np.array(labels), range(len(labels)))
    if words is None:
        assert (choice, accuracy) == (Choice(), None)
    else:
        assert accuracy is not None and words in accuracy.counts
    scores = fit(features, np.array(labels), choice, 5).scores(features[:, 0])
    assert scores[:, 4].max() < 1e-9, "a class without a video"
    np.testing.assert_allclose(scores.sum(axis=1), 1)


def test_a_head_that_ends_otherwise_is_refused() -> None:
    init_default_scope("mmaction")
    head = MODELS.build(dict(type="TRNHead", num_classes=3, in_channels=4, num_segments=3))
    with pytest.raises(UserError, match="a TRNHead has no single last layer"):
        last_layer(head)
