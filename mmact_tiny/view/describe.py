"""Describes a config: the recognizer's stages with parameters and FLOPs, and its sampling."""

import logging
import math
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..compat.configs import STOCK_PREFIX, read_config
from ..compat.mm import MODELS, Config, register_all_modules
from ..config import load_config, merge_options
from ..errors import UserError
from ..pipeline import SPLITS
from .sampling import NUM_FRAMES, Sampling, quiet, read_sampling, say_sampling

logger = logging.getLogger("mmact_tiny")
Shape = tuple[int, ...]
NOTE = (
    "FLOPs: as MMEngine counts them for this input, and as the tables of models have them: a\n"
    "multiply-accumulate is one. Convolutions, matrix products and normalization are counted."
)


@dataclass(frozen=True)
class Stage:
    """One stage: dotted name, class, shapes of its outputs, parameters, FLOPs."""

    name: str
    type: str
    output_shapes: tuple[Shape, ...]
    num_params: int
    flops: int


@dataclass(frozen=True)
class Structure:
    """A recognizer's stages in the order of the forward pass, and their sums.

    A last stage holds what the others do not: what is the backbone's or head's own.
    """

    input_shape: Shape
    stages: list[Stage]
    num_params: int
    flops: int


class _Scores(nn.Module):
    """A recognizer as the analysis runs it: called with tensors alone, returns scores."""

    def __init__(self, model: nn.Module, data_samples: list[Any]) -> None:
        super().__init__()
        self.model, self.data_samples = model, data_samples

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.model(inputs, self.data_samples, mode="predict")[0].pred_score


def config_to_describe(
    config: str | Path,
    *,
    data_root: str | Path | None = None,
    pretrained: str | None = "none",
    options: Mapping[str, Any] | None = None,
) -> Config:
    """Returns a config as it would be trained, but for the weights, which change no structure.

    A stock one without a dataset is taken as MMAction2 has it.

    Args:
        config: A file, or `mmaction::NAME`.
        data_root: The dataset's folder, where it is not the config's.
        pretrained: Weights to start from, which may change the input's size; None for the
            config's own.
        options: Values by dotted key.

    Raises:
        UserError: what `load_config` raises.
    """
    if data_root is None and str(config).startswith(STOCK_PREFIX):
        cfg = read_config(config)
        merge_options(cfg, options or {})
        return cfg
    changes: dict[str, dict[str, Any]] = {}
    if pretrained is not None:
        changes["pretrained"] = {"weights": pretrained}
    if data_root is not None:
        changes["dataset_paths"] = {"data_root": str(data_root)}
    return load_config(config, changes=changes, options=options)


def describe(cfg: Config, *, num_frames: int = NUM_FRAMES, video: str | Path | None = None) -> str:
    """Returns the report on a config: structure first, then each split's sampling.

    The structure is that of one forward pass on one video, as the validation pipeline cuts it,
    or the training pipeline where that takes less of it. A split whose pipeline fails says so.

    Args:
        cfg: From `load_config` or `read_config`.
        num_frames: Length of the video whose sampled frames are listed.
        video: A video file whose length counts instead.

    Raises:
        UserError: no pipeline works, or the model does not.
    """
    samplings: dict[str, Sampling] = {}
    failures: dict[str, UserError] = {}
    for split in SPLITS:
        try:
            with quiet():
                samplings[split] = read_sampling(cfg, split, num_frames=num_frames, video=video)
        except UserError as error:
            failures[split] = error
    if not samplings:
        raise failures["val"]
    # val where it is no larger than the others: stock's dense sampling validates on 80 frames
    one = min(("val", "train", "test"), key=lambda split: _num_values(samplings.get(split)))
    with quiet():
        structure = read_structure(build_model(cfg), samplings[one].sample)
    parts = [
        f"{name}: {cfg.model[name].type}"
        for name in ("backbone", "neck", "cls_head")
        if cfg.model.get(name)
    ]
    lines = [
        f"model   {cfg.model.type} ({', '.join(parts)})",
        f"input   {_say_shape(structure.input_shape)}, one video in the {one} pipeline",
        "",
        *say_structure(structure),
        NOTE,
    ]
    for split in SPLITS:
        said = say_sampling(samplings[split]) if split in samplings else [str(failures[split])]
        lines += ["", f"{split:<8}{said[0]}", *(f"{'':<8}{line}" for line in said[1:])]
    return "\n".join(lines)


def _num_values(sampling: Sampling | None) -> float:
    return math.inf if sampling is None else sampling.sample["inputs"].numel()


def build_model(cfg: Config) -> nn.Module:
    """Returns the recognizer with random weights, in evaluation mode; downloads nothing.

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
    """Runs a recognizer on a sample and returns its structure.

    Args:
        model: From `build_model`.
        sample: What a pipeline hands to the model for one video: `inputs`, `data_samples`.

    Raises:
        UserError: the model fails on that input.
    """
    from mmengine.analysis import parameter_count

    batch = {"inputs": [sample["inputs"]], "data_samples": [sample["data_samples"]]}
    data = model.get_submodule("data_preprocessor")(batch)
    recognizer = _Scores(model, data["data_samples"]).eval()
    try:
        shapes = _run(recognizer, data["inputs"])
    except Exception as error:  # a layer of any kind
        shape = tuple(data["inputs"].shape)
        raise UserError(
            f"the model fails on its pipeline's {shape}: {type(error).__name__}: {error}"
        ) from error
    flops, params = _count_flops(recognizer, data["inputs"]), parameter_count(recognizer)
    called = {
        name: type(module).__name__
        for part, child in model.named_children()
        if part != "data_preprocessor"
        for name, module in _called(f"model.{part}", child, shapes)
    }
    stages = [
        Stage(name.removeprefix("model."), called[name], shape, params[name], flops[name])
        for name, shape in shapes.items()
        if name in called
    ]
    rest = Stage(
        name="(outside these)",
        type="",
        output_shapes=(),
        num_params=params[""] - sum(stage.num_params for stage in stages),
        flops=flops[""] - sum(stage.flops for stage in stages),
    )
    stages += [rest] if rest.num_params or rest.flops else []
    return Structure(tuple(data["inputs"].shape), stages, params[""], flops[""])


def _run(model: nn.Module, inputs: torch.Tensor) -> dict[str, tuple[Shape, ...]]:
    """Returns the shapes of what each module gives, in the order of the forward pass."""
    shapes: dict[str, tuple[Shape, ...]] = {}

    def record(name: str, *call: Any) -> None:
        shapes.setdefault(name, tuple(_shapes_of(call[-1])))

    hooks = [
        module.register_forward_hook(partial(record, name))
        for name, module in model.named_modules()
    ]
    try:
        with torch.no_grad():
            model(inputs)
    finally:
        for hook in hooks:
            hook.remove()
    return shapes


def _count_flops(model: nn.Module, inputs: torch.Tensor) -> Counter[str]:
    """Returns the FLOPs of each module by its name.

    The model has run before: TPN's head makes its last layer then, which the tracing needs.
    """
    from mmengine.analysis import FlopAnalyzer

    analyzer = FlopAnalyzer(model, inputs)
    analyzer.set_op_handle("aten::scaled_dot_product_attention", _attention_flops)
    analyzer.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
    try:
        with torch.no_grad(), warnings.catch_warnings(action="ignore"):  # of the tracing
            return Counter({name: int(count) for name, count in analyzer.by_module().items()})
    except Exception as error:  # what a tracer cannot follow, of any kind
        logger.warning("FLOPs: shown as 0, MMEngine cannot count those of this model: %s", error)
        return Counter()


def _attention_flops(inputs: Sequence[Any], _: Sequence[Any]) -> int:
    """Counts the two matrix products of fused attention, which MMEngine leaves out."""
    query, key, value = (tensor.type().sizes() for tensor in inputs[:3])
    return math.prod(query[:-1]) * key[-2] * (query[-1] + value[-1])


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


def _shapes_of(output: Any) -> Iterator[Shape]:
    if isinstance(output, torch.Tensor):
        yield tuple(output.shape)
    elif isinstance(output, (Mapping, list, tuple)):
        for value in output.values() if isinstance(output, Mapping) else output:
            yield from _shapes_of(value)


def say_structure(structure: Structure) -> list[str]:
    """Returns the stages as aligned rows under a heading, the totals last."""
    rows = [("stage", "type", "output", "parameters", "FLOPs")]
    total = Stage("total", "", (), structure.num_params, structure.flops)
    for stage in [*structure.stages, total]:
        shapes = " + ".join(map(_say_shape, stage.output_shapes))
        rows.append(
            (stage.name, stage.type, shapes, f"{stage.num_params:,}", say_flops(stage.flops))
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [
        "  ".join(
            cell.ljust(width) if column < 3 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
    return [lines[0], "-" * len(lines[0]), *lines[1:-1], "-" * len(lines[0]), lines[-1]]


def say_flops(flops: int) -> str:
    """Returns `12.26 G`, `0.82 M`, `4.10 K`, or `0`."""
    for letter, unit in (("G", 1e9), ("M", 1e6), ("K", 1e3)):
        if flops >= 0.1 * unit:
            return f"{flops / unit:.2f} {letter}"
    return str(flops)


def _say_shape(shape: Shape) -> str:
    return " x ".join(str(size) for size in shape)
