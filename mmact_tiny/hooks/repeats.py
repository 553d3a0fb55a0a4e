"""Reads each video once for several augmented samples, with any decoder."""

from typing import Any

from mmaction.datasets import RepeatAugDataset

from ..compat import DATASETS, Compose
from ..pipeline import Step, exact_pipeline


@DATASETS.register_module()
class RepeatedVideos(RepeatAugDataset):
    """Stock's `RepeatAugDataset`, which asserts decord, with the decoder that its pipeline names.

    Args:
        ann_file: As of stock's.
        pipeline: Its first steps open a video, choose frames and decode them.
        **settings: As of stock's.
    """

    def __init__(self, ann_file: str, pipeline: list[Step], **settings: Any) -> None:
        super().__init__(ann_file, exact_pipeline(pipeline), **settings)
        self.pipeline = Compose(pipeline)
