"""Overrides of fine-tuning: literal values for each case, and every family of the zoo."""

from pathlib import Path
from typing import Any

import pytest
from config_changes import GONE, HOOKS, changes_by, pretend, stock
from test_zoo_configs import REFUSED, STEMS, load

from mmact_tiny.errors import EXIT_ERROR, EXIT_OK, UserError
from mmact_tiny.overrides.finetune import TRANSFORMERS, with_recipe
from mmact_tiny.overrides.registry import apply_overrides
from tools import train

RECOGNITION = "mmaction::recognition/"
SLOWFAST = f"{RECOGNITION}slowfast/slowfast_r50_8xb8-4x16x1-256e_kinetics400-rgb.py"
SWIN = "swin/swin-tiny-p244-w877_in1k-pre_8xb8-amp-32x2x1-30e_kinetics400-rgb.py"
TIMESFORMER = "timesformer/timesformer_divST_8xb8-8x32x1-15e_kinetics400-rgb.py"
TSM = "tsm/tsm_imagenet-pretrained-r50_8xb16-1x1x8-50e_kinetics400-rgb.py"
DENSENET = (
    "tsn/custom_backbones/tsn_imagenet-pretrained-dense161_8xb32-1x1x3-100e_kinetics400-rgb.py"
)
FROZEN = {**HOOKS, "custom_hooks.0.type": "FreezeHook"}
CONSTRUCTOR, PARAMWISE = "optim_wrapper.constructor", "optim_wrapper.paramwise_cfg"
CASES: list[tuple[str | None, dict[str, Any], dict[str, Any]]] = [  # config, override, changes
    (None, dict(type="freeze", parts=2), {"model.backbone.frozen_stages": 2}),
    (None, dict(type="freeze", parts="2"), {"model.backbone.frozen_stages": 2}),
    (None, dict(type="freeze", parts="none"), {}),
    (None, dict(type="freeze", parts="backbone"), {**FROZEN, "custom_hooks.0.stages": None}),
    (
        SLOWFAST,
        dict(type="freeze", parts=1),
        {
            "model.backbone.slow_pathway.frozen_stages": 1,
            "model.backbone.fast_pathway.frozen_stages": 1,
        },
    ),
    (SWIN, dict(type="freeze", parts=0), {"model.backbone.frozen_stages": 0}),
    (TIMESFORMER, dict(type="freeze", parts=12), {**FROZEN, "custom_hooks.0.stages": 12}),
    (
        None,
        dict(type="early_stop", patience=3),
        {
            "custom_hooks.0.type": "EarlyStoppingHook",
            "custom_hooks.0.monitor": "acc/top1",
            "custom_hooks.0.rule": "greater",
            "custom_hooks.0.min_delta": 1e-6,
            "custom_hooks.0.patience": 3,
            "custom_hooks.0.priority": "LOW",
        },
    ),
    (None, dict(type="label_smoothing", eps=0.1), {"model.cls_head.label_smooth_eps": 0.1}),
    (None, dict(type="label_smoothing", eps=0), {"model.cls_head.label_smooth_eps": 0}),
    (
        None,
        dict(type="blending", kinds=["mixup"]),
        {
            "model.data_preprocessor.blending.type": "MixupBlending",
            "model.data_preprocessor.blending.alpha": 0.8,
            "model.data_preprocessor.blending.num_classes": 400,
        },
    ),
    (
        None,
        dict(type="blending", kinds=["cutmix", "mixup"]),
        {
            "model.data_preprocessor.blending.type": "RandomBatchAugment",
            "model.data_preprocessor.blending.augments.0.type": "CutmixBlending",
            "model.data_preprocessor.blending.augments.0.alpha": 1.0,
            "model.data_preprocessor.blending.augments.0.num_classes": 400,
            "model.data_preprocessor.blending.augments.1.type": "MixupBlending",
            "model.data_preprocessor.blending.augments.1.alpha": 0.8,
            "model.data_preprocessor.blending.augments.1.num_classes": 400,
        },
    ),
    (
        None,
        dict(type="ema", momentum=0.02),
        {
            "custom_hooks.0.type": "EMAHook",
            "custom_hooks.0.ema_type": "ExponentialMovingAverage",
            "custom_hooks.0.momentum": 0.02,
        },
    ),
    (None, dict(type="learning_rate"), {"auto_scale_lr.enable": True}),
    (None, dict(type="learning_rate", scale=False), {}),
    (
        None,
        dict(type="backbone_lr", fraction=0.1),
        {**HOOKS, CONSTRUCTOR: "RatesConstructor", f"{PARAMWISE}.backbone": 0.1},
    ),
    (
        SWIN,  # which has a fraction of its own
        dict(type="backbone_lr", fraction=0.25),
        {f"{PARAMWISE}.backbone.lr_mult": 0.25},
    ),
    (
        TSM,  # whose own constructor gives the head five times the rate, and still does
        dict(type="backbone_lr", fraction=0.5),
        {
            **HOOKS,
            CONSTRUCTOR: "RatesConstructor",
            f"{PARAMWISE}.fc_lr5": GONE,
            f"{PARAMWISE}.constructor": "TSMOptimWrapperConstructor",
            f"{PARAMWISE}.paramwise_cfg.fc_lr5": True,
            f"{PARAMWISE}.backbone": 0.5,
        },
    ),
    (
        SWIN,
        dict(type="layer_decay", factor=0.7),
        {
            **HOOKS,
            CONSTRUCTOR: "RatesConstructor",
            f"{PARAMWISE}.decay": 0.7,
            f"{PARAMWISE}.constructor": "SwinOptimWrapperConstructor",
            **{
                key: value
                for name in ("absolute_pos_embed", "relative_position_bias_table", "norm")
                for key, value in {
                    f"{PARAMWISE}.{name}.decay_mult": GONE,
                    f"{PARAMWISE}.paramwise_cfg.{name}.decay_mult": 0.0,
                }.items()
            },
            f"{PARAMWISE}.backbone.lr_mult": GONE,
            f"{PARAMWISE}.paramwise_cfg.backbone.lr_mult": 0.1,
        },
    ),
]
WRONG: list[tuple[str | None, dict[str, Any], str]] = [
    (None, dict(type="freeze", parts=5), "freeze 5: ResNet has the stages 0 to 4"),
    *[
        (config, dict(type="freeze", parts=99), f"freeze 99: {kind} has the stages 0 to {most}$")
        for config, kind, most in (
            (TIMESFORMER, "TimeSformer", 12),
            (SWIN, "SwinTransformer3D", 4),
            ("mvit/mvit-small-p244_32xb16-16x4x1-200e_kinetics400-rgb.py", "MViT", 16),
            ("mvit/mvit-large-p244_u40_sthv2-rgb.py", "MViT", 48),
            (
                "uniformerv2/uniformerv2-large-p14-res224_clip-pre_u8_kinetics710-rgb.py",
                "UniFormerV2",
                24,
            ),
            ("uniformer/uniformer-small_imagenet1k-pre_16x4x1_kinetics400-rgb.py", "UniFormer", 4),
            ("c3d/c3d_sports1m-pretrained_8xb30-16x1x1-45e_ucf101-rgb.py", "C3D", 7),
            (
                "videomae/vit-large-p16_videomae-k400-pre_16x4x1_kinetics-400.py",
                "VisionTransformer",
                24,
            ),
        )
    ],
    (None, dict(type="freeze", parts="head"), "'head': expected backbone, none or a number"),
    (None, dict(type="freeze", parts="\N{SUPERSCRIPT TWO}"), "expected backbone, none or a number"),
    (None, dict(type="freeze", parts=-1), "freeze -1: expected backbone, none or a number"),
    (
        DENSENET,
        dict(type="freeze", parts=1),
        r"stages of torchvision.densenet161 are not known\n.*--freeze backbone",
    ),
    (None, dict(type="early_stop", patience=0), "patience=0: expected 1 or more"),
    (None, dict(type="label_smoothing", eps=1.0), "eps=1.0: expected 0 or more, below 1"),
    *[
        (None, dict(type="blending", kinds=kinds), f"'{said}': expected mixup or cutmix, or both, ")
        for kinds, said in ((["mixap"], "mixap"), ([], ""), (["mixup"] * 2, "mixup,mixup"))
    ],
    (None, dict(type="ema", momentum=1.0), "momentum=1.0: expected more than 0, below 1"),
    (None, dict(type="ema", momentum="fast"), "momentum=fast: expected more than 0, below 1"),
    (None, dict(type="backbone_lr", fraction=0.0), "fraction=0.0: expected more than 0"),
    (None, dict(type="layer_decay", factor=1.5), "factor=1.5: expected more than 0, at most 1"),
    (None, dict(type="layer_decay", factor=0.7), "layer_decay is for MViT, .* backbone is ResNet"),
    (None, dict(type="lora", rank=4), "lora is for MViT, .*; the backbone is ResNet"),
    (SWIN, dict(type="lora", rank=0), "rank=0: expected 1 or more"),
]


def config_of(name: str | None) -> Any:
    if name is None:
        return stock()
    return stock(config=name if name.startswith("mmaction") else RECOGNITION + name)


@pytest.mark.parametrize(("config", "override", "expected"), CASES)
def test_an_override_changes_these_keys(
    config: str | None, override: dict[str, Any], expected: dict[str, Any]
) -> None:
    assert changes_by(config_of(config), override) == expected


@pytest.mark.parametrize(("config", "override", "message"), WRONG)
def test_what_makes_no_sense_is_refused(
    config: str | None, override: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        apply_overrides(config_of(config), [override])


def test_freezing_is_taken_back() -> None:
    cfg = stock()
    for parts, frozen in ((3, 3), ("backbone", -1), (1, 1), ("none", -1)):
        apply_overrides(cfg, [dict(type="freeze", parts=parts)])
        hooks = [hook["type"] for hook in cfg.get("custom_hooks", [])]
        assert cfg.model.backbone.frozen_stages == frozen
        assert hooks == (["FreezeHook"] if parts == "backbone" else [])


@pytest.mark.parametrize(
    ("epochs", "batch", "processes", "momentum"),
    [(1, 2, 1, 0.1), (100, 2, 1, 0.033333), (1000, 6, 1, 0.01), (200, 1, 3, 0.025)],
)
def test_an_average_fits_the_run(
    epochs: int,
    batch: int,
    processes: int,
    momentum: float,
    toy_dataset: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of 6 videos: 3, 300, 1,000 and 400 steps."""
    monkeypatch.setenv("WORLD_SIZE", str(processes))
    cfg = stock(toy_dataset)
    cfg.launcher = "pytorch"
    cfg.train_cfg.max_epochs, cfg.train_dataloader.batch_size = epochs, batch
    apply_overrides(cfg, [dict(type="ema")])
    assert cfg.custom_hooks[0].momentum == momentum


def test_an_adapter_beside_random_weights_or_a_freeze_is_refused(toy_dataset: Path) -> None:
    stem = "vit-base-p16_videomae-k400-pre_16x4x1_kinetics-400"
    with pytest.raises(UserError, match="these are random: --pretrained"):
        load(stem, toy_dataset, lora={"rank": 4})
    weights = {"pretrained": {"weights": "README.md"}}
    rates = load(stem, toy_dataset, **weights, lora={"rank": 4}).optim_wrapper.paramwise_cfg
    assert rates.lora == dict(rank=4, alpha=16)
    with pytest.raises(UserError, match="both change custom_hooks"):
        load(stem, toy_dataset, **weights, lora={"rank": 4}, freeze={"parts": "backbone"})


def test_stock_layer_decay_keeps_its_constructor(toy_dataset: Path) -> None:
    cfg = load(
        "vit-base-p16_videomae-k400-pre_16x4x1_kinetics-400",
        toy_dataset,
        layer_decay={"factor": 0.6},
        backbone_lr={"fraction": 0.5},
    )
    own = cfg.optim_wrapper.paramwise_cfg
    assert (cfg.optim_wrapper.constructor, own.backbone) == ("RatesConstructor", 0.5)
    assert own.constructor == "LearningRateDecayOptimizerConstructor"
    assert own.paramwise_cfg == dict(decay_rate=0.6, decay_type="layer_wise", num_layers=12)


@pytest.mark.parametrize("stem", [stem for stem in STEMS if stem not in REFUSED])
def test_every_config_can_be_fine_tuned(
    stem: str, toy_dataset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All at once; then the stages, blocks and adapters that not every backbone has."""
    pretend(monkeypatch)
    cfg = load(
        stem,
        toy_dataset,
        freeze={"parts": "backbone"},
        early_stop={"patience": 2},
        label_smoothing={"eps": 0.1},
        blending={"kinds": ["mixup", "cutmix"]},
        ema={"momentum": 0.1},
        backbone_lr={"fraction": 0.1},
    )
    hooks = {hook["type"] for hook in cfg.custom_hooks}
    assert hooks >= {"FreezeHook", "EarlyStoppingHook", "EMAHook"}
    assert cfg.model.cls_head.label_smooth_eps == 0.1
    blends = cfg.model.data_preprocessor.blending.augments
    assert [blend.num_classes for blend in blends] == [3, 3]
    cfg.initial_weights, kind = "zoo", cfg.model.backbone.type
    attends = kind in TRANSFORMERS
    staged = "." not in kind and kind != "MobileOneTSM"
    for name, argument, fits in (
        ("freeze", dict(parts=1), staged),
        ("layer_decay", dict(factor=0.7), attends),
        ("lora", dict(rank=4), attends),
    ):
        if fits:
            apply_overrides(cfg, [dict(type=name, **argument)])
        else:
            with pytest.raises(UserError, match=r"are not known|is for MViT"):
                apply_overrides(cfg, [dict(type=name, **argument)])


def test_a_recipe_gives_way_to_flags(monkeypatch: pytest.MonkeyPatch) -> None:
    small = {"freeze": {"parts": 2}, "label_smoothing": {"eps": 0.1}}
    monkeypatch.setitem(with_recipe.__globals__["TUNING"], "small", small)
    given: dict[str, dict[str, Any]] = {
        "freeze": {"parts": "none"},
        "label_smoothing": {"eps": None},
        "run": {"seed": None},
    }
    assert with_recipe("small", given) == {
        "freeze": {"parts": "none"},
        "label_smoothing": {"eps": 0.1},
        "run": {"seed": None},
    }


def test_the_flags_reach_the_overrides(
    toy_dataset: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pretend(monkeypatch)
    flags = "--freeze 1 --early-stop 2 --label-smoothing 0.1 --blend mixup,cutmix --ema 0.05"
    words = ["configs/tsn_tiny.py", "--data", str(toy_dataset), "--dry-run", *flags.split()]
    assert train.main([*words, "--backbone-lr", "0.1", "--recipe", "small"]) == EXIT_OK
    printed = capsys.readouterr().out
    for text in (
        "frozen_stages=1",
        "patience=2",
        "label_smooth_eps=0.1",
        "type='CutmixBlending'",
        "momentum=0.05",
        "backbone=0.1",
        "recipe small: ",
    ):
        assert text in printed
    assert train.main([*words, "--layer-decay", "0.7"]) == EXIT_ERROR
    assert "layer_decay is for MViT" in capsys.readouterr().err
    assert train.main([*words, "--lora", "4"]) == EXIT_ERROR
    assert "lora is for MViT" in capsys.readouterr().err
