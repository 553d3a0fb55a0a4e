"""Decoding and testing: what is changed where, and only there."""

from pathlib import Path
from typing import Any

import pytest
from config_changes import GONE, changes, changes_by, leaves, stock
from conftest import STOCK
from mmengine.config import Config

from mmact_tiny.config import load_config
from mmact_tiny.errors import UserError
from mmact_tiny.overrides.registry import apply_overrides
from mmact_tiny.pipeline import num_views

PLACES = ("pipeline", "dataloader.dataset.pipeline")
KEYS = ("img_shape", "img_key", "video_id", "timestamp", "filename")
FRAMES = {
    "custom_imports.imports.0": "mmact_tiny.video.frames",
    "custom_imports.allow_failed_imports": False,
}


def types_of(cfg: Config, split: str, number: int = 3) -> list[str]:
    """Returns the first steps, which the variable and the loader have alike."""
    variable = cfg[f"{split}_pipeline"][:number]
    steps = cfg[f"{split}_dataloader"].dataset.pipeline[:number]
    assert [step["type"] for step in variable] == [step["type"] for step in steps]
    return [step["type"] for step in steps]


def test_the_decoder_override_changes_decords_steps_alone() -> None:
    cfg = stock()
    before = leaves(cfg)
    packets = {
        f"{split}_{place}.{index}.type": name
        for split in ("train", "val")
        for place in PLACES
        for index, name in ((0, "PacketInit"), (2, "PacketDecode"))
    }
    assert changes_by(cfg, dict(type="decoder")) == packets | FRAMES
    changes_by(cfg, dict(type="decoder", name="decord"))
    checked = {key: "CheckedDecordInit" for key in packets if key.endswith("pipeline.0.type")}
    assert changes(before, leaves(cfg)) == checked | FRAMES


def test_a_child_config_keeps_its_variables_the_same(toy_dataset: Path) -> None:
    """MMEngine notes the base's scope in them, and not in the loaders."""
    changed = {"dataset_paths": {"data_root": str(toy_dataset)}, "pretrained": {"weights": "none"}}
    cfg = load_config("configs/tsn_tiny.py", changes=changed)
    for split in ("train", "val"):
        assert types_of(cfg, split) == ["PacketInit", "SampleFrames", "PacketDecode"]
    assert types_of(cfg, "test") == ["DecordInit", "SampleFrames", "DecordDecode"]


def test_a_dump_takes_the_cache_and_cached_pipelines_keep_theirs(
    toy_dataset: Path, tmp_path: Path
) -> None:
    changed = {"dataset_paths": {"data_root": str(toy_dataset)}}
    dump = tmp_path / "dump.py"
    cfg = load_config(STOCK, changes=changed)
    assert types_of(cfg, "train") == ["PacketInit", "SampleFrames", "PacketDecode"]
    cfg.dump(str(dump))
    for config, more in ((dump, {}), (STOCK, changed)):
        cached = load_config(config, changes={**more, "clip_cache": {"format": "small"}})
        kept = ["CachedVideo", "ClipInit", "SampleFrames", "PacketDecode"]
        assert types_of(cached, "train", 4) == kept


@pytest.mark.parametrize("name", ["full", "val"])
def test_the_protocol_keeps_stocks_steps_and_adds_the_name_of_the_video(name: str) -> None:
    cfg = stock()
    steps = [dict(step) for step in cfg[f"{'test' if name == 'full' else 'val'}_pipeline"]]
    steps[-1]["meta_keys"] = KEYS
    before = leaves(cfg)
    changed = changes_by(cfg, dict(type="protocol", name=name))
    assert {key: value for key, value in changed.items() if "pipeline" not in key} == {
        "test_evaluator.type": GONE,
        "test_evaluator.0.type": "AccMetric",
        "test_evaluator.1.type": "VideoScores",
        "custom_imports.imports.0": "mmact_tiny.metrics",
        "custom_imports.allow_failed_imports": False,
    }
    for place in PLACES:
        path = f"test_{place}."
        assert {k: v for k, v in leaves(cfg).items() if k.startswith(path)} == {
            f"{path}{key}": value for key, value in leaves(steps).items()
        }
    untouched = [key for key in before if not key.startswith("test_")]
    assert all(leaves(cfg)[key] == before[key] for key in untouched)


def test_a_name_that_is_asked_for_already_is_not_asked_for_twice() -> None:
    cfg = stock()
    cfg.test_dataloader.dataset.pipeline[-1].meta_keys = ["filename", "img_shape"]
    apply_overrides(cfg, [dict(type="protocol")])
    assert cfg.test_pipeline[-1]["meta_keys"] == ("filename", "img_shape")


@pytest.mark.parametrize(
    ("name", "own_batch", "expected"),
    [("full", 1, 1), ("val", 1, 8), ("val", 16, 16)],  # 250 views, 24 // 3 views
)
def test_inference_batches_the_views_of_several_videos(
    name: str, own_batch: int, expected: int
) -> None:
    cfg = stock()
    cfg.test_dataloader.batch_size = own_batch
    apply_overrides(cfg, [dict(type="protocol", name=name), dict(type="inference", engine="auto")])
    assert cfg.test_dataloader.batch_size == expected
    assert types_of(cfg, "test") == ["PacketInit", "SampleFrames", "PacketDecode"]
    assert types_of(cfg, "val") == ["DecordInit", "SampleFrames", "DecordDecode"]
    assert cfg.custom_hooks == [dict(type="EngineHook", precision="fp32", engine="auto")]
    assert cfg.custom_imports["imports"] == [
        "mmact_tiny.metrics",
        "mmact_tiny.video.frames",
        "mmact_tiny.hooks",
    ]
    assert num_views(cfg.test_pipeline) == ((25, 10) if name == "full" else (3, 1))


def test_testing_a_stock_config_whose_batches_are_set(toy_dataset: Path) -> None:
    """`inference` may raise what `batch_size` set: it is declared to come after it."""
    changed: dict[str, dict[str, Any]] = {
        "dataset_paths": {"data_root": str(toy_dataset)},
        "batch_size": {"test": 2},
        "inference": {"engine": "torch"},
        "protocol": {"name": "val"},
    }
    assert load_config(STOCK, changes=changed).test_dataloader.batch_size == 8


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (dict(type="decoder", name="opencv"), "decoder 'opencv': expected packets or decord"),
        (dict(type="inference", decoder="opencv"), "decoder 'opencv': expected packets or decord"),
        (dict(type="protocol", name="fast"), "protocol 'fast': expected full or val"),
    ],
)
def test_a_wrong_name(entry: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        apply_overrides(stock(), [entry])


def test_crops_count_as_views() -> None:
    cfg = stock()
    steps = cfg.test_dataloader.dataset.pipeline
    steps[1].num_clips, steps[4] = 2, dict(type="ThreeCrop", crop_size=256)
    apply_overrides(cfg, [dict(type="inference")])
    assert cfg.test_dataloader.batch_size == 4  # 24 // (2 * 3)


@pytest.mark.parametrize(
    ("config", "clip_len", "own", "expected"),
    [
        ("slowonly/slowonly_r50_8xb16-4x16x1-256e_kinetics400-rgb", 4, 1, 2),  # 24 // (3 * 4)
        ("slowonly/slowonly_r50_8xb16-4x16x1-256e_kinetics400-rgb", 16, 3, 3),
        ("csn/ircsn_r152_32x2x1-180e_kinetics400-rgb", 2, 4, 1),  # max_testing_views
    ],
)
def test_frames_of_clips_count(config: str, clip_len: int, own: int, expected: int) -> None:
    cfg = stock(config=f"mmaction::recognition/{config}.py")
    sampler = cfg.test_dataloader.dataset.pipeline[1]
    sampler.num_clips, sampler.clip_len, cfg.test_dataloader.batch_size = 1, clip_len, own
    apply_overrides(cfg, [dict(type="inference")])
    assert cfg.test_dataloader.batch_size == expected
