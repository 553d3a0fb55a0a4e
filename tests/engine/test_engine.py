"""The engine's scores are stock's, whatever the chunks, in fewer and smaller forward passes."""

import importlib.util
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmcv.cnn import ConvModule
from models import SETTINGS, SIZE, build, check_scores, images, scores_of, stock_scores, views

from mmact_tiny import hardware
from mmact_tiny.engine.engine import (
    Engine,
    cache_dir_of,
    choose_precision,
    exact_convolutions,
    fold_batchnorm,
    frames_together,
    pool,
)
from mmact_tiny.engine.openvino import why_not
from mmact_tiny.errors import UserError

CPU = torch.device("cpu")


def chunked(model: Any, data: dict[str, Any], chunk: float) -> tuple[np.ndarray, int]:
    """Returns the scores in chunks of so many views, and the number of forward passes."""
    engine = Engine(model)
    engine._chunk_pixels = int(chunk * SIZE * SIZE)
    passes = []
    engine.before_chunk = lambda: passes.append(1)
    return scores_of(engine.test_step(data)), len(passes)


@pytest.mark.parametrize(
    ("name", "num_videos", "num_views", "chunk", "num_forwards"),
    [
        ("TSN", 2, 10, 4, 6),  # chunks of 4, 4 and 2
        ("TSN", 5, 2, 4, 3),  # two videos in a forward pass
        ("TSN", 2, 2, 0.5, 4),  # a view at a time, however large
        ("MobileNet", 2, 6, 4, 4),
        ("TSM", 2, 8, 6, 4),  # whole groups of 4 frames
        ("TSM", 3, 4, 11, 2),
        ("TSM", 2, 8, 0.001, 4),
        ("TANet", 2, 8, 4, 4),
    ],
)
def test_fp32_scores_are_stocks(
    name: str, num_videos: int, num_views: int, chunk: float, num_forwards: int
) -> None:
    model = build(name)
    expected = stock_scores(model, views(num_views, num_videos=num_videos))
    got, passes = chunked(model, views(num_views, num_videos=num_videos), chunk)
    check_scores(got, expected)
    assert passes == num_forwards


@pytest.mark.parametrize("settings", SETTINGS)
def test_views_are_normalized_as_the_preprocessor_says(settings: str) -> None:
    model = build("TSN", **SETTINGS[settings])
    check_scores(
        scores_of(Engine(model).test_step(views(3, num_videos=3))),
        stock_scores(model, views(3, num_videos=3)),
    )


@pytest.mark.skipif(not torch.backends.mps.is_available(), reason="this machine has no MPS")
@pytest.mark.parametrize("name", ["TSN", "MobileNet", "TSM", "TANet"])
def test_scores_on_mps_are_those_of_the_cpu(name: str) -> None:
    expected = stock_scores(build(name), views(8, num_videos=2))
    engine = Engine(build(name).to("mps"), precision="auto", engine="auto")
    assert str(engine) == "torch, fp32"
    check_scores(scores_of(engine.test_step(views(8, num_videos=2))), expected)


def test_bf16_scores_are_close_and_name_the_same_class() -> None:
    model = build("TSN")
    expected = stock_scores(model, views(5, num_videos=3))
    engine = Engine(model, precision="bf16")
    got = scores_of(engine.test_step(views(5, num_videos=3)))
    check_scores(got, expected, within=0.02)
    assert np.abs(got - expected).max() > 1e-5, "computed in fp32"
    assert got.argmax(1).tolist() == expected.argmax(1).tolist()
    assert str(engine) == "torch, bf16 (--precision fp32 is exact)"
    assert str(Engine(build("TSN"))) == "torch, fp32"


def test_views_of_another_kind_in_between_are_scored_as_stock_does() -> None:
    model = build("TSM")
    odd = views(4, num_videos=2)
    odd["inputs"] = [each.float() for each in odd["inputs"]]
    expected = stock_scores(model, views(4, num_videos=2))
    for precision, within in (("fp32", 1e-5), ("bf16", 0.02)):
        engine = Engine(build("TSM"), precision=precision)
        for data in (views(4, num_videos=2), odd, views(4, num_videos=2)):
            check_scores(scores_of(engine.test_step(data)), expected, within=within)


UNKNOWN = {
    "a recognizer of one's own": lambda m: setattr(m, "__class__", type("Mine", (type(m),), {})),
    "a backbone of one's own": lambda m: setattr(
        m.backbone, "__class__", type("Mine", (type(m.backbone),), {})
    ),
    "a preprocessor of one's own": lambda m: setattr(
        m.data_preprocessor, "__class__", type("Mine", (type(m.data_preprocessor),), {})
    ),
    "a head of one's own": lambda m: setattr(
        m.cls_head,
        "__class__",
        type("Mine", (type(m.cls_head),), {"predict": lambda *_, **__: []}),
    ),
    "clips": lambda m: setattr(m.data_preprocessor, "format_shape", "NCTHW"),
    "a neck": lambda m: setattr(m, "neck", torch.nn.Identity()),
    "no head": lambda m: delattr(m, "cls_head"),
    "a fully convolutional test": lambda m: setattr(m, "test_cfg", dict(fcn_test=True)),
}


@pytest.mark.parametrize("change", UNKNOWN)
def test_what_is_not_known_is_left_to_stock(change: str) -> None:
    model = build("TSN")
    assert frames_together(model) == 1
    UNKNOWN[change](model)
    assert frames_together(model) is None
    engine = Engine(model, precision="bf16", engine="auto")
    assert str(engine) == "stock, fp32"
    assert not engine.has_room(images(1), 1)


def test_what_is_left_to_stock_has_its_scores_and_can_be_given_up() -> None:
    model = build("TSN")
    UNKNOWN["a recognizer of one's own"](model)
    expected = stock_scores(model, views(3, num_videos=2))
    engine = Engine(model, precision="bf16")
    model.test_step = engine.test_step  # as the Runner's hook does
    check_scores(scores_of(engine.test_step(views(3, num_videos=2))), expected, within=0)

    def give_up() -> None:
        raise UserError("gone")

    for each in (engine, Engine(build("TSN"))):
        each.before_chunk = give_up
        with pytest.raises(UserError, match="gone"):
            each.test_step(views(3))


@pytest.mark.parametrize(
    ("name", "together"), [("TSN", 1), ("MobileNet", 1), ("TSM", 4), ("TANet", 4)]
)
def test_frames_that_are_mixed_stay_together(name: str, together: int) -> None:
    model = build(name)
    assert frames_together(model) == together
    model.test_cfg = dict(fcn_test=False, max_testing_views=None)
    assert frames_together(model) == together
    if together == 4:  # a neck takes groups of as many frames as the backbone mixes, or others
        for num_segs, expected in ((4, 4), (8, None)):
            model.test_cfg = dict(fcn_test=True, num_segs=num_segs)
            assert frames_together(model) == expected
        model.test_cfg = None
    model.backbone_from = "timm"  # which has backbones of single images
    assert frames_together(model) == 1


@pytest.mark.parametrize(
    ("name", "shape", "num_videos", "room"),
    [
        ("TSN", (5, 3, 224, 224), 4, True),  # 25 views in all, the most on a CPU
        ("TSN", (5, 3, 224, 224), 5, False),
        ("TSN", (5, 3, 112, 112), 19, True),
        ("TSN", (5, 3, 112, 112), 20, False),
        ("TSN", (1, 5, 3, 48, 48), 1, False),
        ("TSM", (8, 3, 224, 224), 2, True),
        ("TSM", (8, 3, 224, 224), 3, False),
        ("TSM", (6, 3, 48, 48), 1, False),  # no whole groups of 4 frames
    ],
)
def test_room_for_one_more_video(
    name: str, shape: tuple[int, ...], num_videos: int, room: bool
) -> None:
    engine = Engine(build(name))
    assert engine.has_room(torch.zeros(shape, dtype=torch.uint8), num_videos) is room
    assert not engine.has_room(torch.zeros(shape), num_videos)


def test_what_makes_it_fast_is_done() -> None:
    """No BatchNorm is left, memory is channels_last, and only fp32 is kept from TF32."""
    for precision, tf32 in (("fp32", False), ("bf16", True)):
        engine = Engine(build("TSN"), precision=precision)
        assert not [m for m in engine.model.modules() if isinstance(m, torch.nn.BatchNorm2d)]
        seen = []
        engine.model.backbone.register_forward_pre_hook(
            lambda _, inputs, seen=seen: seen.append((inputs[0], torch.backends.cudnn.allow_tf32))
        )
        (sample,) = engine.test_step(views(2))
        ((chunk, allowed),) = seen
        weight = engine.model.backbone.conv1.conv.weight
        for tensor in (chunk, weight):
            assert tensor.is_contiguous(memory_format=torch.channels_last)
            assert tensor.dtype == {"fp32": torch.float32, "bf16": torch.bfloat16}[precision]
        assert allowed is tf32 and not sample.pred_score.requires_grad
    before = torch.backends.cudnn.allow_tf32
    with exact_convolutions(True):
        assert not torch.backends.cudnn.allow_tf32
    assert torch.backends.cudnn.allow_tf32 is before


@pytest.mark.parametrize(
    ("order", "kept"), [(("conv", "norm", "act"), False), (("norm", "conv", "act"), True)]
)
def test_batchnorm_is_folded_where_it_follows_the_convolution(
    order: tuple[str, ...], kept: bool
) -> None:
    torch.manual_seed(0)
    block = ConvModule(3, 3, 3, norm_cfg=dict(type="BN"), order=order).eval()
    block.bn.running_mean.normal_()
    block.bn.running_var.uniform_(0.2, 2)
    inputs = torch.randn(2, 3, 8, 8)
    expected = block(inputs)
    fold_batchnorm(torch.nn.Sequential(block))
    assert isinstance(block.bn, torch.nn.BatchNorm2d) is kept
    torch.testing.assert_close(block(inputs), expected)


def test_features_are_averaged_only_where_the_head_would() -> None:
    features = torch.arange(8.0).reshape(1, 2, 2, 2)
    head = torch.nn.Module()
    assert pool(head, features) is features
    head.avg_pool = torch.nn.AdaptiveAvgPool2d((2, 2))
    assert pool(head, features) is features
    head.avg_pool = torch.nn.AdaptiveAvgPool2d(1)
    assert pool(head, features.bfloat16()).tolist() == [[[[1.5]], [[5.5]]]]
    assert pool(head, features.bfloat16()).dtype == torch.float32


def test_precisions_and_engines_are_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="expected auto, fp32, bf16, fp16, int8"):
        choose_precision("int4", CPU)
    with pytest.raises(UserError, match="fp16 needs a CUDA device"):
        choose_precision("fp16", CPU)
    monkeypatch.setattr(hardware, "cpu_flags", lambda: frozenset({"amx_bf16"}))
    assert [choose_precision(name, CPU) for name in ("auto", "fp32", "bf16", "int8")] == [
        *("bf16", "fp32", "bf16", "int8")
    ]
    assert choose_precision("fp16", torch.device("cuda")) == "fp16"
    assert choose_precision("auto", torch.device("mps")) == "fp32"
    with pytest.raises(UserError, match="precision bf16: expected auto or fp32 on MPS"):
        choose_precision("bf16", torch.device("mps"))
    with pytest.raises(UserError, match="engine 'tensorrt': expected one of auto"):
        Engine(build("MobileNet"), engine="tensorrt")
    with pytest.raises(UserError, match="takes each frame by itself"):
        Engine(build("TSM"), engine="openvino")
    assert Engine(build("TSM"), engine="auto").name == "torch"
    with pytest.raises(UserError, match="int8 needs the engine openvino, not torch"):
        Engine(build("MobileNet"), precision="int8", engine="torch")
    with pytest.raises(UserError, match="takes each frame by itself"):  # not: needs openvino
        Engine(build("TSM"), precision="int8", engine="auto")


def test_a_missing_openvino_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    reason = why_not(CPU, 1)
    assert reason is not None and "pip install 'mmact-tiny[openvino]'" in reason
    with pytest.raises(UserError, match="not installed"):
        Engine(build("MobileNet"), engine="openvino")
    assert Engine(build("MobileNet"), engine="auto").name == "torch"


def test_the_export_is_kept_beside_the_checkpoint_or_in_the_users_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = tmp_path / "run" / "epoch_1.pth"
    checkpoint.parent.mkdir()
    assert cache_dir_of(checkpoint) == tmp_path / "run" / "epoch_1.openvino"
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_dir_of(checkpoint) == tmp_path / "mmact_tiny" / "epoch_1.openvino"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_dir_of(checkpoint) == tmp_path / ".cache" / "mmact_tiny" / "epoch_1.openvino"
    (tmp_path / "run" / "epoch_1.openvino").mkdir()
    assert cache_dir_of(checkpoint) == tmp_path / "run" / "epoch_1.openvino"
