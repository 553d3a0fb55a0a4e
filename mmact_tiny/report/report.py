"""The report of a run, or of several side by side: one HTML page, and the same data as JSON."""

import logging
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from .. import hardware
from ..errors import UserError
from ..files import finite, write_atomically, write_json

logger = logging.getLogger("mmact_tiny")
FILE = "report.html"


def try_report(run_dir: str | Path) -> None:
    """Writes the report of a run on rank 0 and says where; a failure is only logged."""
    if hardware.rank():
        return
    try:
        logger.info("report: %s", write_report([Path(run_dir)]))
    except Exception as error:  # nothing that a report meets may spoil the run that it is about
        words = str(error).splitlines()
        logger.warning("no report: %s: %s", type(error).__name__, words[0] if words else "")


def write_report(run_dirs: Sequence[Path], out: Path | None = None) -> Path:
    """Writes the report of one run, or the comparison of several, and returns its path.

    Args:
        run_dirs: Work directories; none takes the newest run.
        out: The page, the JSON goes beside it. By default `report.html` in the run, for several
            in the folder that the first one is in.

    Raises:
        UserError: no run, or the page cannot be written.
    """
    from .records import newest_folder

    folders = [Path(folder) for folder in run_dirs] or [newest_folder()]
    for folder in folders:
        if [other.resolve() for other in folders].count(folder.resolve()) > 1:
            raise UserError(f"{folder} is named twice: expected different runs to compare")
    if out is None:
        out = folders[0] / FILE if len(folders) == 1 else folders[0].resolve().parent / FILE
    if Path(out).suffix.lower() not in (".html", ".htm"):
        raise UserError(f"--out {out}: expected a file named *.html; the JSON goes beside it")
    out = Path(out)
    described = [describe_run(folder) for folder in folders]
    runs = [run for run, _, _ in described]
    report: dict[str, Any] = {
        "generated": datetime.now().astimezone().isoformat(timespec="seconds"),
        "runs": runs,
        "comparison": None,
    }
    if len(runs) > 1:
        from .compare import compare_runs

        report["comparison"] = compare_runs(runs, [config for _, config, _ in described])
    report = finite(report)
    strips = _strips(runs[0], described[0][2]) if len(runs) == 1 else {}
    from .page import render

    data = out.with_suffix(".json")
    page = render(report, strips, json_name=data.name)
    write_json(data, report)
    write_atomically(page.encode("utf-8", "backslashreplace"), out)
    return out


def describe_run(folder: Path) -> tuple[dict[str, Any], dict[str, Any] | None, Any]:
    """Returns all that a report says of a run, as plain values; its config; that of its test.

    Raises:
        UserError: there is no run.
    """
    from ..files import sha256
    from .config_diff import stock_difference
    from .dataset_counts import count_dataset
    from .records import read_run
    from .scores import analyze

    run = read_run(folder)
    config, test_config = run.pop("config"), run.pop("test_config")
    results = run.pop("results")
    known = config or {}
    weights = known.get("load_from") or known.get("initial_weights")
    run["data"] = count_dataset(known)
    run["config"] = stock_difference(known)
    run["config"]["optimizer"] = (known.get("optim_wrapper") or {}).get("optimizer")
    run["max_epochs"] = (known.get("train_cfg") or {}).get("max_epochs")
    run["batch_size"] = (known.get("train_dataloader") or {}).get("batch_size")
    run["weights"] = {"from": weights, "sha256": sha256(weights) if weights else None}
    run["seed"] = next((s["seed"] for s in run["starts"] if "seed" in s), None)
    if run["seed"] is None:
        run["seed"] = (known.get("randomness") or {}).get("seed")
    run["best"] = best_validation(run)
    run["test"] = None
    if results is not None:
        facts = {key: value for key, value in results.items() if key != "videos"}
        run["test"] = {**facts, **analyze(results)}
    run["remarks"] = remarks(run)
    return run, config, test_config


def best_validation(run: dict[str, Any]) -> dict[str, Any] | None:
    """Returns the epoch of the best validation, by top-1 or else the first metric; None without.

    The interval of top-1 is Wilson's for the videos that the list has today.
    """
    from ..metrics import wilson_interval

    rows = run["log"]["val"]
    names = [key for row in rows for key in row if key not in ("x", "epoch", "iter")]
    if not names:
        return None
    name = "acc/top1" if "acc/top1" in names else names[0]
    scored = [row for row in rows if isinstance(row.get(name), int | float)]
    if not scored:
        return None
    best = max(scored, key=lambda row: row[name])
    videos = run["data"]["splits"].get("val", {}).get("videos")
    found = {"metric": name, "value": best[name], "at": best["x"], "videos": videos}
    if name == "acc/top1" and videos and 0 <= best[name] <= 1:
        found["low"], found["high"] = wilson_interval(best[name], videos)
    return found


def remarks(run: dict[str, Any]) -> list[str]:
    """Returns what a reader has to know before the figures, a sentence each."""
    said = list(run["notes"])
    log, test, best = run["log"], run["test"], run["best"]
    if not log["train"] and not log["val"]:
        said.append("No iteration of a training is logged here.")
    elif best is None:
        said.append("No epoch was validated yet: there is no validation accuracy.")
    if test is None:
        where = run["folder"]
        said.append(
            f"Not tested yet, so there are no scores: python tools/test.py --work-dir {where}"
        )
    else:
        checkpoint = run["checkpoint"]
        digest = test.get("checkpoint_sha256")
        if checkpoint is not None and digest and digest != checkpoint["sha256"]:
            said.append(
                f"The test was of {Path(str(test.get('checkpoint'))).name}, which is not the best "
                f"checkpoint that is here now, {checkpoint['name']}: test again."
            )
        lists = {split: found["file"] for split, found in run["data"]["splits"].items()}
        tested = test.get("ann_file") or lists.get("test")
        if best is not None and tested is not None and tested == lists.get("val"):
            said.append(
                "The test read the validation list, by which the best epoch was chosen: its "
                "accuracy is an optimistic one. Videos listed in test.txt give an honest one."
            )
        if test["unreadable"]:
            said.append(
                f"{len(test['unreadable'])} videos of the test have no scores; the accuracies are "
                "of the others."
            )
    for split, found in run["data"]["splits"].items():
        if found.get("missing"):
            said.append(
                f"{found['missing']} of the {found['videos']} {split} videos are not on this disk."
            )
    return said


def _strips(run: dict[str, Any], test_config: Any) -> dict[str, dict[str, Any]]:
    """Returns the frames of the hard videos; after a test of none, nothing."""
    test = run["test"] or {}
    videos = [row["video"] for row in [*test.get("wrong", []), *test.get("unsure", [])]]
    if not videos:
        return {}
    from .strips import read_strips

    return read_strips(test_config, videos)
