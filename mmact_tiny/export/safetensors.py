"""Writes a checkpoint as safetensors, the format to hand to others: weights, classes, config."""

import json
from dataclasses import dataclass
from pathlib import Path

from ..checkpoints.config_text import config_to_json
from ..checkpoints.load import (
    checkpoint_classes,
    checkpoint_config,
    checkpoint_thresholds,
    load_checkpoint,
    weights_of,
)
from ..errors import UserError
from ..files import write_atomically
from ..runs import newest_run

SUFFIX = ".safetensors"


@dataclass(frozen=True)
class Exported:
    """A file that was written, and what is in it."""

    path: Path
    num_tensors: int
    num_bytes: int
    classes: list[str]
    has_config: bool


def export_safetensors(
    checkpoint_path: str | Path | None = None, out: str | Path | None = None
) -> Exported:
    """Writes a checkpoint's weights, classes and config to a safetensors file.

    The metadata has `classes` and `config` in JSON (see `config_to_json`).

    Args:
        checkpoint_path: By default the best checkpoint of the newest run.
        out: By default the checkpoint's own name with this ending.

    Raises:
        UserError: no run, the checkpoint cannot be read, or the file not written.
    """
    from safetensors.torch import save

    if checkpoint_path is None:
        run = newest_run()
        if run is None:
            raise UserError("no trained run in work_dirs/: name a checkpoint")
        checkpoint_path = run.checkpoint
    path = Path(checkpoint_path)
    out = path.with_suffix(SUFFIX) if out is None else Path(out)
    if out.suffix != SUFFIX:
        raise UserError(f"--out {out}: expected a name that ends in {SUFFIX}")
    if out.is_dir():
        raise UserError(f"--out {out} is a folder: name a file in it")
    if out.exists() and path.exists() and out.samefile(path):
        raise UserError(f"--out {out} is the checkpoint itself: choose another name")
    checkpoint = load_checkpoint(path)
    tensors = {key: value.clone().contiguous() for key, value in weights_of(checkpoint).items()}
    if not tensors:
        raise UserError(f"checkpoint {path} has no weights to export")
    metadata = {"format": "pt"}
    if classes := checkpoint_classes(checkpoint):
        metadata["classes"] = json.dumps(classes)
    if thresholds := checkpoint_thresholds(checkpoint):
        metadata["thresholds"] = json.dumps(thresholds)
    if config := checkpoint_config(checkpoint, source=str(path)):
        metadata["config"] = config_to_json(config)
    write_atomically(data := save(tensors, metadata), out)
    return Exported(out, len(tensors), len(data), classes, has_config=bool(config))
