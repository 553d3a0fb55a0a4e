"""A config without a training part gets that of its model's authors; the others stay."""

import copy
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import torch
from config_changes import changes, leaves, stock
from conftest import ROOT
from mmaction.registry import MODELS
from mmaction.structures import ActionDataSample
from mmengine.config import Config
from mmengine.dataset import Compose
from mmengine.optim import build_optim_wrapper
from mmengine.registry import init_default_scope

from mmact_tiny.checkpoints.config_text import stock_configs
from mmact_tiny.errors import UserError
from mmact_tiny.overrides.registry import apply_overrides

LOADERS = ("train_dataloader", "val_dataloader", "test_dataloader")
PARTS = (*LOADERS, "train_cfg", "val_cfg", "test_cfg", "val_evaluator", "test_evaluator")
PARTS += ("optim_wrapper", "param_scheduler", "auto_scale_lr")
V2 = "uniformerv2/uniformerv2"
VIDEOMAE = "videomae/vit-base-p16_videomae-k400-pre_16x4x1_kinetics-400"
UNIFORMER = "uniformer/uniformer-base_imagenet1k-pre_16x4x1_kinetics400-rgb"
LARGE = f"{V2}-large-p14-res336_clip-kinetics710-pre_u32_kinetics400-rgb"
K710 = f"{V2}-base-p16-res224_clip-pre_u8_kinetics710-rgb"
X3D = "x3d/x3d_s_13x6x1_facebook-kinetics400-rgb"


def with_recipe(name: str, **backbone: Any) -> Config:
    cfg = stock(config=f"mmaction::recognition/{name}.py")
    cfg.model.backbone.update(backbone)
    apply_overrides(cfg, [dict(type="recipe")])
    return cfg


def test_every_config_has_a_training_part_then() -> None:
    """All of the zoo: 26 get one, which is whole; the others, and these the second time, stay."""
    given: Counter[str] = Counter()
    for file in sorted((stock_configs() / "recognition").rglob("*.py")):
        cfg = Config.fromfile(file)
        before, lacks = leaves(cfg), "optim_wrapper" not in cfg
        apply_overrides(cfg, [dict(type="recipe")])
        once = leaves(cfg)
        assert (before != once) == lacks, file
        apply_overrides(cfg, [dict(type="recipe")])
        assert leaves(cfg) == once
        if not lacks:
            continue
        given[cfg.model.backbone.type] += 1
        assert [part for part in PARTS if part not in cfg] == [], file
        kept = cfg.default_hooks.checkpoint
        assert (kept.save_best, kept.interval, kept.max_keep_ckpts) == ("auto", 3, 5)
        for loader in LOADERS:
            assert cfg[loader].dataset.type == "VideoDataset"
            assert cfg[loader].dataset.get("test_mode", False) == (loader != "train_dataloader")
    assert given == {"VisionTransformer": 4, "UniFormer": 3, "UniFormerV2": 17, "X3D": 2}


# The rate, its batch, epochs, epochs of warm-up, what the warm-up starts and the cosine ends with.
RATES = {
    VIDEOMAE: (5e-4, 256, 75, 5, 1e-6, 1e-6),
    VIDEOMAE.replace("base", "large"): (2e-3, 256, 35, 5, 1e-6, 1e-6),
    "videomaev2/vit-small-p16_videomaev2-vit-g-dist-k710-pre_16x4x1_kinetics-400": (
        *(7e-4, 256, 90, 5, 1e-8, 1e-6),
    ),
    UNIFORMER: (1.25e-4, 40, 110, 10, 1e-6, 1e-6),
    UNIFORMER.replace("16x4x1", "32x4x1"): (1e-4, 32, 110, 10, 1e-6, 1e-6),
    UNIFORMER.replace("base", "small"): (1e-4, 32, 110, 10, 1e-6, 1e-6),
    K710: (1e-5, 256, 55, 5, 1e-6, 1e-6),
    K710.replace("base-p16", "large-p14"): (1e-5, 512, 40, 5, 1e-6, 1e-6),
    K710.replace("base-p16-res224", "large-p14-res336"): (5e-6, 256, 40, 5, 1e-6, 1e-6),
    LARGE: (5e-6, 64, 20, 5, 1e-6, 1e-6),
    LARGE.replace("res336", "res224").replace("u32", "u16"): (5e-6, 64, 20, 5, 1e-6, 1e-6),
    f"{V2}-large-p16-res224_clip-kinetics710-kinetics-k400-pre_u8_mitv1-rgb": (
        *(1e-5, 512, 18, 5, 1e-6, 1e-6),
    ),
}


@pytest.mark.parametrize("name", RATES)
def test_the_rates_are_the_authors(name: str) -> None:
    lr, base_batch, epochs, warmup, start, end = RATES[name]
    cfg = with_recipe(name)
    optimizer = dict(type="AdamW", betas=(0.9, 0.999), weight_decay=0.05, lr=lr)
    assert cfg.optim_wrapper.optimizer == optimizer
    assert cfg.auto_scale_lr == dict(enable=True, base_batch_size=base_batch)
    assert cfg.train_cfg == dict(
        type="EpochBasedTrainLoop", max_epochs=epochs, val_begin=1, val_interval=1
    )
    counting = dict(by_epoch=True, convert_to_iter_based=True)
    assert cfg.param_scheduler == [
        dict(type="LinearLR", start_factor=start / lr, begin=0, end=warmup, **counting),
        dict(
            type="CosineAnnealingLR",
            **dict(T_max=epochs - warmup, eta_min_ratio=end / lr, begin=warmup, end=epochs),
            **counting,
        ),
    ]


def blending() -> dict[str, Any]:
    """What `leaves` shows of RandomBatchAugment for the 400 classes of Kinetics."""
    where = "model.data_preprocessor.blending"
    values: dict[str, Any] = {f"{where}.type": "RandomBatchAugment"}
    for i, (kind, alpha) in enumerate((("MixupBlending", 0.8), ("CutmixBlending", 1.0))):
        one = {"type": kind, "alpha": alpha, "num_classes": 400}
        values |= {f"{where}.augments.{i}.{key}": value for key, value in one.items()}
    return values


UNIFORMERS_OPTIM = {
    "optim_wrapper.paramwise_cfg.norm_decay_mult": 0.0,
    "optim_wrapper.paramwise_cfg.bias_decay_mult": 0.0,
    "optim_wrapper.clip_grad.max_norm": 20,
    "optim_wrapper.clip_grad.norm_type": 2,
}
# What a recipe sets of the model and the optimizer, beside the optimizer's own arguments.
MODELS_AND_OPTIMIZERS = {
    VIDEOMAE: {
        "model.backbone.drop_path_rate": 0.1,
        "model.cls_head.init_std": 2e-5,
        "model.cls_head.label_smooth_eps": 0.1,
        **blending(),
        "optim_wrapper.constructor": "LearningRateDecayOptimizerConstructor",
        "optim_wrapper.paramwise_cfg.decay_rate": 0.75,
        "optim_wrapper.paramwise_cfg.decay_type": "layer_wise",
        "optim_wrapper.paramwise_cfg.num_layers": 12,
    },
    UNIFORMER: {"model.cls_head.label_smooth_eps": 0.1, **blending(), **UNIFORMERS_OPTIM},
    LARGE: {"model.backbone.clip_pretrained": False, **UNIFORMERS_OPTIM},
    X3D: {"optim_wrapper.paramwise_cfg.norm_decay_mult": 0.0},
}


@pytest.mark.parametrize("name", MODELS_AND_OPTIMIZERS)
def test_the_model_and_the_optimizer_are_the_authors(name: str) -> None:
    before = leaves(stock(config=f"mmaction::recognition/{name}.py"))
    changed = changes(before, leaves(with_recipe(name)))
    kept = ("model.", "optim_wrapper.")
    found = {k: v for k, v in changed.items() if k.startswith(kept) and ".optimizer." not in k}
    assert found == MODELS_AND_OPTIMIZERS[name]


def test_x3d_trains_as_slowfast_does() -> None:
    cfg = with_recipe(X3D)
    sgd = dict(type="SGD", lr=0.1, momentum=0.9, nesterov=True, weight_decay=5e-5)
    assert cfg.optim_wrapper.optimizer == sgd
    assert cfg.auto_scale_lr.base_batch_size == 128
    warmup, cosine = cfg.param_scheduler
    assert (warmup.start_factor, warmup.begin, warmup.end) == (pytest.approx(0.1), 0, 35)
    assert (cosine.eta_min_ratio, cosine.begin, cosine.end, cosine.T_max) == (0.0, 0, 300, 300)


def types(pipeline: list[dict[str, Any]]) -> str:
    return " ".join(step["type"] for step in pipeline)


RESIZED = "Resize PytorchVideoWrapper RandomResizedCrop Resize Flip"
ENDING = "FormatShape PackActionInputs"
# What trains between decoding and formatting, the sampler, the shape of a clip, the short side.
PIPELINES = {
    VIDEOMAE: (f"{RESIZED} RandomErasing", "SampleFrames", (1, 3, 16, 224, 224), 256),
    UNIFORMER: (f"{RESIZED} RandomErasing", "SampleFrames", (1, 3, 16, 224, 224), 256),
    K710: (RESIZED, "UniformSample", (1, 3, 8, 224, 224), 256),
    LARGE: (RESIZED, "UniformSample", (1, 3, 32, 336, 336), 384),
    X3D: ("Resize RandomResizedCrop Resize Flip", "SampleFrames", (1, 3, 13, 160, 160), 182),
}


@pytest.mark.parametrize("name", PIPELINES)
def test_pipelines_are_derived_from_that_of_testing_and_run(name: str) -> None:
    init_default_scope("mmaction")
    middle, sampler, shape, short_side = PIPELINES[name]
    cfg = with_recipe(name)
    train, val, test = (cfg[loader].dataset.pipeline for loader in LOADERS)
    opening = f"DecordInit {sampler} DecordDecode"
    assert types(train) == f"{opening} {middle} {ENDING}"
    assert types(val) == f"{opening} Resize CenterCrop {ENDING}"
    assert train[3].scale == (-1, short_side)
    if "PytorchVideoWrapper" in middle:
        rand_augment = dict(op="RandAugment", magnitude=7, num_layers=4)
        assert train[4] == dict(type="PytorchVideoWrapper", **rand_augment)
    if "RandomErasing" in middle:
        assert train[8] == dict(type="RandomErasing", erase_prob=0.25, mode="rand")
    one_clip = dict(test[1], num_clips=1)
    assert test[1].num_clips > 1
    assert val[1] == one_clip
    assert train[1] == {key: one_clip[key] for key in one_clip if key != "test_mode"}
    video = dict(filename=str(ROOT / "data/tiny/val/bouncing_ball1.mp4"), label=0, start_index=0)
    for pipeline in (train, val):
        clip = Compose(copy.deepcopy(pipeline))(dict(video, modality="RGB"))["inputs"]
        assert (clip.shape, clip.dtype) == (shape, torch.uint8)


def test_layer_decay_and_blending_take_a_training_step() -> None:
    """A transformer of 3 layers: the rate falls by 0.75 a layer, from the head's to the patches'.

    The head starts near 0, as `init_std` says, so the first loss is log(400).
    """
    init_default_scope("mmaction")
    small = dict(img_size=32, embed_dims=24, depth=3, num_heads=2, num_frames=4)
    cfg = with_recipe(VIDEOMAE, **small)
    cfg.model.cls_head.in_channels = 24
    torch.manual_seed(0)
    model = MODELS.build(cfg.model)
    model.init_weights()
    wrapper = build_optim_wrapper(model, copy.deepcopy(cfg.optim_wrapper))
    groups = {group["group_name"]: group for group in wrapper.optimizer.param_groups}
    rates = {name: (group["lr"], group["weight_decay"]) for name, group in groups.items()}
    assert rates == {
        "layer_0_decay": (pytest.approx(1.58203125e-4), 0.05),
        "layer_0_no_decay": (pytest.approx(1.58203125e-4), 0.0),
        "layer_1_decay": (pytest.approx(2.109375e-4), 0.05),
        "layer_1_no_decay": (pytest.approx(2.109375e-4), 0.0),
        "layer_2_decay": (pytest.approx(2.8125e-4), 0.05),
        "layer_2_no_decay": (pytest.approx(2.8125e-4), 0.0),
        "layer_3_decay": (pytest.approx(3.75e-4), 0.05),
        "layer_3_no_decay": (pytest.approx(3.75e-4), 0.0),
        "layer_4_decay": (5e-4, 0.05),
        "layer_4_no_decay": (5e-4, 0.0),
    }
    samples = [ActionDataSample().set_gt_label(label) for label in (3, 399)]
    clips = [torch.randint(256, (1, 3, 4, 32, 32), dtype=torch.uint8) for _ in samples]
    data = dict(inputs=clips, data_samples=samples)
    blended = model.data_preprocessor(data, training=True)["data_samples"][0].gt_label
    assert (blended.shape, blended.sum()) == ((400,), pytest.approx(1))
    losses = model.train_step(data, wrapper)
    assert losses["loss"].item() == pytest.approx(5.99146, abs=1e-3)  # log(400)


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (lambda cfg: cfg.model.backbone.update(type="ResNet"), "X3D, not for ResNet"),
        (lambda cfg: cfg.pop("test_dataloader"), "no test_dataloader"),
        (lambda cfg: cfg.test_dataloader.dataset.pipeline.pop(4), "Decode, Resize, FormatShape"),
    ],
)
def test_what_cannot_be_derived_is_named(edit: Callable[[Config], Any], words: str) -> None:
    cfg = stock(config=f"mmaction::recognition/{VIDEOMAE}.py")
    edit(cfg)
    with pytest.raises(UserError, match=words):
        apply_overrides(cfg, [dict(type="recipe")])


def test_what_the_config_sets_stays_and_the_source_is_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    cfg = stock(config=f"mmaction::recognition/{VIDEOMAE}.py")
    cfg.model.backbone.drop_path_rate = 0.3
    cfg.train_cfg = dict(type="EpochBasedTrainLoop", max_epochs=2)
    cfg.optim_wrapper = dict(optimizer=dict(type="SGD", lr=1.0))
    with caplog.at_level("INFO", logger="mmact_tiny"):
        apply_overrides(cfg, [dict(type="recipe")])
    assert cfg.model.backbone.drop_path_rate == 0.3
    assert cfg.optim_wrapper == dict(optimizer=dict(type="SGD", lr=1.0))
    assert cfg.train_dataloader.dataset.type == "VideoDataset"
    assert cfg.train_cfg == dict(type="EpochBasedTrainLoop", max_epochs=2)
    assert "MCG-NJU/VideoMAE scripts/kinetics" in caplog.text
    assert "without its repeated augmentation: lr 0.0005 at 256 videos" in caplog.text
