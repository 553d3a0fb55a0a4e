"""Protocols in words, and pipelines read and rewritten: literal values."""

import numpy as np
import pytest
from config_changes import stock
from conftest import STOCK
from mmengine.config import Config

from mmact_tiny.checkpoints.config_text import stock_configs
from mmact_tiny.compat import TRANSFORMS
from mmact_tiny.errors import UserError
from mmact_tiny.pipeline import (
    describe_protocol,
    num_views,
    pipeline_of,
    sampling_step,
    set_pipeline,
    split_datasets,
)

DENSE = "mmaction::recognition/slowonly/slowonly_r50_8xb16-4x16x1-256e_kinetics400-rgb.py"


@pytest.mark.parametrize(
    ("config", "name", "views", "words"),
    [
        (
            STOCK,
            "full",
            (25, 10),
            "full: 25 clips x 10 crops = 250 views a video, clips of 1 frame(s), interval 1, "
            "short side 256, crop 224",
        ),
        (
            STOCK,
            "val",
            (3, 1),
            "val: 3 clips x 1 crops = 3 views a video, clips of 1 frame(s), interval 1, "
            "short side 256, crop 224",
        ),
        (
            DENSE,
            "full",
            (10, 3),
            "full: 10 clips x 3 crops = 30 views a video, clips of 4 frame(s), interval 16, "
            "short side 256, crop 256",
        ),
    ],
)
def test_protocols_in_words(config, name, views, words):
    pipeline = pipeline_of(stock(config=config), name)
    assert num_views(pipeline) == views
    assert describe_protocol(name, pipeline) == words


def test_a_pipeline_without_crops_or_sizes():
    steps = [dict(type="SampleFrames", clip_len=8), dict(type="Resize", scale=(64, 32))]
    assert num_views(steps) == (1, 1)
    words = "val: 1 clips x 1 crops = 1 views a video, clips of %d frame(s), interval 1"
    assert describe_protocol("val", steps) == words % 8 + ", resized to (64, 32)"
    steps[1]["scale"] = 0.5
    assert describe_protocol("val", steps) == words % 8 + ", resized to 0.5"
    assert describe_protocol("val", []) == words % 1


@pytest.mark.parametrize(
    ("stem", "words"),
    [
        (
            "mvit/mvit-base-p244_u32_sthv2-rgb",
            "1 clips x 3 crops = 3 views a video, clips of 32 frame(s), spread over it, "
            "short side 224, crop 224",
        ),
        (
            "trn/trn_imagenet-pretrained-r50_8xb16-1x1x8-50e_sthv2-rgb",  # twice_sample
            "16 clips x 3 crops = 48 views a video, clips of 1 frame(s), interval 1, "
            "short side 256, crop 256",
        ),
        (
            "tsm/tsm_imagenet-pretrained-r50_8xb16-dense-1x1x8-50e_kinetics400-rgb",
            "80 clips x 10 crops = 800 views a video, clips of 1 frame(s), interval 1, "
            "short side 256, crop 224",  # 8 frames from each of 10 positions
        ),
        (
            "c3d/c3d_sports1m-pretrained_8xb30-16x1x1-45e_ucf101-rgb",
            "10 clips x 1 crops = 10 views a video, clips of 16 frame(s), interval 1, "
            "short side 128, crop 112",
        ),
    ],
)
def test_protocols_of_other_samplers_in_words(stem: str, words: str) -> None:
    cfg = Config.fromfile(stock_configs() / f"recognition/{stem}.py")
    assert describe_protocol("full", cfg.test_dataloader.dataset.pipeline) == f"full: {words}"


def test_the_views_of_every_recognition_config_are_counted() -> None:
    """The sampler and the crops are run on a stand-in video of 300 frames."""
    counted = 0
    for path in sorted((stock_configs() / "recognition").rglob("*.py")):
        cfg = Config.fromfile(path)
        for loader in ("val_dataloader", "test_dataloader"):
            node = (cfg.get(loader) or {}).get("dataset", {})
            for dataset in node.get("datasets", [node]):
                if "pipeline" in dataset:
                    expected = views_taken(dataset.pipeline)
                    assert num_views(dataset.pipeline) == expected, (path.stem, loader)
                    counted += 1
    assert counted > 220


def views_taken(pipeline: list[dict]) -> tuple[int, int]:
    """Returns the clips and crops that stock's transforms take of a video."""
    results: dict = dict(total_frames=300, start_index=0, avg_fps=30, modality="RGB")
    sampled = TRANSFORMS.build(sampling_step(pipeline))(results)
    clips = sampled["frame_inds"].size // sampled["clip_len"]
    image = dict(imgs=[np.zeros((256, 340, 3), np.uint8)], img_shape=(256, 340))
    for step in pipeline:
        if step["type"] == "Resize" or "crop_size" in step:
            image = TRANSFORMS.build(step)(image)
    return clips, len(image["imgs"])


def test_a_config_without_the_loader_is_named():
    cfg = Config(dict(val_dataloader=dict(dataset=dict(pipeline=[]))))
    with pytest.raises(UserError, match="no test_dataloader, which protocol 'full' takes"):
        pipeline_of(cfg, "full")
    with pytest.raises(UserError, match="protocol 'fast': expected full or val"):
        pipeline_of(cfg, "fast")
    assert pipeline_of(cfg, "val") == []


def test_wrappers_of_datasets_are_opened():
    inner = dict(type="VideoDataset", ann_file="a.txt")
    repeated = dict(type="RepeatDataset", dataset=dict(type="BalancedVideos", dataset=inner))
    cfg = Config(dict(train_dataloader=dict(dataset=repeated), test_dataloader=None))
    assert [(split, dict(dataset)) for split, dataset in split_datasets(cfg)] == [("train", inner)]


def test_a_variable_of_the_same_content_goes_with_a_pipeline_and_another_stays():
    old, new = dict(type="Flip"), dict(type="Resize")
    for variable, expected in ((dict(old, _scope_="mmaction"), new), (dict(type="Other"),) * 2):
        loader = dict(dataset=dict(pipeline=[old]))
        cfg = Config(dict(train_dataloader=loader, train_pipeline=[variable]))
        set_pipeline(cfg, "train", cfg.train_dataloader.dataset, [new])
        assert (cfg.train_dataloader.dataset.pipeline, cfg.train_pipeline) == ([new], [expected])
