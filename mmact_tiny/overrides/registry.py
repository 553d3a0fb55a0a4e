"""The OVERRIDES registry, how overrides are applied, and what they share.

An override is a plain function `fn(cfg, **kwargs) -> None` that sets what must agree across
several nodes of the config. A config lists them,
`overrides = [dict(type='dataset_paths', data_root='data/tiny'), ...]`; each is applied once, in
that order, and its changes are logged. Applied twice it gives what it gave once.
"""

import inspect
import logging
from collections.abc import Iterable, Iterator, Mapping
from importlib import import_module
from os import PathLike
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from ..compat.mm import Config, ConfigDict, Registry
from ..errors import UserError, suggest

# The modules named here register theirs when the first override is looked up.
OVERRIDES = Registry(
    "override",
    scope="mmact_tiny",
    locations=[
        "mmact_tiny.overrides.data",
        "mmact_tiny.overrides.training",
        "mmact_tiny.overrides.balance",
        "mmact_tiny.overrides.runtime",
        "mmact_tiny.pipeline",
        "mmact_tiny.overrides.cache",
        "mmact_tiny.overrides.testing",
    ],
)
SPLITS = ("train", "val", "test")
MISSING = "(not set)"
logger = logging.getLogger("mmact_tiny.overrides")  # to the log file, not the terminal


def apply_overrides(cfg: Config, entries: Iterable[Mapping[str, Any]]) -> None:
    """Applies overrides in order and logs what each changed, from what to what.

    Raises:
        UserError: an unknown override or argument, or two overrides that change the same key. A
            key that goes away was moved, as into a dataset wrapper.
    """
    claimed: dict[str, str] = {}
    for entry in entries:
        name, kwargs = check_entry(entry)
        before = flatten(cfg)
        OVERRIDES.module_dict[name](cfg, **kwargs)
        changes = diff(before, flatten(cfg))
        for key, (old, new) in changes.items():
            if key in claimed and new is not MISSING and not _extends(old, new):
                raise UserError(
                    f"overrides {claimed[key]!r} and {name!r} both change {key}\n"
                    "  drop one of them, or narrow one with its arguments"
                )
            claimed[key] = name
        arguments = ", ".join(f"{key}={value!r}" for key, value in kwargs.items())
        logger.info("override %s(%s)%s", name, arguments, "" if changes else ": changes nothing")
        for key, (old, new) in changes.items():
            logger.info("  %s: %s -> %s", key, _short(old), _short(new))


def _extends(old: Any, new: Any) -> bool:
    """Returns whether a list only grew: several overrides may add a plug-in."""
    return isinstance(old, list) and isinstance(new, list) and new[: len(old)] == old


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
            raise UserError(f"override {name!r} has no argument {key!r}{suggest(key, allowed)}")
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
    """Returns `{dotted key: value}` of a config's leaves.

    An item of a list of dicts with a `type` is named by it, `train_pipeline[Resize]`, the second
    of a type `[Resize#2]`, so that one that is put in between does not rename the others.
    """
    if isinstance(node, (Config, Mapping)) and (prefix == "" or len(node)):
        flat: dict[str, Any] = {}
        for key, value in node.items():
            flat.update(flatten(value, f"{prefix}.{key}" if prefix else str(key)))
        return flat
    if (
        isinstance(node, (list, tuple))
        and node
        and all(isinstance(i, Mapping) and "type" in i for i in node)
    ):
        flat = {}
        seen: dict[str, int] = {}
        for item in node:
            name = item["type"]
            seen[name] = seen.get(name, 0) + 1
            label = name if seen[name] == 1 else f"{name}#{seen[name]}"
            flat.update(flatten(item, f"{prefix}[{label}]"))
        return flat
    return {prefix: node}


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


def split_datasets(cfg: Config) -> Iterator[tuple[str, ConfigDict]]:
    """Yields `(split, dataset)` for each data loader, wrappers such as RepeatDataset opened."""
    for split in SPLITS:
        loader = cfg.get(f"{split}_dataloader")
        if loader is not None:
            dataset = loader.dataset
            while "dataset" in dataset and "ann_file" not in dataset:
                dataset = dataset.dataset
            yield split, dataset


def set_pipeline(cfg: Config, split: str, dataset: ConfigDict, steps: list[Any]) -> None:
    """Sets a dataset's pipeline, and the config's variable of the same content with it.

    The dump would say two things otherwise, and stock's inference reads the variable.
    """
    if cfg.get(f"{split}_pipeline") == dataset.pipeline:
        cfg[f"{split}_pipeline"] = steps
    dataset.pipeline = steps


def from_scratch(cfg: Config) -> bool:
    """Returns whether the run starts, or once started, from random weights."""
    if "initial_weights" in cfg:
        return cfg.initial_weights == "random"
    return not cfg.get("load_from") and not cfg.model.get("backbone", {}).get("pretrained")


def use_plugin(cfg: Config, module: str) -> None:
    """Has MMEngine import a module of ours, also where only the dump is left."""
    node = cfg.get("custom_imports") or dict(imports=[], allow_failed_imports=False)
    if module not in node["imports"]:
        cfg.custom_imports = dict(node, imports=[*node["imports"], module])
    import_module(module)


def add_hook(cfg: Config, name: str, **kwargs: Any) -> None:
    """Adds a custom hook, or sets the arguments of the one that is there."""
    hooks = [hook for hook in cfg.get("custom_hooks") or [] if hook["type"] != name]
    cfg.custom_hooks = [*hooks, dict(type=name, **kwargs)]
