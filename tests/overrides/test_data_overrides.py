"""The overrides of the data change these keys to these values, and name what is wrong."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from config_changes import GONE, HOOKS, changes_by, leaves, stock
from mmengine.config import Config
from mmengine.registry import DefaultScope

from mmact_tiny.errors import UserError
from mmact_tiny.overrides.registry import apply_overrides

LOADERS = ("train_dataloader", "val_dataloader", "test_dataloader")
SLOWONLY = "mmaction::recognition/slowonly/slowonly_r50_8xb16-4x16x1-256e_kinetics400-rgb.py"
TIMESFORMER = (
    "mmaction::recognition/timesformer/timesformer_spaceOnly_8xb8-8x32x1-15e_kinetics400-rgb.py"
)


@pytest.mark.parametrize("with_test", [False, True])
def test_dataset_paths_changes_every_copy_of_a_path(toy_dataset: Path, with_test: bool) -> None:
    """A test split of the dataset's own is tested, else the validation split."""
    if with_test:
        (toy_dataset / "test").mkdir()
        (toy_dataset / "test" / "0.mp4").touch()
        (toy_dataset / "test.txt").write_text("0.mp4 0\n")
    train, val = str(toy_dataset / "train"), str(toy_dataset / "val")
    test = str(toy_dataset / "test") if with_test else val
    cfg = stock()
    cfg.ann_file_test = "old.txt"
    assert changes_by(cfg, dict(type="dataset_paths", data_root=str(toy_dataset))) == {
        "train_dataloader.dataset.ann_file": f"{train}.txt",
        "train_dataloader.dataset.data_prefix.video": train,
        "val_dataloader.dataset.ann_file": f"{val}.txt",
        "val_dataloader.dataset.data_prefix.video": val,
        "test_dataloader.dataset.ann_file": f"{test}.txt",
        "test_dataloader.dataset.data_prefix.video": test,
        "data_root": train,
        "data_root_val": val,
        "ann_file_train": f"{train}.txt",
        "ann_file_val": f"{val}.txt",
        "ann_file_test": f"{test}.txt",
    }


def test_dataset_paths_wants_datasets_of_videos(toy_dataset: Path) -> None:
    cfg = stock()
    cfg.val_dataloader.dataset.type = "PoseDataset"
    stock_paths = dict(type="dataset_paths", data_root=str(toy_dataset))
    with pytest.raises(UserError, match="val_dataloader reads a PoseDataset: mmact_tiny trains on"):
        apply_overrides(cfg, [stock_paths])
    archive = toy_dataset / "videos.zip"
    archive.touch()
    with pytest.raises(UserError, match=r"videos.zip is an archive: unpack it"):
        apply_overrides(cfg, [dict(type="dataset_paths", data_root=str(archive))])
    cfg.train_dataloader = None
    with pytest.raises(UserError, match=r"no training part: put dict\(type='recipe'\) first"):
        apply_overrides(cfg, [stock_paths])


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        ({}, ["walk", "run", "jump high"]),
        (dict(names=["a", "b"]), ["a", "b"]),
        (dict(label_map="{root}/other.txt"), ["x", "y", "z", "w"]),
    ],
)
def test_classes(toy_dataset: Path, arguments: dict[str, Any], names: list[str]) -> None:
    (toy_dataset / "other.txt").write_text("x\ny\nz\nw\n")
    if "label_map" in arguments:
        arguments = dict(label_map=arguments["label_map"].format(root=toy_dataset))
    places = {
        f"{loader}.dataset.metainfo.classes.{index}": name
        for loader in LOADERS
        for index, name in enumerate(names)
    }
    changed = changes_by(stock(toy_dataset), dict(type="classes", **arguments))
    assert changed == {"model.cls_head.num_classes": len(names), **places}


def test_classes_of_a_dataset_with_several_labels_a_video(toy_dataset: Path) -> None:
    cfg = stock(toy_dataset)
    cfg.train_dataloader.dataset.multi_class = True
    apply_overrides(cfg, [dict(type="classes", names=["a", "b"])])
    assert cfg.train_dataloader.dataset.num_classes == 2
    assert "num_classes" not in cfg.val_dataloader.dataset


def test_one_class_alone_is_warned_of(toy_dataset: Path, caplog: pytest.LogCaptureFixture) -> None:
    apply_overrides(stock(toy_dataset), [dict(type="classes", names=["run"])])
    assert "'run' is the only class" in caplog.text


def test_classes_wants_a_head(toy_dataset: Path) -> None:
    cfg = stock(toy_dataset)
    del cfg.model["cls_head"]
    with pytest.raises(UserError, match="Recognizer2D has none"):
        apply_overrides(cfg, [dict(type="classes")])


@pytest.mark.parametrize(
    ("config", "crop", "expected"),
    [
        (
            None,
            112,
            {
                "train.3.scale.1": 128,
                "train.4.input_size": 112,
                "train.5.scale.0": 112,
                "train.5.scale.1": 112,
                "val.3.scale.1": 128,
                "val.4.crop_size": 112,
                "test.3.scale.1": 128,
                "test.4.crop_size": 112,
            },
        ),
        (  # tested on all of the short side, as before
            SLOWONLY,
            96,
            {
                "train.3.scale.1": 110,
                "train.5.scale.0": 96,
                "train.5.scale.1": 96,
                "val.3.scale.1": 110,
                "val.4.crop_size": 96,
                "test.3.scale.1": 110,
                "test.4.crop_size": 110,
            },
        ),
        (
            TIMESFORMER,
            448,
            {
                "train.3.scale_range.0": 512,
                "train.3.scale_range.1": 640,
                "train.4.size": 448,
                "val.3.scale.1": 512,
                "val.4.crop_size": 448,
                "test.3.scale.1": 448,
                "test.4.crop_size": 448,
            },
        ),
    ],
)
def test_input_size_keeps_the_proportions(
    config: str | None, crop: int, expected: dict[str, int]
) -> None:
    cfg = stock(config=config) if config else stock()
    places = ("{}_pipeline", "{}_dataloader.dataset.pipeline")
    changed = changes_by(cfg, dict(type="input_size", crop=crop))
    assert changed.pop("model.backbone.img_size", None) == (448 if crop == 448 else None)
    assert changed == {
        f"{place.format(key.partition('.')[0])}.{key.partition('.')[2]}": value
        for key, value in expected.items()
        for place in places
    }


def test_input_size_leaves_factors_and_names_what_it_cannot_set() -> None:
    cfg = stock()
    cfg.train_dataloader.dataset.pipeline.insert(3, dict(type="Resize", scale=0.5))
    apply_overrides(cfg, [dict(type="input_size", crop=112)])
    assert cfg.train_dataloader.dataset.pipeline[3]["scale"] == 0.5
    with pytest.raises(UserError, match="crop=31: expected 32 or more"):
        apply_overrides(cfg, [dict(type="input_size", crop=31)])
    apply_overrides(cfg, [dict(type="input_size", crop=32)])
    cfg.train_dataloader.dataset.pipeline = [dict(type="Resize", scale=(-1, 256))]
    with pytest.raises(UserError, match="makes no square input: Resize"):
        apply_overrides(cfg, [dict(type="input_size", crop=112)])


@pytest.fixture
def imbalanced(tmp_path: Path) -> Path:
    """A dataset folder of empty files: 16 training videos of class 0 and 4 of class 1."""
    for split, labels in (("train", [0] * 16 + [1] * 4), ("val", [0, 1])):
        (tmp_path / split).mkdir()
        for index in range(len(labels)):
            (tmp_path / split / f"{index}.mp4").touch()
        lines = [f"{index}.mp4 {label}\n" for index, label in enumerate(labels)]
        (tmp_path / f"{split}.txt").write_text("".join(lines))
    (tmp_path / "label_map.txt").write_text("often\nseldom\nnever\n")
    return tmp_path


@pytest.fixture
def cfg(imbalanced: Path) -> Config:
    cfg = stock(imbalanced)
    apply_overrides(cfg, [dict(type="classes")])
    return cfg


def test_sampling_repeats_the_rare_class(cfg: Config, tmp_path: Path) -> None:
    from mmaction.registry import DATASETS

    key = "train_dataloader.dataset"
    moved = {path: value for path, value in leaves(cfg).items() if path.startswith(f"{key}.")}
    assert changes_by(cfg, dict(type="class_balance")) == {
        **{f"{key}.dataset.{path.removeprefix(f'{key}.')}": value for path, value in moved.items()},
        **{path: GONE for path in moved if path != f"{key}.type"},
        f"{key}.type": "BalancedVideos",
        f"{key}.oversample_thr": 0.5,
        **HOOKS,
    }
    cfg.dump(tmp_path / "dump.py")
    node = Config.fromfile(tmp_path / "dump.py").train_dataloader.dataset
    node.dataset.pipeline = []
    with DefaultScope.overwrite_default_scope("mmaction"):  # as a Runner does
        dataset = DATASETS.build(node)
    # ceil(sqrt(0.5 / 0.2)) = 2 times each
    assert Counter(dataset[i]["label"] for i in range(len(dataset))) == {0: 16, 1: 8}
    assert dataset.metainfo["classes"] == ["often", "seldom", "never"]


def test_the_threshold_is_kept(cfg: Config) -> None:
    apply_overrides(cfg, [dict(type="class_balance", threshold=1.0)])
    assert cfg.train_dataloader.dataset.oversample_thr == 1.0


def test_loss_weights_are_inverse_to_the_counts(cfg: Config) -> None:
    from mmaction.registry import MODELS

    head = "model.cls_head.loss_cls"
    assert changes_by(cfg, dict(type="class_balance", method="loss")) == {
        f"{head}.type": "CrossEntropyLoss",
        f"{head}.loss_weight": 1.0,
        **{f"{head}.class_weight.{i}": weight for i, weight in enumerate([0.625, 2.5, 1.0])},
    }
    assert MODELS.build(cfg.model.cls_head).loss_cls.class_weight.tolist() == [0.625, 2.5, 1.0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (dict(method="weights"), "expected sample or loss"),
        (dict(threshold=2.0), "expected a part from 0 to 1"),
        (dict(threshold=0.0), "expected a part from 0 to 1"),
        (dict(method="loss"), "cls_head has BCELossWithLogits"),
        ({}, r"train.txt:1: label 'walk': not a number"),
        (dict(method="sample"), r"train.txt: lists no video"),
    ],
)
def test_what_cannot_be_balanced(
    cfg: Config, imbalanced: Path, arguments: dict[str, Any], message: str
) -> None:
    if "BCE" in message:
        cfg.model.cls_head.loss_cls = dict(type="BCELossWithLogits")
    if "walk" in message:
        (imbalanced / "train.txt").write_text("0.mp4 walk\n")
    if "no video" in message:
        (imbalanced / "train.txt").write_text("\n")
    with pytest.raises(UserError, match=message):
        apply_overrides(cfg, [dict(type="class_balance", **arguments)])


def test_a_list_of_stretches_is_read_by_a_dataset_that_knows_them(toy_dataset: Path) -> None:
    """Also of a config that read videos, the other way round, and from the clip cache."""
    cfg = stock(toy_dataset)
    for split in ("train", "val"):
        text = "path,start,end,label\n0.mp4,0,1,0\n"
        (toy_dataset / f"{split}.csv").write_text(text)
        (toy_dataset / f"{split}.txt").rename(toy_dataset / f"{split}.kept")
    paths = dict(type="dataset_paths", data_root=str(toy_dataset))
    changed = changes_by(cfg, paths)
    assert [changed[f"{name}.dataset.type"] for name in LOADERS] == ["StretchDataset"] * 3
    assert changed["custom_imports.imports.0"] == "mmact_tiny.hooks"
    changed = changes_by(cfg, dict(type="clip_cache"), dict(type="decoder"))
    assert changed["train_dataloader.dataset.pipeline.3.type"] == "PacketDecode"
    cfg.train_dataloader.dataset.type = "RepeatAugDataset"
    with pytest.raises(UserError, match="a RepeatAugDataset opens whole videos"):
        apply_overrides(cfg, [paths])
    cfg.train_dataloader.dataset.type = "StretchDataset"
    for split in ("train", "val"):
        (toy_dataset / f"{split}.csv").unlink()
        (toy_dataset / f"{split}.kept").rename(toy_dataset / f"{split}.txt")
    changed = changes_by(cfg, paths)
    assert [changed[f"{name}.dataset.type"] for name in LOADERS] == ["VideoDataset"] * 3


def test_multi_label_changes_the_datasets_the_loss_and_the_metrics(toy_dataset: Path) -> None:
    cfg = stock(toy_dataset)
    apply_overrides(cfg, [dict(type="classes", names=["a", "b", "c", "d"])])
    precision = {"type": "AccMetric", "metric_list": ("mean_average_precision",)}
    cfg.model.data_preprocessor.blending = dict(type="MixupBlending", num_classes=4)
    assert changes_by(cfg, dict(type="multi_label", enabled=False)) == {}
    changed = changes_by(cfg, dict(type="multi_label"))
    for loader in LOADERS:
        assert changed.pop(f"{loader}.dataset.multi_class") is True
        assert changed.pop(f"{loader}.dataset.num_classes") == 4
    assert cfg.val_evaluator == [precision, {"type": "LabelThresholds"}]
    assert cfg.test_evaluator == [precision]
    kept = {key: value for key, value in changed.items() if "evaluator" not in key}
    assert kept == {
        **{f"model.data_preprocessor.blending.{key}": GONE for key in ("type", "num_classes")},
        "model.cls_head.loss_cls.type": "BCELossWithLogits",
        "model.cls_head.loss_cls.loss_weight": 2.0,
        "model.cls_head.multi_class": True,
        "model.cls_head.average_clips": "score",
        "custom_imports.imports.0": "mmact_tiny.multi_label",
        "custom_imports.allow_failed_imports": False,
    }
