"""The description of a config: stages, multiply-accumulates, and the frames that it takes."""

import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from video_files import write_video

from mmact_tiny import UserError
from mmact_tiny.view.describe import (
    Structure,
    build_model,
    config_to_describe,
    describe,
    read_structure,
    say_flops,
)
from mmact_tiny.view.sampling import Sampling, read_sampling, say_sampling

STOCK = "mmaction::recognition"
TSN = f"{STOCK}/tsn/tsn_imagenet-pretrained-r50_8xb32-1x1x3-100e_kinetics400-rgb.py"
TSM = f"{STOCK}/tsm/tsm_imagenet-pretrained-r50_8xb16-1x1x8-50e_kinetics400-rgb.py"
SLOWONLY = f"{STOCK}/slowonly/slowonly_r50_8xb16-4x16x1-256e_kinetics400-rgb.py"
TIMESFORMER = f"{STOCK}/timesformer/timesformer_divST_8xb8-8x32x1-15e_kinetics400-rgb.py"
DENSENET = (
    f"{STOCK}/tsn/custom_backbones/"
    "tsn_imagenet-pretrained-dense161_8xb32-1x1x3-100e_kinetics400-rgb.py"
)
TPN = f"{STOCK}/tpn/tpn-tsm_imagenet-pretrained-r50_8xb8-1x1x8-150e_sthv1-rgb.py"
FLOW = f"{STOCK}/tsn/tsn_imagenet-pretrained-r50_8xb32_5x1x3-110e_kinetics400-flow.py"


def sampling_of(config: str, split: str, num_frames: int) -> Sampling:
    return read_sampling(config_to_describe(config), split, num_frames=num_frames)


def structure_of(config: str, split: str = "val") -> Structure:
    cfg = config_to_describe(config)
    return read_structure(build_model(cfg), read_sampling(cfg, split).sample)


def test_tsn_structure() -> None:
    """The shapes of He et al. 2015, table 1, for 3 frames of 224 pixels."""
    structure = structure_of(TSN)
    assert structure.input_shape == (1, 3, 3, 224, 224)
    assert [
        (stage.name, stage.output_shapes, stage.num_params, stage.flops)
        for stage in structure.stages
    ] == [
        ("backbone.conv1", ((3, 64, 112, 112),), 9_536, 358_858_752),
        ("backbone.maxpool", ((3, 64, 56, 56),), 0, 0),
        ("backbone.layer1", ((3, 256, 56, 56),), 215_808, 2_030_321_664),
        ("backbone.layer2", ((3, 512, 28, 28),), 1_219_584, 3_101_478_912),
        ("backbone.layer3", ((3, 1024, 14, 14),), 7_098_368, 4_405_954_560),
        ("backbone.layer4", ((3, 2048, 7, 7),), 14_964_736, 2_431_478_784),
        ("cls_head.avg_pool", ((3, 2048, 1, 1),), 0, 301_056),
        ("cls_head.consensus", ((1, 1, 2048, 1, 1),), 0, 0),
        ("cls_head.dropout", ((1, 2048, 1, 1),), 0, 0),
        ("cls_head.fc_cls", ((1, 400),), 819_600, 819_200),
    ]
    assert structure.num_params == 24_327_632
    assert structure.flops == 12_329_212_928


@pytest.mark.parametrize(
    ("config", "input_shape", "last", "gflops"),
    [
        (TSM, (1, 8, 3, 224, 224), (1, 1, 400), 32.88),  # as MMAction2's table has it
        (SLOWONLY, (1, 1, 3, 4, 224, 224), (1, 400), 20.96),
        (DENSENET, (1, 3, 3, 224, 224), (1, 400), 23.35),
        (FLOW, (1, 3, 10, 224, 224), (1, 400), 13.16),
        (TPN, (1, 8, 3, 224, 224), (1, 2048, 1, 1, 1), 41.41),
        pytest.param(  # MMAction2's table: 196 G
            TIMESFORMER, (1, 1, 3, 8, 224, 224), (1, 400), 196.05, marks=pytest.mark.slow
        ),
    ],
    ids=["tsm", "slowonly", "torchvision", "flow", "tpn", "timesformer"],
)
def test_other_recognizers(
    config: str, input_shape: tuple[int, ...], last: tuple[int, ...], gflops: float
) -> None:
    structure = structure_of(config)
    assert structure.input_shape == input_shape
    called = [stage for stage in structure.stages if stage.name != "(outside these)"]
    assert called[-1].output_shapes == (last,)
    assert round(structure.flops / 1e9, 2) == gflops
    assert sum(stage.num_params for stage in structure.stages) == structure.num_params
    assert sum(stage.flops for stage in structure.stages) == structure.flops


def test_a_model_that_cannot_be_traced_says_so(caplog: pytest.LogCaptureFixture) -> None:
    cfg = config_to_describe(TSN)
    model = build_model(cfg)

    def refuse(*_: object) -> None:
        if torch.jit.is_tracing():
            raise RuntimeError("no tracing")

    model.backbone.register_forward_hook(refuse)
    with caplog.at_level(logging.WARNING, logger="mmact_tiny"):
        structure = read_structure(model, read_sampling(cfg, "val").sample)
    assert "FLOPs: shown as 0, MMEngine cannot count" in caplog.text and "no tracing" in caplog.text
    assert structure.flops == 0 and structure.num_params == 24_327_632


@pytest.mark.parametrize(
    ("config", "split", "clips", "length", "interval", "crops", "views"),
    [
        (TSN, "train", 3, 1, 1, 1, 3),
        (TSN, "val", 3, 1, 1, 1, 3),
        (TSN, "test", 25, 1, 1, 10, 250),
        (TSM, "test", 8, 1, 1, 10, 80),
        (SLOWONLY, "val", 1, 4, 16, 1, 1),
        (SLOWONLY, "test", 10, 4, 16, 3, 30),
    ],
)
def test_views(
    config: str, split: str, clips: int, length: int, interval: int, crops: int, views: int
) -> None:
    found = sampling_of(config, split, 300)
    assert (found.num_clips, found.clip_len, found.frame_interval) == (clips, length, interval)
    assert (found.num_crops, found.views) == (crops, views)


@pytest.mark.parametrize(
    ("config", "split", "num_frames", "frames"),
    [
        (TSN, "val", 100, [[16], [50], [83]]),
        (TSN, "val", 1, [[0], [0], [0]]),
        (TSN, "test", 25, [[frame] for frame in range(25)]),
        (SLOWONLY, "val", 100, [[25, 41, 57, 73]]),
        (SLOWONLY, "val", 20, [[0, 16, 12, 8]]),  # loops past the end
    ],
)
def test_frames(config: str, split: str, num_frames: int, frames: list[list[int]]) -> None:
    assert sampling_of(config, split, num_frames).frame_inds == frames


def test_training_segments_hold_every_draw() -> None:
    found = sampling_of(TSN, "train", 100)
    assert found.random
    assert found.segments == [(0, 32), (33, 65), (66, 98)]
    for (first, last), clip in zip(found.segments, found.frame_inds, strict=True):
        assert first <= clip[0] <= last
    assert found.frame_inds == sampling_of(TSN, "train", 100).frame_inds  # seeded
    assert sampling_of(TSN, "train", 2).segments == []  # shorter than its clips


def test_sampling_leaves_the_random_state_alone() -> None:
    np.random.seed(7)
    expected = np.random.randint(1 << 30)
    np.random.seed(7)
    sampling_of(TSN, "train", 100)
    assert np.random.randint(1 << 30) == expected


def test_words() -> None:
    assert say_sampling(sampling_of(TSN, "val", 100)) == [
        "3 clip(s) x 1 frame x interval 1, at fixed places (SampleFrames)",
        "1 crop(s) of 224 x 224 pixels: the centre",
        "views: 3 clip(s) x 1 crop(s) = 3",
        "frames of 100: 16, 50, 83",
    ]
    assert say_sampling(sampling_of(SLOWONLY, "test", 300))[1:3] == [
        "3 crop(s) of 256 x 256 pixels: both ends and the centre of the long side",
        "views: 10 clip(s) x 3 crop(s) = 30",
    ]
    assert [say_flops(flops) for flops in (0, 4_096, 819_200, 12_262_227_968)] == [
        "0",
        "4.10 K",
        "0.82 M",
        "12.26 G",
    ]


def test_report_of_a_stock_config_needs_no_data() -> None:
    lines = describe(config_to_describe(TSN), num_frames=100).splitlines()
    assert lines[0] == "model   Recognizer2D (backbone: ResNet, cls_head: TSNHead)"
    assert lines[1] == "input   1 x 3 x 3 x 224 x 224, one video in the val pipeline"
    (total,) = [line for line in lines if line.startswith("total")]
    assert total.split() == ["total", "24,327,632", "12.33", "G"]
    starts = [line.split()[0] for line in lines if line[:5].strip() in ("train", "val", "test")]
    assert starts == ["train", "val", "test"]


def test_a_failing_split_leaves_the_others() -> None:
    cfg = config_to_describe(TSN)
    cfg.train_dataloader.dataset.pipeline = [dict(type="SampleFrames", clip_len=1)]
    text = describe(cfg, num_frames=100)
    assert "train   the train pipeline does not sample and decode a video: SampleFrames" in text
    assert "frames of 100: 16, 50, 83" in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_frames": 0}, "--num-frames 0: expected 1 or more"),
        ({"video": "missing.mp4"}, "no video missing.mp4"),
    ],
)
def test_errors(arguments: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        describe(config_to_describe(TSN), **arguments)


def test_own_data_sets_the_classes(tmp_path: Path) -> None:
    (tmp_path / "label_map.txt").write_text("run\njump\n")
    for split in ("train", "val"):
        (tmp_path / split).mkdir()
        (tmp_path / f"{split}.txt").write_text("a.mp4 0\nb.mp4 1\n")
    write_video(tmp_path / "clip.mp4")
    cfg = config_to_describe(TSN, data_root=tmp_path)
    text = describe(cfg, video=tmp_path / "clip.mp4")
    assert "cls_head.fc_cls     Linear             1 x 2" in text
    assert "frames of 24: 4, 12, 20" in text


def test_a_model_that_cannot_be_built_says_why() -> None:
    cfg = config_to_describe(TSN, options={"model.backbone.depth": 51})
    with pytest.raises(UserError, match="the model cannot be built: KeyError"):
        describe(cfg)
