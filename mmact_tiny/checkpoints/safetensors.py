"""Reads safetensors, the format to hand a model to others in: weights and JSON, no pickle."""

import json
from collections import OrderedDict
from pathlib import Path
from typing import Any

from .config_text import config_from_json


def read_safetensors(path: Path, device: Any) -> dict:
    """Returns `state_dict`, and `meta` with `cfg` (a dict) and `dataset_meta['classes']`."""
    from safetensors import safe_open

    with safe_open(path, "pt", device=str(device) if not callable(device) else "cpu") as file:
        metadata = file.metadata() or {}
        state_dict = OrderedDict((key, file.get_tensor(key)) for key in file.keys())  # noqa: SIM118
    meta: dict[str, Any] = {}
    if "config" in metadata:
        meta["cfg"] = config_from_json(metadata["config"], source=str(path))
    if "classes" in metadata:
        meta["dataset_meta"] = {"classes": json.loads(metadata["classes"])}
    return {"state_dict": state_dict, "meta": meta}
