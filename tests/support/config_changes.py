"""What a config was and what it became, compared by plain copies and not by the code under test."""

from pathlib import Path
from typing import Any

import pytest
from conftest import STOCK
from mmengine.config import Config

from mmact_tiny import hardware
from mmact_tiny.checkpoints.config_text import resolve_path
from mmact_tiny.overrides.registry import apply_overrides

GONE = "(gone)"
HOOKS = {
    "custom_imports.imports.0": "mmact_tiny.hooks",
    "custom_imports.allow_failed_imports": False,
}


def stock(toy_dataset: Path | None = None, config: str = STOCK) -> Config:
    """Returns a stock config, its paths set where a dataset is given."""
    cfg = Config.fromfile(resolve_path(config))
    if toy_dataset is not None:
        apply_overrides(cfg, [dict(type="dataset_paths", data_root=str(toy_dataset))])
    return cfg


def leaves(node: Any, prefix: str = "") -> dict[str, Any]:
    """Returns `{path: value}`, list items by their index."""
    items: Any = node.items() if hasattr(node, "items") else enumerate(node)
    flat: dict[str, Any] = {}
    for key, value in items:
        inner = hasattr(value, "items") or isinstance(value, (list, tuple))
        flat |= (
            leaves(value, f"{prefix}{key}.") if inner and len(value) else {f"{prefix}{key}": value}
        )
    return flat


def changes(before: dict[str, Any], after: dict[str, Any]) -> dict[str, Any]:
    """Returns `{path: new value}` of the leaves that differ, in value or in type."""
    return {
        path: after.get(path, GONE)
        for path in {**before, **after}
        if repr(before.get(path, GONE)) != repr(after.get(path, GONE))
    }


def changes_by(cfg: Config, *entries: dict[str, Any]) -> dict[str, Any]:
    """Returns what overrides change, after a check that to apply them again changes nothing."""
    before = leaves(cfg)
    apply_overrides(cfg, entries)
    once = leaves(cfg)
    apply_overrides(cfg, entries)
    assert changes(once, leaves(cfg)) == {}
    return changes(before, once)


def pretend(monkeypatch: pytest.MonkeyPatch, cuda: bool = False) -> None:
    """Makes this a machine of 4 cores whose CPU has bf16, or one with a GPU that has it."""
    import torch

    monkeypatch.setattr(hardware, "has_cuda", lambda: cuda)
    monkeypatch.setattr(hardware, "cpu_flags", lambda: frozenset({"avx512_bf16"}))
    monkeypatch.setattr(hardware, "choose_num_workers", lambda: (2, "4 cores"))
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: cuda)
