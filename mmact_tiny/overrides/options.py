"""Sets what `--cfg-options` gives: values by dotted key, strictly."""

from collections.abc import Mapping
from typing import Any

from ..compat import Config
from ..errors import UserError, suggest
from .registry import flatten


def merge_options(cfg: Config, options: Mapping[str, Any]) -> None:
    """Sets values by dotted key; a key that is not there is an error with a suggestion.

    MMEngine's own merge adds a misspelt key silently. `+model.backbone.frozen_stages=1` adds a
    key on purpose. A list item is named by its index: `train_pipeline.0.type`.

    Raises:
        UserError: an unknown key, a key that exists behind `+`, or a value of another type.
    """
    for key, value in options.items():
        name = key.removeprefix("+")
        parts = name.split(".")
        nodes: list[Any] = [cfg]
        for depth in range(1, len(parts)):
            nodes.append(_item(nodes[-1], name, depth, cfg))
        if key.startswith("+"):
            if not hasattr(nodes[-1], "keys"):
                raise UserError(f"--cfg-options {key}: {nodes[-1]!r} takes no key")
            if parts[-1] in nodes[-1]:
                raise UserError(f"--cfg-options {key}: the key is there; {name}=... changes it")
        else:
            old = _item(nodes[-1], name, len(parts), cfg)
            if old is not None and value is not None and not _same_kind(old, value):
                expected = f"expected {type(old).__name__} like {old!r}"
                raise UserError(f"--cfg-options {name}={value!r}: {expected}")
        for node, part in zip(reversed(nodes), reversed(parts), strict=True):
            if not isinstance(node, tuple):
                node[int(part) if isinstance(node, list) else part] = value
                break
            value = (*node[: int(part)], value, *node[int(part) + 1 :])  # set where the tuple is


def _item(node: Any, name: str, depth: int, cfg: Config) -> Any:
    """Returns what the part `depth` of a dotted name, counted from 1, names in a node.

    Raises:
        UserError: it names nothing.
    """
    *parents, part = name.split(".")[:depth]
    where = ".".join([*parents, part])
    if isinstance(node, (list, tuple)):
        if part.isdigit() and int(part) < len(node):
            return node[int(part)]
        raise UserError(f"--cfg-options {name}: {where} is not one of {len(node)} items")
    if hasattr(node, "keys") and part in node:
        return node[part]
    hint = suggest(name, flatten(cfg)) + (f" (+{name} adds it)" if where == name else "")
    raise UserError(f"--cfg-options: no key {where!r} in the config{hint}")


def _same_kind(old: Any, new: Any) -> bool:
    for kind in (bool, (int, float), str, (list, tuple), dict):
        if isinstance(old, kind):  # bool first: it is an int too
            return isinstance(new, kind) and (kind is bool or not isinstance(new, bool))
    return True
