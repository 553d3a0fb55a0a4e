"""Compares runs: their configs with stock's and with each other, and whether accuracies compare."""

from collections.abc import Mapping, Sequence
from typing import Any

from ..checkpoints.config_text import read_config
from ..errors import UserError
from ..overrides.registry import MISSING, diff, flatten
from .pairs import compare_first
from .types import Run, Settings

INCOMPARABLE = "their accuracies do not compare"
# Where a run happened is no setting of it.
PLACES = ("work_dir", "resume", "stock_base", "launcher")


def stock_difference(config: Settings) -> dict[str, Any]:
    """Returns how a config differs from the stock ones that `load_config` noted in it.

    Returns:
        `base`: the stock configs; `rows`: `key`, and the values as text, `stock` and `ours`;
        `note`: why there are no rows, else None.
    """
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
        ],
        "note": note,
    }


def compare_runs(
    runs: Sequence[Run], configs: Sequence[Settings | None], results: Sequence[Any]
) -> dict[str, Any]:
    """Returns runs side by side.

    Returns:
        `names`: of the runs, their folders where two have the same name; `differences`: of the
        configs; `warnings`: why the runs, or some of them, cannot be compared; `pairs`: whether
        each is better than the first, from `pairs.compare_answers`.
    """
    names = [run["name"] for run in runs]
    if len(set(names)) < len(names):
        names = [run["folder"] for run in runs]
    found = warnings(dict(zip(names, runs, strict=True)))
    return {
        "names": names,
        "differences": differences(configs),
        "warnings": found,
        "pairs": compare_first(names, results),
    }


def differences(configs: Sequence[Settings | None]) -> list[dict[str, Any]]:
    """Returns the keys whose values differ between configs, `key` and `values` as text."""
    flat = [None if config is None else _flat(config) for config in configs]
    known = [one for one in flat if one is not None]
    return [
        {
            "key": key,
            "values": ["(no config)" if c is None else _say(c.get(key, MISSING)) for c in flat],
        }
        for key in sorted({key for one in known for key in diff(known[0], one)})
    ]


def warnings(runs: Mapping[str, Run]) -> list[str]:
    """Returns why the runs, or some of them, cannot be compared."""
    said = []
    tested = {name: run["test"] for name, run in runs.items() if run["test"] is not None}
    if len(tested) < len(runs):
        said.append(f"Without a test: {', '.join(name for name in runs if name not in tested)}.")
    classes = {name: run["data"]["classes"] for name, run in runs.items()}
    if sizes := _unlike({name: len(of_run) for name, of_run in classes.items()}):
        said.append(f"The runs have different numbers of classes ({sizes}): {INCOMPARABLE}.")
    elif _unlike(classes):
        said.append(f"The runs have classes of different names: {INCOMPARABLE}.")
    for key, words in (
        ("ann_file", "lists of videos"),
        ("protocol", "protocols"),
        ("num_videos", "numbers of scored videos"),
    ):
        if values := _unlike({name: test.get(key) for name, test in tested.items()}):
            said.append(f"The tests have different {words} ({values}).")
    return said


def _unlike(values: Mapping[str, object]) -> str:
    """Returns the values, named, if they differ; else nothing."""
    differ = len(set(map(repr, values.values()))) > 1
    return "; ".join(f"{name}: {value}" for name, value in values.items()) if differ else ""


def _flat(config: Mapping[str, Any]) -> Settings:
    """Returns the settings, without MMEngine's marks of scope; tuples are lists, as in files."""
    return {
        key: list(value) if isinstance(value, tuple) else value
        for key, value in flatten(config).items()
        if not key.endswith("_scope_") and key not in PLACES
    }


def _say(value: Any) -> str:
    return value if value is MISSING else repr(value)
