"""Renders a report's data as one HTML page that needs nothing else."""

from collections.abc import Mapping
from pathlib import PureWindowsPath
from typing import Any

from ..hooks.timing import PARTS
from .frames import Shown
from .plots import accuracy_curves, plot
from .types import Facts, Log, Report, Run

# Names of what is logged, in words; other names are kept.
NAMES = {
    "acc/top1": "top-1",
    "acc/top5": "top-5",
    "acc/mean1": "mean class accuracy",
    "top1_acc": "top-1",
    "lr": "learning rate",
    "grad_norm": "gradient norm",
    "epoch_loss": "loss of the epoch so far",
}
SHARES = ("acc/top1", "acc/top5", "acc/mean1", "top1_acc")
TRAIN_COLUMNS = ("x", "loss", "top1_acc", "lr", "grad_norm")


def render(report: Report, frames: Mapping[str, Shown], *, json_name: str) -> str:
    """Returns the page; every text that comes from outside is escaped.

    Args:
        report: As `report.write_report` writes it to JSON.
        frames: From `frames.read_frames`.
        json_name: The name of that file.
    """
    import jinja2
    from markupsafe import Markup

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("mmact_tiny.report", "templates"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    filters = (named, short, percent, metric, interval, number, seconds)
    environment.filters.update({one.__name__: one for one in filters})
    environment.filters["basename"] = lambda path: PureWindowsPath(path).name  # knows both slashes
    runs = report["runs"]
    template = "report.html.j2" if len(runs) == 1 else "comparison.html.j2"
    return environment.get_template(template).render(
        **report,
        run=runs[0],
        plots={name: Markup(svg) for name, svg in plot(runs).items()},
        accuracy_curves=[words for _, words in accuracy_curves(runs[0])],
        columns=log_columns(runs[0]["log"]),
        environment=environment_rows(runs[0]),
        json_name=json_name,
        frames=frames,
        parts=PARTS,
    )


def log_columns(log: Log) -> dict[str, list[str]]:
    """Returns which of the logged values a table of the training, and of the validation, shows."""
    keys = [key for key in TRAIN_COLUMNS if any(key in row for row in log["train"])]
    if any(row.get("epoch_loss", row.get("loss")) != row.get("loss") for row in log["train"]):
        keys.append("epoch_loss")
    val = ["x", *(key for row in log["val"] for key in row)]
    return {"train": keys, "val": list(dict.fromkeys(val))}


def environment_rows(run: Run) -> list[list[str]]:
    """Returns what training and test noted when they ran, side by side; the first row is heads."""
    noted: list[tuple[str, Facts | None]] = [("training", start) for start in run["starts"][-1:]]
    noted.append(("test", run["test"]))
    facts = {name: fact for name, fact in noted if fact and "packages" in fact}
    flat = [
        {
            "Python": fact.get("python"),
            "device": fact.get("device"),
            "processes": fact.get("num_processes"),
            **{key.replace("_", " "): value for key, value in (fact.get("machine") or {}).items()},
            **fact["packages"],
        }
        for fact in facts.values()
    ]
    keys = dict.fromkeys(key for fact in flat for key in fact)
    rows = [[key, *(number(fact.get(key)) for fact in flat)] for key in keys]
    return [["what", *facts], *rows] if facts else []


def named(key: str) -> str:
    """Returns the words for a value that is logged."""
    return NAMES.get(key, key)


def short(text: str, length: int = 100) -> str:
    """Returns a text that a cell can hold; the JSON has the whole."""
    return text if len(text) <= length else f"{text[:length].rstrip()}..."


def percent(value: float | None, digits: int = 1) -> str:
    """Returns `93.8%`, or a dash for None."""
    return "-" if value is None else f"{value:.{digits}%}"


def metric(value: Any, name: str) -> str:
    """Returns an accuracy as a percentage, and the value of another metric as a number."""
    return percent(value) if name in SHARES else number(value)


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
