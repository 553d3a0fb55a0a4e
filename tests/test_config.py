from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, STOCK
from mmengine.config import Config

from mmact_tiny.config import load_config, merge_options, resolve_path, stock_bases
from mmact_tiny.errors import UserError


@pytest.fixture
def cfg() -> Config:
    return Config.fromfile(resolve_path(STOCK))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"modl.backbone.depth": 18}, "did you mean 'model.backbone.depth'"),
        ({"model.backbone.dept": 18}, "did you mean 'model.backbone.depth'"),
        ({"model.backbone.frozen_stages": 1}, r"\+model.backbone.frozen_stages adds it"),
        ({"model.backbone.depth": "18"}, "expected int like 50"),
        ({"train_dataloader.batch_size": True}, "expected int like 32"),
        ({"auto_scale_lr.enable": 1}, "expected bool like False"),
        ({"train_dataloader.dataset.pipeline.99.type": "Flip"}, "is not one of 9 items"),
        ({"model.backbone.depth.more": 1}, "no key 'model.backbone.depth.more'"),
    ],
)
def test_a_wrong_option_is_an_error(cfg: Config, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        merge_options(cfg, options)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("model.backbone.depth", 18),
        ("optim_wrapper.optimizer.lr", 1),
        ("train_dataloader.dataset.pipeline.6.flip_ratio", 0.0),
        ("load_from", "a.pth"),
        ("model.backbone.pretrained", None),
    ],
)
def test_an_option_sets_its_key(cfg: Config, key: str, value: Any) -> None:
    merge_options(cfg, {key: value})
    node: Any = cfg
    for part in key.split("."):
        node = node[int(part)] if isinstance(node, list) else node[part]
    assert node == value


def test_plus_adds_a_key(cfg: Config) -> None:
    merge_options(cfg, {"+model.backbone.frozen_stages": 1})
    assert cfg.model.backbone.frozen_stages == 1


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("configs/tsn_tini.py", "did you mean 'configs/tsn_tiny.py'"),
        (STOCK.replace("100e", "200e"), "did you mean 'recognition/tsn/tsn_imagenet"),
        (STOCK, "needs your dataset: --data DIR"),
        ("README.md", r"expected a .py, .json or .yaml"),
    ],
)
def test_a_wrong_config_name_is_an_error(config: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        load_config(config)


def test_a_stock_config_needs_only_data(toy_dataset: Path) -> None:
    cfg = load_config(STOCK, changes={"dataset_paths": {"data_root": str(toy_dataset)}})
    assert cfg.model.cls_head.num_classes == 3
    assert cfg.train_dataloader.dataset.ann_file == str(toy_dataset / "train.txt")
    assert cfg.train_cfg.max_epochs == 100
    assert cfg.work_dir.startswith("work_dirs/tsn_imagenet-pretrained-r50")


def test_a_file_without_overrides_runs_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text(f"_base_ = ['{STOCK}']\n")
    assert load_config(path).train_dataloader.num_workers == 8


def test_flags_take_the_place_of_the_arguments_in_the_config(toy_dataset: Path) -> None:
    changes = {
        "dataset_paths": {"data_root": str(toy_dataset)},
        "schedule": {"max_epochs": 3, "scratch_epochs": 3},
        "batch_size": {"train": 4},
        "run": {"work_dir": "elsewhere"},
    }
    cfg = load_config("configs/tsn_tiny.py", changes=changes)
    assert (cfg.train_cfg.max_epochs, cfg.train_dataloader.batch_size) == (3, 4)
    assert cfg.work_dir == "elsewhere"


def test_a_config_with_a_syntax_error_is_named(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("model = dict(\n")
    with pytest.raises(UserError, match=r"broken.py: SyntaxError"):
        load_config(tmp_path / "broken.py")


def test_our_configs_are_found_from_any_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert resolve_path("configs/tsn_tiny.py").samefile(ROOT / "configs" / "tsn_tiny.py")
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "tsn_tiny.py").write_text("model = None\n")
    assert resolve_path("configs/tsn_tiny.py") == Path("configs/tsn_tiny.py")


def test_the_stock_base_is_noted_and_kept(toy_dataset: Path, tmp_path: Path) -> None:
    """Through a config of ours that starts from another of ours, and through a dump."""
    changes = {"dataset_paths": {"data_root": str(toy_dataset)}, "pretrained": {"weights": "none"}}
    assert stock_bases("configs/tsn_kinetics400_tiny.py") == [STOCK]
    assert stock_bases(STOCK) == [STOCK]
    cfg = load_config("configs/tsn_tiny.py", changes=changes)
    assert cfg.stock_base == [STOCK]
    dump = tmp_path / "dump.py"
    cfg.dump(dump)
    assert stock_bases(dump) == []
    assert load_config(dump).stock_base == [STOCK]
