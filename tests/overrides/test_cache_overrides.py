"""The override changes the pipelines that it should, in the keys that it should."""

from pathlib import Path
from typing import Any

import pytest
from conftest import STOCK

from mmact_tiny.config import resolve_path
from mmact_tiny.errors import UserError
from mmact_tiny.overrides.registry import apply_overrides, diff, flatten
from mmact_tiny.pipeline import pipeline_of

from mmengine.config import Config  # isort: skip

PIPELINES = ("dataloader.dataset.pipeline", "pipeline")
STEPS = ("CachedVideo", "ClipInit", "DecordInit")
PLUGIN = {"custom_imports.imports", "custom_imports.allow_failed_imports"}


@pytest.fixture
def cfg() -> Config:
    return Config.fromfile(resolve_path(STOCK))


def changed(cfg: Config, **kwargs: Any) -> dict[str, tuple[Any, Any]]:
    before = flatten(cfg)
    apply_overrides(cfg, [dict(type="clip_cache", **kwargs)])
    return diff(before, flatten(cfg))


def test_it_changes_training_and_validation(cfg: Config) -> None:
    changes = changed(cfg, root="/disk/clips")
    nodes = {key.split("]")[0] for key in changes}
    places = [f"{split}_{name}" for split in ("train", "val") for name in PIPELINES]
    assert nodes == {f"{place}[{step}" for place in places for step in STEPS} | PLUGIN
    for split in ("train", "val"):
        steps = cfg[f"{split}_dataloader"].dataset.pipeline
        assert steps[0] == dict(
            type="CachedVideo", root="/disk/clips", format="small", short_side=256, build=True
        )
        assert [step["type"] for step in steps[1:4]] == ["ClipInit", "SampleFrames", "DecordDecode"]
        assert steps == cfg[f"{split}_pipeline"]
    assert cfg.test_dataloader.dataset.pipeline[0]["type"] == "DecordInit"
    assert "mmact_tiny.cache" in cfg.custom_imports["imports"]


def test_testing_on_demand_and_other_arguments(cfg: Config) -> None:
    changed(cfg, splits=["test"], format="fast", max_bytes=10**9, build=False, reader="stock")
    steps = cfg.test_dataloader.dataset.pipeline
    assert steps[0] == dict(
        type="CachedVideo",
        root=None,
        format="fast",
        short_side=256,
        max_bytes=10**9,
        build=False,
    )
    assert steps[1]["type"] == "DecordInit"
    assert cfg.train_dataloader.dataset.pipeline[0]["type"] == "DecordInit"


@pytest.mark.parametrize("first", ["hardware", "clip_cache"])
def test_a_run_that_waits_for_videos_is_advised(cfg: Config, first: str) -> None:
    second = {"hardware": "clip_cache", "clip_cache": "hardware"}[first]
    apply_overrides(cfg, [dict(type=first), dict(type=second)])
    (timing,) = [hook for hook in cfg.custom_hooks if hook["type"] == "TimingHook"]
    hint = "the first epoch fills the cache; after it, raise train_dataloader.num_workers"
    assert timing == dict(type="TimingHook", data_hint=hint)


def test_twice_is_once_and_the_dump_round_trips(cfg: Config, tmp_path: Path) -> None:
    changed(cfg)
    once = flatten(cfg)
    assert changed(cfg) == {}
    cfg.dump(tmp_path / "dump.py")
    assert flatten(Config.fromfile(tmp_path / "dump.py")) == once


def test_the_size_is_that_of_the_first_resize(cfg: Config) -> None:
    cfg.train_dataloader.dataset.pipeline[3].scale = (-1, 320)
    changed(cfg)
    assert cfg.train_dataloader.dataset.pipeline[0]["short_side"] == 320
    assert cfg.val_dataloader.dataset.pipeline[0]["short_side"] == 256


@pytest.mark.parametrize(
    ("resize", "message"),
    [
        (dict(type="Resize", scale=(340, 256)), r"needs Resize\(scale=\(-1, N\)\)"),
        (dict(type="Resize", scale=0.5), r"needs Resize\(scale=\(-1, N\)\)"),
        (dict(type="RandomRescale", scale_range=(256, 320)), r"needs Resize"),
    ],
)
def test_a_pipeline_that_cannot_be_cached(
    cfg: Config, resize: dict[str, Any], message: str
) -> None:
    cfg.train_dataloader.dataset.pipeline[3] = resize
    with pytest.raises(UserError, match=message):
        changed(cfg)


def test_crops_before_resize_cannot_be_cached(cfg: Config) -> None:
    cfg.train_dataloader.dataset.pipeline.insert(3, dict(type="RandomResizedCrop"))
    with pytest.raises(UserError, match="RandomResizedCrop"):
        changed(cfg)


def test_other_decoders_need_the_stock_reader(cfg: Config) -> None:
    for split in ("train", "val"):
        pipeline = cfg[f"{split}_dataloader"].dataset.pipeline
        pipeline[0]["type"], pipeline[2]["type"] = "PyAVInit", "PyAVDecode"
    with pytest.raises(UserError, match="use reader='stock'"):
        changed(cfg)
    changed(cfg, reader="stock")
    assert cfg.train_dataloader.dataset.pipeline[1]["type"] == "PyAVInit"


@pytest.mark.parametrize("wrong", [dict(format="smal"), dict(reader="x"), dict(splits=["tran"])])
def test_typos(cfg: Config, wrong: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=r"did you mean|known"):
        changed(cfg, **wrong)


def test_protocols_stay_exact(cfg: Config) -> None:
    exact = {name: pipeline_of(cfg, name) for name in ("val", "full")}
    changed(cfg, splits=["train", "val", "test"])
    assert {name: pipeline_of(cfg, name) for name in ("val", "full")} == exact
    assert exact["val"] == Config.fromfile(resolve_path(STOCK)).val_dataloader.dataset.pipeline
