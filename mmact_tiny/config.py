"""Loads a config: file, then overrides, then strict options, then a check of its sizes."""

import ast
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .checkpoints.config_text import STOCK_PREFIX, naming, read_config, resolve_path, stock_bases
from .compat import Config
from .errors import UserError
from .hardware import MAX_SEED
from .overrides.learning_rate import accumulated_steps, count_accumulation
from .overrides.options import merge_options
from .overrides.registry import apply_overrides, check_entry, flatten, prerequisites
from .overrides.training import RANDOM, find_weights
from .pipeline import SPLITS

# What a stock config gets; ours list what they need. The closing ones are added to every list.
DEFAULT_OVERRIDES = [dict(type=name) for name in ("recipe", "dataset_paths", "classes")]
DEFAULT_OVERRIDES += [dict(type=name) for name in ("pretrained", "batch_size", "learning_rate")]
CLOSING_OVERRIDES = [
    dict(type=name) for name in ("checkpoints", "data_guard", "decoder", "hardware", "run")
]
# The smallest value of a key, wherever in a config it stands.
LEAST = {
    **dict.fromkeys(("max_epochs", "max_iters", "val_interval", "accumulative_counts"), 1),
    **dict.fromkeys(("batch_size", "prefetch_factor"), 1),
    **dict.fromkeys(("num_classes", "clip_len", "frame_interval", "num_clips"), 1),
    **dict.fromkeys(("num_workers", "seed", "lr"), 0),
}
MOST = {"seed": MAX_SEED}
logger = logging.getLogger("mmact_tiny")
Entry = Mapping[str, Any]  # of a config's `overrides`: the type and the arguments of one


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
        changes: Arguments by override name that take the place of those in the config; None
            changes nothing. An override that is not listed is added before those that build on it.
        options: Values by dotted key, set last and strictly: see `merge_options`.

    Raises:
        UserError: a missing or broken file, a typo, or whatever an override finds.
    """
    cfg = read_config(config)
    bases = stock_bases(config)
    if bases:
        cfg.stock_base = bases  # a report shows the run as a difference from them
    changes = {name: given for name, kwargs in (changes or {}).items() if (given := _given(kwargs))}
    stock = str(config).startswith(STOCK_PREFIX)
    entries = cfg.pop("overrides", DEFAULT_OVERRIDES if stock else None)
    if stock and "dataset_paths" not in changes:
        raise UserError(f"{config} needs your dataset: --data DIR")
    if entries is None and "dataset_paths" in changes:
        changes.setdefault("classes", {})
    # The base batch size of a dump is divided by its accumulated steps, that of a config is not.
    scaled = entries is None and (cfg.get("auto_scale_lr") or {}).get("enable")
    counted = accumulated_steps(cfg) if scaled else 1
    apply_overrides(cfg, _with_scratch(cfg, _merge_changes(entries, changes), changes))
    merge_options(cfg, options or {})
    count_accumulation(cfg, counted)
    check_sizes(cfg)
    return cfg


def _given(kwargs: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in kwargs.items() if value is not None}


def _with_scratch(
    cfg: Config, entries: list[Entry], changes: Mapping[str, Mapping[str, Any]]
) -> list[Entry]:
    """Lays the `scratch` config of `pretrained` over a config where random weights are the start.

    Returns:
        The overrides to apply, those of `scratch` where it counts; `pretrained` is told what was
        found, so that it does not look again.
    """
    found = next((entry for entry in entries if entry["type"] == "pretrained"), None)
    if found is None:
        return entries
    kwargs = {key: value for key, value in found.items() if key not in ("type", "scratch")}
    told = {**changes.get("pretrained", {}), "origin": find_weights(cfg, **kwargs)}
    scratch = found.get("scratch")
    if scratch is None or told["origin"] != RANDOM:
        return [{**entry, **told} if entry is found else entry for entry in entries]
    logger.info("from random weights: as %s says", scratch)
    with naming(scratch):
        tree = ast.parse(resolve_path(scratch).read_text(encoding="utf-8"))
        tree.body = [line for line in tree.body if not ast.unparse(line).startswith("_base_ =")]
        lines = Config.fromstring(ast.unparse(tree), ".py").to_dict()
    entries = lines.pop("overrides", entries)
    cfg.merge_from_dict(lines)
    return _merge_changes(entries, {**changes, "pretrained": told})


def _merge_changes(
    entries: Sequence[Entry] | None, changes: Mapping[str, Mapping[str, Any]]
) -> list[Entry]:
    """Returns the entries with `changes` in, those that only `changes` names, the closing ones."""
    merged: list[Entry] = [
        {**entry, **changes.get(entry.get("type", ""), {})} if isinstance(entry, Mapping) else entry
        for entry in entries or []
    ]
    names = {check_entry(entry)[0] for entry in merged}
    closing = {entry["type"] for entry in CLOSING_OVERRIDES}
    added = [name for name in changes if name not in names | closing]
    last = [name for name in closing - names if entries is not None or name in changes]
    for name in [*added, *sorted(last)]:
        entry = dict(type=name, **changes.get(name, {}))
        check_entry(entry)
        builders = [i for i, one in enumerate(merged) if name in prerequisites(one["type"])]
        merged.insert(min(builders, default=len(merged)), entry)
    return merged


def check_sizes(cfg: Config) -> None:
    """Checks the counts and sizes of a resolved config, which stock meets minutes later, if ever.

    Raises:
        UserError: names every key whose value is too small or too large.
    """
    wrong = []
    for key, value in flatten(cfg).items():
        name = key.rpartition(".")[2]
        if name not in LEAST or isinstance(value, bool) or not isinstance(value, int | float):
            continue
        least, most = LEAST[name], MOST.get(name, float("inf"))
        if not least <= value <= most:
            expected = f"{least} or more" if name not in MOST else f"{least} to {most}"
            wrong.append(f"{key}={value}: expected {expected}")
    for split in SPLITS:
        node = cfg.get(f"{split}_dataloader") or {}
        if node.get("persistent_workers") and node.get("num_workers") == 0:
            wrong.append(
                f"{split}_dataloader.persistent_workers=True: expected num_workers of 1 or more"
            )
    if wrong:
        raise UserError("\n  ".join(wrong))
