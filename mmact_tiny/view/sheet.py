"""Draws text in any script and contact sheets with matplotlib, and writes them as PNG files.

Lengths are pixels, counted from the top left corner: a figure has 72 dots an inch, so that a font
of 15 points is 15 pixels high.
"""

import functools
import io
import logging
import unicodedata
import warnings
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg, RendererAgg
from matplotlib.figure import Figure, FigureBase
from matplotlib.font_manager import FontProperties, findSystemFonts, fontManager, get_font
from matplotlib.image import imsave
from matplotlib.patches import Rectangle

from ..files import write_atomically

logger = logging.getLogger("mmact_tiny")
DPI = 72
# Told apart with any kind of colour vision: Okabe and Ito, https://jfly.uni-koeln.de/color/
PALETTE = ("#56b4e9", "#e69f00", "#009e73", "#cc79a7", "#f0e442", "#0072b2", "#d55e00")
INK, GREY, PALE, ALARM = "#141414", "#6e6e6e", "#e2e2e2", "#b00020"
OWN_FONT = "DejaVu Sans"  # which matplotlib brings
UPRIGHT = ("Regular", "Book", "Medium")  # rather than bold or slanted
EAST_ASIAN = ("CJK", "HIRAGANA", "KATAKANA", "HANGUL", "IDEOGRAPHIC", "FULLWIDTH")
TEXT = 15  # of the captions
LINE, GAP = 21, 8
MAX_WIDTH = 1800  # of a page, unless one panel is wider
_packages_named: set[str] = set()


def plain(text: str) -> str:
    """Returns a text in one line, with a mark for what has no picture: control characters."""
    return "".join(
        " " if c in "\t\r\n" else "\ufffd" if unicodedata.category(c) in ("Cc", "Cs") else c
        for c in text
    )


@functools.lru_cache(maxsize=1024)
def choose_fonts(text: str) -> tuple[str, ...]:
    """Returns the font families that have the characters of a text, matplotlib's own first.

    Characters that no installed font has show as boxes, and a warning says once which package
    would help.
    """
    families = [OWN_FONT]
    missing = set(map(ord, plain(text)))
    missing -= get_font(fontManager.findfont(OWN_FONT)).get_charmap().keys()
    for path in sorted(findSystemFonts()) if missing else []:
        try:
            font = get_font(path)
        except (OSError, RuntimeError):  # a font of bitmaps, or a damaged one
            continue
        if font.style_name in UPRIGHT and (found := missing & font.get_charmap().keys()):
            fontManager.addfont(path)  # it may be newer than matplotlib's list
            families.append(font.family_name)
            missing -= found
    characters = "".join(map(chr, sorted(missing)))
    east_asian = any(unicodedata.name(c, "").startswith(EAST_ASIAN) for c in characters)
    package = "fonts-noto-cjk" if east_asian else "fonts-noto-core"
    if missing and package not in _packages_named:
        _packages_named.add(package)
        logger.warning(
            "no installed font has the characters %s: shown as boxes. The package %s has them",
            characters[:10],
            package,
        )
    return tuple(families)


def text_width(text: str, size: float) -> float:
    """Returns the width of a text in pixels."""
    font = FontProperties(family=choose_fonts(text), size=size)
    with _no_glyph_warnings():
        return RendererAgg(1, 1, DPI).get_text_width_height_descent(plain(text), font, False)[0]


def shorten(text: str, size: float, room: float, *, keep_end: bool = False) -> str:
    """Returns the text, or as much of it with `…` as fits in `room` pixels.

    With `keep_end` the beginning is left out, as of a path whose end tells more.
    """
    text = plain(text)
    if text_width(text, size) <= room:
        return text

    def part(length: int) -> str:
        return f"…{text[len(text) - length :]}" if keep_end else f"{text[:length]}…"

    lengths = range(1, len(text))
    return part(bisect_right(lengths, room, key=lambda n: text_width(part(n), size)))


def draw_text(
    owner: FigureBase | Axes,
    place: tuple[float, float],
    text: str,
    size: float,
    *,
    room: float | None = None,
    keep_end: bool = False,
    **style: Any,
) -> None:
    """Draws one line of text on a figure or its axes, in their units, from left to right.

    Args:
        owner: What to draw on.
        place: Of the text's left end, half-way up, unless the style says `ha` or `va`.
        text: Any; it is no formula, whatever it has of `$` signs.
        size: Of the font.
        room, keep_end: As `shorten` has them; without a room the text is drawn whole.
        **style: What matplotlib's `Text` takes.
    """
    text = plain(text) if room is None else shorten(text, size, room, keep_end=keep_end)
    style = dict(color=INK, ha="left", va="center_baseline") | style
    owner.text(*place, text, size=size, family=choose_fonts(text), parse_math=False, **style)


def new_canvas(width: int, height: int, background: Any = "white") -> tuple[Figure, Axes]:
    """Returns a figure of so many pixels, and axes over all of it whose units are pixels."""
    figure = Figure(figsize=(width / DPI, height / DPI), dpi=DPI, facecolor=background)
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(height, 0), autoscale_on=False)
    axes.set_axis_off()
    return figure, axes


def to_pixels(figure: Figure) -> np.ndarray:
    """Returns a figure as uint8 RGBA, (height, width, 4)."""
    canvas = FigureCanvasAgg(figure)
    with _no_glyph_warnings():
        canvas.draw()
    return np.asarray(canvas.buffer_rgba())


def write_picture(figure: Figure, out: str | Path) -> None:
    """Writes a PNG, whole or not at all.

    Raises:
        UserError: it cannot be written.
    """
    content = io.BytesIO()
    imsave(content, to_pixels(figure), format="png")
    write_atomically(content.getvalue(), out)


def _no_glyph_warnings() -> warnings.catch_warnings:
    """Silences matplotlib's warning for each missing character: `choose_fonts` gave one."""
    return warnings.catch_warnings(action="ignore", category=UserWarning)


@dataclass(frozen=True)
class Panel:
    """Pictures (uint8 RGB) with a note under each; above them a title and a line, or an error."""

    title: str
    subtitle: str = ""
    pictures: Sequence[tuple[np.ndarray, str]] = ()
    banner: np.ndarray | None = None  # a picture between the lines and the others
    error: str = ""


def lay_out(
    panels: Sequence[Panel], *, heading: Sequence[str], thumb: int = 150, columns: int = 8
) -> Figure:
    """Returns a page of panels, all of one size.

    Args:
        panels: In reading order.
        heading: Lines above all; the first one larger.
        thumb: The longer side of a picture on the page.
        columns: Pictures side by side in a panel, at most.
    """
    count = max((len(panel.pictures) for panel in panels), default=0)
    columns = max(1, min(columns, count))
    banners = [panel.banner.shape[:2] for panel in panels if panel.banner is not None]
    banner_height, banner_width = np.max([(0, 0), *banners], axis=0).tolist()
    width = max(columns * (thumb + 4) + GAP, banner_width + 12, 360)
    height = 2 * LINE + max(-(-count // columns) * (thumb + LINE + 4), LINE) + GAP + banner_height
    across = max(1, min(len(panels), (MAX_WIDTH - GAP) // (width + GAP)))
    top = GAP + 24 * len(heading) + GAP
    page_width = max(across * (width + GAP) + GAP, 700)
    page, axes = new_canvas(page_width, top + -(-len(panels) // across) * (height + GAP))
    for number, line in enumerate(heading):
        place, size = (GAP, GAP + 12 + 24 * number), TEXT if number else TEXT + 3
        draw_text(axes, place, line, size, room=page_width - 2 * GAP)
    for number, panel in enumerate(panels):
        x, y = GAP + number % across * (width + GAP), top + number // across * (height + GAP)
        axes.add_patch(Rectangle((x, y), width, height, fill=False, edgecolor=PALE))
        x, room = x + 6, width - 12
        draw_text(axes, (x, y + 12), panel.title, TEXT, room=room)
        draw_text(axes, (x, y + 32), panel.subtitle, TEXT - 2, room=room, keep_end=True, color=GREY)
        draw_text(axes, (x, y + 57), panel.error, TEXT - 2, room=room, color=ALARM)
        y += 2 * LINE + 4
        if panel.banner is not None:
            _draw_picture(axes, panel.banner, x, y, size=max(panel.banner.shape))
        for index, (picture, note) in enumerate(panel.pictures):
            row, column = divmod(index, columns)
            left = x + column * (thumb + 4)
            above = y + banner_height + row * (thumb + LINE + 4)
            _draw_picture(axes, picture, left, above, size=thumb)
            draw_text(axes, (left, above + thumb + 10), note, TEXT - 2, room=thumb)
    return page


def _draw_picture(axes: Axes, picture: np.ndarray, left: int, top: int, *, size: int) -> None:
    """Draws a picture whose longer side is `size` from its top left corner on."""
    height, width = np.array(picture.shape[:2]) * size / max(picture.shape)
    axes.imshow(picture, extent=(left, left + width, top + height, top), aspect="auto")
