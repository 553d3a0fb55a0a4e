"""The format to hand a model to others in: weights and JSON, no pickle."""

import json
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import UserError
from ..files import write_atomically

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

    The metadata has `classes` and `config` in JSON; a tuple is `{"__tuple__": [...]}`, because
    some of MMAction2's transforms tell it from a list.

    Args:
        checkpoint_path: By default the best checkpoint of the newest run.
        out: By default the checkpoint's own name with this ending.

    Raises:
        UserError: no run, the checkpoint cannot be read, or the file not written.
    """
    path = _newest_best() if checkpoint_path is None else Path(checkpoint_path)
    out = path.with_suffix(SUFFIX) if out is None else Path(out)
    if out.suffix != SUFFIX:
        raise UserError(f"--out {out}: expected a name that ends in {SUFFIX}")
    if out.is_dir():
        raise UserError(f"--out {out} is a folder: name a file in it")
    if out.exists() and path.exists() and out.samefile(path):
        raise UserError(f"--out {out} is the checkpoint itself: choose another name")

    import torch
    from safetensors.torch import save

    from .load import checkpoint_classes, checkpoint_config, load_checkpoint

    checkpoint = load_checkpoint(path)
    tensors = {
        str(key).removeprefix("module."): value.clone().contiguous()
        for key, value in checkpoint.get("state_dict", checkpoint).items()
        if isinstance(value, torch.Tensor)
    }
    if not tensors:
        raise UserError(f"checkpoint {path} has no weights to export")
    metadata = {"format": "pt"}
    if classes := checkpoint_classes(checkpoint):
        metadata["classes"] = json.dumps(classes)
    if config := checkpoint_config(checkpoint, source=str(path)):
        metadata["config"] = json.dumps(_tag_tuples(config))
    data = save(tensors, metadata)
    write_atomically(data, out)
    return Exported(out, len(tensors), len(data), classes, has_config=bool(config))


def _newest_best() -> Path:
    from ..runs import newest_run

    run = newest_run()
    if run is None:
        raise UserError("no trained run in work_dirs/: name a checkpoint")
    return run.checkpoint


def read_safetensors(path: Path, device: Any) -> dict:
    """Returns `state_dict`, and `meta` with `cfg` (a dict) and `dataset_meta['classes']`."""
    from safetensors import safe_open

    with safe_open(path, "pt", device=str(device) if not callable(device) else "cpu") as file:
        metadata = file.metadata() or {}
        state_dict = OrderedDict((key, file.get_tensor(key)) for key in file.keys())  # noqa: SIM118
    meta: dict[str, Any] = {}
    if "config" in metadata:
        meta["cfg"] = json.loads(metadata["config"], object_hook=_untag_tuple)
    if "classes" in metadata:
        meta["dataset_meta"] = {"classes": json.loads(metadata["classes"])}
    return {"state_dict": state_dict, "meta": meta}


def _tag_tuples(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _tag_tuples(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_tag_tuples(item) for item in value]
    if isinstance(value, tuple | set):
        return {"__tuple__": [_tag_tuples(item) for item in value]}
    return value


def _untag_tuple(value: dict) -> Any:
    return tuple(value["__tuple__"]) if value.keys() == {"__tuple__"} else value
