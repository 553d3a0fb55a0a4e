"""Writes the report of a run, or of several side by side: one HTML page, and its data as JSON."""

import logging
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import cast

from .. import hardware
from ..errors import UserError
from ..files import finite, sha256, write_atomically, write_json
from ..metrics import wilson_interval
from .compare import compare_runs, stock_difference
from .frames import Shown, read_frames
from .page import render
from .records import count_dataset, newest_folder, read_run, setting
from .scores import analyze
from .types import Best, Data, Dumps, Log, Records, Report, Run, Settings, Test

logger = logging.getLogger("mmact_tiny")
FILE = "report.html"


def try_report(run_dir: str | Path) -> None:
    """Writes the report of a run on rank 0 and logs where; an error is logged and not raised."""
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
    folders = [Path(folder) for folder in run_dirs] or [newest_folder()]
    out = _choose_out(folders, out)
    read = [read_run(folder) for folder in folders]
    runs = [describe_run(records, dumps) for records, dumps in read]
    several = len(runs) > 1
    configs = [dumps.config for _, dumps in read]
    report: Report = {
        "generated": datetime.now().astimezone().isoformat(timespec="seconds"),
        "runs": runs,
        "comparison": compare_runs(runs, configs) if several else None,
    }
    report = cast(Report, finite(report))
    frames = {} if several else _hard_frames(report["runs"][0], read[0][1].test_config)
    data = out.with_suffix(".json")
    page = render(report, frames, json_name=data.name)
    write_json(data, report)
    write_atomically(page.encode("utf-8", "backslashreplace"), out)
    return out


def _choose_out(folders: Sequence[Path], out: Path | None) -> Path:
    """Returns where the page goes."""
    resolved = [folder.resolve() for folder in folders]
    for folder, path in zip(folders, resolved, strict=True):
        if resolved.count(path) > 1:
            raise UserError(f"{folder} is named twice: expected different runs to compare")
    if out is None:
        return (folders[0] if len(folders) == 1 else resolved[0].parent) / FILE
    if Path(out).suffix.lower() not in (".html", ".htm"):
        raise UserError(f"--out {out}: expected a file named *.html; the JSON goes beside it")
    return Path(out)


def describe_run(records: Records, dumps: Dumps) -> Run:
    """Returns all that a report says of a run."""
    config = dumps.config or {}
    weights = config.get("load_from") or config.get("initial_weights")
    seed = next((start["seed"] for start in records["starts"] if "seed" in start), None)
    data = count_dataset(config)
    run: Run = {
        **records,
        "data": data,
        "config": stock_difference(config),
        "max_epochs": setting(config, "train_cfg", "max_epochs"),
        "batch_size": setting(config, "train_dataloader", "batch_size"),
        "weights": {"from": weights, "sha256": sha256(weights) if weights else None},
        "seed": setting(config, "randomness", "seed") if seed is None else seed,
        "best": best_validation(records["log"], data),
        "test": analyze(dumps.results) if dumps.results else None,
        "remarks": [],
    }
    run["remarks"] = remarks(run)
    return run


def best_validation(log: Log, data: Data) -> Best | None:
    """Returns the epoch of the best validation, by top-1 or else the first metric; None without.

    The interval of top-1 is Wilson's for the videos that the list has today.
    """
    rows = log["val"]
    names = [key for row in rows for key in row if key not in ("x", "epoch", "iter")]
    name = "acc/top1" if "acc/top1" in names else next(iter(names), "")
    scored = [row for row in rows if isinstance(row.get(name), int | float)]
    if not scored:
        return None
    best = max(scored, key=lambda row: row[name])
    value = best[name]
    videos = data["splits"]["val"].get("videos") if "val" in data["splits"] else None
    found: Best = {"metric": name, "value": value, "at": best["x"], "videos": videos}
    if name == "acc/top1" and videos and 0 <= value <= 1:
        found["low"], found["high"] = wilson_interval(value, videos)
    return found


def remarks(run: Run) -> list[str]:
    """Returns what a reader has to know before the figures, a sentence each."""
    said = list(run["notes"])
    if not run["log"]["train"] and not run["log"]["val"]:
        said.append("No iteration of a training is logged here.")
    elif run["best"] is None:
        said.append("No epoch was validated yet: there is no validation accuracy.")
    if run["test"] is None:
        command = f"python tools/test.py --work-dir {run['folder']}"
        said.append(f"Not tested yet, so there are no scores: {command}")
    else:
        said += _test_remarks(run, run["test"])
    for split, found in run["data"]["splits"].items():
        if found.get("missing"):
            said.append(
                f"{found['missing']} of the {found['videos']} {split} videos are not on this disk."
            )
    return said


def _test_remarks(run: Run, test: Test) -> list[str]:
    said = []
    checkpoint, tested = run["checkpoint"], test.get("checkpoint_sha256")
    if checkpoint is not None and tested and tested != checkpoint["sha256"]:
        said.append(
            f"The test was of {Path(str(test.get('checkpoint'))).name}, which is not the best "
            f"checkpoint that is here now, {checkpoint['name']}: test again."
        )
    lists = {split: found["file"] for split, found in run["data"]["splits"].items()}
    videos = test.get("ann_file") or lists.get("test")
    if run["best"] is not None and videos is not None and videos == lists.get("val"):
        said.append(
            "The test read the validation list, by which the best epoch was chosen: its "
            "accuracy is an optimistic one. Videos listed in test.txt give an honest one."
        )
    if test["unreadable"]:
        said.append(
            f"{len(test['unreadable'])} videos of the test have no scores; the accuracies are "
            "of the others."
        )
    return said


def _hard_frames(run: Run, test_config: Settings | None) -> dict[str, Shown]:
    """Returns the frames of the videos that the test found hard; none without such videos."""
    test = run["test"]
    hard = [*test.get("wrong", []), *test.get("unsure", [])] if test else []
    return read_frames(test_config, [row["video"] for row in hard]) if hard else {}
