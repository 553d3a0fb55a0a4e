"""From a config file to a resolved config: file, overrides, strict options, in that order."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from . import compat
from .build import check_sizes
from .compat.mm import Config
from .errors import UserError, suggest
from .overrides.registry import apply_overrides, check_entry, flatten

STOCK_PREFIX = "mmaction::"
PROJECT = Path(__file__).resolve().parent.parent  # where configs/ lies

# What a stock config gets; ours list what they need. The closing ones end every list.
DEFAULT_OVERRIDES = (
    dict(type="dataset_paths"),
    dict(type="classes"),
    dict(type="pretrained"),
    dict(type="batch_size"),
    dict(type="learning_rate"),
)
CLOSING_OVERRIDES = tuple(
    dict(type=name) for name in ("checkpoints", "data_guard", "decoder", "hardware", "run")
)


def load_config(
    config: str | Path,
    *,
    changes: Mapping[str, Mapping[str, Any]] | None = None,
    options: Mapping[str, Any] | None = None,
) -> Config:
    """Returns a config that is resolved: nothing edits it afterwards, and its dump runs as it is.

    Args:
        config: A file of ours or of the user's, or a stock one by its MMAction2 name,
            `mmaction::recognition/tsn/....py`. A file that lists no overrides (a dump, say) runs
            as it is, but for `changes`.
        changes: Arguments by override name that take the place of those in the config; an
            override that is not listed there is added.
        options: Values by dotted key, set last and strictly: see `merge_options`.

    Raises:
        UserError: a missing or broken file, a typo, or whatever an override finds.
    """
    cfg = read_config(config)
    bases = stock_bases(config)
    if bases:
        cfg.stock_base = bases  # a report shows the run as a difference from them
    changes = {name: dict(kwargs) for name, kwargs in (changes or {}).items() if kwargs}
    stock = str(config).startswith(STOCK_PREFIX)
    entries = cfg.pop("overrides", DEFAULT_OVERRIDES if stock else None)
    if stock and "dataset_paths" not in changes:
        raise UserError(f"{config} needs your dataset: --data DIR")
    if entries is None and "dataset_paths" in changes:
        changes.setdefault("classes", {})
    apply_overrides(cfg, _merge_changes(entries, changes))
    merge_options(cfg, options or {})
    check_sizes(cfg)
    return cfg


def read_config(config: str | Path) -> Config:
    """Returns a config as its file has it, no override applied.

    Raises:
        UserError: a missing or broken file, or one without a model.
    """
    path = resolve_path(config)
    try:
        cfg = Config.fromfile(path)
    except UserError:
        raise
    except Exception as error:  # the file is the user's Python: anything can come out of it
        raise UserError(f"config {config}: {type(error).__name__}: {error}") from error
    if "model" not in cfg:
        raise UserError(f"config {config} has no `model`: is it a training config?")
    return cfg


def resolve_path(config: str | Path) -> Path:
    """Returns the file that a config argument means.

    Raises:
        UserError: no such file, with the names that are close.
    """
    text = str(config)
    if text.startswith(STOCK_PREFIX):
        root = stock_configs()
        path = root / text.removeprefix(STOCK_PREFIX)
        names = [str(found.relative_to(root)) for found in root.rglob("*.py")]
    else:
        path = Path(text).expanduser()
        if not path.is_file() and not path.is_absolute() and (PROJECT / path).is_file():
            path = PROJECT / path  # `configs/tsn_tiny.py` from any folder
        names = [f"configs/{found.name}" for found in (PROJECT / "configs").glob("*.py")]
    if not path.is_file():
        wrong = text.removeprefix(STOCK_PREFIX)
        raise UserError(f"no config {text}{suggest(wrong, names)}")
    if path.suffix not in (".py", ".json", ".yaml", ".yml"):
        raise UserError(f"config {text}: expected a .py, .json or .yaml file")
    return path


def stock_bases(config: str | Path) -> list[str]:
    """Returns the stock configs that a config starts from, as `mmaction::...`, directly or not.

    A dump names none: it carries those of the run in `stock_base`.
    """
    if str(config).startswith(STOCK_PREFIX):
        return [str(config)]
    path = resolve_path(config)
    found = []
    for base in Config._get_base_files(str(path)):
        within = base if base.startswith(STOCK_PREFIX) else path.parent / base
        if "::" not in base or base.startswith(STOCK_PREFIX):
            found += stock_bases(within)
    return found


def stock_configs() -> Path:
    """Returns the folder of the configs that MMAction2 installed."""
    return Path(compat.get_installed_path("mmaction")) / ".mim" / "configs"


def _merge_changes(
    entries: Sequence[Mapping[str, Any]] | None, changes: Mapping[str, Mapping[str, Any]]
) -> list[Mapping[str, Any]]:
    """Returns the entries with `changes` in, those that only `changes` names, the closing ones."""
    listed = [
        {**entry, **changes.get(entry.get("type", ""), {})} if isinstance(entry, Mapping) else entry
        for entry in entries or []
    ]
    names = {check_entry(entry)[0] for entry in listed}
    closing = {entry["type"] for entry in CLOSING_OVERRIDES}
    added = [name for name in changes if name not in names | closing]
    last = [name for name in closing - names if entries is not None or name in changes]
    return listed + [dict(type=name, **changes.get(name, {})) for name in [*added, *sorted(last)]]


def merge_options(cfg: Config, options: Mapping[str, Any]) -> None:
    """Sets values by dotted key; a key that is not there is an error with a suggestion.

    MMEngine's own merge adds a misspelt key silently. `+model.backbone.frozen_stages=1` adds a
    key on purpose. A list item is named by its index: `train_pipeline.0.type`.

    Raises:
        UserError: an unknown key, a key that exists behind `+`, or a value of another type.
    """
    for key, value in options.items():
        adding, name = key.startswith("+"), key.removeprefix("+")
        *parents, leaf = name.split(".")
        node: Any = cfg
        for depth, part in enumerate(parents):
            node = _step(node, part, name, ".".join(parents[: depth + 1]), cfg)
        if isinstance(node, (list, tuple)):
            old = _step(node, leaf, name, name, cfg)
        elif adding:
            old = None
        elif not hasattr(node, "keys") or leaf not in node:
            hint = suggest(name, flatten(cfg))
            raise UserError(f"--cfg-options: no key {name!r} in the config{hint} (+{name} adds it)")
        else:
            old = node[leaf]
        if old is not None and value is not None and not _same_kind(old, value):
            raise UserError(
                f"--cfg-options {name}={value!r}: expected {type(old).__name__} like {old!r}"
            )
        node[int(leaf) if isinstance(node, list) else leaf] = value


def _step(node: Any, part: str, name: str, where: str, cfg: Config) -> Any:
    if isinstance(node, (list, tuple)):
        if part.isdigit() and int(part) < len(node):
            return node[int(part)]
        raise UserError(f"--cfg-options {name}: {where} is not one of {len(node)} items")
    if hasattr(node, "keys") and part in node:
        return node[part]
    raise UserError(f"--cfg-options: no key {where!r}{suggest(name, flatten(cfg))}")


def _same_kind(old: Any, new: Any) -> bool:
    for kind in (bool, (int, float), str, (list, tuple), dict):
        if isinstance(old, kind):  # bool first: it is an int too
            return isinstance(new, kind) and (kind is bool or not isinstance(new, bool))
    return True
