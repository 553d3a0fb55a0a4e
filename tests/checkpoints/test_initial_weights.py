"""What stock models would fetch is found and switched off: over all recognition configs."""

import re
import socket
from pathlib import Path
from typing import Any

import pytest
from mmengine.config import Config

from mmact_tiny.checkpoints.config_text import find_downloads, stock_configs, without_downloads
from mmact_tiny.compat import MODELS, register_all_modules
from mmact_tiny.overrides.training import pretrained

RECOGNITION = sorted((stock_configs() / "recognition").rglob("*.py"))
# Class, and what it is told where nothing is to be fetched: its defaults want an address.
TOLD: dict[str, dict[str, Any]] = {
    "ResNet": {},
    "ResNetTSM": {"pretrained2d": False},
    "MobileNetV2TSM": {"pretrained2d": False},
    "MobileOneTSM": {"pretrained2d": False},
    "ResNet3dSlowOnly": {"pretrained2d": False},
    "ResNet3dCSN": {"pretrained2d": False},
    "SwinTransformer3D": {"pretrained2d": False},
    "UniFormer": {"pretrained2d": False},
    "UniFormerV2": {"clip_pretrained": False},
    "MViT": {},
    "resnet3d": {},  # SlowFast's name of a pathway, in no registry
    "torchvision.densenet161": {},
}


@pytest.mark.parametrize("kind", TOLD)
def test_a_class_is_told_what_its_defaults_ask_for(kind: str) -> None:
    assert without_downloads({"type": kind}) == {"type": kind, **TOLD[kind]}


CASES: list[tuple[dict, list, dict]] = [  # a node, what it starts from, what becomes of it
    ({"pretrained": "torchvision://resnet50"}, ["torchvision://resnet50"], {"pretrained": None}),
    ({"pretrained": True}, [True], {"pretrained": False}),
    ({"pretrained": None, "pretrained2d": True}, [], {"pretrained": None, "pretrained2d": False}),
    (
        {"pretrained": "http://x/y.pth", "pretrained_type": "maskfeat"},
        ["http://x/y.pth"],
        {"pretrained": None, "pretrained_type": None},
    ),
    ({"pathway": ({"pretrained": "y"},)}, ["y"], {"pathway": ({"pretrained": None},)}),
    ({"a": {"init_cfg": {"type": "Pretrained", "checkpoint": "y"}}}, ["y"], {"a": {}}),
    ({"init_cfg": [{"type": "Pretrained", "checkpoint": "y"}]}, ["y"], {}),
    ({"init_cfg": [{"type": "Normal"}]}, [], {"init_cfg": [{"type": "Normal"}]}),
]


@pytest.mark.parametrize("case", range(len(CASES)))
def test_downloads_are_found_and_switched_off(case: int) -> None:
    node, found, expected = CASES[case]
    assert list(find_downloads(node)) == found
    assert without_downloads(node) == expected
    assert without_downloads(expected) == expected


def test_no_recognition_config_is_left_with_an_address() -> None:
    assert len(RECOGNITION) == 125
    num_with_weights = 0
    for path in RECOGNITION:
        cfg = Config.fromfile(path)
        num_with_weights += any(find_downloads(cfg.model)) or cfg.get("load_from") is not None
        pretrained(cfg, weights="none")
        left = str(cfg.model.to_dict())
        assert not re.search(r"://|\.pth|'checkpoint'|pretrained\w*': (?!None|False)", left)
        assert cfg.load_from is None
    assert num_with_weights == 79


SMALL = (
    "tsm_imagenet-pretrained-mobileone-s4_8xb16-1x1x16-50e_kinetics400-rgb",
    "tsn_imagenet-pretrained-rn101-32x4d_8xb32-1x1x3-100e_kinetics400-rgb",
    "tsn_imagenet-pretrained-swin-transformer_8xb32-1x1x3-100e_kinetics400-rgb",
    "tsm_imagenet-pretrained-mobilenetv2_8xb16-1x1x8-100e_kinetics400-rgb",
    "tsn_imagenet-pretrained-dense161_8xb32-1x1x3-100e_kinetics400-rgb",
    "i3d_imagenet-pretrained-r50_8xb8-32x2x1-100e_kinetics400-rgb",
    "tanet_imagenet-pretrained-r50_8xb8-dense-1x1x8-100e_kinetics400-rgb",
    "tin_imagenet-pretrained-r50_8xb6-1x1x8-40e_sthv2-rgb",
    "swin-tiny-p244-w877_in1k-pre_8xb8-amp-32x2x1-30e_kinetics400-rgb",
    "mvit-small-p244_k400-maskfeat-pre_8xb32-16x4x1-100e_kinetics400-rgb",
    "uniformer-small_imagenet1k-pre_16x4x1_kinetics400-rgb",
    "x3d_s_13x6x1_facebook-kinetics400-rgb",
)


@pytest.mark.parametrize("stem", SMALL)
def test_models_start_with_the_network_blocked(stem: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("a connection")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    (path,) = [path for path in RECOGNITION if path.stem == stem]
    register_all_modules(init_default_scope=True)
    model = MODELS.build(without_downloads(Config.fromfile(Path(path)).model.to_dict()))
    model.init_weights()
