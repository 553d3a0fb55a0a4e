"""A recognizer that was not read from a file: quick to make, and to ask."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from conftest import ROOT
from mmaction.registry import MODELS
from mmengine.dataset import Compose
from mmengine.registry import init_default_scope
from test_engine import build

from mmact_tiny.config import load_config
from mmact_tiny.engine.engine import Engine
from mmact_tiny.pipeline import with_decoder
from mmact_tiny.recognizer import Recognizer
from mmact_tiny.video.isolated import GuardedReader

PIPELINE = [
    dict(type="DecordInit"),
    dict(type="SampleFrames", clip_len=1, frame_interval=1, num_clips=3, test_mode=True),
    dict(type="DecordDecode"),
    dict(type="Resize", scale=(-1, 48)),
    dict(type="CenterCrop", crop_size=48),
    dict(type="FormatShape", input_format="NCHW"),
    dict(type="PackActionInputs"),
]


def small_recognizer(pipeline: Sequence[Any] = PIPELINE, name: str = "MobileNet") -> Recognizer:
    """Returns a recognizer of 7 classes with random weights."""
    made = Recognizer.__new__(Recognizer)
    made.engine = Engine(build(name))
    made.labels = [f"class {index}" for index in range(7)]
    made.steps = with_decoder(pipeline, "packets")
    made.protocol = "val: as the test has it"
    made._pipeline = GuardedReader(Compose(made.steps))
    return made


def write_checkpoint(
    path: Path, backbone: dict[str, Any] | None = None, in_channels: int = 1280
) -> Path:
    """Writes a checkpoint as training does: a small backbone, random weights, four classes.

    Args:
        path: The file.
        backbone: A config node, by default MobileNetV2's.
        in_channels: Of the head, what the backbone gives.
    """
    data = dict(dataset_paths=dict(data_root=str(ROOT / "data/tiny")))
    cfg = load_config(
        ROOT / "configs/tsn_tiny.py", changes=dict(data, pretrained=dict(weights="none"))
    )
    cfg.model.backbone = backbone or dict(type="MobileNetV2", pretrained=None)
    cfg.model.cls_head.in_channels = in_channels
    init_default_scope("mmaction")
    torch.manual_seed(0)
    model = MODELS.build(cfg.model)
    for layer in model.modules():  # so that the scores differ from clip to clip
        if isinstance(layer, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(layer.weight, 0.5, 1)
            torch.nn.init.uniform_(layer.running_var, 0.3, 0.6)
    torch.nn.init.normal_(model.cls_head.fc_cls.weight, std=0.1)
    classes = [f"class {index}" for index in range(4)]
    meta = dict(cfg=cfg.pretty_text, dataset_meta=dict(classes=classes))
    torch.save(dict(meta=meta, state_dict=model.state_dict()), path)
    return path
