"""Registers overrides, applies them to a config, and logs what each of them changed.

An override is a plain function `fn(cfg, **kwargs) -> None` that sets what must agree across
several nodes of the config. A config lists them,
`overrides = [dict(type='dataset_paths', data_root='data/tiny'), ...]`. Applying
an override twice gives the same config as applying it once. One that builds on the result of
others names them:

    @OVERRIDES.register_module()
    @comes_after("dataset_paths")
    def classes(cfg: Config) -> None: ...
"""

import copy
import inspect
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib import import_module
from os import PathLike
from types import UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from ..compat import Config, Registry
from ..errors import UserError, suggest

FILES = (
    *("recipe", "data", "training", "batch_size", "learning_rate", "finetune"),
    *("runtime", "testing", "cache"),
)
# The modules named here register theirs when the first override is looked up.
OVERRIDES = Registry(
    "override",
    scope="mmact_tiny",
    locations=[f"mmact_tiny.overrides.{name}" for name in FILES],
)
MISSING = "(not set)"
PLUGINS = "custom_imports.imports"  # the one key that several overrides add to
logger = logging.getLogger("mmact_tiny.overrides")  # to the log file, not the terminal
Override = TypeVar("Override", bound=Callable[..., None])


def comes_after(*names: str) -> Callable[[Override], Override]:
    """Declares the overrides whose result this one builds on, where both are listed."""

    def declare(override: Override) -> Override:
        override.after = names  # type: ignore[attr-defined]
        return override

    return declare


def prerequisites(name: str) -> Sequence[str]:
    """Returns the names of the overrides that the registered override `name` comes after."""
    OVERRIDES.import_from_location()
    return getattr(OVERRIDES.module_dict.get(name), "after", ())


def apply_overrides(cfg: Config, entries: Iterable[Mapping[str, Any]]) -> None:
    """Applies overrides in the order listed and logs what each changed, from what to what.

    Raises:
        UserError: an unknown override or argument, an override that is listed before one that it
            comes after, or two overrides that set the same key, in whatever order they are
            listed. One that comes after another may change its keys. A key that goes away was
            moved, as into a dataset wrapper.
    """
    checked = [check_entry(entry) for entry in entries]
    check_order([name for name, _ in checked])
    claims: dict[str, int] = {}
    for index, (name, kwargs) in enumerate(checked):
        before = flatten(cfg)
        OVERRIDES.module_dict[name](cfg, **kwargs)
        changes = diff(before, flatten(cfg))
        for key, (old, new) in changes.items():
            first = checked[claims.get(key, index)][0]
            allowed = first in prerequisites(name) or _adds_plugin(key, old, new)
            if key in claims and new is not MISSING and not allowed:
                raise _conflict(first, name, key)
            claims[key] = index
        arguments = ", ".join(f"{key}={value!r}" for key, value in kwargs.items())
        logger.info("override %s(%s)%s", name, arguments, "" if changes else ": changes nothing")
        for key, (old, new) in changes.items():
            logger.info("  %s: %s -> %s", key, _short(old), _short(new))
    _check_claims(cfg, checked, claims)


def _check_claims(
    cfg: Config, checked: Sequence[tuple[str, dict[str, Any]]], claims: Mapping[str, int]
) -> None:
    """Finds the overrides that set a key to the value that it had, before another changed it.

    So a conflict does not depend on the order: each override is applied again, to a copy, and what
    it would still change is claimed by two.
    """
    final = flatten(cfg)
    messages = logging.getLogger("mmact_tiny")
    for index, (name, kwargs) in enumerate(checked):
        if "auto" in kwargs.values():
            continue  # measured, as the batch size is: too long to do twice
        again, was_disabled, messages.disabled = copy.deepcopy(cfg), messages.disabled, True
        try:
            OVERRIDES.module_dict[name](again, **kwargs)
        finally:
            messages.disabled = was_disabled
        for key, (_, new) in diff(final, flatten(again)).items():
            other = claims.get(key, index)
            changer = checked[other][0]
            if other != index and new is not MISSING and name not in prerequisites(changer):
                raise _conflict(name, changer, key)


def _conflict(first: str, second: str, key: str) -> UserError:
    return UserError(
        f"overrides {first!r} and {second!r} both change {key}\n"
        "  drop one of them, or narrow one with its arguments"
    )


def _adds_plugin(key: str, old: Any, new: Any) -> bool:
    return key == PLUGINS and isinstance(old, list) and new[: len(old)] == old


def check_order(names: Sequence[str]) -> None:
    """Checks that each override is listed after those that it builds on.

    Raises:
        UserError: names both.
    """
    for index, name in enumerate(names):
        for later in names[index + 1 :]:
            if later in prerequisites(name):
                raise UserError(
                    f"override {name!r} is listed before {later!r}, whose result it needs\n"
                    f"  move {name!r} below {later!r} in the config's `overrides`"
                )


def check_entry(entry: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Returns the name and the arguments of one item of a config's `overrides` list.

    Raises:
        UserError: no `type`, a name or argument that does not exist, with a suggestion, or a
            value of another type.
    """
    if not isinstance(entry, Mapping) or "type" not in entry:
        raise UserError(f"overrides: expected dict(type='name', ...), not {entry!r}")
    kwargs = dict(entry)
    name = kwargs.pop("type")
    OVERRIDES.import_from_location()
    if name not in OVERRIDES.module_dict:
        raise UserError(f"no override {name!r}{suggest(name, OVERRIDES.module_dict)}")
    parameters = inspect.signature(OVERRIDES.module_dict[name]).parameters
    types_of = get_type_hints(OVERRIDES.module_dict[name])
    allowed = list(parameters)[1:]
    for key in kwargs:
        if key not in allowed:
            hint = suggest(key, allowed)
            if key.startswith("scratch"):  # arguments of version 0.1.0
                hint = "; a run from random weights has a config: see configs/tsn_tiny_scratch.py"
            raise UserError(f"override {name!r} has no argument {key!r}{hint}")
    for key in allowed:
        if parameters[key].default is inspect.Parameter.empty and key not in kwargs:
            raise UserError(f"override {name!r} needs its argument {key!r}")
    for key, value in kwargs.items():
        expected = types_of.get(key, Any)
        if not _is_a(value, expected):
            words = getattr(expected, "__name__", None) or str(expected)
            raise UserError(f"override {name!r} {key}={value!r}: expected {words}")
    return name, kwargs


def _is_a(value: Any, expected: Any) -> bool:
    """Returns whether a value fits an annotation; a whole number is a float, a bool is no number.

    Of containers only the kind is looked at.
    """
    if expected is Any:
        return True
    if get_origin(expected) in (Union, UnionType):
        return any(_is_a(value, one) for one in get_args(expected))
    kind = get_origin(expected) or expected
    if kind in (int, float):
        numbers = (int, float) if kind is float else int
        return isinstance(value, numbers) and not isinstance(value, bool)
    return isinstance(value, {str: (str, PathLike), list: (list, tuple)}.get(kind, kind))


def flatten(node: Any, prefix: str = "") -> dict[str, Any]:
    """Returns `{dotted key: value}` of a config's leaves, copied: a later edit does not reach them.

    An item of a list of dicts with a `type` is named by it, `train_pipeline[Resize]`, the second
    of a type `[Resize#2]`, so that one that is put in between does not rename the others.
    """
    flat: dict[str, Any] = {}
    if isinstance(node, (Config, Mapping)) and (prefix == "" or len(node)):
        for key, value in node.items():
            flat.update(flatten(value, f"{prefix}.{key}" if prefix else str(key)))
        return flat
    typed = isinstance(node, (list, tuple)) and all(
        isinstance(item, Mapping) and "type" in item for item in node
    )
    if not typed or not node:
        return {prefix: copy.deepcopy(node)}
    seen: dict[str, int] = {}
    for item in node:
        name = item["type"]
        seen[name] = seen.get(name, 0) + 1
        label = name if seen[name] == 1 else f"{name}#{seen[name]}"
        flat.update(flatten(item, f"{prefix}[{label}]"))
    return flat


def diff(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Returns `{dotted key: (old, new)}` of the leaves that differ, `MISSING` for an absent one."""
    return {
        key: (before.get(key, MISSING), after.get(key, MISSING))
        for key in {**before, **after}
        if before.get(key, MISSING) != after.get(key, MISSING)
    }


def _short(value: Any, width: int = 60) -> str:
    text = value if value is MISSING else repr(value)
    return text if len(text) <= width else f"{text[:width]}..."


def record_choice(cfg: Config, key: str, reason: str) -> None:
    """Notes why an override chose the value that a dotted key has now; no dump shows it."""
    vars(cfg).setdefault("_choices", {})[key] = (_value_of(cfg, key), reason)


def reason_for(cfg: Config, key: str) -> str:
    """Returns why a dotted key has its value, as the override that chose it says.

    Where none did, or another value was set since, the config or a flag chose it.
    """
    value, reason = vars(cfg).get("_choices", {}).get(key, (MISSING, ""))
    return reason if value == _value_of(cfg, key) else "as the config or a flag says"


def _value_of(cfg: Config, key: str) -> Any:
    node: Any = cfg
    for part in key.split("."):
        node = node.get(part) if node is not None else None
    return node


def use_plugin(cfg: Config, module: str) -> None:
    """Has MMEngine import a module of ours, also where only the dump is left."""
    node = cfg.get("custom_imports") or dict(imports=[], allow_failed_imports=False)
    if module not in node["imports"]:
        cfg.custom_imports = dict(node, imports=[*node["imports"], module])
    import_module(module)


def add_hook(cfg: Config, name: str, **kwargs: Any) -> None:
    """Adds a custom hook, or sets the arguments of the one that is there, in its place."""
    hooks = list(cfg.get("custom_hooks") or [])
    place = next((i for i, hook in enumerate(hooks) if hook["type"] == name), len(hooks))
    hooks[place : place + 1] = [dict(type=name, **kwargs)]
    cfg.custom_hooks = hooks
