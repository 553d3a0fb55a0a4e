"""Puts a linear probe into a stock head, so that the head's scores are the probe's."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from ..compat import Config, TSNHead
from ..errors import UserError
from ..pipeline import SPLITS, set_pipeline, split_datasets
from .probe import Probe

BOTTLENECK = 512  # units of the hidden layer in MMAction2's RelationModule


def takes_frames(head: Any) -> bool:
    """Returns whether a head averages the features of frames before its only layer, as TSN's."""
    return type(head) is TSNHead and head.consensus is not None


def last_layer(head: nn.Module) -> nn.Linear:
    """Returns the layer of a head that gives the class scores, or raises a UserError."""
    layers = [module for module in head.modules() if isinstance(module, nn.Linear)]
    found = [layer for layer in layers if layer.out_features == head.num_classes]
    if len(found) != 1:
        raise UserError(
            f"a {type(head).__name__} has no single last layer that a linear probe could be: take "
            "another recognizer, as configs/tsn_mobilenetv2.py"
        )
    return found[0]


def has_thirds(cfg: Config) -> bool:
    """Returns whether a stock head can hold a probe of thirds: TRN's, in the place of a TSN's."""
    head = cfg.model.cls_head
    is_tsn = (cfg.model.type, head.type) == ("Recognizer2D", "TSNHead")
    return is_tsn and 2 * head.num_classes <= BOTTLENECK


def use_relation_head(cfg: Config, num_frames: int) -> None:
    """Gives a TSN the head of TRN, for probes of thirds; it takes so many frames, no others."""
    head = cfg.model.cls_head
    kept = {key: head[key] for key in ("in_channels", "dropout_ratio", "average_clips")}
    size = dict(num_classes=head.num_classes, hidden_dim=6 * head.num_classes)
    cfg.model.cls_head = dict(
        type="TRNHead", relation_type="TRN", num_segments=num_frames, **size, **kept
    )
    set_num_clips(cfg, num_frames)


def set_num_clips(cfg: Config, num_clips: int, splits: Sequence[str] = SPLITS) -> None:
    """Has these splits take so many clips of a video."""
    for split, dataset in split_datasets(cfg):
        if split in splits:
            steps = [
                dict(step, num_clips=num_clips) if "num_clips" in step else step
                for step in dataset.pipeline
            ]
            set_pipeline(cfg, split, dataset, steps)


def put_into_head(head: Any, probe: Probe) -> None:
    """Sets a head's weights so that its scores are the probe's.

    TRN's head is a linear layer for each frame, then ReLU, linear, ReLU, linear over all frames.
    As x = ReLU(x) - ReLU(-x), two signs of each value make all of it one linear map.
    """
    layers: list[nn.Linear] = [last_layer(head)]
    if probe.choice.pooling == "thirds":
        layers = [head.fc_cls, head.consensus.classifier[1], layers[0]]
    weight, num_classes = torch.from_numpy(probe.weight).float(), len(probe.bias)
    with torch.no_grad():
        for layer in layers:
            layer.weight.zero_()
            layer.bias.zero_()
        layers[-1].bias.copy_(torch.from_numpy(probe.bias))
        if len(layers) == 1:
            layers[0].weight.copy_(weight)
            return
        frames = np.array_split(np.arange(head.num_segments), 3)
        thirds = weight.view(num_classes, 3, -1).unbind(1)
        values = [third / len(own) for third, own in zip(thirds, frames, strict=True)]
        layers[0].weight.copy_(torch.cat([each for v in values for each in (v, -v)]))
        eye = torch.eye(num_classes)
        signs = torch.cat([eye, -eye], dim=1)
        total = layers[1].weight.view(BOTTLENECK, head.num_segments, 3, 2 * num_classes)
        for third, own in enumerate(frames):
            total[: 2 * num_classes, own, third] = torch.cat([signs, -signs])[:, None]
        layers[2].weight[:, : 2 * num_classes] = signs
