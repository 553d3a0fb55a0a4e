"""Draws the plots of a report: small SVGs whose colours follow the page, light or dark."""

import io
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from ..hooks.timing import PARTS
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
EDITS = (  # of Matplotlib's SVG: what is taken away, and the page's own font
    (r"<!--.*?-->", ""),
    (r"<g id=\"[^\"]*\"", "<g"),
    (r"font: ([\d.]+px) [^;\"]*", r"font-size: \1"),
    (r"font-family: [^;\"]*;? ?", ""),
)
Curve = tuple[Sequence[float], Sequence[float | None]]  # x and y; a None leaves a gap


def plot(runs: Sequence[Run]) -> dict[str, str]:
    """Returns the SVGs of a run, or of several, by name; none for what was not logged.

    The curves of several runs lie one over the other, the nth in colour n.
    """
    logs = [run["log"] for run in runs]
    units = {log["unit"] for log in logs}
    unit = units.pop() if len(units) == 1 else "epoch or iteration"
    top1 = [_curve(log["val"], "acc/top1") for log in logs]
    losses = [_curve(log["train"], "loss") for log in logs]
    figures = {"loss": plot_curves(losses, unit, "loss")}
    if len(runs) > 1:
        figures["accuracy"] = plot_curves(top1, unit, "validation top-1", percent=True)
    else:
        train, val = logs[0]["train"], logs[0]["val"]
        scores = runs[0]["test"] and runs[0]["test"].get("reliability")
        accuracies = [_curve(train, "top1_acc"), *top1]
        figures |= {
            "accuracy": plot_curves(accuracies, unit, "top-1 accuracy", percent=True, band=val),
            "lr": plot_curves([_curve(train, "lr")], unit, "learning rate", log=True),
            "time": plot_time(runs[0]["timing"]["epochs"]),
            "reliability": plot_reliability(scores["bins"]) if scores else None,
        }
    return {name: as_svg(figure, name) for name, figure in figures.items() if figure is not None}


def _curve(rows: Sequence[Scalars], key: str) -> Curve:
    return [row["x"] for row in rows if key in row], [row[key] for row in rows if key in row]


def plot_curves(
    curves: Sequence[Curve],
    x_label: str,
    y_label: str,
    *,
    percent: bool = False,
    log: bool = False,
    band: Sequence[Scalars] = (),
) -> "Figure | None":
    """Returns curves, the nth in the page's colour n; None where they have no values.

    Args:
        curves: Drawn in this order.
        x_label: What x counts.
        y_label: What y is.
        percent: Whether y is a share, 0 to 1.
        log: Whether y is on a logarithmic scale.
        band: Rows with `x`, and bounds around the last curve: `low` and `high`.
    """
    known = [value for _, y in curves for value in y if value is not None]
    if not known:
        return None
    figure, axes = _axes(x_label, y_label, shares="y" if percent else "")
    for index, (x, y) in enumerate(curves):
        color, style = COLORS[index % len(COLORS)], STYLES[index // len(COLORS) % len(STYLES)]
        values = [float("nan") if value is None else value for value in y]
        marker = "o" if len(x) <= 40 else None
        axes.plot(x, values, style, color=color, linewidth=1.6, marker=marker, markersize=3)
    if bounds := [(row["x"], row["low"], row["high"]) for row in band if "low" in row]:
        x, low, high = zip(*bounds, strict=True)
        axes.fill_between(x, low, high, color=color, alpha=0.15, linewidth=0)
    if log and min(known) > 0:
        axes.set_yscale("log")
        for set_formatter in (axes.yaxis.set_major_formatter, axes.yaxis.set_minor_formatter):
            set_formatter(lambda value, _: f"{value:g}" if f"{value:e}"[0] in "125" else "")
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
    return figure


def plot_reliability(bins: Sequence[Mapping[str, float]]) -> "Figure":
    """Returns accuracy over score, a dot with its 95% interval for each bin that has videos."""
    figure, axes = _axes("score of the first label", "right answers", shares="xy")
    axes.plot([0, 1], [0, 1], color=INK, linewidth=0.8, linestyle=(0, (4, 3)))
    score, y, low, high = ([row[k] for row in bins] for k in ("score", "accuracy", "low", "high"))
    errors = [  # rounding may put an end on the wrong side
        [max(0.0, value - end) for value, end in zip(y, low, strict=True)],
        [max(0.0, end - value) for value, end in zip(y, high, strict=True)],
    ]
    looks = dict(fmt="o", color=COLORS[0], markersize=5, linewidth=1.2, capsize=3)
    axes.errorbar(score, y, yerr=errors, **looks)  # type: ignore[arg-type]
    return figure


def _axes(x_label: str, y_label: str, *, shares: str = "") -> "tuple[Figure, Axes]":
    """Returns a figure; of the axes `shares` names are from 0% to 100%, else x counts."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=SIZE)
    axes = figure.add_axes((0.17, 0.17, 0.8, 0.79))  # fixed: a layout engine doubles the time
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(GRID)
    axes.grid(color=GRID, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(which="both", colors=INK, length=0, labelsize=9)
    for name, axis, label in (("x", axes.xaxis, x_label), ("y", axes.yaxis, y_label)):
        axis.set_label_text(label, color=INK, fontsize=9)
        if name in shares:
            axes.set(**{f"{name}lim": (-0.03, 1.03)})
            axis.set_major_formatter(lambda value, _: f"{value:.0%}")
        elif name == "x":
            axis.set_major_locator(MaxNLocator(6, integer=True, min_n_ticks=1))
    return figure, axes


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
    for pattern, replacement in EDITS:
        text = re.sub(pattern, replacement, text, flags=re.S)
    text = re.sub(r"\b(id=\"|url\(#|xlink:href=\"#)", rf"\g<1>{name}-", text)
    for color, variable in VARIABLES.items():
        text = text.replace(color, variable)
    return text
