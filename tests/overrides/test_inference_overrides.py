"""The decoder of training and validation is changed where decord's steps stand, and only there."""

from pathlib import Path

import pytest
from conftest import STOCK

from mmact_tiny.config import load_config, resolve_path
from mmact_tiny.errors import UserError
from mmact_tiny.overrides.registry import apply_overrides, diff, flatten

from mmengine.config import Config  # isort: skip

PLACES = ("dataloader.dataset.pipeline", "pipeline")


def types_of(cfg: Config, key: str) -> list[str]:
    split, _, place = key.partition("_")
    node = cfg[f"{split}_dataloader"].dataset.pipeline if "." in place else cfg[key]
    return [step["type"] for step in node[:3]]


def test_the_decoder_override_changes_decords_steps_alone() -> None:
    cfg = Config.fromfile(resolve_path(STOCK))
    before = flatten(cfg)
    apply_overrides(cfg, [dict(type="decoder")])
    changes = diff(before, flatten(cfg))
    nodes = {key.split("]")[0] for key in changes if not key.startswith("custom_imports")}
    steps = ("DecordInit", "DecordDecode", "PacketInit", "PacketDecode")
    places = [f"{split}_{place}" for split in ("train", "val") for place in PLACES]
    assert nodes == {f"{place}[{step}" for place in places for step in steps}
    assert cfg.custom_imports["imports"] == ["mmact_tiny.video.frames"]
    for place in places:
        assert types_of(cfg, place) == ["PacketInit", "SampleFrames", "PacketDecode"]
    assert types_of(cfg, "test_pipeline") == ["DecordInit", "SampleFrames", "DecordDecode"]
    once = flatten(cfg)
    apply_overrides(cfg, [dict(type="decoder")])
    assert diff(once, flatten(cfg)) == {}
    apply_overrides(cfg, [dict(type="decoder", name="decord")])
    changed = diff(before, flatten(cfg))
    assert {key.split(".")[0] for key in changed} == {"custom_imports"}


def test_a_decoder_that_is_not_there() -> None:
    with pytest.raises(UserError, match="decoder 'opencv': expected packets or decord"):
        apply_overrides(Config.fromfile(resolve_path(STOCK)), [dict(type="decoder", name="opencv")])


def test_a_dump_takes_the_cache_and_cached_pipelines_keep_theirs(
    toy_dataset: Path, tmp_path: Path
) -> None:
    changes = {"dataset_paths": {"data_root": str(toy_dataset)}}
    dump = tmp_path / "dump.py"
    cfg = load_config(STOCK, changes=changes)
    assert types_of(cfg, "train_pipeline") == ["PacketInit", "SampleFrames", "PacketDecode"]
    cfg.dump(str(dump))
    for config, more in ((dump, {}), (STOCK, changes)):
        cached = load_config(config, changes={**more, "clip_cache": {"format": "small"}})
        assert types_of(cached, "train_pipeline") == ["CachedVideo", "ClipInit", "SampleFrames"]
        assert [step["type"] for step in cached.train_pipeline[3:4]] == ["DecordDecode"]
