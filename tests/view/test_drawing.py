"""Text and bars: that a label can be read whatever its characters, length and colour."""

import logging

import numpy as np
import pytest

from mmact_tiny.view import drawing
from mmact_tiny.view.drawing import PALETTE, bars, font_for, plain, shorten, text_width


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
def test_a_label_is_one_line(text: str, expected: str) -> None:
    assert plain(text) == expected
    assert text_width(text, 14) > 0


def test_text_is_shortened_to_its_room() -> None:
    long = "playing squash or racquetball"
    assert shorten("typing", 14, 500) == "typing"
    for width in (30, 80, 150):
        short = shorten(long, 14, width)
        assert short.endswith("…") and long.startswith(short[:-1])
        assert text_width(short, 14) <= width < text_width(long, 14)
    assert shorten("/videos/a/walk.mp4", 14, 90, keep_end=True).endswith("walk.mp4")
    assert shorten(long, 14, 1) == "…"


def test_latin_greek_and_cyrillic_are_matplotlibs_own_font() -> None:
    for text in ("doing exercises", "τρέξιμο", "ходьба", "čaj, żółw, größer"):
        assert "DejaVuSans.ttf" in str(font_for(text, 12).path)


def test_characters_that_no_font_has_are_told_once(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A machine without a single font of its own."""
    from matplotlib import font_manager

    monkeypatch.setattr(font_manager, "findSystemFonts", lambda: [])
    monkeypatch.setattr(drawing, "_told", set())
    drawing._font_path.cache_clear()
    with caplog.at_level(logging.WARNING, logger="mmact_tiny"):
        widths = [text_width(text, 20) for text in ("打字", "打字 typing", "打")]
    drawing._font_path.cache_clear()
    (record,) = caplog.records
    assert "characters 字打: shown as boxes. The package fonts-noto-cjk" in record.getMessage()
    assert widths[0] == 2 * widths[2] > 0  # boxes take their room


def test_a_system_font_is_taken_where_it_has_the_characters(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """STIX, which matplotlib brings, stands for the system's: DejaVu Sans has no U+20DD."""
    from matplotlib import font_manager, get_data_path

    folder = f"{get_data_path()}/fonts/ttf"
    found = [f"{folder}/STIXGeneralBolIta.ttf", f"{folder}/cmr10.ttf", f"{folder}/STIXGeneral.ttf"]
    monkeypatch.setattr(font_manager, "findSystemFonts", lambda: found)
    drawing._font_path.cache_clear()
    path = str(font_for("a\u20dd", 12).path)
    drawing._font_path.cache_clear()
    assert path.endswith("STIXGeneral.ttf")  # rather than the bold one


def test_bars_are_as_long_as_their_scores() -> None:
    rows = [("typing", 1.0, PALETTE[0]), ("walking", 0.5, PALETTE[1]), ("none", 0.0, PALETTE[2])]
    panel = np.asarray(bars(rows, size=16, width=300))
    assert panel.shape == (3 * 24 + 10, 12 * 16 + 10, 4)
    lengths = []
    for number, (_, _, color) in enumerate(rows):
        line = panel[5 + 24 * number + 1, :, :3].astype(int)  # above the letters
        lengths.append(int((np.abs(line - color).max(1) == 0).sum()))
    assert lengths == [192, 96, 0]


@pytest.mark.parametrize("width", [40, 64, 300, 4000])
def test_a_panel_is_never_wider_than_its_room(width: int) -> None:
    rows = [("playing squash or racquetball" * 3, 0.7, PALETTE[0])]
    assert bars(rows, size=12, width=width).width <= width
