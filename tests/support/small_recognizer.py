"""Checkpoints of small recognizers, and recognizers of them: quick to make, and to ask."""

import functools
import hashlib
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import models
import torch
from conftest import ROOT
from mmengine.config import Config

from mmact_tiny.config import load_config
from mmact_tiny.recognizer import Recognizer

PIPELINE = [
    dict(type="DecordInit"),
    dict(type="SampleFrames", clip_len=1, frame_interval=1, num_clips=3, test_mode=True),
    dict(type="DecordDecode"),
    dict(type="Resize", scale=(-1, models.SIZE)),
    dict(type="CenterCrop", crop_size=models.SIZE),
    dict(type="FormatShape", input_format="NCHW"),
    dict(type="PackActionInputs"),
]


def small_recognizer(
    pipeline: Sequence[Any] = PIPELINE, name: str = "TSN", **settings: Any
) -> Recognizer:
    """Returns a recognizer of 7 classes whose scores differ from video to video.

    Args:
        pipeline: How it is tested.
        name: Of `models.BACKBONES`.
        **settings: The recognizer's own, by default the engine `torch`.
    """
    digest = hashlib.sha256(repr(pipeline).encode()).hexdigest()
    path = Path(_folder().name, f"{name}-{digest}.pth")
    if not path.exists():
        dataset = dict(type="VideoDataset", pipeline=list(pipeline))
        loaders = {f"{split}_dataloader": dict(dataset=dataset) for split in ("val", "test")}
        cfg = Config(dict(model=models.config(name), **loaders))
        _save(path, models.build(name), cfg, CLASSES)
    return Recognizer(path, **{"engine": "torch", **settings})


@functools.cache
def _folder() -> tempfile.TemporaryDirectory:
    """Returns the folder of the checkpoints, which goes with this process."""
    return tempfile.TemporaryDirectory()


CLASSES = [f"class {index}" for index in range(7)]


def write_checkpoint(
    path: Path,
    backbone: dict[str, Any] | None = None,
    in_channels: int = 1280,
    classes: Sequence[str] = CLASSES[:4],
) -> Path:
    """Writes a checkpoint as training does: a small backbone, random weights.

    Args:
        path: The file.
        backbone: A config node, by default MobileNetV2's.
        in_channels: Of the head, what the backbone gives.
        classes: Their names.
    """
    data = dict(dataset_paths=dict(data_root=str(ROOT / "data/tiny")))
    cfg = load_config(
        ROOT / "configs/tsn_tiny.py", changes=dict(data, pretrained=dict(weights="none"))
    )
    cfg.model.backbone = backbone or dict(type="MobileNetV2", pretrained=None)
    cfg.model.cls_head.in_channels = in_channels
    cfg.model.cls_head.num_classes = len(classes)
    _save(path, models.build_of(cfg.model, size=160), cfg, classes)
    return path


def _save(path: Path, model: torch.nn.Module, cfg: Config, classes: Sequence[str]) -> None:
    meta = dict(cfg=cfg.pretty_text, dataset_meta=dict(classes=list(classes)))
    torch.save(dict(meta=meta, state_dict=model.state_dict()), path)
