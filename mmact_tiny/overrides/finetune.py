"""Overrides of fine-tuning that small datasets can bear: each is off unless it is asked for."""

import inspect
import logging
import math
from collections.abc import Mapping
from typing import Any

from .. import hardware
from ..annotations import count_annotations
from ..compat import MODELS, Config, ConfigDict, init_default_scope
from ..errors import UserError
from ..pipeline import split_datasets
from .registry import OVERRIDES, add_hook, comes_after, use_plugin

TRANSFORMERS = (
    *("MViT", "SwinTransformer3D", "TimeSformer"),
    *("UniFormer", "UniFormerV2", "VisionTransformer"),
)
STAGED = {*TRANSFORMERS, "C3D"}  # whose stages `FreezeHook` knows; stock's own goes first
# Stages of the backbones that have stock's `frozen_stages`, where they are not four.
NUM_STAGES = {"MobileNetV2": 8, "MobileNetV2TSM": 8}
# The argument of stock's transformers that counts their blocks; the stages of the others.
NUM_BLOCKS: dict[str, str | int] = {
    **{"TimeSformer": "num_transformer_layers", "UniFormerV2": "layers"},
    **{"VisionTransformer": "depth", "UniFormer": 4, "C3D": 7},
}
STOCK_DECAY = "LearningRateDecayOptimizerConstructor"
# alpha: as VideoMAE and UniFormer have it (see `recipe.py`).
BLENDS = {"mixup": ("MixupBlending", 0.8), "cutmix": ("CutmixBlending", 1.0)}
LORA_ALPHA = 16  # the adapters' part is alpha / rank
# Arguments by override, as measured in docs/few_videos.md.
TUNING: dict[str, dict[str, dict[str, Any]]] = {"small": {"learning_rate": {"scale": False}}}
logger = logging.getLogger("mmact_tiny")


@OVERRIDES.register_module()
@comes_after("recipe")
def freeze(cfg: Config, parts: int | str) -> None:
    """Trains the model without its backbone or the backbone's first stages.

    Stock's `frozen_stages` where the backbone has it, else `FreezeHook` switches the gradients off.
    In both cases BatchNorm keeps its statistics, and several processes do not wait for gradients.

    Args:
        parts: `backbone`, a number of stages besides the stem (of Swin and UniFormer those of
            their papers, of other transformers blocks), or `none`: not even those that the config
            freezes.

    Raises:
        UserError: no such part, or a backbone of another library, whose stages are not known.
    """
    kind, nodes = cfg.model.backbone.type, _staged_nodes(cfg)
    stages = int(parts) if isinstance(parts, str) and parts.isdecimal() else parts
    if isinstance(stages, str):
        if stages not in ("backbone", "none"):
            raise UserError(f"freeze {parts!r}: expected backbone, none or a number of stages")
        stages = -1
    elif stages < 0:
        raise UserError(f"freeze {parts}: expected backbone, none or a number of stages")
    elif not nodes and kind not in STAGED:
        raise UserError(
            f"freeze {parts}: the stages of {kind} are not known\n"
            "  freeze the whole of it: --freeze backbone"
        )
    for node in nodes or [cfg.model.backbone]:
        most = _num_stages(kind, node)
        if stages > most:
            raise UserError(f"freeze {parts}: {kind} has the stages 0 to {most}")
    for node in nodes:
        if stages >= 0 or "frozen_stages" in node:
            node.frozen_stages = stages
    if parts == "backbone" or (stages >= 0 and not nodes):
        _add_freeze_hook(cfg, None if parts == "backbone" else stages)
    elif "custom_hooks" in cfg:
        cfg.custom_hooks = [hook for hook in cfg.custom_hooks if hook["type"] != "FreezeHook"]
    logger.info("freeze: %s of %s%s", parts, kind, " (stages, and the stem)" * (stages >= 0))


def _num_stages(kind: str, node: ConfigDict) -> int:
    """Returns how many stages a backbone has besides its stem, of transformers blocks."""
    count = NUM_BLOCKS.get(kind)
    if kind == "MViT":
        arch = node.get("arch", "base")
        settings = arch if isinstance(arch, Mapping) else MODELS.get(kind).arch_zoo[arch]
        return settings["num_layers"]
    if isinstance(count, str):
        return node.get(count, inspect.signature(MODELS.get(kind)).parameters[count].default)
    return count or node.get("num_stages", NUM_STAGES.get(kind, 4))


def _add_freeze_hook(cfg: Config, stages: int | None) -> None:
    use_plugin(cfg, "mmact_tiny.hooks")
    add_hook(cfg, "FreezeHook", stages=stages)


def _staged_nodes(cfg: Config) -> list[Any]:
    """Returns the nodes of the backbone that take stock's `frozen_stages`: two of a SlowFast."""
    backbone = cfg.model.get("backbone") or {}
    pathways = [backbone[key] for key in ("slow_pathway", "fast_pathway") if key in backbone]
    if pathways:
        return pathways
    init_default_scope("mmaction")
    kind = backbone.get("type", "")
    if "." in kind or kind == "MobileOneTSM":  # of timm or MMPretrain
        return []
    known = getattr(MODELS.get(kind), "__mro__", ())
    takes = any("frozen_stages" in inspect.signature(one.__init__).parameters for one in known)
    return [backbone] if takes else []


@OVERRIDES.register_module()
@comes_after("recipe", "dataset_paths")
def early_stop(cfg: Config, patience: int) -> None:
    """Ends a run when its validation has not got better for a while (stock's EarlyStoppingHook).

    Args:
        patience: How many validations, one after the other, may be no better than the best.

    Raises:
        UserError: it is not 1 or more, or the config validates by something else than accuracy.
    """
    if patience < 1:
        raise UserError(f"early_stop patience={patience}: expected 1 or more")
    evaluator = cfg.get("val_evaluator") or {}
    if not isinstance(evaluator, Mapping) or evaluator.get("type") != "AccMetric":
        raise UserError(f"early_stop needs top-1 accuracy (AccMetric), not {evaluator}")
    # Stock's 0.1 is 10 percentage points; with 0 an accuracy that stays would count as better.
    watched = dict(monitor="acc/top1", rule="greater", min_delta=1e-6, patience=patience)
    add_hook(cfg, "EarlyStoppingHook", **watched, priority="LOW")
    every = cfg.train_cfg.get("val_interval", 1)
    words = "early stop: after %d validation(s) without a better top-1, one every %d epoch(s)"
    logger.info(words, patience, every)


@OVERRIDES.register_module()
@comes_after("recipe")
def label_smoothing(cfg: Config, eps: float) -> None:
    """Has the loss expect `1 - eps` of the label and share `eps` among all classes.

    Szegedy et al. 2016, arXiv 1512.00567, section 7; stock's `label_smooth_eps`.
    """
    if not 0 <= eps < 1:
        raise UserError(f"label_smoothing eps={eps}: expected 0 or more, below 1")
    cfg.model.cls_head.label_smooth_eps = eps
    logger.info("label smoothing: %g (cls_head.label_smooth_eps)", eps)


@OVERRIDES.register_module()
@comes_after("recipe", "classes")
def blending(cfg: Config, kinds: list) -> None:
    """Blends the videos of a batch, and their labels with them (stock's `blending`).

    Args:
        kinds: `mixup` (Zhang et al. 2018, arXiv 1710.09412), `cutmix` (Yun et al. 2019, arXiv
            1905.04899), or both: each batch draws one of them.
    """
    names = [*map(str, kinds)]
    if not names or not {*names} <= {*BLENDS} or len({*names}) < len(names):
        expected = f"{' or '.join(BLENDS)}, or both, each once"
        raise UserError(f"blending {','.join(names)!r}: expected {expected}")
    num_classes = cfg.model.cls_head.num_classes
    augments = [
        dict(type=name, alpha=alpha, num_classes=num_classes)
        for name, alpha in (BLENDS[kind] for kind in kinds)
    ]
    node = dict(type="RandomBatchAugment", augments=augments)
    cfg.model.data_preprocessor.blending = node if len(augments) > 1 else augments[0]
    told = ", ".join(f"{one['type']} (alpha {one['alpha']:g})" for one in augments)
    logger.info("blending: %s, of %d classes; no training accuracy is logged", told, num_classes)


@OVERRIDES.register_module()
@comes_after("recipe", "dataset_paths", "schedule", "batch_size")
def ema(cfg: Config, momentum: float | str = "auto") -> None:
    """Validates and saves a moving average of the weights (stock's EMAHook).

    Args:
        momentum: What a step's weights count for in the average; `auto` is 10 over the steps of
            the run, at most 0.1: the average then covers about the last tenth of the run. Stock's
            0.0002 covers 5,000 steps, more than a run on few videos has.
    """
    why = "as asked"
    if momentum == "auto":
        steps = _num_steps(cfg)
        momentum, why = round(min(0.1, 10 / steps), 6), f"10 of {steps} steps, at most 0.1"
    if isinstance(momentum, str) or not 0 < momentum < 1:
        raise UserError(f"ema momentum={momentum}: expected more than 0, below 1")
    add_hook(cfg, "EMAHook", ema_type="ExponentialMovingAverage", momentum=momentum)
    logger.info("moving average of weights: momentum %g (%s)", momentum, why)


def _num_steps(cfg: Config) -> int:
    """Returns how many iterations the run has."""
    if cfg.train_cfg.get("max_iters"):
        return cfg.train_cfg.max_iters
    videos = count_annotations(next(split_datasets(cfg))[1].ann_file)
    world = hardware.world_size() if cfg.get("launcher", "none") != "none" else 1
    return cfg.train_cfg.max_epochs * math.ceil(videos / world / cfg.train_dataloader.batch_size)


@OVERRIDES.register_module()
@comes_after("recipe")
def backbone_lr(cfg: Config, fraction: float) -> None:
    """Trains the backbone at a fraction of the run's learning rate, which the head has.

    A fraction that the config has itself, as stock's Swin, is replaced; five times the rate for
    the head alone, as in stock's TSM, stays.
    """
    if not 0 < fraction <= 1:
        raise UserError(f"backbone_lr fraction={fraction}: expected more than 0, at most 1")
    own = (_own_rates(cfg).get("paramwise_cfg") or {}).get("backbone")
    if own is not None:
        own.lr_mult = fraction
    else:
        _set_rates(cfg, backbone=fraction)
    logger.info("learning rate of the backbone: %g of the run's", fraction)


@OVERRIDES.register_module()
@comes_after("recipe")
def layer_decay(cfg: Config, factor: float) -> None:
    """Trains each block of a transformer at a part of the rate of the block behind it.

    Clark et al. 2020, arXiv 2003.10555, table 6; a block is one of attention, in Swin and UniFormer
    too. A config with stock's constructor for it keeps that, with this factor.

    Raises:
        UserError: the backbone is no transformer: what is known of layer decay is of these.
    """
    if not 0 < factor <= 1:
        raise UserError(f"layer_decay factor={factor}: expected more than 0, at most 1")
    _check_transformer(cfg, "layer_decay")
    if _own_rates(cfg).get("constructor") == STOCK_DECAY:
        _own_rates(cfg).paramwise_cfg.decay_rate = factor
    else:
        _set_rates(cfg, decay=factor)
    logger.info("learning rate by depth: each block at %g of the next one's rate", factor)


@OVERRIDES.register_module()
@comes_after("recipe", "pretrained")
def lora(cfg: Config, rank: int) -> None:
    """Trains adapters of low rank in a transformer's attention, and the head; see `add_adapters`.

    A checkpoint holds an ordinary recognizer, the adapters added to its weights.

    Args:
        rank: Of the adapters; their part is 16 / rank, as in the paper a constant over the rank.

    Raises:
        UserError: the backbone is no transformer, or its weights are random: they stay as they are.
    """
    if rank < 1:
        raise UserError(f"lora rank={rank}: expected 1 or more")
    _check_transformer(cfg, "lora")
    if cfg.get("initial_weights") == "random":
        raise UserError("lora trains beside pretrained weights, and these are random: --pretrained")
    _set_rates(cfg, lora=dict(rank=rank, alpha=LORA_ALPHA))
    _add_freeze_hook(cfg, -1)
    add_hook(cfg, "LoraHook", scale=LORA_ALPHA / rank)
    words = "adapters in the attention of %s: rank %d, alpha %d; the rest of it is frozen"
    logger.info(words, cfg.model.backbone.type, rank, LORA_ALPHA)


def _check_transformer(cfg: Config, name: str) -> None:
    kind = (cfg.model.get("backbone") or {}).get("type")
    if kind not in TRANSFORMERS:
        raise UserError(f"{name} is for {', '.join(TRANSFORMERS)}; the backbone is {kind}")


def _own_rates(cfg: Config) -> ConfigDict:
    """Returns the node with the constructor of the config itself, if it has one."""
    wrapper = cfg.optim_wrapper
    return wrapper.paramwise_cfg if wrapper.get("constructor") == "RatesConstructor" else wrapper


def _set_rates(cfg: Config, **settings: Any) -> None:
    """Has `RatesConstructor` build the optimizer, around the constructor that the config has."""
    use_plugin(cfg, "mmact_tiny.hooks")
    wrapper = cfg.optim_wrapper
    if wrapper.get("constructor") != "RatesConstructor":
        kept = {key: wrapper.pop(key) for key in ("constructor", "paramwise_cfg") if key in wrapper}
        wrapper.constructor, wrapper.paramwise_cfg = "RatesConstructor", kept
    wrapper.paramwise_cfg = dict(wrapper.paramwise_cfg, **settings)


def with_recipe(name: str, changes: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Returns the changes of a command line with those of a recipe, where it says nothing itself.

    Args:
        name: Of `TUNING`.
        changes: Arguments by override; None where a flag is not given.
    """
    merged = {key: dict(given) for key, given in changes.items()}
    for override, arguments in TUNING[name].items():
        given = {key: v for key, v in merged.get(override, {}).items() if v is not None}
        merged[override] = {**merged.get(override, {}), **arguments, **given}
        told = ", ".join(f"{key}={merged[override][key]!r}" for key in arguments)
        logger.info("recipe %s: %s %s%s", name, override, told, " (as asked)" if given else "")
    return merged
