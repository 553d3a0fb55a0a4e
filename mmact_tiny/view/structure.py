"""The structure of a recognizer: each stage's output shape, parameters and multiply-adds."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from ..compat.mm import MODELS, Config, register_all_modules
from ..errors import UserError

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Stage:
    """One stage: dotted name, class, shapes of its outputs, parameters, multiply-accumulates.

    `macs` counts convolutions and matrix products, as the papers and MMAction2's tables do under
    the name of FLOPs; a multiply-accumulate is two floating-point operations.
    """

    name: str
    type: str
    output_shapes: tuple[Shape, ...]
    num_params: int
    macs: int


@dataclass(frozen=True)
class Structure:
    """A recognizer's stages in the order of the forward pass, and their sums.

    `rest` holds what no stage does: parameters and products of the backbone's or head's own.
    """

    input_shape: Shape
    stages: list[Stage]
    rest: Stage
    num_params: int
    macs: int


def build_model(cfg: Config) -> nn.Module:
    """Returns the recognizer with untrained weights, in evaluation mode; downloads nothing.

    Raises:
        UserError: a part of the model that this installation cannot build.
    """
    register_all_modules(init_default_scope=True)
    model = cfg.model.to_dict()
    backbone = model.get("backbone") or {}
    if backbone.get("pretrained"):  # wrapped torchvision backbones download when they are built
        backbone["pretrained"] = False if backbone["pretrained"] is True else None
    try:
        return MODELS.build(model).eval()
    except Exception as error:  # a constructor of any kind; the cause is in its own words
        raise UserError(f"the model cannot be built: {type(error).__name__}: {error}") from error


def read_structure(model: nn.Module, sample: Mapping[str, Any]) -> Structure:
    """Runs a recognizer once and returns its structure.

    Args:
        model: From `build_model`.
        sample: What a pipeline hands to the model for one video: `inputs`, `data_samples`.

    Raises:
        UserError: the model fails on that input.
    """
    batch = {"inputs": [sample["inputs"]], "data_samples": [sample["data_samples"]]}
    data = model.get_submodule("data_preprocessor")(batch)
    shapes: dict[str, tuple[Shape, ...]] = {}
    order: dict[str, int] = {}
    counter = FlopCounterMode(display=False)
    with ExitStack() as stack:
        for name, module in model.named_modules():
            stack.enter_context(_recorded(name, module, order, shapes))
        stack.enter_context(_countable_attention())
        stack.enter_context(torch.no_grad())
        stack.enter_context(counter)
        try:
            model(**data, mode="predict")
        except Exception as error:  # a layer of any kind
            shape = tuple(data["inputs"].shape)
            raise UserError(
                f"the model fails on its pipeline's {shape}: {type(error).__name__}: {error}"
            ) from error
    root = type(model).__name__
    macs = {
        name.removeprefix(f"{root}."): sum(counts.values()) // 2
        for name, counts in counter.get_flop_counts().items()
    }
    stages = [
        Stage(name, type(module).__name__, shapes[name], _num_params(module), macs.get(name, 0))
        for part, child in model.named_children()
        if part != "data_preprocessor"
        for name, module in _called(part, child, shapes)
    ]
    stages.sort(key=lambda stage: order[stage.name])
    num_params, total = _num_params(model), counter.get_total_flops() // 2
    rest = Stage(
        name="(outside these)",
        type="",
        output_shapes=(),
        num_params=num_params - sum(stage.num_params for stage in stages),
        macs=total - sum(stage.macs for stage in stages),
    )
    return Structure(tuple(data["inputs"].shape), stages, rest, num_params, total)


@contextmanager
def _recorded(
    name: str, module: nn.Module, order: dict[str, int], shapes: dict[str, tuple[Shape, ...]]
) -> Iterator[None]:
    """Records when a module is first called and what it returns."""

    def called(*_: Any) -> None:
        order.setdefault(name, len(order))

    def returned(_: nn.Module, __: Any, output: Any) -> None:
        shapes.setdefault(name, tuple(_shapes(output)))

    before = module.register_forward_pre_hook(called)
    after = module.register_forward_hook(returned)
    try:
        yield
    finally:
        before.remove()
        after.remove()


@contextmanager
def _countable_attention() -> Iterator[None]:
    """Has attention computed by matrix products: fused kernels are not counted on a CPU."""
    fastpath = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fastpath)


def _called(
    name: str, module: nn.Module, shapes: Mapping[str, Any]
) -> Iterator[tuple[str, nn.Module]]:
    """Yields the children that the forward pass called; those of a mere container instead."""
    children = list(module.named_children())
    if not children and name in shapes:
        yield name, module
    for child_name, child in children:
        path = f"{name}.{child_name}"
        if path in shapes:
            yield path, child
        else:
            yield from _called(path, child, shapes)


def _shapes(output: Any) -> Iterator[Shape]:
    if isinstance(output, torch.Tensor):
        yield tuple(output.shape)
    elif isinstance(output, Mapping):
        for value in output.values():
            yield from _shapes(value)
    elif isinstance(output, (list, tuple)):
        for value in output:
            yield from _shapes(value)


def _num_params(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
