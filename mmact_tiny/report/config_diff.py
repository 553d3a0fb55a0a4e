"""A resolved config as a difference: from the stock config it started from, or between runs."""

from collections.abc import Mapping, Sequence
from typing import Any

from ..errors import UserError
from ..overrides.registry import MISSING, diff, flatten

# Where a run happened is no setting of it.
PLACES = ("work_dir", "resume", "stock_base", "launcher")


def stock_difference(config: Mapping[str, Any]) -> dict[str, Any]:
    """Returns how a config differs from the stock ones that `load_config` noted in it.

    Returns:
        `base`: their names; `rows`: key, stock's value and ours, as text; `note`: why there is no
        comparison, or None.
    """
    from ..compat.configs import read_config

    bases = list(config.get("stock_base") or [])
    if not bases:
        note = "The config does not name a stock config that it started from."
        return {"base": [], "rows": [], "note": note}
    stock: dict[str, Any] = {}
    try:
        for base in bases:
            stock |= _flat(read_config(base))
    except UserError as error:
        return {"base": bases, "rows": [], "note": f"The stock config cannot be read: {error}"}
    changes = diff(stock, _flat(config))
    rows = [
        {"key": key, "stock": _say(old), "ours": _say(new)}
        for key, (old, new) in sorted(changes.items())
        if key not in PLACES
    ]
    return {"base": bases, "rows": rows, "note": None}


def differences(configs: Sequence[Mapping[str, Any] | None]) -> list[dict[str, Any]]:
    """Returns the keys whose values differ between configs: `key`, and `values` as text."""
    flat = [_flat(config) if config is not None else None for config in configs]
    keys = sorted({key for one in flat for key in one or {}} - set(PLACES))
    rows = []
    for key in keys:
        values = [None if one is None else one.get(key, MISSING) for one in flat]
        known = [value for value, one in zip(values, flat, strict=True) if one is not None]
        if any(value != known[0] for value in known):
            said = [
                "(no config)" if one is None else _say(value)
                for value, one in zip(values, flat, strict=True)
            ]
            rows.append({"key": key, "values": said})
    return rows


def _flat(config: Any) -> dict[str, Any]:
    """Returns the leaves, without MMEngine's marks of scope; tuples are lists, as files have it."""
    return {
        key: list(value) if isinstance(value, tuple) else value
        for key, value in flatten(config).items()
        if not key.endswith("_scope_")
    }


def _say(value: Any) -> str:
    return value if value is MISSING else repr(value)
