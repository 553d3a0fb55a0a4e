"""Small recognizers of random weights that answer differently to different images."""

import copy
from typing import Any

import numpy as np
import torch
from mmaction.registry import MODELS
from mmaction.structures import ActionDataSample
from mmengine.registry import init_default_scope
from torch.nn.modules.batchnorm import _BatchNorm

SIZE = 48  # pixels of a side of the views
PREPROCESSOR = dict(
    type="ActionDataPreprocessor",
    mean=[123.675, 116.28, 103.53],
    std=[58.395, 57.12, 57.375],
    format_shape="NCHW",
)
SETTINGS = {  # ways to normalize
    "as ImageNet's": {},
    "BGR": dict(to_rgb=True),
    "not normalized": dict(mean=None, std=None),
    "of its own": dict(mean=[20, 90, 160], std=[200, 20, 60]),
}
ONE_STAGE = dict(depth=18, num_stages=1, strides=(1,), dilations=(1,), out_indices=(0,))
TWO_STAGES = dict(depth=50, num_stages=2, strides=(1, 2), dilations=(1, 1), out_indices=(1,))
BACKBONES = {
    "TSN": dict(type="ResNet", **ONE_STAGE),
    "TSM": dict(type="ResNetTSM", depth=18, num_segments=4, shift_div=8),
    "TANet": dict(type="TANet", num_segments=4, **TWO_STAGES),
    "MobileNet": dict(type="MobileNetV2"),
}
HEADS = {
    "TSN": dict(type="TSNHead", in_channels=64),
    "TSM": dict(type="TSMHead", in_channels=512, num_segments=4),
    "TANet": dict(type="TSMHead", in_channels=512, num_segments=4, is_shift=False),
    "MobileNet": dict(type="TSNHead", in_channels=1280),
}


def config(name: str, **settings: Any) -> dict[str, Any]:
    """Returns a recognizer of 7 classes as a config names it; settings are the preprocessor's."""
    return dict(
        type="Recognizer2D",
        backbone=dict(pretrained=None, norm_eval=False, **BACKBONES[name]),
        cls_head=dict(num_classes=7, average_clips="prob", **HEADS[name]),
        data_preprocessor=dict(PREPROCESSOR, **settings),
    )


def build(name: str, **settings: Any) -> Any:
    """Returns a recognizer of 7 classes with random weights, always the same."""
    return build_of(config(name, **settings))


def build_of(node: dict[str, Any], *, size: int = SIZE) -> Any:
    """Returns the recognizer of a config with random weights, for views of `size` pixels.

    Its scores vary with what it sees: a network of random weights forgets that, unless
    BatchNorm's statistics are those of its inputs, and the head takes the common part away.
    """
    init_default_scope("mmaction")
    torch.manual_seed(0)
    model = MODELS.build(node)
    norms = [module for module in model.backbone.modules() if isinstance(module, _BatchNorm)]
    for norm in norms:
        norm.train()
        norm.momentum = 1.0  # the statistics of one batch
    head = model.cls_head.fc_cls
    with torch.no_grad():
        examples = model.data_preprocessor(dict(inputs=[images(32, size=size)], data_samples=[]))[
            "inputs"
        ]
        features = model.backbone(examples[0]).mean((2, 3))
        torch.nn.init.normal_(head.weight)
        head.weight /= (features @ head.weight.T).std(0).mean()
        head.bias[:] = -(features @ head.weight.T).mean(0)
    for norm in norms:
        norm.momentum = 0.1  # the default
    return model.eval()


def images(num: int, *, size: int = SIZE, seed: int = 0) -> torch.Tensor:
    """Returns uint8 images (num, 3, size, size), each with colours and a pattern of its own."""
    generator = torch.Generator().manual_seed(seed)
    made = []
    for index in range(num):
        cells = (2, 4, 8, 12)[index % 4]  # from large shapes to fine texture
        colours = torch.rand(3, 1, 1, generator=generator)
        pattern = torch.rand(3, cells, cells, generator=generator)
        blocks = 255 * colours.lerp(pattern, torch.rand(1, generator=generator))
        made.append(torch.nn.functional.interpolate(blocks[None], size=(size, size)))
    return torch.cat(made).byte()


def views(num_views: int, *, num_videos: int = 1, size: int = SIZE) -> dict[str, Any]:
    """Returns what a data loader gives a recognizer of videos, each with an image of its own."""
    inputs = []
    for video in range(num_videos):
        own, each = (images(n, size=size, seed=100 * video + n) for n in (1, num_views))
        inputs.append(own // 3 * 2 + each // 3)
    return dict(inputs=inputs, data_samples=[ActionDataSample() for _ in range(num_videos)])


def scores_of(samples: list[Any]) -> np.ndarray:
    """Returns the scores of data samples, shape (videos, classes)."""
    assert all(sample.pred_score.dtype == torch.float32 for sample in samples)
    return np.stack([sample.pred_score.cpu().numpy() for sample in samples])


def stock_scores(model: Any, data: dict[str, Any]) -> np.ndarray:
    """Returns the scores that stock's `test_step` gives videos; the model stays as it is."""
    with torch.inference_mode():
        return scores_of(copy.deepcopy(model).test_step(data))


def check_scores(got: Any, expected: Any, *, within: float = 1e-5) -> None:
    """Checks that scores are those expected, and that these would show it if they were not.

    Args:
        got: Shape (videos, classes).
        expected: The same of at least two videos that differ.
        within: The largest difference allowed.
    """
    got, expected = np.asarray(got), np.asarray(expected)
    assert got.shape == expected.shape
    assert np.ptp(expected, axis=0).max() > 0.05, "the model answers alike to all videos"
    assert expected.max() < 0.99, "saturated: a difference would not show"
    assert np.abs(got - expected).max() <= within
