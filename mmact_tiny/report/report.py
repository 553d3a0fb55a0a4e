"""Writes the report of a run, or of several side by side: one HTML page, and its data as JSON."""

import functools
import logging
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import hardware
from ..errors import UserError, as_typed
from ..files import finite, near, write_atomically, write_json
from ..hooks.timing import PARTS
from .compare import compare_runs
from .frames import read_frames
from .plots import plot
from .records import newest_folder, read_run
from .types import Run, Test

if TYPE_CHECKING:
    import jinja2

logger = logging.getLogger("mmact_tiny")
FILE = "report.html"
COLUMNS = ("x", "loss", "top1_acc", "lr", "grad_norm")  # of what training logged, and where it is


def try_report(run_dir: str | Path) -> None:
    """Writes the report of a run on rank 0 and logs where; an error is logged and not raised."""
    if hardware.rank():
        return
    try:
        logger.info("report: %s", near(write_report([Path(run_dir)])))
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
    runs, configs, test_configs, results = zip(*map(read_run, folders), strict=True)
    for run in runs:
        run["remarks"] = remarks(run)
    report = finite(
        {
            "generated": datetime.now().astimezone().isoformat(timespec="seconds"),
            "runs": runs,
            "comparison": compare_runs(runs, configs, results) if len(runs) > 1 else None,
        }
    )
    test = report["runs"][0]["test"] if len(runs) == 1 else None
    hard = [*test.get("wrong", []), *test.get("unsure", [])] if test else []
    frames = read_frames(test_configs[0], [row["video"] for row in hard]) if hard else {}
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


def remarks(run: Run) -> list[str]:
    """Returns what a reader has to know before the figures, a sentence each."""
    said = list(run["notes"])
    folds = len(run["test"].get("folds", [])) if run["test"] else 0
    if folds:
        said.append(
            f"A cross-validation: {folds} runs, fold_1 to fold_{folds} below this folder, each "
            "tested on videos that it was not trained on; the test is all of them together."
        )
    elif not run["log"]["train"] and not run["log"]["val"]:
        said.append("No iteration of a training is logged here.")
    elif run["best"] is None:
        said.append("No epoch was validated yet: there is no validation accuracy.")
    if run["test"] is None:
        command = as_typed(f"python tools/test.py --work-dir {run['folder']}")
        said.append(f"Not tested yet, so there are no scores: {command}")
    else:
        said += _test_remarks(run, run["test"])
    said += [
        f"{found['missing']} of the {found['videos']} {split} videos are not on this disk."
        for split, found in run["data"]["splits"].items()
        if found.get("missing")
    ]
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
        count = len(test["unreadable"])
        said.append(f"{count} videos of the test have no scores; the accuracies are of the others.")
    return said


def render(report: Mapping[str, Any], frames: Mapping[str, Any], *, json_name: str) -> str:
    """Returns the page; every text that comes from outside is escaped.

    Args:
        report: As `report.write_report` writes it to JSON.
        frames: From `frames.read_frames`.
        json_name: The name of that file.
    """
    from markupsafe import Markup

    runs = report["runs"]
    train, val = runs[0]["log"]["train"], runs[0]["log"]["val"]
    columns = [key for key in COLUMNS if any(key in row for row in train)]
    if any(row.get("epoch_loss", row.get("loss")) != row.get("loss") for row in train):
        columns.append("epoch_loss")
    logged = dict.fromkeys(key for row in val for key in row if key not in ("low", "high"))
    template = "report.html.j2" if len(runs) == 1 else "comparison.html.j2"
    return _template(template).render(
        **report,
        run=runs[0],
        plots={name: Markup(svg) for name, svg in plot(runs).items()},
        columns={"train": columns, "val": list(logged)},
        environment=environment_rows(runs[0]),
        json_name=json_name,
        frames=frames,
        parts=PARTS,
    )


@functools.cache
def _template(name: str) -> "jinja2.Template":
    """Returns the template of a page, compiled once for all the reports of a process."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("mmact_tiny.report", "templates"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters.update({one.__name__: one for one in (percent, interval, number, seconds)})
    return environment.get_template(name)


def environment_rows(run: Run) -> list[list[str]]:
    """Returns what training and test noted when they ran, side by side; the first row is heads."""
    noted = {"training": run["starts"][-1] if run["starts"] else None, "test": run["test"]}
    flat = {
        name: {
            "Python": facts.get("python"),
            "device": facts.get("device"),
            "processes": facts.get("num_processes"),
            **{key.replace("_", " "): value for key, value in (facts.get("machine") or {}).items()},
            **facts["packages"],
        }
        for name, facts in noted.items()
        if facts and "packages" in facts
    }
    keys = dict.fromkeys(key for facts in flat.values() for key in facts)
    rows = [[key, *(number(facts.get(key)) for facts in flat.values())] for key in keys]
    return [["what", *flat], *rows] if flat else []


def percent(value: float | None, digits: int = 1) -> str:
    """Returns `93.8%`, or a dash for None."""
    return "-" if value is None else f"{value:.{digits}%}"


def interval(row: Mapping[str, Any]) -> str:
    """Returns `24% to 76%`, or a dash where there is no interval."""
    if row.get("low") is None or row.get("high") is None:
        return "-"
    return f"{row['low']:.0%} to {row['high']:.0%}"


def number(value: Any) -> str:
    """Returns a number with four digits that count, a dash for None, and text as it is."""
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def seconds(value: float) -> str:
    """Returns `8.1 s`, `4 min 20 s` or `3 h 05 min`."""
    if value < 59.95:
        return f"{value:.1f} s"
    minutes, rest = divmod(round(value), 60)
    hours, left = divmod(minutes, 60)
    return f"{hours} h {left:02d} min" if hours else f"{minutes} min {rest:02d} s"
