"""A contact sheet: cells of pictures in a row under their caption, laid out on one page."""

import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from ..files import write_atomically
from .drawing import ALARM, GREY, INK, PALE, PAPER, draw_text, fit, shorten

TEXT = 15  # pixels of the captions
GAP = 8
MAX_WIDTH = 1800  # pixels of a page, unless one cell is wider


@dataclass
class CellOfSheet:
    """Pictures (uint8 RGB) with a title, a line below it, a note under each, or an error."""

    title: str
    subtitle: str = ""
    pictures: Sequence[np.ndarray] = ()
    notes: Sequence[str] = ()
    error: str = ""
    columns: int = 8
    width: int = field(default=360)


def lay_out(
    cells: Sequence[CellOfSheet], *, heading: Sequence[str], thumb: int = 150
) -> Image.Image:
    """Returns the page.

    Args:
        cells: In reading order.
        heading: Lines above all; the first one larger.
        thumb: The longer side of a picture on the page, in pixels.
    """
    drawn = [_draw_cell(cell, thumb) for cell in cells]
    widest = max((one.width for one in drawn), default=thumb)
    per_row = max(1, min(len(drawn), (MAX_WIDTH - GAP) // (widest + GAP)))
    width = max(per_row * (widest + GAP) + GAP, 700)
    rows = [drawn[i : i + per_row] for i in range(0, len(drawn), per_row)]
    top = GAP + round(TEXT * 1.6) * len(heading) + GAP
    height = top + sum(max(one.height for one in row) + GAP for row in rows)
    page = Image.new("RGB", (width, height), PAPER)
    draw = ImageDraw.Draw(page)
    for number, line in enumerate(heading):
        size = TEXT + 3 if number == 0 else TEXT
        place = (GAP, GAP + TEXT * 1.6 * (number + 0.5))
        draw_text(draw, place, shorten(line, size, width - 2 * GAP), size)
    for row in rows:
        for number, one in enumerate(row):
            page.paste(one, (GAP + number * (widest + GAP), top))
        top += max(one.height for one in row) + GAP
    return page


def _draw_cell(cell: CellOfSheet, thumb: int) -> Image.Image:
    """Returns one cell: title and subtitle, then the pictures in rows, each with its note."""
    pictures = [fit(picture, thumb, thumb) for picture in cell.pictures]
    columns = max(1, min(cell.columns, len(pictures)))
    wide = max((picture.width for picture in pictures), default=thumb)
    high = max((picture.height for picture in pictures), default=0)
    line = round(TEXT * 1.4)
    note = line if any(cell.notes) else 0
    width = max(columns * (wide + 4) + 8, cell.width)
    rows = -(-len(pictures) // columns)
    body = rows * (high + note + 4) if pictures else 2 * line
    page = Image.new("RGB", (width, 2 * line + body + 8), PAPER)
    draw = ImageDraw.Draw(page)
    draw.rectangle((0, 0, width - 1, page.height - 1), outline=PALE)
    room = width - 12
    draw_text(draw, (6, line * 0.6), shorten(cell.title, TEXT, room), TEXT)
    subtitle = shorten(cell.subtitle, TEXT - 2, room, keep_end=True)
    draw_text(draw, (6, line * 1.55), subtitle, TEXT - 2, fill=GREY)
    if cell.error:
        error = shorten(cell.error, TEXT - 2, room)
        draw_text(draw, (6, 2.7 * line), error, TEXT - 2, fill=ALARM)
    for number, picture in enumerate(pictures):
        left = 6 + number % columns * (wide + 4)
        top = 2 * line + 4 + number // columns * (high + note + 4)
        page.paste(picture, (left, top))
        if number < len(cell.notes):
            text = shorten(cell.notes[number], TEXT - 2, wide)
            draw_text(draw, (left, top + high + note / 2), text, TEXT - 2, fill=INK)
    return page


def write_picture(image: Image.Image, out: str | Path) -> None:
    """Writes a PNG, whole or not at all.

    Raises:
        UserError: it cannot be written.
    """
    content = io.BytesIO()
    image.save(content, format="PNG")
    write_atomically(content.getvalue(), out)
