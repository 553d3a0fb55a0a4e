"""Several runs side by side: their results, what differs in their configs, and what forbids it."""

from collections.abc import Sequence
from typing import Any

from .config_diff import differences


def compare_runs(
    runs: Sequence[dict[str, Any]], configs: Sequence[dict[str, Any] | None]
) -> dict[str, Any]:
    """Returns `names` (made different where they are the same), `differences` and `warnings`.

    Args:
        runs: From `report.describe_run`.
        configs: Their configs, None for a run without one.
    """
    names = [run["name"] for run in runs]
    if len(set(names)) < len(names):
        names = [run["folder"] for run in runs]
    return {
        "names": names,
        "differences": differences(configs),
        "warnings": warnings(runs, names),
    }


def warnings(runs: Sequence[dict[str, Any]], names: Sequence[str]) -> list[str]:
    """Returns why the runs, or some of them, cannot be compared."""
    said = []
    named = list(zip(names, runs, strict=True))
    untested = [name for name, run in named if run["test"] is None]
    if untested:
        said.append(f"Without a test: {', '.join(untested)}.")
    classes = {tuple(run["data"]["classes"]) for run in runs}
    if len(classes) > 1:
        sizes = ", ".join(f"{name} {len(run['data']['classes'])}" for name, run in named)
        said.append(
            f"The runs have not the same number of classes ({sizes}): accuracies do not compare."
            if len({len(one) for one in classes}) > 1
            else "The runs have classes of different names: accuracies do not compare."
        )
    tested = [(name, run["test"]) for name, run in named if run["test"] is not None]
    for key, words in (("ann_file", "lists of videos"), ("protocol", "protocols")):
        values = {str(test.get(key)) for _, test in tested}
        if len(values) > 1:
            listing = "; ".join(f"{name}: {test.get(key)}" for name, test in tested)
            said.append(f"The tests are of different {words} ({listing}).")
    counts = {test["num_videos"] for _, test in tested}
    if len(counts) > 1:
        listing = ", ".join(f"{name} {test['num_videos']}" for name, test in tested)
        said.append(f"The tests scored different numbers of videos ({listing}).")
    return said
