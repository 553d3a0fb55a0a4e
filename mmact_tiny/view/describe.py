"""A config in words and numbers: the recognizer's stages, and how it samples a video."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..compat.mm import Config
from ..config import STOCK_PREFIX, load_config, merge_options, read_config
from ..errors import UserError
from ..pipeline import SPLITS
from .sampling import NUM_FRAMES, Sampling, quiet, read_sampling, say_sampling
from .structure import Shape, Structure, build_model, read_structure

NOTE = (
    "MACs: multiply-accumulates of convolutions and matrix products, for this input; tables of\n"
    "models call them FLOPs, though each is two operations."
)


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


def say_structure(structure: Structure) -> list[str]:
    """Returns the stages as aligned rows under a heading, the totals last."""
    rows = [("stage", "type", "output", "parameters", "MACs")]
    for stage in structure.stages:
        shapes = " + ".join(_say_shape(shape) for shape in stage.output_shapes)
        rows.append((stage.name, stage.type, shapes, f"{stage.num_params:,}", say_macs(stage.macs)))
    if structure.rest.num_params or structure.rest.macs:
        rest = structure.rest
        rows.append((rest.name, "", "", f"{rest.num_params:,}", say_macs(rest.macs)))
    rows.append(("total", "", "", f"{structure.num_params:,}", say_macs(structure.macs)))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [
        "  ".join(
            cell.ljust(width) if column < 3 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
    return [lines[0], "-" * len(lines[0]), *lines[1:-1], "-" * len(lines[0]), lines[-1]]


def say_macs(macs: int) -> str:
    """Returns `12.26 G`, `0.82 M`, `4.10 K`, or `0`."""
    for letter, unit in (("G", 1e9), ("M", 1e6), ("K", 1e3)):
        if macs >= 0.1 * unit:
            return f"{macs / unit:.2f} {letter}"
    return str(macs)


def _say_shape(shape: Shape) -> str:
    return " x ".join(str(size) for size in shape)
