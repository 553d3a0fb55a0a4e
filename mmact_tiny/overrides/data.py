"""Overrides of the data: where it is, what its classes are, how they count, the input's size."""

import logging
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from .. import annotations
from .. import dataset as datasets
from ..compat import Config, ConfigDict
from ..errors import UserError
from ..hooks.dataset import SIZE_KEYS, input_side
from ..pipeline import SPLITS, set_pipeline, split_datasets
from .registry import OVERRIDES, comes_after, use_plugin

METHODS = ("sample", "loss")
VIDEO_TYPES = ("VideoDataset", "RepeatAugDataset", "RepeatedVideos", "StretchDataset")
# Of a RawframeDataset only.
FRAME_KEYS = ("filename_tmpl", "with_offset", "modality", "start_index")
logger = logging.getLogger("mmact_tiny")
# What backbones call the side of their input, where their weights are made for one.
SIDE_KEYS = {
    "MViT": "spatial_size",
    "TimeSformer": "img_size",
    "UniFormer": "img_size",
    "UniFormerV2": "input_resolution",
    "VisionTransformer": "img_size",
}


@OVERRIDES.register_module()
@comes_after("recipe")
def dataset_paths(cfg: Config, data_root: str, lists: str | None = None) -> None:
    """Has the three data loaders read the videos of a dataset folder; without a test split, val.

    A child config's `data_root = ...` does not reach the loaders (mmengine issue 560). A loader of
    folders of frames reads videos instead, one of several datasets reads this one alone.

    Args:
        data_root: The dataset folder.
        lists: A folder whose `train.txt` and `val.txt` take the place of its own, as those of a
            fold; their paths count from `data_root`.
    """
    dataset = datasets.find_dataset(data_root)
    if lists is not None:
        own = datasets.find_dataset(lists).splits
        splits = {name: replace(split, video_dir=dataset.root) for name, split in own.items()}
        dataset = replace(dataset, splits=splits)
    if cfg.get("train_dataloader") is None:
        raise UserError("the config has no training part: put dict(type='recipe') first")
    for name in SPLITS:
        _read_videos(cfg, name)
    for name, node in split_datasets(cfg):
        split = dataset.splits.get(name) or dataset.splits["val"]
        node.ann_file = str(split.ann_file)
        node.data_prefix = dict(video=str(split.video_dir))
        _choose_type(cfg, node, of_stretches=split.ann_file.suffix == ".csv")
        node.pop("delimiter", None)  # stock's of Kinetics-700, whose file names have spaces
    train, val = dataset.splits["train"], dataset.splits["val"]
    test = dataset.splits.get("test", val)
    # Stock's own variables of the same content, so that the dump does not say two things.
    for key, value in {
        "data_root": train.video_dir,
        "data_root_val": val.video_dir,
        "ann_file_train": train.ann_file,
        "ann_file_val": val.ann_file,
        "ann_file_test": test.ann_file,
    }.items():
        if key in cfg:
            cfg[key] = str(value)


def check_one_dataset(cfg: Config) -> None:
    """Raises a UserError where a config's model is not one of one dataset of videos."""
    several = any(isinstance(cfg.get(f"{name}_dataloader"), (list, tuple)) for name in SPLITS)
    if several or cfg.model.type == "RecognizerOmni":
        raise UserError(
            f"{cfg.model.type} learns from several datasets at once, OmniSource from images too: "
            "mmact_tiny trains on one dataset of videos with a class each"
        )


def _read_videos(cfg: Config, name: str) -> None:
    """Has a split's loader read one dataset of videos; sampling and augmentation stay the same.

    Raises:
        UserError: the config needs something else than videos with a class each.
    """
    check_one_dataset(cfg)
    loader = cfg.get(f"{name}_dataloader") or ConfigDict()
    if "datasets" in loader.get("dataset", {}):  # ConcatDataset
        loader.dataset = loader.dataset.datasets[0]
    node = next((node for split, node in split_datasets(cfg) if split == name), None)
    if node is None or node.type in VIDEO_TYPES:
        return
    if node.type != "RawframeDataset" or node.get("modality", "RGB") != "RGB":
        flow = " of optical flow, which is computed beforehand" if "modality" in node else ""
        raise UserError(
            f"{name}_dataloader reads a {node.type}{flow}: "
            "mmact_tiny trains on videos with a class each"
        )
    frames = [step for step in node.pipeline if step["type"] == "RawFrameDecode"]
    if len(frames) != 1:
        raise UserError(f"{name}_dataloader has no RawFrameDecode to read videos in its place")
    steps = [dict(type="DecordDecode") if step in frames else step for step in node.pipeline]
    set_pipeline(cfg, name, node, [dict(type="DecordInit"), *steps])
    node.type = "VideoDataset"
    for key in FRAME_KEYS:
        node.pop(key, None)
    if "dataset_type" in cfg:
        cfg.dataset_type = node.type


def _choose_type(cfg: Config, node: ConfigDict, *, of_stretches: bool) -> None:
    """Has a loader read a list of stretches, or one of videos.

    Raises:
        UserError: a type of dataset that knows no stretches.
    """
    if of_stretches:
        if node.type in ("RepeatAugDataset", "RepeatedVideos"):
            raise UserError(
                f"{node.ann_file} lists stretches, and a {node.type} opens whole videos: set "
                "train_dataloader.dataset.type='VideoDataset' in a config of yours"
            )
        node.type = "StretchDataset"
        use_plugin(cfg, "mmact_tiny.hooks")
    elif node.type == "StretchDataset":
        node.type = "VideoDataset"


@OVERRIDES.register_module()
@comes_after("recipe", "dataset_paths")
def classes(cfg: Config, label_map: str | None = None, names: list[str] | None = None) -> None:
    """Sets the number of classes and their names, which every checkpoint then carries.

    Args:
        label_map: Line i names class i. By default the `label_map.txt` beside the training
            annotations, else names made from the largest label there.
        names: The names themselves, instead of a file.
    """
    if names is None:
        if label_map is not None:
            names = datasets.read_label_map(label_map)
        else:
            ann_file = Path(next(split_datasets(cfg))[1].ann_file)
            names = datasets.class_names(datasets.find_dataset(ann_file.parent))
    head = cfg.model.get("cls_head")
    if head is None or "num_classes" not in head:
        raise UserError(f"classes sets model.cls_head.num_classes; {cfg.model.type} has none")
    if len(names) == 1:
        logger.warning("%r is the only class: any model is right on all videos", names[0])
    others = head.num_classes != len(names)
    head.num_classes = len(names)
    for node, key in _class_counts(cfg):
        node[key] = len(names)
    for split, dataset in split_datasets(cfg):
        dataset.metainfo = dict(classes=list(names))
        if dataset.get("multi_class"):
            dataset.num_classes = len(names)
        if others and any("flip_label_map" in step for step in dataset.get("pipeline") or []):
            logger.info(
                "%s pipeline: Flip changes no label: flip_label_map is of the stock classes", split
            )
            steps = [
                {k: step[k] for k in step if k != "flip_label_map"} for step in dataset.pipeline
            ]
            set_pipeline(cfg, split, dataset, steps)


def _class_counts(cfg: Config) -> Iterator[tuple[ConfigDict, str]]:
    """Yields where a model has the number of classes once more: blending, TPN's auxiliary head."""
    blending = (cfg.model.get("data_preprocessor") or {}).get("blending") or {}
    for node in (blending, *blending.get("augments", ())):
        if "num_classes" in node:
            yield node, "num_classes"
    auxiliary = (cfg.model.get("neck") or {}).get("aux_head_cfg")
    if auxiliary is not None:
        yield auxiliary, "out_channels"


@OVERRIDES.register_module()
@comes_after("recipe", "dataset_paths", "classes")
def multi_label(cfg: Config, enabled: bool = True) -> None:
    """Has a recognizer tell of each label by itself whether a video has it.

    The datasets are stock's `multi_class` ones, the loss is binary cross-entropy, summed over half
    of the classes as in stock's MMIT config (160 for 313; the mean over all would be a 150th of a
    single label's), validation is by mean average precision. The head's scores of clips are
    averaged as they are: a softmax would have the labels compete.

    Args:
        enabled: Whether it does; False leaves the config as it is.
    """
    if not enabled:
        return
    head = cfg.model.cls_head
    if head.num_classes < 2:
        raise UserError("--multi-label: expected two classes or more")
    for _, dataset in split_datasets(cfg):
        if dataset.type not in annotations.TYPES:
            raise UserError(f"--multi-label: a {dataset.type} has one label a video")
        dataset.multi_class, dataset.num_classes = True, head.num_classes
    head.loss_cls = dict(type="BCELossWithLogits", loss_weight=head.num_classes / 2)
    head.multi_class, head.average_clips = True, "score"
    preprocessor = cfg.model.get("data_preprocessor") or {}
    preprocessor.pop("blending", None)  # stock's blends single labels
    precision = dict(type="AccMetric", metric_list=("mean_average_precision",))
    cfg.val_evaluator = [precision, dict(type="LabelThresholds")]
    cfg.test_evaluator = [precision]
    use_plugin(cfg, "mmact_tiny.multi_label")


@OVERRIDES.register_module()
@comes_after("recipe", "dataset_paths", "classes", "multi_label")
def class_balance(cfg: Config, method: str = "sample", threshold: float | None = None) -> None:
    """Lets classes with few training videos count for more.

    Args:
        method: `sample` shows videos of rare classes several times an epoch (MMEngine's
            `ClassBalancedDataset`); `loss` weighs their losses (`class_weight` of MMAction2's
            `CrossEntropyLoss`) and leaves the epoch as it is.
        threshold: For `sample`: a class with a part f of the videos is shown
            `ceil(sqrt(threshold / f))` times where f is below the threshold. By default one
            part in as many as there are classes.
    """
    if method not in METHODS:
        raise UserError(f"class_balance method={method!r}: expected {' or '.join(METHODS)}")
    if threshold is not None and not 0 < threshold <= 1:
        raise UserError(f"class_balance threshold={threshold}: expected a part from 0 to 1")
    counts = count_labels(next(split_datasets(cfg))[1].ann_file)
    if method == "sample":
        use_plugin(cfg, "mmact_tiny.hooks")
        node = cfg.train_dataloader.dataset
        if node.type != "BalancedVideos":
            node = ConfigDict(type="BalancedVideos", dataset=node)
        node.oversample_thr = threshold or round(1 / len(counts), 6)
        cfg.train_dataloader.dataset = node
        return
    head = cfg.model.cls_head
    loss = dict(head.get("loss_cls") or dict(type="CrossEntropyLoss", loss_weight=1.0))
    if loss["type"] != "CrossEntropyLoss":
        raise UserError(f"class_balance weighs CrossEntropyLoss; cls_head has {loss['type']}")
    head.loss_cls = loss | dict(class_weight=class_weights(counts, head.num_classes))


def count_labels(ann_file: str) -> Counter[int]:
    """Returns how many videos an annotation file has of each label.

    Raises:
        UserError: a label is not a number, or there is none.
    """
    counts: Counter[int] = Counter()
    for annotation in annotations.iter_annotations(ann_file):
        for label in annotation.labels or [""]:
            if not label.isdigit():
                raise UserError(f"{ann_file}:{annotation.line}: label {label!r}: not a number")
            counts[int(label)] += 1
    if not counts:
        raise UserError(f"{ann_file}: lists no video")
    return counts


def class_weights(counts: Counter[int], num_classes: int) -> list[float]:
    """Returns the weight of each class, inverse to its videos; 1 on average over the videos.

    A class without a video has 1, which nothing is multiplied with.
    """
    present = sum(counts[label] > 0 for label in range(num_classes))
    total = sum(counts.values())
    return [
        round(total / (present * counts[label]), 6) if counts[label] else 1.0
        for label in range(num_classes)
    ]


@OVERRIDES.register_module()
@comes_after("recipe")
def input_size(cfg: Config, crop: int) -> None:
    """Sets the side of the network's input, and every other size of the pipelines in proportion.

    From 224 to 112 a short side of 256 becomes 128, and a test crop of 256 becomes 128. A
    transformer is built for that side, which weights made for another one do not fit. Small
    inputs make short work of a run from random weights on a CPU: at 96 pixels a step costs a fifth
    of that at 224.

    Args:
        crop: Side of the square input in training, in pixels.
    """
    if crop < 32:
        raise UserError(f"input_size crop={crop}: expected 32 or more, a ResNet's total stride")
    pipelines = [dataset.pipeline for _, dataset in split_datasets(cfg)]
    side = input_side(pipelines[0])
    if side == crop:
        return
    backbone = cfg.model.get("backbone") or ConfigDict()
    if backbone.get("type") == "C3D":
        raise UserError(f"input_size crop={crop}: C3D is made for {side} pixels alone")
    if backbone.get("type") in SIDE_KEYS:
        backbone[SIDE_KEYS[backbone.type]] = crop
    pipelines += [cfg[f"{split}_pipeline"] for split in SPLITS if f"{split}_pipeline" in cfg]
    steps = {id(step): step for pipeline in pipelines for step in pipeline}  # some are in two
    for step in steps.values():
        for key in SIZE_KEYS:
            if key in step:
                step[key] = _scaled(step[key], crop, side)


def _scaled(size: Any, crop: int, side: int) -> Any:
    """Returns a size in pixels times crop / side; -1 and factors stay."""
    if isinstance(size, (list, tuple)):
        return type(size)(_scaled(one, crop, side) for one in size)
    return round(size * crop / side) if isinstance(size, int) and size > 0 else size
