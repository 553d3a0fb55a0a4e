"""Text and bars on pictures, in a font that has the characters of any label."""

import functools
import logging
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

logger = logging.getLogger("mmact_tiny")
Color = tuple[int, ...]
# Told apart with any kind of colour vision: Okabe and Ito, https://jfly.uni-koeln.de/color/
PALETTE: tuple[Color, ...] = (
    (86, 180, 233),
    (230, 159, 0),
    (0, 158, 115),
    (204, 121, 167),
    (240, 228, 66),
    (0, 114, 178),
    (213, 94, 0),
)
INK: Color = (20, 20, 20)
GREY: Color = (110, 110, 110)
PALE: Color = (226, 226, 226)
PAPER: Color = (255, 255, 255)
ALARM: Color = (176, 0, 32)
_HEAVY_OR_SLANTED = ("bold", "italic", "oblique", "black", "mono", "serif", "light", "thin")
_told: set[str] = set()


def plain(text: str) -> str:
    """Returns a text in one line, with a mark for what has no picture: control characters."""
    return "".join(
        " " if c in "\t\r\n" else "\ufffd" if unicodedata.category(c) in ("Cc", "Cs") else c
        for c in text
    )


def font_for(text: str, size: int) -> ImageFont.FreeTypeFont:
    """Returns a font of `size` pixels that has the text's characters.

    Where no installed font has them all it is the one that has most; the others show as boxes,
    and a warning says once which package would help.
    """
    return _open_font(_font_path(frozenset(plain(text))), size)


@functools.lru_cache(maxsize=64)
def _open_font(path: str, size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(path, size)


@functools.lru_cache(maxsize=1024)
def _font_path(characters: frozenset[str]) -> str:
    """Returns matplotlib's own font where it will do, else the best of the system's."""
    import matplotlib
    from matplotlib import font_manager

    own = str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf")
    missing = _missing(own, characters)
    if not missing:
        return own
    ranked = []
    for path in sorted(font_manager.findSystemFonts()):
        lacks = _missing(path, characters)
        if lacks is not None and len(lacks) < len(missing or characters):
            name = Path(path).stem.lower()
            ranked.append((len(lacks), sum(w in name for w in _HEAVY_OR_SLANTED), path, lacks))
    best, missing = (
        ranked_best[2:] if (ranked_best := min(ranked, default=None)) else (own, missing)
    )
    if missing:
        _tell_missing(missing)
    return best


def _missing(path: str, characters: frozenset[str]) -> set[str] | None:
    """Returns the characters that a font has no glyph for; None for a font that is no use."""
    from matplotlib.ft2font import FT2Font

    try:
        font = FT2Font(path)
        _open_font(path, 20)  # a font of bitmaps has no such size
    except (OSError, RuntimeError):
        return None
    return {c for c in characters if not font.get_char_index(ord(c))}


def _tell_missing(missing: set[str]) -> None:
    words = ("CJK", "HIRAGANA", "KATAKANA", "HANGUL", "IDEOGRAPHIC", "FULLWIDTH")
    east = any(unicodedata.name(c, "").startswith(words) for c in missing)
    package = "fonts-noto-cjk" if east else "fonts-noto-core"
    if package not in _told:
        _told.add(package)
        shown = "".join(sorted(missing)[:10])
        logger.warning(
            "no installed font has the characters %s: shown as boxes. The package %s has them",
            shown,
            package,
        )


def text_width(text: str, size: int) -> int:
    """Returns the width of a text in pixels."""
    return round(font_for(text, size).getlength(plain(text)))


def shorten(text: str, size: int, width: int, *, keep_end: bool = False) -> str:
    """Returns the text, or as much of it with `…` as fits in `width` pixels.

    Args:
        text: A label or a file name.
        size: Of the font, in pixels.
        width: What it may take.
        keep_end: Leave out the beginning, as of a path whose end tells more.
    """
    text = plain(text)
    if text_width(text, size) <= width:
        return text
    low, high = 0, len(text)
    while low < high:  # the most characters that fit
        middle = (low + high + 1) // 2
        part = text[-middle:] if keep_end else text[:middle]
        low, high = (middle, high) if text_width(part + "…", size) <= width else (low, middle - 1)
    return f"…{text[len(text) - low :]}" if keep_end else f"{text[:low]}…"


def draw_text(
    draw: ImageDraw.ImageDraw,
    xy: tuple[float, float],
    text: str,
    size: int,
    *,
    fill: Color = INK,
    anchor: str = "lm",
    outline: Color | None = None,
) -> None:
    """Draws one line of text; `anchor` is Pillow's: `lm` left and middle, `rm`, `mm`, ..."""
    options: dict[str, Any] = {}
    if outline is not None:
        options = dict(stroke_width=max(1, size // 12), stroke_fill=outline)
    draw.text(xy, plain(text), font=font_for(text, size), fill=fill, anchor=anchor, **options)


def fit(picture: np.ndarray, width: int, height: int) -> Image.Image:
    """Returns a picture (uint8 RGB) as large as fits in a box of pixels, its proportions kept."""
    image = Image.fromarray(np.ascontiguousarray(picture))
    scale = min(width / image.width, height / image.height)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    return image.resize(size, Image.Resampling.LANCZOS)


def bars(rows: Sequence[tuple[str, float, Color]], *, size: int, width: int) -> Image.Image:
    """Returns a panel of bars, see-through: a row for each `(label, score, colour)`.

    Args:
        rows: The best first; scores from 0 to 1.
        size: Of the font, in pixels.
        width: The panel is never wider, in pixels; a label that is too long is shortened.
    """
    pad, row_height = max(2, size // 3), round(size * 1.5)
    score_width = text_width("0.00", size)
    longest = max((text_width(label, size) for label, _, _ in rows), default=0)
    inside = min(width - 2 * pad, max(longest + score_width + 4 * pad, 12 * size))
    panel = Image.new("RGBA", (inside + 2 * pad, len(rows) * row_height + 2 * pad), (0, 0, 0, 150))
    draw = ImageDraw.Draw(panel)
    for number, (label, score, color) in enumerate(rows):
        top = pad + number * row_height
        middle, bottom = top + row_height / 2, top + row_height - 3
        draw.rectangle((pad, top, pad + inside - 1, bottom), fill=(50, 50, 50, 190))
        filled = round(inside * min(max(score, 0.0), 1.0))
        if filled:
            draw.rectangle((pad, top, pad + filled - 1, bottom), fill=(*color, 220))
        label = shorten(label, size, inside - score_width - 3 * pad)
        white, black = (255, 255, 255, 255), (0, 0, 0, 255)
        draw_text(draw, (2 * pad, middle - 1), label, size, fill=white, outline=black)
        place = (inside, middle - 1)
        draw_text(draw, place, f"{score:.2f}", size, fill=white, anchor="rm", outline=black)
    return panel
