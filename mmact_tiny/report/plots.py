"""The plots of a report: small SVGs whose colours follow the page, light or dark."""

import io
import re
from collections.abc import Sequence
from typing import Any

from ..hooks.timing import PARTS

SIZE = (4.0, 2.7)  # inches; a page shows it as wide as a phone
# Matplotlib draws with these colours, the page has the real ones: names of its CSS variables.
INK = "#010101"
GRID = "#020202"
COLORS = ("#030301", "#030302", "#030303", "#030304", "#030305", "#030306")
VARIABLES = {INK: "currentColor", GRID: "var(--line)"} | {
    color: f"var(--c{number})" for number, color in enumerate(COLORS, start=1)
}
Curve = tuple[str, Sequence[float | None], Sequence[float | None]]  # name, x, y


def _axes(x_label: str, y_label: str) -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=SIZE)  # margins fixed: a layout engine doubles the time
    axes = figure.add_axes((0.17, 0.17, 0.8, 0.79))
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(GRID)
    axes.grid(color=GRID, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(which="both", colors=INK, length=0, labelsize=9)
    axes.set_xlabel(x_label, color=INK, fontsize=9)
    axes.set_ylabel(y_label, color=INK, fontsize=9)
    return figure, axes


def _svg(figure: Any, name: str) -> str:
    """Returns a figure as SVG to stand in a page: its ids are its own, its text is text."""
    import matplotlib

    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.S)
    text = re.sub(r"<g id=\"[^\"]*\"", "<g", text)
    text = re.sub(r"<!--.*?-->", "", text, flags=re.S)
    text = re.sub(r"\b(id=\"|url\(#|xlink:href=\"#)", rf"\g<1>{name}-", text)
    # The page's own font; only the size is the plot's.
    text = re.sub(r"font: ([\d.]+px) [^;\"]*", r"font-size: \1", text)
    text = re.sub(r"font-family: [^;\"]*;? ?", "", text)
    for color, variable in VARIABLES.items():
        text = text.replace(color, variable)
    box = re.search(r"viewBox=\"[^\"]*\"", text)
    view = box[0] if box else ""
    return re.sub(r"<svg[^>]*>", f'<svg aria-hidden="true" {view}>', text, count=1)


def plot_curves(
    name: str,
    curves: Sequence[Curve],
    *,
    x_label: str,
    y_label: str,
    percent: bool = False,
    log: bool = False,
    band: Sequence[tuple[float, float]] | None = None,
) -> str:
    """Returns curves as SVG; the nth has the page's colour n, which its legend names.

    Args:
        name: Prefix of the ids in it, unique on the page.
        curves: Name, x and y of each; None in y leaves a gap.
        x_label: What x counts.
        y_label: What y is.
        percent: Whether y is a share, 0 to 1.
        log: Whether y is on a logarithmic scale.
        band: Lower and upper bound around the last curve.
    """
    figure, axes = _axes(x_label, y_label)
    for index, (_, x, y) in enumerate(curves):
        color = COLORS[index % len(COLORS)]
        values = [float("nan") if value is None else value for value in y]
        marker = "o" if len(x) <= 40 else None
        style = ("-", "--", ":", "-.")[index // len(COLORS) % 4]
        axes.plot(x, values, style, color=color, linewidth=1.6, marker=marker, markersize=3)
        if band and index == len(curves) - 1:
            axes.fill_between(x, *zip(*band, strict=True), color=color, alpha=0.15, linewidth=0)
    if log and all(v > 0 for _, _, y in curves for v in y if v is not None):
        axes.set_yscale("log")
        for axis in (axes.yaxis.set_major_formatter, axes.yaxis.set_minor_formatter):
            axis(lambda value, _: f"{value:g}" if f"{value:e}"[0] in "125" else "")
    if percent:
        axes.set_ylim(-0.03, 1.03)
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    _whole_numbers(axes)
    return _svg(figure, name)


def _whole_numbers(axes: Any) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True, min_n_ticks=1))


def plot_time(name: str, epochs: Sequence[dict[str, Any]]) -> str:
    """Returns where each epoch's seconds went, as stacked bars, the nth part in colour n."""
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
    return _svg(figure, name)


def plot_reliability(name: str, bins: Sequence[dict[str, Any]]) -> str:
    """Returns accuracy over score, a dot with its 95% interval for each bin that has videos."""
    figure, axes = _axes("score of the first label", "right answers")
    axes.plot([0, 1], [0, 1], color=INK, linewidth=0.8, linestyle=(0, (4, 3)))
    x = [row["score"] for row in bins]
    y = [row["accuracy"] for row in bins]
    errors = [
        [max(0.0, row["accuracy"] - row["low"]) for row in bins],
        [max(0.0, row["high"] - row["accuracy"]) for row in bins],
    ]
    axes.errorbar(
        x, y, yerr=errors, fmt="o", color=COLORS[0], markersize=5, linewidth=1.2, capsize=3
    )
    for axis, limit in ((axes.xaxis, axes.set_xlim), (axes.yaxis, axes.set_ylim)):
        limit(-0.03, 1.03)
        axis.set_major_formatter(lambda value, _: f"{value:.0%}")
    return _svg(figure, name)
