"""Compares runs: their configs with stock's and with each other, and whether accuracies compare."""

from collections.abc import Mapping, Sequence
from typing import Any

from ..checkpoints.config_text import read_config
from ..errors import UserError
from ..overrides.registry import MISSING, diff, flatten
from .records import setting
from .types import Comparison, Run, Settings, StockDifference

INCOMPARABLE = "their accuracies do not compare"
# Where a run happened is no setting of it.
PLACES = ("work_dir", "resume", "stock_base", "launcher")


def stock_difference(config: Settings) -> StockDifference:
    """Returns how a config differs from the stock ones that `load_config` noted in it."""
    noted = config.get("stock_base")
    bases = [str(base) for base in noted] if isinstance(noted, list) else []
    note = None if bases else "The config does not name a stock config that it started from."
    stock: Settings = {}
    try:
        for base in bases:
            stock |= _flat(read_config(base))
    except UserError as error:
        note = f"The stock config cannot be read: {error}"
    changes = {} if note else diff(stock, _flat(config))
    return {
        "base": bases,
        "rows": [
            {"key": key, "stock": _say(old), "ours": _say(new)}
            for key, (old, new) in sorted(changes.items())
            if key not in PLACES
        ],
        "note": note,
        "optimizer": setting(config, "optim_wrapper", "optimizer"),
    }


def compare_runs(runs: Sequence[Run], configs: Sequence[Settings | None]) -> Comparison:
    """Returns runs side by side; those of the same name are named by their folders."""
    names = [run["name"] for run in runs]
    if len(set(names)) < len(names):
        names = [run["folder"] for run in runs]
    found = warnings(runs, names)
    return {"names": names, "differences": differences(configs), "warnings": found}


def differences(configs: Sequence[Settings | None]) -> list[dict[str, Any]]:
    """Returns the keys whose values differ between configs, `key` and `values` as text."""
    flat = [None if config is None else _flat(config) for config in configs]
    known = [one for one in flat if one is not None]
    keys = sorted({key for one in known for key in one} - set(PLACES))
    return [
        {
            "key": key,
            "values": ["(no config)" if c is None else _say(c.get(key, MISSING)) for c in flat],
        }
        for key in keys
        if any(one.get(key, MISSING) != known[0].get(key, MISSING) for one in known)
    ]


def warnings(runs: Sequence[Run], names: Sequence[str]) -> list[str]:
    """Returns why the runs, or some of them, cannot be compared."""
    classes = {name: run["data"]["classes"] for name, run in zip(names, runs, strict=True)}
    sizes = {name: len(of_run) for name, of_run in classes.items()}
    tests = {name: run["test"] for name, run in zip(names, runs, strict=True)}
    tested = {name: test for name, test in tests.items() if test is not None}
    said = []
    if len(tested) < len(tests):
        said.append(f"Without a test: {', '.join(name for name in tests if name not in tested)}.")
    if _differ(sizes):
        said.append(
            f"The runs have different numbers of classes ({_listing(sizes)}): {INCOMPARABLE}."
        )
    elif _differ(classes):
        said.append(f"The runs have classes of different names: {INCOMPARABLE}.")
    for key, words in (
        ("ann_file", "lists of videos"),
        ("protocol", "protocols"),
        ("num_videos", "numbers of scored videos"),
    ):
        values = {name: test.get(key) for name, test in tested.items()}
        if _differ(values):
            said.append(f"The tests have different {words} ({_listing(values)}).")
    return said


def _differ(values: Mapping[str, object]) -> bool:
    return len(set(map(repr, values.values()))) > 1


def _listing(values: Mapping[str, object]) -> str:
    return "; ".join(f"{name}: {value}" for name, value in values.items())


def _flat(config: Mapping[str, Any]) -> Settings:
    """Returns the leaves, without MMEngine's marks of scope; tuples are lists, as files have it."""
    return {
        key: list(value) if isinstance(value, tuple) else value
        for key, value in flatten(config).items()
        if not key.endswith("_scope_")
    }


def _say(value: Any) -> str:
    return value if value is MISSING else repr(value)
