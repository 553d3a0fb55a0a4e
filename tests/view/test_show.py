"""The picture of an answer that a notebook displays."""

import io

import numpy as np
import pytest
from conftest import ROOT
from PIL import Image

from mmact_tiny import Recognizer, UserError

COLORS = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 0], [255, 0, 255], [9, 9, 9]])


@pytest.fixture(scope="module")
def recognizer(tiny_checkpoint) -> Recognizer:
    return Recognizer(tiny_checkpoint, protocol="val")


def test_it_shows_frames_from_the_first_to_the_last(recognizer):
    video = np.broadcast_to(COLORS.repeat(2, 0)[:, None, None], (12, 80, 80, 3)).astype(np.uint8)
    picture = recognizer.show(video[[0, 2, 4, 6, 8, 11]], k=2)
    shown = Image.open(io.BytesIO(picture._repr_png_())).convert("RGB")
    centers = [(14 + 75 + 154 * column, 110 + 75) for column in range(6)]
    assert [shown.getpixel(center) for center in centers] == [tuple(c) for c in COLORS.tolist()]


def test_what_cannot_be_shown_says_why(recognizer, tmp_path):
    (tmp_path / "broken.mp4").write_bytes(bytes(100))
    with pytest.raises(UserError, match="cannot read video"):
        recognizer.show(tmp_path / "broken.mp4")
    with pytest.raises(UserError, match="top-k 0"):
        recognizer.show(ROOT / "data/tiny/val/falling_rain1.mp4", k=0)
