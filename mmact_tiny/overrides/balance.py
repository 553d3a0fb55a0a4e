"""Class balance: what a config can do about classes with few videos."""

from collections import Counter

from .. import dataset as datasets
from ..compat.mm import Config, ConfigDict
from ..errors import UserError
from .registry import OVERRIDES, split_datasets, use_plugin

METHODS = ("sample", "loss")


@OVERRIDES.register_module()
def class_balance(cfg: Config, method: str = "sample", threshold: float | None = None) -> None:
    """Lets classes with few training videos count for more; comes after `dataset_paths`.

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
    video_dataset = next(split_datasets(cfg))[1]
    counts = count_labels(video_dataset.ann_file)
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
    for annotation in datasets.read_annotations(ann_file):
        if not annotation.label.isdigit():
            raise UserError(
                f"{ann_file}:{annotation.line}: label {annotation.label!r}: not a number"
            )
        counts[int(annotation.label)] += 1
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
