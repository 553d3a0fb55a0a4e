"""Gives a config without a training part that of its model's own paper or code."""

import copy
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, NamedTuple

from ..checkpoints.config_text import shown_name
from ..compat import Config
from ..errors import UserError
from ..pipeline import Step
from .registry import OVERRIDES

logger = logging.getLogger("mmact_tiny")


class Rates(NamedTuple):
    """A schedule, and where it is from.

    Attributes:
        name: Pattern of the config's name.
        source: File of the authors' repository, and what of it is left out or not as there.
        lr: Learning rate at `base_batch` videos a step, all processes together.
        epochs: The first `warmup` of them raise the rate linearly, from `start`.
        end: Rate that the cosine ends with.
    """

    name: str
    source: str
    lr: float
    base_batch: int
    epochs: int
    warmup: int
    start: float = 1e-6
    end: float = 1e-6


@dataclass(frozen=True)
class Recipe:
    """How the authors of a family of models trained it.

    Attributes:
        rates: The first whose name fits counts.
        optim: The optimizer wrapper, without the rate.
        model: Arguments of the model's parts, where the config has none.
        mixup: Whether batches are blended, by mixup (alpha 0.8) or CutMix (1.0), at even odds.
        erase: Probability of RandomErasing.
        rand_augment: Whether frames go through RandAugment.
        crops: Side of the training crop by side of the test crop, by default the same.
        cosine_begin: Epoch that the cosine starts in, by default the warm-up's end.
    """

    rates: Sequence[Rates]
    optim: Mapping[str, Any]
    model: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    mixup: bool = False
    erase: float = 0.0
    rand_augment: bool = True
    crops: Mapping[int, int] = field(default_factory=dict)
    cosine_begin: int | None = None


ADAMW = dict(type="AdamW", betas=(0.9, 0.999), weight_decay=0.05)
# SOLVER.ZERO_WD_1D_PARAM, and CLIP_GRADIENT of slowfast/config/defaults.py.
UNIFORMER = dict(
    optimizer=ADAMW,
    paramwise_cfg=dict(norm_decay_mult=0.0, bias_decay_mult=0.0),
    clip_grad=dict(max_norm=20, norm_type=2),
)
ONCE = "; without its repeated augmentation"
MAE = "MCG-NJU/VideoMAE scripts/kinetics/videomae_vit_{}_patch16_224_tubemasking_ratio_0.9_"
MAE += "epoch_1600/finetune.sh" + ONCE
MAE_V2 = "OpenGVLab/VideoMAEv2 scripts/finetune/vit_b_k400_ft.sh; there is none for ViT-S or "
MAE_V2 += "for distilled weights" + ONCE
V1 = "Sense-X/UniFormer video_classification/exp/uniformer_{}_k400/run.sh" + ONCE
V2 = "OpenGVLab/UniFormerV2 exp/{}/run.sh"
ANET = V2.format("anet/anet_l14_16x224") + ", where new classes follow training on Kinetics"
SLOWFAST = "facebookresearch/SlowFast configs/Kinetics/X3D_{S,M}.yaml"
RECIPES = {  # by type of backbone
    # What finetune.sh does not set is a default of run_class_finetuning.py: layer_decay,
    # drop_path, warmup_*, min_lr, smoothing, mixup, cutmix, reprob; the rate is that of 256 videos.
    # init_std is its init_scale, 0.001, times 0.02. Of stock's backbones only this one and MViT
    # have layers that the constructor knows by name.
    "VisionTransformer": Recipe(
        [
            Rates("*videomaev2*", MAE_V2, 7e-4, 256, 90, 5, 1e-8),
            Rates("*large*", MAE.format("large"), 2e-3, 256, 35, 5),
            Rates("*", MAE.format("base"), 5e-4, 256, 75, 5),
        ],
        optim=dict(
            optimizer=ADAMW,
            constructor="LearningRateDecayOptimizerConstructor",
            paramwise_cfg=dict(decay_rate=0.75, decay_type="layer_wise"),
        ),
        model=dict(
            backbone=dict(drop_path_rate=0.1), cls_head=dict(init_std=2e-5, label_smooth_eps=0.1)
        ),
        mixup=True,
        erase=0.25,
    ),
    # What run.sh does not set is in the config.yaml beside it; stock's configs have its drop path.
    "UniFormer": Recipe(
        [
            Rates("*base*_16x4x1_*", V1.format("b16x4"), 1.25e-4, 40, 110, 10),
            Rates("*", V1.format("{b32,s16}x4"), 1e-4, 32, 110, 10),
        ],
        optim=UNIFORMER,
        model=dict(cls_head=dict(label_smooth_eps=0.1)),
        mixup=True,
        erase=0.25,
    ),
    # BATCH_SIZE in run.sh is that of each of NUM_SHARDS machines. clip_pretrained, which is True
    # where it is not set, wants weights of CLIP; stock's configs of other weights switch it off.
    "UniFormerV2": Recipe(
        [
            Rates("*res336*_kinetics710-rgb", V2.format("k710/k710_l14_f8x336"), 5e-6, 256, 40, 5),
            Rates("*large*_kinetics710-rgb", V2.format("k710/k710_l14_f8x224"), 1e-5, 512, 40, 5),
            Rates("*_kinetics710-rgb", V2.format("k710/k710_b16_f8x224"), 1e-5, 256, 55, 5),
            Rates("*_mitv1-rgb", V2.format("mit/mit_l14_f8x{224,336}"), 1e-5, 512, 18, 5),
            # Those for Kinetics (exp/k400) begin with a head that knows the classes.
            Rates("*", ANET, 5e-6, 64, 20, 5),
        ],
        optim=UNIFORMER,
        model=dict(backbone=dict(clip_pretrained=False)),
    ),
    # COSINE_AFTER_WARMUP is False, BN.WEIGHT_DECAY 0. As in stock's SlowFast the warm-up is
    # multiplied with the cosine (the file's is linear, at most 2.5% away), and crops are resized
    # parts (the file's are cut from a short side of 256 to 320, for X3D-S of 182 to 228).
    "X3D": Recipe(
        [Rates("*", SLOWFAST, 0.1, 128, 300, 35, 0.01, 0.0)],
        optim=dict(
            optimizer=dict(type="SGD", momentum=0.9, nesterov=True, weight_decay=5e-5),
            paramwise_cfg=dict(norm_decay_mult=0.0),
        ),
        rand_augment=False,
        crops={182: 160, 256: 224},
        cosine_begin=0,
    ),
}


@OVERRIDES.register_module()
def recipe(cfg: Config) -> None:
    """Sets the training part of a config that has none; a config that has one is left alone.

    The numbers are those of `RECIPES`, which names their sources, as the log does. A training
    clip is one of the test pipeline's length and interval at random, a validation clip the
    centre crop of its middle one; the augmentations are stock's, ordered as in its UniFormerV2. A
    key that the config has stays as it is, but for the interval of checkpoints.

    Raises:
        UserError: a backbone without a recipe, or no test pipeline to derive the others from.
    """
    if cfg.get("train_dataloader") is not None and cfg.get("optim_wrapper") is not None:
        return
    family, rates = find_recipe(cfg)
    if cfg.get("test_dataloader") is None:
        _add_test_part(cfg)
    _set_model(cfg, family)
    wrapper: dict[str, Any] = copy.deepcopy(dict(family.optim))
    wrapper["optimizer"]["lr"] = rates.lr
    if "decay_rate" in wrapper["paramwise_cfg"]:
        wrapper["paramwise_cfg"]["num_layers"] = cfg.model.backbone.get("depth", 12)
    loop = dict(type="EpochBasedTrainLoop", max_epochs=rates.epochs, val_begin=1, val_interval=1)
    parts = dict(
        **_loaders(cfg, family),
        train_cfg=loop,
        val_cfg=dict(type="ValLoop"),
        val_evaluator=dict(type="AccMetric"),
        optim_wrapper=wrapper,
        param_scheduler=_schedulers(family, rates),
        auto_scale_lr=dict(enable=True, base_batch_size=rates.base_batch),
    )
    for key, value in parts.items():
        if cfg.get(key) is None:
            cfg[key] = value
    # As stock's UniFormerV2; the runtime that every stock config starts from has save_best.
    cfg.default_hooks.checkpoint.update(interval=3, max_keep_ckpts=5)
    words = "training as in %s: lr %g at %d videos a step, %d epochs"
    logger.info(words, rates.source, rates.lr, rates.base_batch, rates.epochs)


def find_recipe(cfg: Config) -> tuple[Recipe, Rates]:
    """Returns the recipe of a config's backbone, and the rates of its name or its base's.

    Raises:
        UserError: there is none for the backbone.
    """
    backbone = ((cfg.get("model") or {}).get("backbone") or {}).get("type")
    family = RECIPES.get(str(backbone))
    if family is None:
        raise UserError(
            f"{shown_name(cfg)} has no training part, and there is a recipe for "
            f"{', '.join(RECIPES)}, not for {backbone}\n"
            "  write a config that has train_dataloader, optim_wrapper and the rest"
        )
    names = [Path(name).stem for name in (str(cfg.filename), *cfg.get("stock_base", ()))]
    fits = (rates for rates in family.rates if any(fnmatch(name, rates.name) for name in names))
    return family, next(fits)


def _set_model(cfg: Config, family: Recipe) -> None:
    for part, arguments in family.model.items():
        for key, value in arguments.items():
            cfg.model[part].setdefault(key, value)
    if family.mixup:
        kinds = {"MixupBlending": 0.8, "CutmixBlending": 1.0}
        num_classes = cfg.model.cls_head.num_classes
        blending = dict(
            type="RandomBatchAugment",
            augments=[dict(type=k, alpha=a, num_classes=num_classes) for k, a in kinds.items()],
        )
        cfg.model.data_preprocessor.setdefault("blending", blending)


def _schedulers(family: Recipe, rates: Rates) -> list[dict[str, Any]]:
    """Returns the warm-up and the cosine, in parts of the rate, which another batch changes."""
    begin = rates.warmup if family.cosine_begin is None else family.cosine_begin
    epochs = dict(by_epoch=True, convert_to_iter_based=True)
    start, end = rates.start / rates.lr, rates.end / rates.lr
    cosine = dict(T_max=rates.epochs - begin, eta_min_ratio=end, begin=begin, end=rates.epochs)
    return [
        dict(type="LinearLR", start_factor=start, begin=0, end=rates.warmup, **epochs),
        dict(type="CosineAnnealingLR", **cosine, **epochs),
    ]


def _loaders(cfg: Config, family: Recipe) -> dict[str, dict[str, Any]]:
    """Returns the data loaders of training and validation, derived from that of testing."""
    test = cfg.test_dataloader.to_dict()
    test["batch_size"] = 8  # that of stock's UniFormerV2
    train = dict(copy.deepcopy(test), sampler=dict(type="DefaultSampler", shuffle=True))
    train["dataset"].pop("test_mode", None)
    pipelines = derived_pipelines(test["dataset"]["pipeline"], family)
    train["dataset"]["pipeline"], test["dataset"]["pipeline"] = pipelines
    return dict(train_dataloader=train, val_dataloader=test)


def derived_pipelines(test: Sequence[Step], family: Recipe) -> tuple[list[Step], list[Step]]:
    """Returns the pipelines of training and validation, derived from that of testing.

    Raises:
        UserError: the test pipeline does not sample, decode, crop and format, in this order.
    """
    types = [step["type"] for step in test]
    decoded = next((i + 1 for i, name in enumerate(types) if name.endswith("Decode")), 0)
    formatted = types.index("FormatShape") if "FormatShape" in types else 0
    sides = [step["crop_size"] for step in test[decoded:formatted] if "crop_size" in step]
    if not sides or not any("clip_len" in step for step in test[:decoded]):
        raise UserError(
            f"recipe derives training from the test pipeline, which is {', '.join(types)}: "
            "expected a sampler, a decoder, a crop and FormatShape"
        )
    opening = [dict(s, num_clips=1) if "clip_len" in s else s for s in test[:decoded]]
    resizing = [step for step in test[decoded:formatted] if "crop_size" not in step]
    random = [{key: s[key] for key in s if key != "test_mode"} for s in opening]
    side = family.crops.get(sides[-1], sides[-1])
    val = [*opening, *resizing, dict(type="CenterCrop", crop_size=side), *test[formatted:]]
    train = [*random, *_augmentations(family, side), *test[formatted:]]
    return copy.deepcopy(train), copy.deepcopy(val)


def _augmentations(family: Recipe, side: int) -> list[Step]:
    augment = dict(type="PytorchVideoWrapper", op="RandAugment", magnitude=7, num_layers=4)
    erase = dict(type="RandomErasing", erase_prob=family.erase, mode="rand")
    return [
        dict(type="Resize", scale=(-1, side * 256 // 224)),
        *([augment] if family.rand_augment else []),
        dict(type="RandomResizedCrop"),
        dict(type="Resize", scale=(side, side), keep_ratio=False),
        dict(type="Flip", flip_ratio=0.5),
        *([erase] if family.erase else []),
    ]


def _add_test_part(cfg: Config) -> None:
    """Adds the test part of stock's UniFormerV2 where the config is only a model of that type."""
    backbone = cfg.model.backbone
    if backbone.type != "UniFormerV2":
        raise UserError(f"{shown_name(cfg)} has no test_dataloader to derive training from")
    side = backbone.input_resolution
    cfg.test_pipeline = [
        dict(type="DecordInit"),
        dict(type="UniformSample", clip_len=backbone.t_size, num_clips=4, test_mode=True),
        dict(type="DecordDecode"),
        dict(type="Resize", scale=(-1, side)),
        dict(type="ThreeCrop", crop_size=side),
        dict(type="FormatShape", input_format="NCTHW"),
        dict(type="PackActionInputs"),
    ]
    dataset = dict(type="VideoDataset", ann_file="", data_prefix=dict(video=""), test_mode=True)
    cfg.test_dataloader = dict(
        **dict(batch_size=8, num_workers=8, persistent_workers=True),
        sampler=dict(type="DefaultSampler", shuffle=False),
        dataset=dict(dataset, pipeline=copy.deepcopy(cfg.test_pipeline)),
    )
    cfg.test_evaluator, cfg.test_cfg = dict(type="AccMetric"), dict(type="TestLoop")
