"""Repeats the videos of rare classes within an epoch."""

from functools import partial
from typing import Any

from mmaction.registry import DATASETS
from mmengine.dataset import BaseDataset, ClassBalancedDataset


@DATASETS.register_module()
class BalancedVideos(ClassBalancedDataset):
    """MMEngine's `ClassBalancedDataset` over MMAction2's datasets, which lack `get_cat_ids`."""

    def __init__(self, dataset: BaseDataset | dict, oversample_thr: float, **kwargs: Any) -> None:
        if isinstance(dataset, dict):
            dataset = DATASETS.build(dataset)
        dataset.get_cat_ids = partial(labels_of, dataset)
        super().__init__(dataset, oversample_thr, **kwargs)


def labels_of(dataset: BaseDataset, index: int) -> list[int]:
    """Returns the labels of a video: one, or several in a `multi_class` dataset."""
    label = dataset.get_data_info(index)["label"]
    return [int(label)] if isinstance(label, int) else [int(one) for one in label]
