"""Text can be read whatever its characters and length; every picture and error is on the sheet."""

import logging
from collections.abc import Iterator

import numpy as np
import pytest
from matplotlib import get_data_path
from matplotlib.figure import Figure
from PIL import Image

from mmact_tiny.errors import UserError
from mmact_tiny.view import sheet
from mmact_tiny.view.sheet import (
    Panel,
    choose_fonts,
    draw_text,
    lay_out,
    new_canvas,
    plain,
    shorten,
    text_width,
    to_pixels,
    write_picture,
)

RED, BLUE = np.zeros((40, 80, 3), np.uint8), np.zeros((80, 40, 3), np.uint8)
RED[:], BLUE[:] = (255, 0, 0), (0, 0, 255)


def area(page: Figure, color: tuple[int, int, int], off: int = 0) -> int:
    pixels = to_pixels(page)[..., :3].astype(int)
    return int((np.abs(pixels - color).max(2) <= off).sum())


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("typing", "typing"),
        ("a\nb\tc", "a b c"),
        ("\x00bell\x07", "\ufffdbell\ufffd"),
        ("half \udce9", "half \ufffd"),  # a file name that is not UTF-8
        ("e\u0301 \u200d", "e\u0301 \u200d"),  # accents and joiners stay
    ],
)
def test_a_label_is_one_line(text, expected):
    assert plain(text) == expected
    assert text_width(text, 14) > 0


def test_text_is_shortened_to_its_room():
    long = "playing squash or racquetball"
    assert shorten("typing", 14, 500) == "typing"
    for width in (30, 80, 150):
        short = shorten(long, 14, width)
        assert short.endswith("…") and long.startswith(short[:-1])
        longer = long[: len(short)] + "…"
        assert text_width(short, 14) <= width < text_width(longer, 14)
    assert shorten("/videos/a/walk.mp4", 14, 90, keep_end=True).endswith("walk.mp4")
    assert shorten(long, 14, 1) == "…"


@pytest.mark.parametrize("text", ["$", "$x^2$", "\\frac{", "a_b^c", "100% %s", "typing"])
def test_no_label_is_a_formula(text):
    figure, canvas = new_canvas(120, 30)
    draw_text(canvas, (5, 15), text, 14)
    columns = np.flatnonzero((to_pixels(figure)[..., 0] < 128).any(0))
    assert columns[0] >= 4 and columns[-1] == pytest.approx(5 + text_width(text, 14), abs=5)


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The list of the system's fonts, empty; matplotlib's own stand for them."""
    found: list[str] = []
    monkeypatch.setattr(sheet, "findSystemFonts", lambda: found)
    monkeypatch.setattr(sheet, "_packages_named", set())
    monkeypatch.setattr(sheet.fontManager, "ttflist", list(sheet.fontManager.ttflist))
    sheet.choose_fonts.cache_clear()
    yield found
    sheet.choose_fonts.cache_clear()


def test_latin_greek_and_cyrillic_are_matplotlibs_own_font(installed):
    for text in ("doing exercises", "τρέξιμο", "ходьба", "čaj, żółw, größer"):
        assert choose_fonts(text) == ("DejaVu Sans",)


def test_characters_that_no_font_has_are_told_once(installed, caplog):
    with caplog.at_level(logging.WARNING, logger="mmact_tiny"):
        widths = [text_width(text, 20) for text in ("打字", "打字 typing", "打")]
    (record,) = caplog.records
    assert "characters 字打: shown as boxes. The package fonts-noto-cjk" in record.getMessage()
    assert widths[0] == pytest.approx(2 * widths[2], abs=1) and widths[2] > 10  # boxes have room


def test_a_system_font_is_taken_where_it_has_the_characters(installed):
    """DejaVu Sans has no U+20DD; STIX has, and the upright one is taken."""
    folder = f"{get_data_path()}/fonts/ttf"
    installed += [f"{folder}/{name}.ttf" for name in ("STIXGeneralBolIta", "cmr10", "STIXGeneral")]
    installed.append(__file__)  # no font at all
    assert choose_fonts("a\u20dd") == ("DejaVu Sans", "STIXGeneral")
    path = sheet.fontManager.findfont(sheet.FontProperties(family="STIXGeneral"))
    assert path.endswith("STIXGeneral.ttf")


def test_pictures_keep_their_shape():
    page = lay_out([Panel("one", pictures=[(RED, "r"), (BLUE, "b")])], heading=["h"], thumb=100)
    assert area(page, (255, 0, 0)) == 100 * 50 and area(page, (0, 0, 255)) == 50 * 100


@pytest.mark.parametrize("count", [1, 8, 9, 30])
def test_rows_of_pictures(count):
    page = lay_out([Panel("many", pictures=[(RED, "")] * count)], heading=[], thumb=100)
    assert area(page, (255, 0, 0)) == count * 100 * 50


def test_panels_fill_a_page_and_a_broken_one_has_its_reason():
    panels = [Panel(f"panel {i}", pictures=[(RED, "")] * 3, banner=BLUE) for i in range(9)]
    panels.append(Panel("broken", error="cannot be read: no such file"))
    page = lay_out(panels, heading=["a", "b"], thumb=100)
    assert area(page, (255, 0, 0)) == 27 * 100 * 50
    assert area(page, (0, 0, 255)) == 9 * 80 * 40, "as large as it is"
    assert area(page, (176, 0, 32), off=8) > 20
    assert to_pixels(page).shape[1] <= 1800


def test_a_picture_that_cannot_be_written(tmp_path):
    page = lay_out([], heading=["nothing"])
    write_picture(page, tmp_path / "new" / "a.png")
    assert Image.open(tmp_path / "new" / "a.png").size == to_pixels(page).shape[1::-1]
    with pytest.raises(UserError, match="cannot write"):
        write_picture(page, tmp_path / "new" / "a.png" / "b.png")
