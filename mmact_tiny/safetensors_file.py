"""The format to hand a model to others in: weights and JSON, no pickle."""

import json
from collections import OrderedDict
from pathlib import Path
from typing import Any

from .atomic import write_atomically
from .errors import UserError


def export_safetensors(checkpoint_path: str | Path, out: str | Path) -> Path:
    """Writes a checkpoint's weights, classes and config to a safetensors file.

    The metadata has `classes` and `config` in JSON; a tuple is `{"__tuple__": [...]}`, because
    some of MMAction2's transforms tell it from a list.

    Raises:
        UserError: the checkpoint cannot be read, or the file not written.
    """
    import torch
    from safetensors.torch import save

    from .checkpoint import checkpoint_classes, checkpoint_config, load_checkpoint

    checkpoint = load_checkpoint(checkpoint_path)
    tensors = {
        str(key).removeprefix("module."): value.clone().contiguous()
        for key, value in checkpoint.get("state_dict", checkpoint).items()
        if isinstance(value, torch.Tensor)
    }
    if not tensors:
        raise UserError(f"checkpoint {checkpoint_path} has no weights to export")
    metadata = {"format": "pt"}
    if classes := checkpoint_classes(checkpoint):
        metadata["classes"] = json.dumps(classes)
    if config := checkpoint_config(checkpoint, source=str(checkpoint_path)):
        metadata["config"] = json.dumps(_tag_tuples(config))
    out = Path(out)
    write_atomically(save(tensors, metadata), out)
    return out


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
