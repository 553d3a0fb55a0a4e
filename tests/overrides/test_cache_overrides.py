"""The override changes the pipelines that it should, in the keys that it should."""

from pathlib import Path
from typing import Any

import pytest
from config_changes import changes, changes_by, leaves, stock
from mmengine.config import Config

from mmact_tiny.errors import UserError
from mmact_tiny.overrides.registry import apply_overrides
from mmact_tiny.pipeline import pipeline_of, with_decoder

PLACES = ("pipeline", "dataloader.dataset.pipeline")


def read_by(cfg: Config, split: str) -> list[dict[str, Any]]:
    """Returns the steps of a split, the same in the variable and in the loader."""
    steps = [dict(step) for step in cfg[f"{split}_dataloader"].dataset.pipeline]
    assert steps == [dict(step) for step in cfg[f"{split}_pipeline"]]
    return steps


def cached(short_side: int = 256, **more: Any) -> dict[str, Any]:
    values = dict(root=None, format="small", short_side=short_side, build=True)
    return dict(type="CachedVideo", **{**values, **more})


def test_it_changes_training_and_validation_and_nothing_else(tmp_path: Path) -> None:
    cfg, before = stock(), stock()
    changed = changes_by(cfg, dict(type="clip_cache", root="/disk/clips"))
    places = {f"{split}_{place}" for split in ("train", "val") for place in PLACES}
    tops = {place.split(".")[0] for place in places} | {"custom_imports", "custom_hooks"}
    assert {key.split(".")[0] for key in changed} <= tops
    for split in ("train", "val"):
        first, opener, *rest = read_by(cfg, split)
        assert first == cached(root="/disk/clips")
        assert opener == dict(type="ClipInit", io_backend="disk")
        assert rest == with_decoder(before[f"{split}_pipeline"][1:], "packets")
        assert rest[1] == dict(type="PacketDecode")
    assert "mmact_tiny.cache" in cfg.custom_imports["imports"]
    cfg.dump(tmp_path / "dump.py")
    assert changes(leaves(cfg), leaves(Config.fromfile(tmp_path / "dump.py"))) == {}


def test_testing_on_demand_and_other_arguments() -> None:
    cfg = stock()
    arguments = dict(format="fast", max_bytes=10**9, build=False, reader="stock")
    changes_by(cfg, dict(type="clip_cache", splits=["test"], **arguments))
    first, opener, *_ = read_by(cfg, "test")
    assert first == cached(format="fast", max_bytes=10**9, build=False)
    assert opener["type"] == "CheckedDecordInit"
    assert read_by(cfg, "train")[0]["type"] == "DecordInit"


def test_the_size_is_that_of_the_first_resize() -> None:
    cfg = stock()
    cfg.train_dataloader.dataset.pipeline[3].scale = (-1, 320)
    apply_overrides(cfg, [dict(type="clip_cache")])
    assert cfg.train_dataloader.dataset.pipeline[0] == cached(320)
    assert cfg.val_dataloader.dataset.pipeline[0] == cached(256)


@pytest.mark.parametrize(
    ("place", "step", "message"),
    [
        (3, dict(type="Resize", scale=(340, 256)), r"needs Resize\(scale=\(-1, N\)\)"),
        (3, dict(type="Resize", scale=0.5), r"needs Resize\(scale=\(-1, N\)\)"),
        (3, dict(type="Resize", scale=(-1, 256), keep_ratio=False), "needs Resize"),
        (3, dict(type="RandomRescale", scale_range=(256, 320)), "needs Resize"),
        (2, dict(type="RandomResizedCrop"), "RandomResizedCrop"),
        (0, dict(type="RawFrameInit"), "use reader='stock'"),
        (2, dict(type="DecordDecode", mode="efficient"), "use reader='stock'"),
    ],
)
def test_a_pipeline_that_cannot_be_cached(place: int, step: dict[str, Any], message: str) -> None:
    cfg = stock()
    cfg.train_dataloader.dataset.pipeline[place] = step
    with pytest.raises(UserError, match=message):
        apply_overrides(cfg, [dict(type="clip_cache")])


def test_other_decoders_are_kept_by_the_stock_reader() -> None:
    cfg = stock()
    for split in ("train", "val"):
        pipeline = cfg[f"{split}_dataloader"].dataset.pipeline
        pipeline[0]["type"], pipeline[2]["type"] = "PyAVInit", "PyAVDecode"
    apply_overrides(cfg, [dict(type="clip_cache", reader="stock")])
    assert cfg.train_dataloader.dataset.pipeline[1]["type"] == "PyAVInit"


@pytest.mark.parametrize("wrong", [dict(format="smal"), dict(reader="x"), dict(splits=["tran"])])
def test_typos(wrong: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=r"did you mean|known"):
        apply_overrides(stock(), [dict(type="clip_cache", **wrong)])


def test_protocols_stay_exact() -> None:
    cfg = stock()
    exact = {name: pipeline_of(cfg, name) for name in ("val", "full")}
    entries = [dict(type="clip_cache", splits=["train", "val", "test"]), dict(type="decoder")]
    apply_overrides(cfg, entries)
    assert {name: pipeline_of(cfg, name) for name in ("val", "full")} == exact
    assert exact["val"] == stock().val_dataloader.dataset.pipeline
    assert exact["full"] == stock().test_dataloader.dataset.pipeline
