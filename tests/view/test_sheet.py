"""The contact sheet: every picture, note and error is on the page."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mmact_tiny.errors import UserError
from mmact_tiny.view.sheet import CellOfSheet, lay_out, write_picture

RED, BLUE = np.zeros((40, 80, 3), np.uint8), np.zeros((80, 40, 3), np.uint8)
RED[:], BLUE[:] = (255, 0, 0), (0, 0, 255)


def area(page: Image.Image, color: tuple[int, int, int]) -> int:
    return int((np.asarray(page) == color).all(2).sum())


def test_pictures_keep_their_shape() -> None:
    page = lay_out([CellOfSheet("one", pictures=[RED, BLUE])], heading=["h"], thumb=100)
    assert area(page, (255, 0, 0)) == 100 * 50 and area(page, (0, 0, 255)) == 50 * 100


@pytest.mark.parametrize("count", [1, 8, 9, 30])
def test_rows_of_pictures(count: int) -> None:
    page = lay_out([CellOfSheet("many", pictures=[RED] * count)], heading=[], thumb=100)
    assert area(page, (255, 0, 0)) == count * 100 * 50


def test_cells_fill_a_page_and_a_broken_one_has_its_reason() -> None:
    cells = [CellOfSheet(f"cell {i}", pictures=[RED] * 3) for i in range(9)]
    cells.append(CellOfSheet("broken", error="cannot be read: no such file"))
    page = lay_out(cells, heading=["a", "b"], thumb=100)
    assert area(page, (255, 0, 0)) == 27 * 100 * 50
    assert area(page, (176, 0, 32)) > 20
    assert page.width <= 1800


def test_a_picture_that_cannot_be_written(tmp_path: Path) -> None:
    page = lay_out([], heading=["nothing"])
    write_picture(page, tmp_path / "new" / "a.png")
    assert Image.open(tmp_path / "new" / "a.png").size == page.size
    with pytest.raises(UserError, match="cannot write"):
        write_picture(page, tmp_path / "new" / "a.png" / "b.png")
