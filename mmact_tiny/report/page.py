"""Renders a report's data as one HTML page that needs nothing else."""

from collections.abc import Mapping
from typing import Any

from ..hooks.timing import PARTS
from ..overrides.tracking import EPOCH_MEANS
from .plots import plot_curves, plot_reliability, plot_time
from .tables import METRICS, interval, metric, number, percent, say_seconds, short, tables_of


def render(report: Mapping[str, Any], strips: Mapping[str, Any], *, json_name: str) -> str:
    """Returns the page; every text that comes from outside is escaped.

    Args:
        report: As `report.write_report` writes it to JSON.
        json_name: The name of that file.
        strips: From `strips.read_strips`.
    """
    import jinja2
    from markupsafe import Markup

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("mmact_tiny.report.report", "templates"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters.update(
        percent=percent, seconds=say_seconds, number=number, interval=interval, short=short
    )
    environment.filters.update(basename=_basename, named=lambda key: METRICS.get(key, key))
    environment.filters.update(metric=lambda best: metric(best["metric"], best["value"]))
    several = len(report["runs"]) > 1
    if several:
        plots = plots_of_several(report["runs"])
        template = environment.get_template("comparison.html.j2")
    else:
        plots = plots_of_one(report["runs"][0])
        template = environment.get_template("report.html.j2")
    return template.render(
        **report,
        run=report["runs"][0],
        plots={name: Markup(svg) for name, svg in plots.items()},
        tables=tables_of(report["runs"][0]),
        accuracy_curves=[words for *_, words in _accuracies(report["runs"][0])],
        json_name=json_name,
        strips=strips,
        parts=PARTS,
    )


def plots_of_one(run: Mapping[str, Any]) -> dict[str, str]:
    """Returns the SVGs of a run by name; none for what was not logged."""
    train, val, unit = run["log"]["train"], run["log"]["val"], run["log"]["unit"]
    plots = {}
    if _has(train, "loss"):
        plots["loss"] = plot_curves("loss", [_curve(train, "loss")], x_label=unit, y_label="loss")
    accuracy = [_curve(run["log"][part], key) for part, key, _ in _accuracies(run)]
    if accuracy:
        plots["accuracy"] = plot_curves(
            "accuracy",
            accuracy,
            x_label=unit,
            y_label="top-1 accuracy",
            percent=True,
            band=_band(run) if _has(val, "acc/top1") else None,
        )
    if _has(train, "lr"):
        plots["lr"] = plot_curves(
            "lr", [_curve(train, "lr")], x_label=unit, y_label="learning rate", log=True
        )
    if run["timing"]["epochs"]:
        plots["time"] = plot_time("time", run["timing"]["epochs"])
    scores = (run["test"] or {}).get("reliability")
    if scores:
        plots["reliability"] = plot_reliability("reliability", scores["bins"])
    return plots


def _accuracies(run: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Returns the part of the log, the key and the words of each accuracy that was logged."""
    words = "validation, with its 95% interval" if _band(run) else "validation"
    means = _has(run["log"]["train"], EPOCH_MEANS["top1_acc"])
    known = (
        ("train", "top1_acc", f"training, {'the epoch so far' if means else 'the last batch'}"),
        ("val", "acc/top1", words),
    )
    return [curve for curve in known if _has(run["log"][curve[0]], curve[1])]


def plots_of_several(runs: list[Mapping[str, Any]]) -> dict[str, str]:
    """Returns the overlaid curves of loss and validation accuracy; the nth run has colour n."""
    units = {run["log"]["unit"] for run in runs}
    unit = units.pop() if len(units) == 1 else "epoch or iteration"
    plots = {}
    for name, part, key, words in (
        ("loss", "train", "loss", "loss"),
        ("accuracy", "val", "acc/top1", "validation top-1"),
    ):
        curves = [_curve(run["log"][part], key) for run in runs]
        if any(_has(run["log"][part], key) for run in runs):
            plots[name] = plot_curves(
                name, curves, x_label=unit, y_label=words, percent=name == "accuracy"
            )
    return plots


def _basename(path: str) -> str:
    return path.replace("\\", "/").rstrip("/").rpartition("/")[2]


def _has(rows: Any, key: str) -> bool:
    return any(row.get(key) is not None for row in rows)


def _curve(rows: Any, key: str) -> tuple[str, list, list]:
    kept = [row for row in rows if key in row]
    return key, [row["x"] for row in kept], [row[key] for row in kept]


def _band(run: Mapping[str, Any]) -> list[tuple[float, float]] | None:
    """Returns the 95% interval of each validation's top-1; None where its videos are unknown."""
    from ..metrics import wilson_interval

    videos = run["data"]["splits"].get("val", {}).get("videos")
    values = _curve(run["log"]["val"], "acc/top1")[2]
    if not videos or any(value is None or not 0 <= value <= 1 for value in values):
        return None
    return [wilson_interval(value, videos) for value in values]
