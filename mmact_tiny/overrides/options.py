"""Sets what `--cfg-options` gives: values by dotted key, strictly."""

import inspect
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ..checkpoints.config_text import arguments_of
from ..compat import Config, Runner
from ..errors import UserError, suggest
from .registry import flatten

PART = re.compile(r"\.(?![^\[]*\])|(?=\[)")  # where one begins; the name of a type may have dots
# Beside the arguments of the Runner: what it and this package read of a config that is loaded.
READ = {"compile", "sync_bn", "model_wrapper_cfg", "find_unused_parameters", "custom_imports"}
READ |= {"efficient_conv_bn_eval", "activation_checkpointing", "initial_weights", "stock_base"}
MAX_COPIES = 3  # named in an error


def merge_options(cfg: Config, options: Mapping[str, Any]) -> None:
    """Sets values by dotted key; a key that is not there is an error with a suggestion.

    MMEngine's own merge adds a misspelt key silently. `+model.backbone.frozen_stages=1` adds a
    key on purpose. A list item is named by its index or its type, as the log names it:
    `train_dataloader.dataset.pipeline[Resize].scale`, the second one `[Resize#2]`.

    Raises:
        UserError: an unknown key, a key that exists behind `+`, a value of another type, or a
            variable of the file, which nothing reads once the config is loaded.
    """
    for key, value in options.items():
        name = key.removeprefix("+")
        parts = PART.split(name)
        nodes: list[Any] = [cfg]
        for depth in range(1, len(parts)):
            nodes.append(_item(nodes[-1], name, parts[:depth], cfg))
        if key.startswith("+"):
            if not hasattr(nodes[-1], "keys"):
                raise UserError(f"--cfg-options {key}: {nodes[-1]!r} takes no key")
            if parts[-1] in nodes[-1]:
                raise UserError(f"--cfg-options {key}: the key is there; {name}=... changes it")
            old = None
        else:
            old = _item(nodes[-1], name, parts, cfg)
            if old is not None and value is not None and not _same_kind(old, value):
                expected = f"expected {type(old).__name__} like {old!r}"
                raise UserError(f"--cfg-options {name}={value!r}: {expected}")
        _check_is_read(cfg, key, parts, old)
        for node, part in zip(reversed(nodes), reversed(parts), strict=True):
            place: Any = part if hasattr(node, "keys") else _index(node, part)
            if not isinstance(node, tuple):
                node[place] = value
                break
            value = (*node[:place], value, *node[place + 1 :])  # set where the tuple is


def _item(node: Any, name: str, parts: Sequence[str], cfg: Config) -> Any:
    """Returns what the last part of a dotted name's first parts names in a node.

    Raises:
        UserError: it names nothing.
    """
    where, part = ".".join(parts).replace(".[", "["), parts[-1]
    if isinstance(node, (list, tuple)):
        if (place := _index(node, part)) is not None:
            return node[place]
        types = [item["type"] for item in node if isinstance(item, Mapping) and "type" in item]
        named = ", ".join(f"{place} {kind}" for place, kind in enumerate(types))
        listed = f": {named}" if len(types) == len(node) else ""
        if types.count(part.strip("[]")) > 1:
            listed += f"; name one as {part[:-1]}#1]"
        raise UserError(f"--cfg-options {name}: {where} is not one of {len(node)} items{listed}")
    if hasattr(node, "keys") and part in node:
        return node[part]
    at = node if where == name and isinstance(node, Mapping) else {}
    more = arguments_of(at.get("type"))
    others = {f"+{'.'.join([*parts[:-1], argument])}" for argument in more - {*at}}
    hint = suggest(name, [*flatten(cfg), *others])
    hint += f" (+{name} adds it)" if where == name and not more else ""
    raise UserError(f"--cfg-options: no key {where!r} in the config{hint}")


def _index(items: Sequence[Any], part: str) -> Any:
    """Returns the place of an item by its number, or by its type: `[Resize]`, `[Resize#2]`.

    It is None where there is no such item, or several of that type.
    """
    if part.isdigit():
        return int(part) if int(part) < len(items) else None
    kind, _, number = part.strip("[]").partition("#")
    found = [
        i for i, item in enumerate(items) if isinstance(item, Mapping) and kind == item.get("type")
    ]
    if number.isdigit() and 0 < int(number) <= len(found):
        return found[int(number) - 1]
    return found[0] if len(found) == 1 and part == f"[{kind}]" else None


def _check_is_read(cfg: Config, key: str, parts: Sequence[str], old: Any) -> None:
    """Checks that the key is not of a variable that a config file is only put together from.

    Modules of the user's may read any.

    Raises:
        UserError: names the copies of the value, which count.
    """
    first = parts[0]
    read = READ | {*inspect.signature(Runner.__init__).parameters}
    imports = (cfg.get("custom_imports") or {}).get("imports", [])
    if first in read or first not in cfg or any("mmact_tiny" not in name for name in imports):
        return
    loader, last = f"{first.removesuffix('_pipeline')}_dataloader.", f".{parts[-1]}"
    rest = ".".join(["", *parts[1:]]).replace(".[", "[")
    nodes = [*_nodes({name: cfg[name] for name in read if name in cfg})]
    plain = isinstance(cfg[first], (str, Mapping, Sequence))  # not 8, which may be anything
    copies = (
        [path + rest for path, _ in nodes if path.startswith(loader) and path.endswith(".pipeline")]
        or [path + rest for path, node in nodes if plain and node == cfg[first]]
        or [path for path, node in nodes if path.endswith(last) and node == old]
    )
    named = ", ".join(sorted(copies)[:MAX_COPIES])
    fix = f"; set {named}" if copies else ""
    raise UserError(f"--cfg-options {key}: nothing reads {first} once the config is loaded{fix}")


def _nodes(node: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yields `(dotted key, value)` of all that a config's node holds."""
    pairs: Any = node.items() if isinstance(node, Mapping) else ()
    for key, value in enumerate(node) if isinstance(node, (list, tuple)) else pairs:
        where = f"{path}.{key}" if path else str(key)
        yield where, value
        yield from _nodes(value, where)


def _same_kind(old: Any, new: Any) -> bool:
    for kind in (bool, (int, float), str, (list, tuple), dict):
        if isinstance(old, kind):  # bool first: it is an int too
            return isinstance(new, kind) and (kind is bool or not isinstance(new, bool))
    return True
