"""The description of a config: stages, multiply-accumulates, and the frames that it takes."""

import logging

import numpy as np
import pytest
import torch
from video_files import write_video

from mmact_tiny import UserError
from mmact_tiny.view.describe import (
    Stage,
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
DENSE = f"{STOCK}/tsm/tsm_imagenet-pretrained-r50_8xb16-dense-1x1x8-50e_kinetics400-rgb.py"
TPN = f"{STOCK}/tpn/tpn-tsm_imagenet-pretrained-r50_8xb8-1x1x8-150e_sthv1-rgb.py"
FLOW = f"{STOCK}/tsn/tsn_imagenet-pretrained-r50_8xb32_5x1x3-110e_kinetics400-flow.py"


def sampling_of(config: str, split: str, num_frames: int) -> Sampling:
    return read_sampling(config_to_describe(config), split, num_frames=num_frames)


def structure_of(config: str) -> tuple[tuple[int, ...], list[Stage]]:
    cfg = config_to_describe(config)
    return read_structure(build_model(cfg), read_sampling(cfg, "val").sample)


def test_tsn_structure():
    """The shapes of He et al. 2015, table 1, for 3 frames of 224 pixels."""
    input_shape, stages = structure_of(TSN)
    assert input_shape == (1, 3, 3, 224, 224)
    assert [
        (stage.name, stage.output_shapes, stage.num_params, stage.flops) for stage in stages
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
        ("total", (), 24_327_632, 12_329_212_928),
    ]


@pytest.mark.parametrize(
    ("config", "input_shape", "last", "gflops"),
    [
        (TSM, (1, 8, 3, 224, 224), (1, 1, 400), 32.88),  # as MMAction2's table has it
        (SLOWONLY, (1, 1, 3, 4, 224, 224), (1, 400), 20.96),
        (DENSENET, (1, 3, 3, 224, 224), (1, 400), 23.35),
        (FLOW, (1, 3, 10, 224, 224), (1, 400), 13.16),
        (TPN, (1, 8, 3, 224, 224), (1, 2048, 1, 1, 1), 41.41),  # the scores' layer is a copy
        pytest.param(  # MMAction2's table: 196 G
            TIMESFORMER, (1, 1, 3, 8, 224, 224), (1, 400), 196.05, marks=pytest.mark.slow
        ),
    ],
    ids=["tsm", "slowonly", "torchvision", "flow", "tpn", "timesformer"],
)
def test_other_recognizers(config, input_shape, last, gflops):
    found, stages = structure_of(config)
    *stages, total = stages
    assert found == input_shape
    called = [stage for stage in stages if stage.name != "(outside these)"]
    assert called[-1].output_shapes == (last,)
    assert round(total.flops / 1e9, 2) == gflops
    assert sum(stage.num_params for stage in stages) == total.num_params
    assert sum(stage.flops for stage in stages) == total.flops


def test_a_model_that_cannot_be_traced_says_so(caplog):
    cfg = config_to_describe(TSN)
    model = build_model(cfg)

    def refuse(*_: object) -> None:
        if torch.jit.is_tracing():
            raise RuntimeError("no tracing")

    model.backbone.register_forward_hook(refuse)
    with caplog.at_level(logging.WARNING, logger="mmact_tiny"):
        _, stages = read_structure(model, read_sampling(cfg, "val").sample)
    assert "FLOPs: shown as 0, MMEngine cannot count" in caplog.text and "no tracing" in caplog.text
    assert stages[-1] == Stage("total", "", (), 24_327_632, 0)


# config, split -> clips, frames of each, interval, crops
SAMPLINGS = {
    (TSN, "train"): (3, 1, 1, 1),
    (TSN, "val"): (3, 1, 1, 1),
    (TSN, "test"): (25, 1, 1, 10),
    (TSM, "test"): (8, 1, 1, 10),
    (SLOWONLY, "val"): (1, 4, 16, 1),
    (SLOWONLY, "test"): (10, 4, 16, 3),
}
# config, split, frames of the video -> frames taken
FRAMES = {
    (TSN, "val", 100): [[16], [50], [83]],
    (TSN, "val", 1): [[0], [0], [0]],
    (TSN, "test", 25): [[frame] for frame in range(25)],
    (SLOWONLY, "val", 100): [[25, 41, 57, 73]],
    (SLOWONLY, "val", 20): [[0, 16, 12, 8]],  # loops past the end
}


def test_clips_crops_and_frames():
    for (config, split), expected in SAMPLINGS.items():
        found = sampling_of(config, split, 300)
        shape = (found.num_clips, found.clip_len, found.frame_interval, found.num_crops)
        assert shape == expected, (config, split)
    for case, frames in FRAMES.items():
        assert sampling_of(*case).frame_inds == frames, case


THIRDS = [(0, 100 / 3), (100 / 3, 200 / 3), (200 / 3, 100)]
# config, split, frames of the video -> segments
SEGMENTS = {
    "training draws from each": (TSN, "train", 300, [(0, 100), (100, 200), (200, 300)]),
    "frames are left over": (TSN, "train", 100, [(0, 33), (33, 66), (66, 99)]),
    "shorter than its clips": (TSN, "train", 2, []),
    "validation takes the middles": (TSN, "val", 300, [(0, 100), (100, 200), (200, 300)]),
    "a number that does not divide": (TSN, "val", 100, THIRDS),
    "dense sampling has none": (DENSE, "train", 300, []),
    "one clip anywhere": (SLOWONLY, "val", 300, []),
}


@pytest.mark.parametrize("case", SEGMENTS)
def test_segments(case):
    config, split, num_frames, expected = SEGMENTS[case]
    found = sampling_of(config, split, num_frames)
    assert np.array(found.segments) == pytest.approx(np.array(expected))
    if found.random and expected:
        for (first, after), clip in zip(expected, found.frame_inds, strict=True):
            assert first <= clip[0] < after
    assert found.frame_inds == sampling_of(config, split, num_frames).frame_inds  # seeded


def test_words():
    assert say_sampling(sampling_of(TSN, "val", 100)) == [
        "3 clip(s) x 1 frame x interval 1, at fixed places (SampleFrames)",
        "1 crop(s) of 224 x 224 pixels: the centre",
        "views: 3 clip(s) x 1 crop(s) = 3",
        "frames of 100: 16, 50, 83",
    ]
    assert say_sampling(sampling_of(TSN, "train", 100))[3] == (
        "of 100 frames, a clip starts in each of: 0-32, 33-65, 66-98"
    )
    assert say_sampling(sampling_of(SLOWONLY, "test", 300))[1:3] == [
        "3 crop(s) of 256 x 256 pixels: both ends and the centre of the long side",
        "views: 10 clip(s) x 3 crop(s) = 30",
    ]
    said = [say_flops(flops) for flops in (0, 4_096, 819_200, 12_262_227_968)]
    assert said == ["0", "4.10 K", "0.82 M", "12.26 G"]


def test_report_of_a_stock_config_needs_no_data():
    lines = describe(config_to_describe(TSN), num_frames=100).splitlines()
    assert lines[0] == "model   Recognizer2D (backbone: ResNet, cls_head: TSNHead)"
    assert lines[1] == "input   1 x 3 x 3 x 224 x 224, one video in the val pipeline"
    (total,) = [line for line in lines if line.startswith("total")]
    assert total.split() == ["total", "24,327,632", "12.33", "G"]
    starts = [line.split()[0] for line in lines if line[:5].strip() in ("train", "val", "test")]
    assert starts == ["train", "val", "test"]


def test_a_model_of_clips_is_counted_for_one_view():
    """MMAction2's table has 6.5 G for a view of X3D-M."""
    lines = describe(config_to_describe("mmaction::x3d_m_16x5x1_facebook-kinetics400-rgb"))
    lines = lines.splitlines()
    shape = "1 x 1 x 3 x 16 x 256 x 256"
    assert lines[1] == f"input   {shape}, one of 30 views of a video in the test pipeline"
    (total,) = [line for line in lines if line.startswith("total")]
    assert total.split() == ["total", "3,794,322", "6.40", "G"]
    assert "All 30 views: 191.93 G a video." in lines


def test_a_failing_split_leaves_the_others():
    cfg = config_to_describe(TSN)
    cfg.train_dataloader.dataset.pipeline = [dict(type="SampleFrames", clip_len=1)]
    text = describe(cfg, num_frames=100)
    assert "train   the train pipeline does not sample and decode a video: SampleFrames" in text
    assert "frames of 100: 16, 50, 83" in text


def test_errors():
    with pytest.raises(UserError, match="OmniSource from images too"):
        config_to_describe("mmaction::slowonly_r50_8xb16-8x8x1-256e_imagenet-kinetics400-rgb")
    for video, num_frames, message in (
        (None, 0, "--num-frames 0: expected 1 or more"),
        ("missing.mp4", 300, "no video missing.mp4"),
    ):
        with pytest.raises(UserError, match=message):
            describe(config_to_describe(TSN), video=video, num_frames=num_frames)
    cfg = config_to_describe(TSN, options={"model.backbone.depth": 51})
    with pytest.raises(UserError, match="the model cannot be built: KeyError"):
        describe(cfg)


def test_own_data_sets_the_classes(tmp_path):
    (tmp_path / "label_map.txt").write_text("run\njump\n")
    for split in ("train", "val"):
        (tmp_path / split).mkdir()
        (tmp_path / f"{split}.txt").write_text("a.mp4 0\nb.mp4 1\n")
    write_video(tmp_path / "clip.mp4")
    cfg = config_to_describe(TSN, data_root=tmp_path)
    text = describe(cfg, video=tmp_path / "clip.mp4")
    assert "cls_head.fc_cls     Linear             1 x 2" in text
    assert "frames of 24: 4, 12, 20" in text
