"""Protocols in words, and pipelines read and rewritten: literal values."""

import pytest
from config_changes import stock
from conftest import STOCK
from mmengine.config import Config

from mmact_tiny.errors import UserError
from mmact_tiny.pipeline import describe_protocol, num_views, pipeline_of, split_datasets

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
    words = "val: 1 clips x 1 crops = 1 views a video, clips of 1 frame(s), interval 1, "
    assert describe_protocol("val", steps) == words + "resized to (64, 32)"
    assert describe_protocol("val", []) == words.removesuffix(", ")


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
