"""What stock recognition configs name works with today's packages."""

import sys

import numpy as np
import pytest
import torch

from mmact_tiny import compat, hardware
from mmact_tiny.build import build_model
from mmact_tiny.checkpoints.config_text import read_config
from mmact_tiny.compat import MODELS, TRANSFORMS, DecordInit, Recognizer2D, init_default_scope
from mmact_tiny.errors import UserError

MOBILE_ONE = "mmaction.models.backbones.mobileone_tsm"
RED = np.full((2, 2, 3), (255, 0, 0), np.uint8)
RESNEXT = dict(depth=50, num_stages=4, groups=32, width_per_group=4)


@pytest.fixture(autouse=True)
def repaired() -> None:
    for name in (DecordInit, Recognizer2D):  # their modules are imported, and repaired
        assert name.__module__.startswith("mmaction.")


def test_mps_is_the_device_only_where_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    from mmengine.device import get_device, utils

    for asked, device in ((False, "cpu"), (True, "mps")):
        monkeypatch.setattr(utils, "DEVICE", "mps")  # as MMEngine finds it
        monkeypatch.delenv(hardware.MPS, raising=False)
        if asked:
            monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
            monkeypatch.setenv(hardware.MPS, "")  # taken back afterwards
            hardware.select_device("mps")
        compat.leave_mps_out()
        assert get_device() == device


@pytest.mark.parametrize(
    ("factor", "color"),  # by -25, 0 and 25 of 180 half degrees
    [(-0.1, (255, 0, 212)), (0.0, (255, 0, 0)), (0.1, (255, 213, 0))],
)
def test_color_jitter_shifts_the_hue_by_negative_offsets(factor: float, color: tuple) -> None:
    hue = TRANSFORMS.get("ColorJitter").adjust_hue(RED, factor)
    assert hue.dtype == np.float32 and tuple(hue[0, 0]) == color


def test_color_jitter_gives_uint8_frames_of_one_draw() -> None:
    np.random.seed(3)
    for _ in range(20):
        frames = TRANSFORMS.get("ColorJitter")()(dict(imgs=[RED, RED.copy()]))["imgs"]
        assert frames[0].dtype == np.uint8 and np.array_equal(frames[0], frames[1])


def test_randaugment_changes_all_frames_alike_with_pytorchvideo_s_parameters() -> None:
    wrapper = TRANSFORMS.get("PytorchVideoWrapper")
    step = wrapper(op="RandAugment", magnitude=7, num_layers=4)
    layers = step.trans.transforms
    assert [(layer.p, layer.transforms[0].num_ops) for layer in layers] == [(0.5, 1)] * 4
    augment = layers[0].transforms[0]
    assert (augment.magnitude, augment.num_magnitude_bins) == (7, 11)
    frame = np.random.default_rng(0).integers(0, 256, (32, 24, 3), dtype=np.uint8)
    changed = 0
    for seed in range(12):
        torch.manual_seed(seed)
        frames = step(dict(imgs=[frame, frame.copy()]))["imgs"]
        assert [(f.shape, f.dtype) for f in frames] == [((32, 24, 3), np.uint8)] * 2
        assert np.array_equal(frames[0], frames[1])
        changed += not np.array_equal(frames[0], frame)
    assert 6 <= changed <= 12
    with pytest.raises(ImportError, match="AugMix needs pytorchvideo"):
        wrapper(op="AugMix")


@pytest.mark.parametrize(
    ("backbone", "module"),
    [
        (dict(type="mmcls.ResNeXt", **RESNEXT), "mmpretrain.models.backbones.resnext"),
        (dict(type="MobileOneTSM", arch="s0"), MOBILE_ONE),
        (dict(type="MobileOneTSM", arch="s1"), MOBILE_ONE),
    ],
)
def test_backbones_of_mmpretrain(backbone: dict, module: str) -> None:
    pytest.importorskip("mmpretrain", reason="the extra zoo is not installed")
    init_default_scope("mmaction")
    head = dict(type="TSNHead", num_classes=2, in_channels=8)
    model = MODELS.build(dict(type="Recognizer2D", backbone=dict(backbone), cls_head=head))
    assert type(model.backbone).__module__ == module


@pytest.mark.parametrize(
    "stem",
    [
        "tsm_imagenet-pretrained-mobileone-s4_8xb16-1x1x16-50e_kinetics400-rgb",
        "tsn_imagenet-pretrained-mobileone-s4_8xb32-1x1x8-100e_kinetics400-rgb",
        "tsn_imagenet-pretrained-rn101-32x4d_8xb32-1x1x3-100e_kinetics400-rgb",
        "tsn_imagenet-pretrained-swin-transformer_8xb32-1x1x3-100e_kinetics400-rgb",
    ],
)
def test_without_the_extra_a_line_names_it(stem: str, monkeypatch: pytest.MonkeyPatch) -> None:
    cfg = read_config(f"mmaction::{stem}")
    cfg.model.backbone.pretrained = cfg.model.backbone.init_cfg = None
    names = ("timm", "mmcls.models", "mmpretrain", "mmpretrain.models", MOBILE_ONE)
    for name in names:
        monkeypatch.setitem(sys.modules, name, None)  # to import it is an ImportError
    with pytest.raises(UserError) as error:
        build_model(cfg)
    assert str(error.value).endswith("it is of timm or mmpretrain: pip install 'mmact-tiny[zoo]'")


def test_tin_shifts_groups_of_channels_in_time() -> None:
    from mmcv.ops import tin_shift

    clip = torch.arange(1.0, 13.0).reshape(1, 3, 4, 1).requires_grad_()  # rows are frames
    shifted = tin_shift(clip, torch.tensor([[1, -2]], dtype=torch.int32))
    assert shifted[0, :, :, 0].tolist() == [[0, 0, 11, 12], [1, 2, 0, 0], [5, 6, 0, 0]]
    shifted.sum().backward()
    assert clip.grad[0, :, :, 0].tolist() == [[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 1]]


def test_tpn_scores_with_the_weights_of_now() -> None:
    head = MODELS.build(dict(type="mmaction.TPNHead", num_classes=2, in_channels=3)).eval()
    clips = torch.ones(2, 3, 4, 7, 7)
    for value in (1.0, 2.0):
        torch.nn.init.constant_(head.fc_cls.weight, value)
        torch.nn.init.constant_(head.fc_cls.bias, 0.5)
        with torch.inference_mode():
            assert head(clips, fcn_test=True).tolist() == [[3 * value + 0.5] * 2] * 2
    assert [name for name in head.state_dict() if "new_cls" in name] == []


def test_trn_relates_the_same_frames_in_every_test() -> None:
    torch.manual_seed(0)
    settings = dict(num_classes=5, in_channels=16, num_segments=8, relation_type="TRNMultiScale")
    head = MODELS.build(dict(type="mmaction.TRNHead", **settings))
    images = torch.randn(8, 16, 7, 7)
    drawn = [head(images, 8).detach() for _ in range(3)]
    assert not torch.equal(drawn[0], drawn[1])  # in training
    np.random.seed(1)
    before = np.random.get_state()[1].copy()
    tested = [head.eval()(images, 8) for _ in range(3)]
    assert torch.equal(tested[0], tested[1]) and torch.equal(tested[1], tested[2])
    assert np.array_equal(before, np.random.get_state()[1])
