"""Each override changes exactly the keys it should; twice is once; the dump runs again."""

from pathlib import Path
from typing import Any

import pytest
from conftest import STOCK
from mmengine.config import Config

from mmact_tiny import hardware
from mmact_tiny.config import load_config, resolve_path
from mmact_tiny.errors import UserError
from mmact_tiny.overrides.registry import apply_overrides, diff, flatten

LOADERS = ("train_dataloader", "val_dataloader", "test_dataloader")


@pytest.fixture(autouse=True)
def _one_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """The choices that the table expects are those of a CPU with bf16 and 4 cores."""
    monkeypatch.setattr(hardware, "has_cuda", lambda: False)
    monkeypatch.setattr(hardware, "cpu_flags", lambda: frozenset({"avx512_bf16"}))
    monkeypatch.setattr(hardware, "choose_num_workers", lambda: (2, "4 cores"))


def stock() -> Config:
    return Config.fromfile(resolve_path(STOCK))


def with_paths(cfg: Config, toy_dataset: Path) -> Config:
    apply_overrides(cfg, [dict(type="dataset_paths", data_root=str(toy_dataset))])
    return cfg


def changes_of(cfg: Config, entry: dict[str, Any]) -> dict[str, Any]:
    """Returns `{key: new value}`, after a check that applying it again changes nothing."""
    before = flatten(cfg)
    apply_overrides(cfg, [entry])
    once = flatten(cfg)
    apply_overrides(cfg, [entry])
    assert diff(once, flatten(cfg)) == {}
    return {key: new for key, (_, new) in diff(before, once).items()}


NAMES = ["walk", "run", "jump high"]
IMAGENET = "model.backbone.pretrained"
RANDOM = {
    IMAGENET: None,
    "initial_weights": "random",
    "custom_imports.imports": ["mmact_tiny.hooks"],
    "custom_imports.allow_failed_imports": False,
    "custom_hooks[ZeroInitResidualHook].type": "ZeroInitResidualHook",
}
CHECKPOINT_HOOKS = ("WeightsHook", "ValidatedHook", "ResumeHook", "LossHook", "StopHook")
TABLE = {
    "classes": (
        dict(type="classes"),
        {
            "model.cls_head.num_classes": 3,
            **{f"{loader}.dataset.metainfo.classes": NAMES for loader in LOADERS},
        },
    ),
    "classes by name": (
        dict(type="classes", names=["a", "b"]),
        {
            "model.cls_head.num_classes": 2,
            **{f"{loader}.dataset.metainfo.classes": ["a", "b"] for loader in LOADERS},
        },
    ),
    "pretrained none": (
        dict(type="pretrained", weights="none"),
        RANDOM,
    ),
    "pretrained auto, none there": (
        dict(type="pretrained", search="checkpoints/no-such-file_*.pth"),
        RANDOM,
    ),
    "pretrained file": (
        dict(type="pretrained", weights="README.md"),  # any file: it is not opened here
        {IMAGENET: None, "initial_weights": "README.md", "load_from": "README.md"},
    ),
    "pretrained imagenet": (
        dict(type="pretrained", weights="imagenet"),
        {"initial_weights": "imagenet"},
    ),
    "resume, nothing there": (
        dict(type="pretrained", weights="none", resume=True, work_dir="no-such-folder"),
        RANDOM,
    ),
    "checkpoints": (
        dict(type="checkpoints", interval=2, max_keep=5, every=10),
        {
            "custom_imports.imports": ["mmact_tiny.hooks"],
            "custom_imports.allow_failed_imports": False,
            **{f"custom_hooks[{name}].type": name for name in CHECKPOINT_HOOKS},
            "custom_hooks[StopHook].every": 10,
            "default_hooks.checkpoint.type": "SafeCheckpointHook",
            "default_hooks.checkpoint.interval": 2,
            "default_hooks.checkpoint.max_keep_ckpts": 5,
        },
    ),
    "data_guard": (
        dict(type="data_guard", max_bad_fraction=0.2),
        {
            "custom_imports.imports": ["mmact_tiny.hooks"],
            "custom_imports.allow_failed_imports": False,
            "custom_hooks[DataGuardHook].type": "DataGuardHook",
            "custom_hooks[DataGuardHook].max_bad_fraction": 0.2,
            "custom_hooks[DataGuardHook].video_seconds": 120,
        },
    ),
    "schedule": (
        dict(type="schedule", max_epochs=10),
        {
            "train_cfg.max_epochs": 10,
            "param_scheduler[MultiStepLR].end": 10,
            "param_scheduler[MultiStepLR].milestones": [4, 8],
        },
    ),
    "schedule of one epoch": (
        dict(type="schedule", max_epochs=1),
        {
            "train_cfg.max_epochs": 1,
            "param_scheduler[MultiStepLR].end": 1,
            "param_scheduler[MultiStepLR].milestones": [1, 1],
        },
    ),
    "batch_size": (
        dict(type="batch_size", train=2),
        {"train_dataloader.batch_size": 2, "val_dataloader.batch_size": 2},
    ),
    "batch_size above the dataset": (
        dict(type="batch_size", train=100, test=100),
        {
            "train_dataloader.batch_size": 6,
            "val_dataloader.batch_size": 4,
            "test_dataloader.batch_size": 4,
        },
    ),
    "batch_size, accumulated": (
        dict(type="batch_size", train=2, accumulate=4),
        {
            "train_dataloader.batch_size": 2,
            "val_dataloader.batch_size": 2,
            "optim_wrapper.accumulative_counts": 4,
        },
    ),
    "learning_rate": (dict(type="learning_rate"), {"auto_scale_lr.enable": True}),
    "learning_rate of its own": (
        dict(type="learning_rate", lr=0.02),
        {"optim_wrapper.optimizer.lr": 0.02, "auto_scale_lr.enable": True},
    ),
    "input_size": (
        dict(type="input_size", crop=112),
        {
            f"{node}[{key}": value
            for node, crop in {
                "train_pipeline": "MultiScaleCrop].input_size",
                "val_pipeline": "CenterCrop].crop_size",
                "test_pipeline": "TenCrop].crop_size",
            }.items()
            for node in (node, f"{node.split('_')[0]}_dataloader.dataset.pipeline")
            for key, value in {
                "Resize].scale": (-1, 128),
                crop: 112,
                **({"Resize#2].scale": (112, 112)} if "Multi" in crop else {}),
            }.items()
        },
    ),
    "hardware": (
        dict(type="hardware"),
        {
            "env_cfg.dist_cfg.backend": "gloo",
            "optim_wrapper.type": "CpuAmpOptimWrapper",
            "optim_wrapper.dtype": "bfloat16",
            **{f"{loader}.num_workers": 2 for loader in LOADERS},
            **{f"{loader}.pin_memory": False for loader in LOADERS},
            "custom_imports.imports": ["mmact_tiny.hooks"],
            "custom_imports.allow_failed_imports": False,
            "custom_hooks[PrecisionHook].type": "PrecisionHook",
            "custom_hooks[TimingHook].type": "TimingHook",
        },
    ),
    "run": (
        dict(type="run", work_dir="w", seed=3, deterministic=True, launcher="pytorch"),
        {
            "work_dir": "w",
            "log_processor.custom_cfg": [
                dict(data_src=source, log_name=name, method_name="mean", window_size="epoch")
                for source, name in (("loss", "epoch_loss"), ("top1_acc", "epoch_top1_acc"))
            ],
            "randomness.seed": 3,
            "randomness.deterministic": True,
            "launcher": "pytorch",
            "model_wrapper_cfg.type": "MMDistributedDataParallel",
            "model_wrapper_cfg.device_ids": None,
            "model_wrapper_cfg.broadcast_buffers": False,
            "model_wrapper_cfg.find_unused_parameters": False,
        },
    ),
}


@pytest.mark.parametrize("case", TABLE)
def test_changes_exactly_these_keys_and_twice_is_once(case: str, toy_dataset: Path) -> None:
    entry, expected = TABLE[case]
    cfg = with_paths(stock(), toy_dataset)
    assert changes_of(cfg, entry) == expected


def test_dataset_paths_changes_every_copy_of_a_path(toy_dataset: Path) -> None:
    train, val = str(toy_dataset / "train"), str(toy_dataset / "val")
    cfg = stock()
    assert changes_of(cfg, dict(type="dataset_paths", data_root=str(toy_dataset))) == {
        "train_dataloader.dataset.ann_file": f"{train}.txt",
        "train_dataloader.dataset.data_prefix.video": train,
        "val_dataloader.dataset.ann_file": f"{val}.txt",
        "val_dataloader.dataset.data_prefix.video": val,
        "test_dataloader.dataset.ann_file": f"{val}.txt",
        "test_dataloader.dataset.data_prefix.video": val,
        "data_root": train,
        "data_root_val": val,
        "ann_file_train": f"{train}.txt",
        "ann_file_val": f"{val}.txt",
    }


def test_scratch_arguments_count_only_from_random_weights(toy_dataset: Path) -> None:
    entries = [
        dict(type="schedule", max_epochs=10, scratch_epochs=24),
        dict(type="learning_rate", lr=0.01, scratch=dict(type="AdamW", lr=0.02)),
    ]
    results = {}
    for weights in ("none", "imagenet"):
        cfg = with_paths(stock(), toy_dataset)
        apply_overrides(cfg, [dict(type="pretrained", weights=weights), *entries])
        results[weights] = (cfg.train_cfg.max_epochs, cfg.optim_wrapper.optimizer.lr)
    assert results == {"none": (24, 0.02), "imagenet": (10, 0.01)}


@pytest.mark.parametrize(("origin", "crop"), [("random", 96), ("imagenet", 224), (None, 224)])
def test_weights_are_tested_at_the_size_they_were_trained_at(
    toy_dataset: Path, tmp_path: Path, origin: str | None, crop: int
) -> None:
    weights = tmp_path / "best.pth"
    weights.touch()
    cfg = with_paths(stock(), toy_dataset)
    entry = dict(type="pretrained", weights=str(weights), origin=origin)
    apply_overrides(cfg, [entry, dict(type="input_size", scratch_crop=96)])
    crops = [step["crop_size"] for step in cfg.val_pipeline if "crop_size" in step]
    assert crops == [crop]
    assert cfg.load_from == str(weights)


@pytest.mark.parametrize(
    ("accumulate", "batch", "world", "expected"),
    [(1, 2, 1, 7.8125e-05), (1, 2, 8, 6.25e-04), (4, 2, 1, 3.125e-04), (3, 1, 1, 1.171875e-04)],
)
def test_the_learning_rate_follows_the_real_batch(
    toy_dataset: Path, accumulate: int, batch: int, world: int, expected: float
) -> None:
    """What MMEngine's `scale_lr` computes: lr * world size * batch / base batch size."""
    cfg = with_paths(stock(), toy_dataset)
    batch_entry = dict(type="batch_size", train=batch, accumulate=accumulate)
    apply_overrides(cfg, [batch_entry, dict(type="learning_rate", lr=0.01)])
    rate = 0.01 * world * cfg.train_dataloader.batch_size / cfg.auto_scale_lr.base_batch_size
    assert rate == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (dict(type="batch_sise", train=2), "did you mean 'batch_size'"),
        (dict(type="batch_size", trian=2), "did you mean 'train'"),
        (dict(type="schedule"), "needs its argument 'max_epochs'"),
        (dict(train=2), "expected dict"),
        (dict(type="batch_size", train=0), "train=0: expected 1 or more"),
        (dict(type="batch_size", train="two"), "'two': expected a whole number"),
        (dict(type="schedule", max_epochs=-1), "max_epochs=-1: expected 1 or more"),
        (dict(type="learning_rate", lr=0), "lr=0: expected a positive number"),
        (dict(type="input_size", crop=16), "crop=16: expected 32 or more"),
        (dict(type="pretrained", weights="gone.pth"), "tools/download.py"),
        (dict(type="pretrained", resume="gone.pth"), "no checkpoint gone.pth"),
        (dict(type="hardware", precision="fp64"), "expected one of auto, fp32, bf16, fp16"),
        (dict(type="hardware", precision="fp16"), "fp16 needs a CUDA device"),
        (dict(type="hardware", num_workers=-1), "expected 0 or more"),
        (dict(type="run", launcher="k8s"), "expected none, pytorch, slurm, mpi"),
        (dict(type="protocol", name="fast"), "expected full or val"),
    ],
)
def test_a_wrong_override_is_one_clear_error(
    toy_dataset: Path, entry: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        apply_overrides(with_paths(stock(), toy_dataset), [entry])


def test_two_overrides_of_one_key_are_an_error_that_names_both(toy_dataset: Path) -> None:
    entries = [dict(type="classes"), dict(type="classes", names=["a"])]
    with pytest.raises(UserError, match="'classes' and 'classes' both change"):
        apply_overrides(with_paths(stock(), toy_dataset), entries)


def test_an_override_that_changes_nothing_says_so(
    toy_dataset: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cfg = with_paths(stock(), toy_dataset)
    with caplog.at_level("INFO", logger="mmact_tiny"):
        apply_overrides(cfg, [dict(type="schedule", max_epochs=100)])
    assert caplog.messages == ["override schedule(max_epochs=100): changes nothing"]


def test_warm_up_and_cosine_stay_in_order() -> None:
    cfg = stock()
    cfg.param_scheduler = [
        dict(type="LinearLR", start_factor=0.1, by_epoch=True, begin=0, end=5),
        dict(type="CosineAnnealingLR", by_epoch=True, begin=5, end=100, T_max=95),
    ]
    apply_overrides(cfg, [dict(type="schedule", max_epochs=20)])
    spans = [(s.begin, s.end, s.get("T_max")) for s in cfg.param_scheduler]
    assert spans == [(0, 1, None), (1, 20, 19)]


def test_the_dump_is_complete_and_loads_as_it_is(toy_dataset: Path, tmp_path: Path) -> None:
    cfg = load_config(
        "configs/tsn_tiny.py",
        changes={"dataset_paths": {"data_root": str(toy_dataset)}, "run": {"seed": 1}},
    )
    assert "overrides" not in cfg
    cfg.dump(tmp_path / "dump.py")
    again = load_config(tmp_path / "dump.py")
    assert flatten(Config(dict(again))) == flatten(Config(dict(cfg)))
    assert "_base_" not in (tmp_path / "dump.py").read_text()
