"""Describes a config: the recognizer's stages with parameters and FLOPs, and its sampling."""

import logging
import math
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn.modules.module import register_module_forward_hook

from ..checkpoints.config_text import STOCK_PREFIX, read_config, without_downloads
from ..compat import MODELS, Config, register_all_modules
from ..config import load_config
from ..errors import UserError
from ..overrides.data import check_one_dataset
from ..overrides.options import merge_options
from .sampling import NUM_FRAMES, Sampling, quiet, read_samplings, say_sampling

logger = logging.getLogger("mmact_tiny")
Shape = tuple[int, ...]
NOTE = (
    "FLOPs: as MMEngine counts them for this input, and as the tables of models have them: a\n"
    "multiply-accumulate is one. Convolutions, matrix products and normalization are counted."
)


class Stage(NamedTuple):
    """One stage: dotted name, class, shapes of its outputs, parameters, FLOPs."""

    name: str
    type: str
    output_shapes: tuple[Shape, ...]
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
        check_one_dataset(cfg)
        merge_options(cfg, options or {})
        return cfg
    changes = {}
    if pretrained is not None:
        changes["pretrained"] = {"weights": pretrained}
    if data_root is not None:
        changes["dataset_paths"] = {"data_root": str(data_root)}
    return load_config(config, changes=changes, options=options)


def describe(cfg: Config, *, num_frames: int = NUM_FRAMES, video: str | Path | None = None) -> str:
    """Returns the report on a config: structure first, then each split's sampling.

    The structure is that of one forward pass on one video, as the validation pipeline cuts it,
    or the training pipeline where that takes less of it; of a model of clips on one view, as the
    tables of models have it. A split whose pipeline fails says so.

    Args:
        cfg: From `load_config` or `read_config`.
        num_frames: Length of the video whose sampled frames are listed.
        video: A video file whose length counts instead.

    Raises:
        UserError: no pipeline works, or the model does not.
    """
    samplings = read_samplings(cfg, num_frames=num_frames, video=video)
    usable = {name: one for name, one in samplings.items() if isinstance(one, Sampling)}
    # val where it is no larger than the others: stock's dense sampling validates on 80 frames
    order = [name for name in ("val", "train", "test") if name in usable]
    split = min(order, key=lambda name: usable[name].sample["inputs"].numel())
    sample, num_views = dict(usable[split].sample), 1
    if sample["inputs"].ndim == 5:  # views, 3, frames, height, width
        num_views, sample["inputs"] = len(sample["inputs"]), sample["inputs"][:1]
    with quiet():
        input_shape, stages = read_structure(build_model(cfg), sample)
    view = "video" if num_views == 1 else f"of {num_views} views of a video"
    all_views = f"All {num_views} views: {say_flops(num_views * stages[-1].flops)} a video."
    parts = [
        f"{name}: {cfg.model[name].type}"
        for name in ("backbone", "neck", "cls_head")
        if cfg.model.get(name)
    ]
    lines = [
        f"model   {cfg.model.type} ({', '.join(parts)})",
        f"input   {_say_shape(input_shape)}, one {view} in the {split} pipeline",
        "",
        *say_stages(stages),
        NOTE,
        *([all_views] if num_views > 1 else []),
    ]
    for name, one in samplings.items():
        said = say_sampling(one) if isinstance(one, Sampling) else [str(one)]
        lines += ["", f"{name:<8}{said[0]}", *(f"{'':<8}{line}" for line in said[1:])]
    return "\n".join(lines)


def build_model(cfg: Config) -> nn.Module:
    """Returns the recognizer with random weights, in evaluation mode; downloads nothing.

    Raises:
        UserError: a part of the model that this installation cannot build.
    """
    register_all_modules(init_default_scope=True)
    try:
        return MODELS.build(without_downloads(cfg.model.to_dict())).eval()
    except Exception as error:  # a constructor of any kind; the cause is in its own words
        raise UserError(f"the model cannot be built: {type(error).__name__}: {error}") from error


def read_structure(model: nn.Module, sample: Mapping[str, Any]) -> tuple[Shape, list[Stage]]:
    """Runs a recognizer on a sample; returns the shape of its input, and its stages.

    The stages are in the order of the forward pass. One after them holds what they do not: what
    is the backbone's or head's own. The last one is their total.

    Args:
        model: From `build_model`.
        sample: What a pipeline hands to the model for one video: `inputs`, `data_samples`.

    Raises:
        UserError: the model fails on that input.
    """
    from mmengine.analysis import parameter_count

    batch = {"inputs": [sample["inputs"]], "data_samples": [sample["data_samples"]]}
    data = model.get_submodule("data_preprocessor")(batch)
    inputs, recognizer = data["inputs"], _Scores(model, data["data_samples"]).eval()
    outputs: dict[nn.Module, tuple[Shape, ...]] = {}

    def record(module: nn.Module, _: Any, output: Any) -> None:
        outputs.setdefault(module, tuple(_shapes_of(output)))

    try:
        with torch.no_grad(), register_module_forward_hook(record):
            recognizer(inputs)
    except Exception as error:  # a layer of any kind
        raise UserError(
            f"the model fails on its pipeline's {tuple(inputs.shape)}: "
            f"{type(error).__name__}: {error}"
        ) from error
    flops, params = _count_flops(recognizer, inputs), parameter_count(recognizer)
    # below the backbone, neck and head: what was called, and by nothing else there
    names = {part: name for name, part in model.named_modules() if "." in name and part in outputs}
    stages = [
        Stage(name, type(part).__name__, shapes, params[f"model.{name}"], flops[f"model.{name}"])
        for part, shapes in outputs.items()
        if (name := names.get(part))
        and not any(name.startswith(f"{outer}.") for outer in names.values())
    ]
    total = Stage("total", "", (), params[""], flops[""])
    own_params = total.num_params - sum(stage.num_params for stage in stages)
    own_flops = total.flops - sum(stage.flops for stage in stages)
    if own_params or own_flops:
        stages.append(Stage("(outside these)", "", (), own_params, own_flops))
    return tuple(inputs.shape), [*stages, total]


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


def _shapes_of(output: Any) -> Iterator[Shape]:
    if isinstance(output, torch.Tensor):
        yield tuple(output.shape)
    elif isinstance(output, (list, tuple)):
        for value in output:
            yield from _shapes_of(value)


def say_stages(stages: Sequence[Stage]) -> list[str]:
    """Returns the stages as aligned rows under a heading, the total apart."""
    rows = [("stage", "type", "output", "parameters", "FLOPs")]
    for name, kind, shapes, num_params, flops in stages:
        output = " + ".join(map(_say_shape, shapes))
        rows.append((name, kind, output, f"{num_params:,}", say_flops(flops)))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    form = "  ".join(f"{{:{side}{width}}}" for side, width in zip("<<<>>", widths, strict=True))
    first, *lines, last = (form.format(*row) for row in rows)
    return [first, "-" * len(first), *lines, "-" * len(first), last]


def say_flops(flops: int) -> str:
    """Returns `12.26 G`, `0.82 M`, `4.10 K`, or `0`."""
    for letter, unit in (("G", 1e9), ("M", 1e6), ("K", 1e3)):
        if flops >= 0.1 * unit:
            return f"{flops / unit:.2f} {letter}"
    return str(flops)


def _say_shape(shape: Shape) -> str:
    return " x ".join(map(str, shape))
