import pytest
from conftest import STOCK
from mmengine.config import Config

from mmact_tiny.config import resolve_path
from mmact_tiny.errors import UserError
from mmact_tiny.overrides.registry import apply_overrides, diff, flatten
from mmact_tiny.pipeline import describe_protocol, num_views, pipeline_of

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
def test_protocols_in_words(config: str, name: str, views: tuple[int, int], words: str) -> None:
    pipeline = pipeline_of(Config.fromfile(resolve_path(config)), name)
    assert num_views(pipeline) == views
    assert describe_protocol(name, pipeline) == words


def test_the_override_keeps_stocks_steps_and_adds_the_name_of_the_video() -> None:
    cfg = Config.fromfile(resolve_path(STOCK))
    before = flatten(cfg)
    apply_overrides(cfg, [dict(type="protocol", name="full")])
    once = flatten(cfg)
    changed = {key: new for key, (_, new) in diff(before, once).items()}
    keys = ("img_shape", "img_key", "video_id", "timestamp", "filename")
    assert changed == {
        "test_pipeline[PackActionInputs].meta_keys": keys,
        "test_dataloader.dataset.pipeline[PackActionInputs].meta_keys": keys,
        "test_evaluator.type": "(not set)",
        "test_evaluator[AccMetric].type": "AccMetric",
        "test_evaluator[VideoScores].type": "VideoScores",
        "custom_imports.imports": ["mmact_tiny.metrics"],
        "custom_imports.allow_failed_imports": False,
    }
    apply_overrides(cfg, [dict(type="protocol", name="full")])
    assert diff(once, flatten(cfg)) == {}


def test_val_takes_the_validation_pipeline() -> None:
    cfg = Config.fromfile(resolve_path(STOCK))
    apply_overrides(cfg, [dict(type="protocol", name="val")])
    assert num_views(cfg.test_dataloader.dataset.pipeline) == (3, 1)
    assert num_views(cfg.test_pipeline) == (3, 1)


def test_a_config_without_a_test_loader_is_named() -> None:
    with pytest.raises(UserError, match="no test_dataloader"):
        pipeline_of(Config(dict(val_dataloader=dict(dataset=dict(pipeline=[])))), "full")
