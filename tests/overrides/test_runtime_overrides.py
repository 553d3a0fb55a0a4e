"""The overrides of the machine and the run change these keys to these values, also with CUDA."""

from pathlib import Path
from typing import Any

import pytest
from config_changes import GONE, HOOKS, changes_by, leaves, pretend, stock
from mmengine.config import Config

from mmact_tiny import hardware
from mmact_tiny.config import load_config
from mmact_tiny.errors import UserError
from mmact_tiny.overrides.registry import apply_overrides
from mmact_tiny.train import log_choices

LOADERS = ("train_dataloader", "val_dataloader", "test_dataloader")
HARDWARE_HOOKS = {
    **HOOKS,
    "custom_hooks.0.type": "PrecisionHook",
    "custom_hooks.1.type": "TimingHook",
}
GLOO = {
    "env_cfg.dist_cfg.backend": "gloo",
    **{f"{loader}.num_workers": 2 for loader in LOADERS},
    **{f"{loader}.pin_memory": False for loader in LOADERS},
    **HARDWARE_HOOKS,
}
NCCL = {
    **{f"{loader}.num_workers": 2 for loader in LOADERS},
    **{f"{loader}.pin_memory": True for loader in LOADERS},
    **HARDWARE_HOOKS,
}
NO_WORKERS = {
    **{f"{loader}.num_workers": 0 for loader in LOADERS},
    **{f"{loader}.persistent_workers": False for loader in LOADERS},
}
CPU_AMP = {"optim_wrapper.type": "CpuAmpOptimWrapper", "optim_wrapper.dtype": "bfloat16"}
FP32 = {"optim_wrapper.type": "OptimWrapper"}
DISTRIBUTED = {
    "launcher": "pytorch",
    "model_wrapper_cfg.type": "MMDistributedDataParallel",
    "model_wrapper_cfg.device_ids": None,
    "model_wrapper_cfg.broadcast_buffers": False,
}
EPOCH_MEANS = {
    f"log_processor.custom_cfg.{index}.{key}": value
    for index, (source, name) in enumerate((("loss", "epoch_loss"), ("top1_acc", "epoch_top1_acc")))
    for key, value in {
        "data_src": source,
        "log_name": name,
        "method_name": "mean",
        "window_size": "epoch",
    }.items()
}
CHECKPOINTS = {
    **HOOKS,
    **{
        f"custom_hooks.{index}.type": name
        for index, name in enumerate(
            ("WeightsHook", "ValidatedHook", "ResumeHook", "LossHook", "StopHook")
        )
    },
    "default_hooks.checkpoint.type": "SafeCheckpointHook",
}
GUARD = {**HOOKS, "custom_hooks.0.type": "DataGuardHook"}
TABLE: dict[str, tuple[bool, dict[str, Any], dict[str, Any]]] = {
    # whether CUDA is said to be there, the override, what it changes
    "hardware": (False, dict(type="hardware"), GLOO | CPU_AMP),
    "hardware, fp32": (False, dict(type="hardware", precision="fp32"), GLOO | FP32),
    "hardware, no workers": (
        False,
        dict(type="hardware", precision="fp32", num_workers=0),
        GLOO | FP32 | NO_WORKERS,
    ),
    "hardware with CUDA": (
        True,
        dict(type="hardware"),
        NCCL | {"optim_wrapper.type": "AmpOptimWrapper", "optim_wrapper.dtype": "bfloat16"},
    ),
    "hardware with CUDA, fp16": (
        True,
        dict(type="hardware", precision="fp16", num_workers=3),
        NCCL
        | {f"{loader}.num_workers": 3 for loader in LOADERS}
        | {"optim_wrapper.type": "AmpOptimWrapper", "optim_wrapper.dtype": "float16"},
    ),
    "run": (False, dict(type="run", work_dir="w"), {"work_dir": "w", **EPOCH_MEANS}),
    "run by default": (
        False,
        dict(type="run"),
        {
            "work_dir": "work_dirs/tsn_imagenet-pretrained-r50_8xb32-1x1x3-100e_kinetics400-rgb",
            **EPOCH_MEANS,
        },
    ),
    "run with seed 0, not deterministic": (
        False,
        dict(type="run", work_dir="w", seed=0, deterministic=False),
        {"work_dir": "w", **EPOCH_MEANS, "randomness.seed": 0, "randomness.deterministic": False},
    ),
    "run, deterministic": (
        False,
        dict(type="run", work_dir="w", deterministic=True),
        {"work_dir": "w", **EPOCH_MEANS, "randomness.deterministic": True},
    ),
    "run on several CPUs": (
        False,
        dict(type="run", work_dir="w", launcher="pytorch"),
        {"work_dir": "w", **EPOCH_MEANS, **DISTRIBUTED},
    ),
    "run on several GPUs": (
        True,
        dict(type="run", work_dir="w", launcher="pytorch"),
        {"work_dir": "w", **EPOCH_MEANS, "launcher": "pytorch"},
    ),
    "run alone": (
        False,
        dict(type="run", work_dir="w", launcher="none"),
        {"work_dir": "w", **EPOCH_MEANS, "launcher": "none"},
    ),
    "checkpoints": (False, dict(type="checkpoints"), CHECKPOINTS),
    "checkpoints of its own": (
        False,
        dict(type="checkpoints", interval=2, max_keep=5, every=10),
        CHECKPOINTS
        | {
            "custom_hooks.4.every": 10,
            "default_hooks.checkpoint.interval": 2,
            "default_hooks.checkpoint.max_keep_ckpts": 5,
        },
    ),
    "data_guard": (
        False,
        dict(type="data_guard"),
        GUARD | {"custom_hooks.0.max_bad_fraction": 0.1, "custom_hooks.0.video_seconds": 120},
    ),
    "data_guard of its own": (
        False,
        dict(type="data_guard", max_bad_fraction=1, video_seconds=0.5),
        GUARD | {"custom_hooks.0.max_bad_fraction": 1, "custom_hooks.0.video_seconds": 0.5},
    ),
    "a time limit alone": (
        False,
        dict(type="data_guard", video_seconds=5),
        GUARD | {"custom_hooks.0.max_bad_fraction": 0.1, "custom_hooks.0.video_seconds": 5},
    ),
    "zero_init_residual": (
        False,
        dict(type="zero_init_residual"),
        {**HOOKS, "custom_hooks.0.type": "ZeroInitResidualHook"},
    ),
}


@pytest.mark.parametrize("case", TABLE)
def test_changes_exactly_these_keys_and_twice_is_once(
    case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    cuda, entry, expected = TABLE[case]
    pretend(monkeypatch, cuda)
    assert changes_by(stock(), entry) == expected


@pytest.mark.parametrize("cuda", [False, True])
def test_what_low_precision_needs_goes_with_it(cuda: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, cuda)
    cfg = stock()
    cfg.optim_wrapper |= dict(type="AmpOptimWrapper", dtype="float16", loss_scale="dynamic")
    assert {
        key: value
        for key, value in changes_by(cfg, dict(type="hardware", precision="fp32")).items()
        if key.startswith("optim_wrapper")
    } == {**FP32, "optim_wrapper.dtype": GONE, "optim_wrapper.loss_scale": GONE}
    cfg.optim_wrapper |= dict(type="AmpOptimWrapper", loss_scale="dynamic")
    apply_overrides(cfg, [dict(type="hardware", precision="bf16")])
    assert ("loss_scale" in cfg.optim_wrapper) == cuda


def test_the_work_directory_of_the_config_stays_and_its_randomness_is_added_to() -> None:
    cfg = stock()
    cfg.work_dir, cfg.randomness = "mine", dict(seed=5, diff_rank_seed=True)
    cfg.find_unused_parameters = True
    apply_overrides(cfg, [dict(type="run", deterministic=True, launcher="mpi")])
    assert cfg.work_dir == "mine"
    assert cfg.randomness == dict(seed=5, diff_rank_seed=True, deterministic=True)
    assert cfg.model_wrapper_cfg.find_unused_parameters is True


def test_the_iterations_between_checkpoints_stay_and_stopping_counts_first() -> None:
    cfg = stock()
    cfg.custom_hooks = [dict(type="EarlyStoppingHook"), dict(type="StopHook", every=7)]
    apply_overrides(cfg, [dict(type="checkpoints")])
    hooks = {hook.type: dict(hook) for hook in cfg.custom_hooks}
    assert hooks["StopHook"] == dict(type="StopHook", every=7)
    assert hooks["EarlyStoppingHook"] == dict(type="EarlyStoppingHook", priority="LOW")
    apply_overrides(cfg, [dict(type="checkpoints", every=3)])
    assert [hook.every for hook in cfg.custom_hooks if hook.type == "StopHook"] == [3]


def test_the_limits_themselves_are_taken() -> None:
    cfg = stock()
    apply_overrides(cfg, [dict(type="checkpoints", interval=1, max_keep=1, every=1)])
    assert (cfg.default_hooks.checkpoint.interval, cfg.custom_hooks[-1].every) == (1, 1)
    for fraction in (0, 1):
        apply_overrides(cfg, [dict(type="data_guard", max_bad_fraction=fraction)])
        (guard,) = [hook for hook in cfg.custom_hooks if hook.type == "DataGuardHook"]
        assert guard.max_bad_fraction == fraction


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (dict(type="hardware", precision="fp64"), "expected one of auto, fp32, bf16, fp16"),
        (dict(type="hardware", precision="fp16"), "fp16 needs a CUDA device"),
        (dict(type="hardware", num_workers=-1), "num_workers=-1: expected 0 or more"),
        (dict(type="run", launcher="k8s"), "expected none, pytorch, slurm, mpi"),
        (dict(type="run", work_dir=" "), "--work-dir ' ': expected the name of a folder"),
        (dict(type="run", work_dir="a\0b"), "expected the name of a folder"),
        (dict(type="checkpoints", interval=0), "interval=0: expected 1 or more"),
        (dict(type="checkpoints", max_keep=0), "max_keep=0: expected 1 or more"),
        (dict(type="checkpoints", every=0), "every=0: expected 1 or more"),
        (dict(type="data_guard", max_bad_fraction=1.1), "max_bad_fraction=1.1: expected 0 to 1"),
        (dict(type="data_guard", max_bad_fraction=-0.1), "expected 0 to 1"),
        (dict(type="data_guard", video_seconds=0), "video_seconds=0: expected more than 0"),
    ],
)
def test_a_wrong_override_is_one_clear_error(
    entry: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend(monkeypatch)
    with pytest.raises(UserError, match=message):
        apply_overrides(stock(), [entry])


@pytest.mark.parametrize(
    ("hardware_arguments", "options", "expected"),
    [
        ({}, {}, ["bfloat16 (the CPU has avx512_bf16)", "2 (4 cores)"]),
        (dict(precision="bf16", num_workers=2), {}, ["bfloat16 (as asked)", "2 (as asked)"]),
        (dict(precision="fp32"), {}, ["float32 (as asked)", "2 (4 cores)"]),
        (
            {},
            {"train_dataloader.num_workers": 1, "optim_wrapper.dtype": "float16"},
            ["float16 (as the config or a flag says)", "1 (as the config or a flag says)"],
        ),
    ],
)
def test_a_choice_is_logged_with_the_reason_of_the_override_that_made_it(
    hardware_arguments: dict[str, Any],
    options: dict[str, Any],
    expected: list[str],
    toy_dataset: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A dump carries no reasons: what it says was chosen elsewhere."""
    pretend(monkeypatch)
    changed = {"dataset_paths": {"data_root": str(toy_dataset)}, "pretrained": {"weights": "none"}}
    changed |= {"hardware": hardware_arguments} if hardware_arguments else {}
    cfg = load_config("configs/tsn_tiny.py", changes=changed, options=options)
    cfg.dump(tmp_path / "dump.py")
    dump = load_config(tmp_path / "dump.py")
    assert leaves(dump) == leaves(cfg)
    for loaded, words in (
        (cfg, expected),
        (dump, [f"{text.split()[0]} (as the config or a flag says)" for text in expected]),
    ):
        caplog.clear()
        with caplog.at_level("INFO", logger="mmact_tiny"):
            log_choices(loaded)
        assert caplog.messages[1:3] == [f"precision: {words[0]}", f"loader workers: {words[1]}"]


def test_the_machine_is_asked_where_nothing_is(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch)
    monkeypatch.setattr(hardware, "cpu_flags", lambda: frozenset({"avx2"}))
    cfg: Config = stock()
    apply_overrides(cfg, [dict(type="hardware")])
    assert cfg.optim_wrapper.type == "OptimWrapper"


def test_a_time_limit_leaves_the_limit_on_bad_videos_alone() -> None:
    cfg = stock()
    apply_overrides(cfg, [dict(type="data_guard", max_bad_fraction=0.5, video_seconds=9)])
    apply_overrides(cfg, [dict(type="data_guard", video_seconds=5)])
    guards = [hook for hook in cfg.custom_hooks if hook["type"] == "DataGuardHook"]
    assert guards == [dict(type="DataGuardHook", max_bad_fraction=0.5, video_seconds=5)]
