"""Weights of backbones from other libraries compute the same in MMAction2's backbones."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torchvision
from mmaction.registry import MODELS
from mmengine.registry import init_default_scope

from mmact_tiny.checkpoints.load import load_weights
from mmact_tiny.errors import UserError

RESNET, MOBILENET = dict(type="ResNet", depth=18), dict(type="MobileNetV2")


def recognizer(backbone: dict[str, Any], channels: int, head: str = "TSNHead") -> Any:
    init_default_scope("mmaction")
    head_cfg = dict(type=head, num_classes=3, in_channels=channels)
    cfg = dict(type="Recognizer2D", backbone=dict(backbone, pretrained=None), cls_head=head_cfg)
    return MODELS.build(dict(cfg, data_preprocessor=dict(type="ActionDataPreprocessor"))).eval()


def varied(model: Any) -> Any:
    """Gives the statistics of BatchNorm other values than the ones that all layers start with."""
    torch.manual_seed(0)
    for name, value in model.state_dict().items():
        if name.endswith(("running_mean", "running_var", "bias")):
            value.copy_(torch.rand_like(value) / 2 + 0.5)
    return model.eval()


def torchvision_features(model: Any, images: torch.Tensor) -> torch.Tensor:
    if hasattr(model, "features"):
        return model.features(images)
    layers = [module for name, module in model.named_children() if name not in ("avgpool", "fc")]
    return torch.nn.Sequential(*layers)(images)


def without_counters(state: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in state.items() if "num_batches_tracked" not in key}


WRAPS: dict[str, Callable[[dict], dict]] = {
    "as torchvision saves it": lambda state: state,
    "in `model`, of data parallel": lambda s: {"model": {f"module.{k}": v for k, v in s.items()}},
    "in `module`": lambda state: {"epoch": 3, "module": state},
    "before PyTorch 0.4.1": without_counters,
    "as MMPretrain names it": lambda s: {"state_dict": {f"backbone.{k}": v for k, v in s.items()}},
}


@pytest.mark.parametrize("wrap", WRAPS)
@pytest.mark.parametrize(
    ("name", "backbone", "channels", "counts"),
    [
        ("resnet18", RESNET, 512, (120, 100, 122)),
        ("resnet50", dict(type="ResNet", depth=50), 2048, (318, 265, 320)),
        ("mobilenet_v2", MOBILENET, 1280, (312, 260, 314)),
    ],
)
def test_torchvision(
    name: str, backbone: dict, channels: int, counts: tuple[int, int, int], wrap: str
) -> None:
    theirs, own = varied(getattr(torchvision.models, name)()), recognizer(backbone, channels)
    message = load_weights(own, WRAPS[wrap](theirs.state_dict()), path="x.pth", new_head=True)
    count = counts[1] if wrap == "before PyTorch 0.4.1" else counts[0]
    ending = "it has no head: the head is re-initialised"
    assert message == f"{count} of {counts[2]} tensors loaded from x.pth; {ending}"
    images = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        expected = torchvision_features(theirs, images)
        torch.testing.assert_close(own.backbone(images), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["resnet18", "mobilenetv2_100"])
def test_timm(name: str) -> None:
    timm = pytest.importorskip("timm")
    theirs = varied(timm.create_model(name))
    own = recognizer(*((RESNET, 512) if name == "resnet18" else (MOBILENET, 1280)))
    load_weights(own, theirs.state_dict(), path="x.pth", new_head=True)
    images = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        expected = theirs.forward_features(images)
        torch.testing.assert_close(own.backbone(images), expected, rtol=1e-4, atol=1e-4)


def test_a_backbone_that_shifts_has_the_same_layers() -> None:
    theirs = varied(torchvision.models.mobilenet_v2())
    shifting = dict(type="MobileNetV2TSM", num_segments=8, pretrained2d=False)
    own = recognizer(shifting, 1280, "TSMHead")
    own.backbone.init_weights()
    message = load_weights(own, theirs.state_dict(), path="x.pth", new_head=True)
    assert message.startswith("312 of 314 tensors loaded")
    last = own.backbone.state_dict()["conv2.conv.weight"]
    assert torch.equal(last, theirs.state_dict()["features.18.0.weight"])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            lambda s: torchvision.models.resnet34().state_dict(),
            "layer1.2.conv1.weight (64, 64, 3, 3",
        ),
        (lambda s: dict(list(s.items())[:30]), "it has nothing"),
        (lambda s: {"a.bias": torch.zeros(3), **s}, "it has a.bias (3,)"),
        (lambda s: {}, "its 0 tensors begin with none"),
    ],
)
def test_others_are_refused(change: Callable[[dict], dict], words: str) -> None:
    own = recognizer(RESNET, 512)
    before = {key: value.clone() for key, value in own.state_dict().items()}
    state = change(torchvision.models.resnet18().state_dict())
    with pytest.raises(UserError, match=r"x\.pth is of another architecture") as error:
        load_weights(own, state, path="x.pth", new_head=True)
    assert words in str(error.value)
    assert "the backbone's 1" in str(error.value) and "conv1.conv.weight" in str(error.value)
    assert all(torch.equal(value, before[key]) for key, value in own.state_dict().items())
