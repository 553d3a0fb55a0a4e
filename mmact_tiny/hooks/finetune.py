"""Trains a part of a model: frozen stages, rates by depth, adapters of low rank."""

import math
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import nn
from torch.nn.utils import parametrize

from ..compat import (
    HOOKS,
    OPTIM_WRAPPER_CONSTRUCTORS,
    Hook,
    OptimWrapper,
    Runner,
    build_optim_wrapper,
    is_model_wrapper,
)
from ..errors import UserError
from ..log import SHOWN
from ._mmengine import model_of

# A parameter's place in stock's transformers and C3D: a block, or a stage and a block of it.
PLACE = re.compile(
    r"(?:(?:blocks|layers|transformer_layers\.layers|transformer\.resblocks)\.(?P<index>\d+)"
    r"|(?:patch_embed|blocks|fc)(?P<number>\d)|conv(?P<conv>\d)[ab])\."
    r"(?:blocks\.)?(?P<block>\d+|downsample)?"
)
BEHIND = ("norm", "fc_norm", "transformer.")  # what follows the blocks
# The linear layers of an attention, by parameter: nn.MultiheadAttention has `in_proj_weight`.
ATTENTION = re.compile(r"(.*\battn)\.(?:(?:(qkv|proj|out_proj)\.weight)|in_proj_weight)")
ADAPTER = re.compile(r"((?:module\.)?)lora\.(.*)\.a")  # in a state dict, or in that of an EMA


def place_of(name: str) -> tuple[float, float]:
    """Returns the stage and the block of a backbone's parameter; the stem is stage 0."""
    found = PLACE.match(name)
    if found is None:
        return (math.inf, 0) if name.startswith(BEHIND) else (0, 0)
    index, number, conv, block = found.groups()
    stage = int(index) + 1 if index else int(number or conv)
    return stage, math.inf if block == "downsample" else int(block or -1)


@HOOKS.register_module()
class FreezeHook(Hook):
    """Trains a model without a part of it, which stays in evaluation mode.

    So the statistics of its BatchNorm stay too, and it has no dropout.

    Args:
        stages: How many stages of the backbone are frozen, besides the stem; -1: none but what is
            frozen already; None: the whole backbone.
    """

    def __init__(self, stages: int | None = None) -> None:
        self.stages = math.inf if stages is None else stages
        self._frozen: list[nn.Module] = []

    def before_train(self, runner: Runner) -> None:
        """Switches gradients off; without one, weight decay does not reach a parameter either.

        Raises:
            UserError: the backbone has fewer stages.
        """
        model = model_of(runner)
        parameters = dict(model.backbone.named_parameters())
        last = max((s for s, _ in map(place_of, parameters) if s < math.inf), default=0)
        if last < self.stages < math.inf:
            raise UserError(f"freeze {self.stages}: the backbone has the stages 0 to {last:g}")
        for name, parameter in parameters.items():
            if place_of(name)[0] <= self.stages:
                parameter.requires_grad_(False)
        frozen = [module for module in model.modules() if _is_frozen(module.parameters())]
        inner = {id(child) for module in frozen for child in module.children()}
        self._frozen = [module for module in frozen if id(module) not in inner]
        trained = [p.numel() for p in model.parameters() if p.requires_grad]
        total = sum(p.numel() for p in model.parameters())
        runner.logger.info("trained: %d of %d weights", sum(trained), total, extra=SHOWN)

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        for module in self._frozen:
            module.eval()


def _is_frozen(parameters: Iterable[nn.Parameter]) -> bool:
    wanted = [parameter.requires_grad for parameter in parameters]
    return bool(wanted) and not any(wanted)


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class RatesConstructor:
    """Builds the optimizer as the config's own constructor does, then sets rates by depth.

    Stock's `LearningRateDecayOptimizerConstructor` knows the blocks of two backbones, and has no
    rates or weight decays beside its own.

    Args:
        optim_wrapper_cfg: As every constructor gets it.
        paramwise_cfg: `constructor` and `paramwise_cfg` of the config itself; `backbone`, the
            backbone's part of the rate; `decay`, the part that each block has of the rate of the
            one behind it; `lora`, the arguments of `add_adapters`.
    """

    def __init__(self, optim_wrapper_cfg: dict, paramwise_cfg: dict) -> None:
        rest = {"constructor", "paramwise_cfg"} & paramwise_cfg.keys()
        self.own = {**optim_wrapper_cfg, **{key: paramwise_cfg[key] for key in rest}}
        self.backbone = paramwise_cfg.get("backbone", 1.0)
        self.decay = paramwise_cfg.get("decay", 1.0)
        self.lora = paramwise_cfg.get("lora")

    def __call__(self, model: Any) -> OptimWrapper:
        model = model.module if is_model_wrapper(model) else model
        if self.lora:
            add_adapters(model, **self.lora)
        wrapper = build_optim_wrapper(model, self.own)
        factors = self.factors(model)
        groups: list[dict[str, Any]] = []
        for group in wrapper.optimizer.param_groups:
            parts: dict[float, list[nn.Parameter]] = {}
            for parameter in group["params"]:
                parts.setdefault(factors.get(id(parameter), 1.0), []).append(parameter)
            for factor in sorted(parts, reverse=True):  # the log tells the first group's rate
                groups.append({**group, "params": parts[factor], "lr": group["lr"] * factor})
        wrapper.optimizer.param_groups[:] = groups
        return wrapper

    def factors(self, model: Any) -> dict[int, float]:
        """Returns the part of the rate that each of the backbone's parameters has, by identity."""
        named = dict(model.backbone.named_parameters())
        places = sorted({place_of(name) for name in named} | {(math.inf, 0.0)})
        depth = {place: len(places) - 1 - index for index, place in enumerate(places)}
        return {
            id(parameter): self.backbone * self.decay ** depth[place_of(name)]
            for name, parameter in named.items()
        }


class Adapter(nn.Module):
    """Adds `scale * b @ a` to a matrix (Hu et al. 2021, arXiv 2106.09685, section 4.1).

    Args:
        matrix: What it is added to.
        rank: Rows of `a`, which begins at random as in `nn.Linear`, and columns of `b`, which is 0.
        alpha: `scale` times the rank.
    """

    def __init__(self, matrix: torch.Tensor, rank: int, alpha: float) -> None:
        super().__init__()
        self.a = nn.Parameter(torch.empty(rank, matrix.shape[1]))
        self.b = nn.Parameter(torch.zeros(matrix.shape[0], rank))
        nn.init.kaiming_uniform_(self.a, a=math.sqrt(5))
        self.scale = alpha / rank

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        return weight + self.scale * (self.b @ self.a)


def add_adapters(model: Any, rank: int, alpha: float) -> None:
    """Freezes a recognizer's backbone and adds an `Adapter` to each linear layer of attention.

    They are torch's parametrizations, not modules of peft: VideoMAE reads the weights of a layer
    that it does not call, and mmaction2 1.2.0 does not import beside transformers 5, which peft
    0.21 needs. In the model's state dict all weights have their ordinary names, and those of the
    adapters begin with `lora.`.
    """
    model.init_weights()  # may load files, by the ordinary names
    model.init_weights = lambda: None
    model.backbone.requires_grad_(False)
    names: dict[str, str] = {}
    for name, weight in list(model.backbone.named_parameters()):
        if ATTENTION.fullmatch(name) and weight.ndim == 2:
            owner, _, key = name.rpartition(".")
            if rank > min(weight.shape):
                raise UserError(f"lora rank={rank}: expected at most {min(weight.shape)} ({name})")
            module, adapter = model.backbone.get_submodule(owner), Adapter(weight, rank, alpha)
            parametrize.register_parametrization(module, key, adapter)
            inner = f"backbone.{owner}.parametrizations.{key}"
            names |= {f"{inner}.0.{part}": f"lora.backbone.{name}.{part}" for part in "ab"}
            names[f"{inner}.original"] = f"backbone.{name}"
    model.register_state_dict_post_hook(_renaming(names))
    inverse = {name: inner for inner, name in names.items()}
    model.register_load_state_dict_pre_hook(_renaming(inverse))


def _renaming(names: Mapping[str, str]) -> Callable[..., None]:
    """Returns a hook that renames keys of a state dict and leaves their order."""

    def rename(module: nn.Module, state: dict, prefix: str, *others: Any) -> None:
        for key in list(state):
            name = key.removeprefix(prefix)
            state[prefix + names[name] if name in names else key] = state.pop(key)

    return rename


@HOOKS.register_module()
class LoraHook(Hook):
    """Has checkpoints hold an ordinary recognizer, the adapters added to its weights.

    Under `lora` they also hold what the sum was made of, for a resumed run to be exact.

    Args:
        scale: alpha / rank.
    """

    priority = "LOW"  # after EMAHook

    def __init__(self, scale: float) -> None:
        self.scale = scale

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        checkpoint["lora"] = {
            key: merge_adapters(checkpoint[key], self.scale)
            for key in ("state_dict", "ema_state_dict")
            if key in checkpoint
        }


def merge_adapters(state: dict, scale: float) -> dict[str, torch.Tensor]:
    """Adds the adapters of a state dict to its weights; returns what it replaced or removed."""
    parts: dict[str, torch.Tensor] = {}
    for found in [*filter(None, map(ADAPTER.fullmatch, state))]:
        name = "".join(found.groups())
        a, b = (f"{found[0].removesuffix('a')}{part}" for part in "ab")
        parts |= {name: state[name], a: state.pop(a), b: state.pop(b)}
        state[name] = parts[name] + scale * (parts[b] @ parts[a])
    return parts


def split_adapters(checkpoint: dict) -> None:
    """Undoes `merge_adapters` in a checkpoint that a run goes on from."""
    for key, parts in checkpoint.pop("lora", {}).items():
        checkpoint[key].update(parts)
