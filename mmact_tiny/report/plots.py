"""Draws the plots of a report: small SVGs whose colours follow the page, light or dark."""

import io
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from ..hooks.timing import PARTS
from ..metrics import wilson_interval
from ..overrides.tracking import EPOCH_MEANS
from .types import Run, Scalars

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SIZE = (4.0, 2.7)  # inches; a page shows it as wide as a phone
# Matplotlib draws with these colours, the page has the real ones: names of its CSS variables.
INK = "#010101"
GRID = "#020202"
COLORS = ("#030301", "#030302", "#030303", "#030304", "#030305", "#030306")
VARIABLES = {INK: "currentColor", GRID: "var(--line)"} | {
    color: f"var(--c{number})" for number, color in enumerate(COLORS, start=1)
}
STYLES = ("-", "--", ":", "-.")
Curve = tuple[Sequence[float], Sequence[float | None]]  # x and y; a None leaves a gap
Band = Sequence[tuple[float, float]]


def plot(runs: Sequence[Run]) -> dict[str, str]:
    """Returns the SVGs of a run, or of several, by name; none for what was not logged."""
    figures = _figures_of_one(runs[0]) if len(runs) == 1 else _figures_of_several(runs)
    return {name: as_svg(figure, name) for name, figure in figures.items() if figure is not None}


def _figures_of_one(run: Run) -> "dict[str, Figure | None]":
    train, unit = run["log"]["train"], run["log"]["unit"]
    accuracies = [curve for curve, _ in accuracy_curves(run)]
    scores = run["test"] and run["test"].get("reliability")
    return {
        "loss": plot_curves([_curve(train, "loss")], unit, "loss"),
        "accuracy": plot_curves(accuracies, unit, "top-1 accuracy", percent=True, band=_band(run)),
        "lr": plot_curves([_curve(train, "lr")], unit, "learning rate", log=True),
        "time": plot_time(run["timing"]["epochs"]),
        "reliability": plot_reliability(scores["bins"]) if scores else None,
    }


def _figures_of_several(runs: Sequence[Run]) -> "dict[str, Figure | None]":
    """Returns the curves of the runs, one over the other; the nth run has colour n."""
    logs = [run["log"] for run in runs]
    units = {log["unit"] for log in logs}
    unit = units.pop() if len(units) == 1 else "epoch or iteration"
    losses = [_curve(log["train"], "loss") for log in logs]
    accuracies = [_curve(log["val"], "acc/top1") for log in logs]
    return {
        "loss": plot_curves(losses, unit, "loss"),
        "accuracy": plot_curves(accuracies, unit, "validation top-1", percent=True),
    }


def accuracy_curves(run: Run) -> list[tuple[Curve, str]]:
    """Returns the accuracies that were logged, each with its words."""
    train = run["log"]["train"]
    means = any(EPOCH_MEANS["top1_acc"] in row for row in train)
    interval = ", with its 95% interval" if _band(run) else ""
    curves = [
        (_curve(train, "top1_acc"), f"training, the {'epoch so far' if means else 'last batch'}"),
        (_curve(run["log"]["val"], "acc/top1"), f"validation{interval}"),
    ]
    return [(curve, words) for curve, words in curves if _has_value(curve)]


def _curve(rows: Sequence[Scalars], key: str) -> Curve:
    return [row["x"] for row in rows if key in row], [row[key] for row in rows if key in row]


def _has_value(curve: Curve) -> bool:
    return any(value is not None for value in curve[1])


def _band(run: Run) -> Band:
    """Returns the 95% interval of each validation's top-1; none where its videos are unknown."""
    val = run["data"]["splits"].get("val")
    videos = val and val.get("videos")
    values = _curve(run["log"]["val"], "acc/top1")[1]
    known = [value for value in values if value is not None and 0 <= value <= 1]
    if not videos or len(known) < len(values):
        return []
    return [wilson_interval(value, videos) for value in known]


def plot_curves(
    curves: Sequence[Curve],
    x_label: str,
    y_label: str,
    *,
    percent: bool = False,
    log: bool = False,
    band: Band = (),
) -> "Figure | None":
    """Returns curves, the nth in the page's colour n; None where they have no values.

    Args:
        curves: Drawn in this order.
        x_label: What x counts.
        y_label: What y is.
        percent: Whether y is a share, 0 to 1.
        log: Whether y is on a logarithmic scale.
        band: Lower and upper bound around the last curve.
    """
    if not any(map(_has_value, curves)):
        return None
    figure, axes = _axes(x_label, y_label)
    for index, (x, y) in enumerate(curves):
        color, style = COLORS[index % len(COLORS)], STYLES[index // len(COLORS) % len(STYLES)]
        values = [float("nan") if value is None else value for value in y]
        marker = "o" if len(x) <= 40 else None
        axes.plot(x, values, style, color=color, linewidth=1.6, marker=marker, markersize=3)
    if band:
        low, high = zip(*band, strict=True)
        axes.fill_between(x, low, high, color=color, alpha=0.15, linewidth=0)
    if log and all(v > 0 for _, y in curves for v in y if v is not None):
        axes.set_yscale("log")
        for set_formatter in (axes.yaxis.set_major_formatter, axes.yaxis.set_minor_formatter):
            set_formatter(lambda value, _: f"{value:g}" if f"{value:e}"[0] in "125" else "")
    if percent:
        axes.set_ylim(-0.03, 1.03)
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    _whole_numbers(axes)
    return figure


def plot_time(epochs: Sequence[Mapping[str, float]]) -> "Figure | None":
    """Returns where each epoch's seconds went, as stacked bars, the nth part in colour n."""
    if not epochs:
        return None
    figure, axes = _axes("epoch", "seconds")
    axes.grid(visible=False, axis="x")
    numbers = [row["epoch"] for row in epochs]
    bottom = [0.0] * len(epochs)
    for part, color in zip(PARTS, COLORS, strict=False):
        values = [row[part] for row in epochs]
        axes.bar(numbers, values, bottom=bottom, color=color, width=0.8, linewidth=0)
        bottom = [low + value for low, value in zip(bottom, values, strict=True)]
    axes.set_xlim(min(numbers) - 0.6, max(numbers) + 0.6)
    _whole_numbers(axes)
    return figure


def plot_reliability(bins: Sequence[Mapping[str, float]]) -> "Figure":
    """Returns accuracy over score, a dot with its 95% interval for each bin that has videos."""
    figure, axes = _axes("score of the first label", "right answers")
    axes.plot([0, 1], [0, 1], color=INK, linewidth=0.8, linestyle=(0, (4, 3)))
    y = [row["accuracy"] for row in bins]
    errors = [
        [max(0.0, row["accuracy"] - row["low"]) for row in bins],
        [max(0.0, row["high"] - row["accuracy"]) for row in bins],
    ]
    looks = dict(fmt="o", color=COLORS[0], markersize=5, linewidth=1.2, capsize=3)
    axes.errorbar([row["score"] for row in bins], y, yerr=errors, **looks)  # type: ignore[arg-type]
    axes.set(xlim=(-0.03, 1.03), ylim=(-0.03, 1.03))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(lambda value, _: f"{value:.0%}")
    return figure


def _axes(x_label: str, y_label: str) -> "tuple[Figure, Axes]":
    from matplotlib.figure import Figure

    figure = Figure(figsize=SIZE)
    axes = figure.add_axes((0.17, 0.17, 0.8, 0.79))  # fixed: a layout engine doubles the time
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(GRID)
    axes.grid(color=GRID, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(which="both", colors=INK, length=0, labelsize=9)
    axes.set_xlabel(x_label, color=INK, fontsize=9)
    axes.set_ylabel(y_label, color=INK, fontsize=9)
    return figure, axes


def _whole_numbers(axes: "Axes") -> None:
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True, min_n_ticks=1))


def as_svg(figure: "Figure", name: str) -> str:
    """Returns a figure as SVG to stand in a page; its ids begin with its name, its text is text."""
    import matplotlib

    buffer = io.StringIO()
    nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
        figure.savefig(buffer, format="svg", transparent=True, metadata=nothing)
    text = buffer.getvalue()
    view = text[text.index('viewBox="') :].split('"')[1]
    text = re.sub(r"^.*?<svg[^>]*>", f'<svg aria-hidden="true" viewBox="{view}">', text, flags=re.S)
    text = re.sub(r"<!--.*?-->", "", text, flags=re.S)
    text = re.sub(r"<g id=\"[^\"]*\"", "<g", text)
    text = re.sub(r"\b(id=\"|url\(#|xlink:href=\"#)", rf"\g<1>{name}-", text)
    # The page's own font; only the size is the plot's.
    text = re.sub(r"font: ([\d.]+px) [^;\"]*", r"font-size: \1", text)
    text = re.sub(r"font-family: [^;\"]*;? ?", "", text)
    for color, variable in VARIABLES.items():
        text = text.replace(color, variable)
    return text
