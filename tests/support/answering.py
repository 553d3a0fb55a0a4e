"""Has a model with random weights answer differently to different videos."""

import numpy as np
import torch
from test_engine import build


def answering(name: str, images: torch.Tensor | None = None) -> torch.nn.Module:
    """Returns `test_engine.build(name)`, its scores spread over 0.05 from picture to picture.

    BatchNorm takes the statistics of the pictures, so that no layer's output vanishes, and the
    classifier is centred on their features.

    Args:
        name: Of the backbone.
        images: Normalized, (images, 3, height, width); by default noise in several colours.
    """
    model = build(name)
    if images is None:
        generator = torch.Generator().manual_seed(0)
        colors = torch.randn(8, 3, 1, 1, generator=generator)
        images = colors + torch.randn(8, 3, 64, 64, generator=generator) / 2
    layers = [layer for layer in model.modules() if isinstance(layer, torch.nn.BatchNorm2d)]
    for layer in layers:
        layer.momentum = 1.0
    classifier = model.cls_head.fc_cls
    with torch.no_grad():
        model.train()
        model.backbone(images)
        features = model.eval().backbone(images).mean((2, 3))
        torch.nn.init.normal_(classifier.weight, std=1 / float(features.std(0).norm()))
        classifier.bias.copy_(-classifier.weight @ features.mean(0))
        scores = classifier(features).softmax(1).numpy()
    assert np.ptp(scores, axis=0).max() > 0.05
    return model
