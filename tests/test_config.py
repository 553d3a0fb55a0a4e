from importlib import import_module
from pathlib import Path

import pytest
from config_changes import changes, leaves
from conftest import ROOT, STOCK
from mmengine.config import Config

from benchmarks import told_once
from mmact_tiny.checkpoints.config_text import resolve_path, stock_bases
from mmact_tiny.config import check_sizes, load_config
from mmact_tiny.errors import UserError
from mmact_tiny.overrides.options import merge_options


@pytest.fixture
def cfg() -> Config:
    return Config.fromfile(resolve_path(STOCK))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"modl.backbone.depth": 18}, "did you mean 'model.backbone.depth'"),
        ({"model.backbone.dept": 18}, "did you mean 'model.backbone.depth'"),
        ({"model.backbone.frozen_stage": 1}, r"did you mean '\+model.backbone.frozen_stages'\?$"),
        ({"model.backbone.frozen_stages": 1}, r"did you mean '\+model.backbone.frozen_stages'\?$"),
        ({"train_dataloader.prefetch_factor": 3}, r"\+train_dataloader.prefetch_factor adds it"),
        (
            {"train_dataloader.dataset.pipeline[Resize].scale": 1},
            "3 Resize, .*; name one as .Resize#1]$",
        ),
        ({"train_dataloader.dataset.pipeline[Resize#0].scale": 1}, "is not one of 9 items"),
        ({"train_pipeline.3.scale": (-1, 9)}, "; set train_dataloader.dataset.pipeline.3.scale$"),
        ({"file_client_args.io_backend": "x"}, "; set test_dataloader.dataset.pipeline.0.io_back"),
        ({"dataset_type": "x"}, "reads dataset_type once .*; set test_dataloader.dataset.type, tr"),
        ({"model.backbone.depth": "18"}, "expected int like 50"),
        ({"train_dataloader.batch_size": True}, "expected int like 32"),
        ({"auto_scale_lr.enable": 1}, "expected bool like False"),
        ({"train_dataloader.dataset.pipeline.99.type": "Flip"}, "is not one of 9 items"),
        ({"model.backbone.depth.more": 1}, "no key 'model.backbone.depth.more'"),
        ({"model.backbones.depth": 1}, r"no key 'model.backbones' in the config; did you mean"),
        ({"val_pipeline.3.scale.2": 1}, "val_pipeline.3.scale.2 is not one of 2 items"),
        ({"val_pipeline.3.scale.1": "big"}, "expected int like 256"),
        ({"train_pipeline.-1.type": "Flip"}, "is not one of 9 items"),
        ({"+model.backbone.depth": 18}, r"\+model.backbone.depth: the key is there; model.b"),
        ({"+val_pipeline.3.scale.1": 128}, r"\(-1, 256\) takes no key"),
        ({"+modl.backbone.frozen_stages": 1}, "no key 'modl' in the config"),
    ],
)
def test_a_wrong_option_is_an_error(cfg, options, message):
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
        ("val_dataloader.dataset.pipeline.3.scale.0", -1),
        ("param_scheduler.0.milestones.1", 90),
        ("param_scheduler.0.milestones", [1, 2, 3]),
        ("+my_setting", 1),  # a hook of the user's may read it
    ],
)
def test_an_option_sets_its_key_and_no_other(cfg, key, value):
    before = leaves(cfg)
    merge_options(cfg, {key: value})
    key, node = key.removeprefix("+"), cfg
    for part in key.split("."):
        node = node[int(part)] if isinstance(node, (list, tuple)) else node[part]
    assert node == value
    assert all(path.startswith(key) for path in changes(before, leaves(cfg)))


def test_options_are_set_in_turn_and_a_tuple_stays_one(cfg):
    resize = "val_dataloader.dataset.pipeline[Resize].scale"
    merge_options(cfg, {f"{resize}.1": 128, f"{resize}.0": 128})
    train = "train_dataloader.dataset.pipeline"
    merge_options(cfg, {f"{train}[Resize#2].scale": (64, 64), f"+{train}[Resize#1].lazy": False})
    assert cfg.val_dataloader.dataset.pipeline[3].scale == (128, 128)
    steps = cfg.train_dataloader.dataset.pipeline
    assert (steps[5].scale, steps[3].lazy) == ((64, 64), False)


def test_plus_adds_a_key(cfg):
    merge_options(cfg, {"+model.backbone.frozen_stages": 1})
    assert cfg.model.backbone.frozen_stages == 1


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("configs/tsn_tini.py", "did you mean 'configs/tsn_tiny.py'"),
        (STOCK.replace("100e", "200e"), "did you mean 'recognition/tsn/tsn_imagenet"),
        (STOCK, "needs your dataset: --data DIR"),
        (STOCK.removesuffix(".py"), "needs your dataset: --data DIR"),
        (
            Path(STOCK).stem,
            "did you mean 'mmaction::tsn_imagenet-pretrained-r50_8xb32-1x1x3-100e_k",
        ),
        (f"mmaction:{Path(STOCK).stem}", "did you mean 'mmaction::tsn_imagenet-pretrained-r50_8x"),
        ("mmaction::tsm", r"is part of tin_.*, tsm_.* more: python tools/download.py --list tsm$"),
        ("mmaction::slowfast_r50_8xb8-8x", "is part of slowfast_r50_8xb8-8x8x1-256e_kinetics400-r"),
        ("README.md", r"expected a .py, .json or .yaml"),
    ],
)
def test_a_wrong_config_name_is_an_error(config, message):
    with pytest.raises(UserError, match=message):
        load_config(config)


def test_a_stock_config_needs_only_data(toy_dataset):
    cfg = load_config(STOCK, changes={"dataset_paths": {"data_root": str(toy_dataset)}})
    assert cfg.model.cls_head.num_classes == 3
    assert cfg.auto_scale_lr == dict(enable=True, base_batch_size=256)
    assert "initial_weights" in cfg and cfg.train_dataloader.batch_size == 6
    assert cfg.train_dataloader.dataset.ann_file == str(toy_dataset / "train.txt")
    assert cfg.train_cfg.max_epochs == 100
    assert cfg.work_dir.startswith("work_dirs/tsn_imagenet-pretrained-r50")


def test_a_file_without_overrides_runs_as_it_is(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(f"_base_ = ['{STOCK}']\n")
    assert load_config(path).train_dataloader.num_workers == 8


def test_flags_take_the_place_of_the_arguments_in_the_config(toy_dataset):
    changes = {
        "dataset_paths": {"data_root": str(toy_dataset)},
        "schedule": {"max_epochs": 3},
        "batch_size": {"train": 4},
        "run": {"work_dir": "elsewhere"},
    }
    cfg = load_config("configs/tsn_tiny.py", changes=changes)
    assert (cfg.train_cfg.max_epochs, cfg.train_dataloader.batch_size) == (3, 4)
    assert cfg.work_dir == "elsewhere"


def test_a_config_with_a_syntax_error_is_named(tmp_path):
    (tmp_path / "broken.py").write_text("model = dict(\n")
    with pytest.raises(UserError, match=r"broken.py: SyntaxError"):
        load_config(tmp_path / "broken.py")


def test_a_module_is_found_by_the_name_that_it_had_in_0_1_0(tmp_path):
    path = tmp_path / "dump.py"
    lines = f"_base_ = ['{STOCK}']\ncustom_imports = dict(imports=['mmact_tiny.{{}}'])\n"
    path.write_text(lines.format("stopping"))
    load_config(path)
    assert import_module("mmact_tiny.stopping") is import_module("mmact_tiny.hooks")
    path.write_text(lines.format("gone"))
    with pytest.raises(UserError, match=r"dump.py: ImportError"):
        load_config(path)


def test_our_configs_are_found_from_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("configs/tsn_tiny.py", "tsn_tiny", "tsn_tiny.py", "configs/tsn_tiny"):
        assert resolve_path(name).samefile(ROOT / "configs" / "tsn_tiny.py")
    for name in ("other/tsn_tiny.py", "tsn_tiny.json", "/tsn_tiny"):
        with pytest.raises(UserError, match="no config"):
            resolve_path(name)
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "tsn_tiny.py").write_text("model = None\n")
    assert resolve_path("configs/tsn_tiny.py") == Path("configs/tsn_tiny.py")
    assert resolve_path("tsn_tiny").samefile(ROOT / "configs" / "tsn_tiny.py")


def test_the_stock_base_is_noted_and_kept(toy_dataset, tmp_path):
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


def test_a_flag_adds_its_override_before_those_that_build_on_it(toy_dataset, tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(
        f"_base_ = ['{STOCK}']\noverrides = [dict(type='classes'), dict(type='decoder'), "
        "dict(type='batch_size', train=5)]\n"
    )
    changed = {"dataset_paths": {"data_root": str(toy_dataset)}, "clip_cache": {"format": "fast"}}
    cfg = load_config(path, changes=changed)
    assert cfg.model.cls_head.num_classes == 3
    assert cfg.train_dataloader.dataset.pipeline[0].format == "fast"
    assert cfg.test_dataloader.dataset.ann_file == str(toy_dataset / "val.txt")


def test_the_dump_is_complete_and_loads_as_it_is(toy_dataset, tmp_path):
    changed = {"dataset_paths": {"data_root": str(toy_dataset)}, "run": {"seed": 1}}
    cfg = load_config("configs/tsn_tiny.py", changes=changed)
    assert "overrides" not in cfg
    cfg.dump(tmp_path / "dump.py")
    assert leaves(load_config(tmp_path / "dump.py")) == leaves(cfg)
    assert "_base_" not in (tmp_path / "dump.py").read_text()
    resumed = {"resume": True, "work_dir": "no-such-folder", "weights": "none"}
    cfg.optim_wrapper.type, cfg.train_dataloader.num_workers = "OptimWrapper", 1
    cfg.dump(tmp_path / "dump.py")
    again = load_config(tmp_path / "dump.py", changes={"pretrained": resumed})
    assert leaves(again) == leaves(cfg), "nothing but `pretrained` is applied to a dump"
    (toy_dataset / "label_map.txt").write_text("a\nb\n")
    again = load_config(tmp_path / "dump.py", changes={"dataset_paths": changed["dataset_paths"]})
    assert again.val_dataloader.dataset.metainfo.classes == ["a", "b"]
    assert again.model.cls_head.num_classes == 2


SIZES = {
    "train_cfg=dict(max_epochs=0)": "train_cfg.max_epochs=0: expected 1 or more",
    "train_cfg=dict(max_iters=-1)": "train_cfg.max_iters=-1: expected 1 or more",
    "train_cfg=dict(val_interval=0)": "train_cfg.val_interval=0: expected 1 or more",
    "val_dataloader=dict(batch_size=0)": "val_dataloader.batch_size=0: expected 1 or more",
    "test_dataloader=dict(num_workers=-1)": "test_dataloader.num_workers=-1: expected 0 or more",
    "train_dataloader=dict(num_workers=0, persistent_workers=True)": (
        "train_dataloader.persistent_workers=True: expected num_workers of 1 or more"
    ),
    "pipeline=[dict(type='SampleFrames', clip_len=0)]": (
        "pipeline[SampleFrames].clip_len=0: expected 1 or more"
    ),
    "randomness=dict(seed=2**32)": ("randomness.seed=4294967296: expected 0 to 4294967295"),
    "optim_wrapper=dict(optimizer=dict(lr=-0.1))": (
        "optim_wrapper.optimizer.lr=-0.1: expected 0 or more"
    ),
}


@pytest.mark.parametrize("text", SIZES)
def test_a_size_that_cannot_be_is_named_with_its_key(text):
    with pytest.raises(UserError) as caught:
        check_sizes(Config(eval(f"dict({text})")))
    assert str(caught.value) == SIZES[text]


def test_all_of_them_are_named_and_good_ones_pass():
    loader = dict(batch_size=1, num_workers=0, persistent_workers=False)
    check_sizes(Config(dict(train_dataloader=loader, randomness=dict(seed=None))))
    with pytest.raises(UserError) as caught:
        check_sizes(Config(dict(train_cfg=dict(max_epochs=0), val_dataloader=dict(batch_size=-3))))
    assert str(caught.value).count("expected 1 or more") == 2
    names = ("num_classes", "frame_interval", "num_clips", "prefetch_factor", "accumulative_counts")
    loader = dict(num_workers=0, persistent_workers=True)
    with pytest.raises(UserError) as caught:
        check_sizes(Config(dict(model=dict.fromkeys(names, 0), test_dataloader=loader)))
    assert str(caught.value).count("expected 1 or more") == 5
    assert "test_dataloader.persistent_workers=True" in str(caught.value)


def test_the_tests_format_a_config_as_mmengine_does(monkeypatch: pytest.MonkeyPatch) -> None:
    cfg = load_config(ROOT / "configs/tsn_tiny.py")
    quick = cfg.pretty_text
    monkeypatch.setattr(told_once.config, "FormatCode", told_once.stock)
    assert quick == cfg.pretty_text != Config(cfg.to_dict(), format_python_code=False).pretty_text
