from collections import Counter
from pathlib import Path

import pytest
from conftest import STOCK
from mmengine.config import Config

from mmact_tiny import compat
from mmact_tiny.config import resolve_path
from mmact_tiny.errors import UserError
from mmact_tiny.overrides.registry import apply_overrides, diff, flatten

compat.repair()


@pytest.fixture
def imbalanced(tmp_path: Path) -> Path:
    """A dataset folder of empty files: 16 training videos of class 0 and 4 of class 1."""
    for split, labels in (("train", [0] * 16 + [1] * 4), ("val", [0, 1])):
        (tmp_path / split).mkdir()
        for index in range(len(labels)):
            (tmp_path / split / f"{index}.mp4").touch()
        lines = [f"{index}.mp4 {label}\n" for index, label in enumerate(labels)]
        (tmp_path / f"{split}.txt").write_text("".join(lines))
    (tmp_path / "label_map.txt").write_text("often\nseldom\n")
    return tmp_path


def balanced(root: Path, **kwargs: object) -> tuple[Config, dict[str, object]]:
    """Returns the config and what `class_balance` changed, twice as much as once."""
    cfg = Config.fromfile(resolve_path(STOCK))
    entries = [dict(type="dataset_paths", data_root=str(root)), dict(type="classes")]
    apply_overrides(cfg, entries)
    before = flatten(cfg)
    cfg = Config.fromfile(resolve_path(STOCK))
    apply_overrides(cfg, [*entries, dict(type="class_balance", **kwargs)])
    once = flatten(cfg)
    apply_overrides(cfg, [dict(type="class_balance", **kwargs)])
    assert diff(once, flatten(cfg)) == {}
    return cfg, {key: new for key, (_, new) in diff(before, once).items()}


def test_sampling_repeats_the_rare_class(imbalanced: Path) -> None:
    from mmaction.registry import DATASETS

    cfg, changes = balanced(imbalanced)
    outer = {key for key in changes if not key.startswith("train_dataloader.dataset.dataset.")}
    assert {"train_dataloader.dataset.type", "train_dataloader.dataset.oversample_thr"} < outer
    assert cfg.train_dataloader.dataset.oversample_thr == 0.5
    node = cfg.train_dataloader.dataset
    node.dataset.pipeline = []
    dataset = DATASETS.build(node)
    # ceil(sqrt(0.5 / 0.2)) = 2 times each
    assert Counter(dataset[i]["label"] for i in range(len(dataset))) == {0: 16, 1: 8}
    assert dataset.metainfo["classes"] == ["often", "seldom"]


def test_loss_weights_are_inverse_to_the_counts(imbalanced: Path) -> None:
    from mmaction.registry import MODELS

    cfg, changes = balanced(imbalanced, method="loss")
    assert changes == {
        "model.cls_head.loss_cls.type": "CrossEntropyLoss",
        "model.cls_head.loss_cls.loss_weight": 1.0,
        "model.cls_head.loss_cls.class_weight": [0.625, 2.5],
    }
    assert MODELS.build(cfg.model.cls_head).loss_cls.class_weight.tolist() == [0.625, 2.5]


def test_the_dump_runs_again(imbalanced: Path, tmp_path: Path) -> None:
    cfg, _ = balanced(imbalanced)
    cfg.dump(tmp_path / "dump.py")
    assert diff(flatten(Config.fromfile(tmp_path / "dump.py")), flatten(cfg)) == {}


@pytest.mark.parametrize(
    "arguments, message",
    [
        (dict(method="weights"), "expected sample or loss"),
        (dict(threshold=2.0), "expected a part from 0 to 1"),
    ],
)
def test_wrong_arguments(imbalanced: Path, arguments: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        balanced(imbalanced, **arguments)
