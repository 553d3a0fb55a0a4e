"""The time line of a video: segments, marks at the frames that are taken, pictures."""

from pathlib import Path

import numpy as np
import pytest
from conftest import STOCK
from h264_videos import write_video
from PIL import Image

from mmact_tiny.config import read_config
from mmact_tiny.errors import EXIT_OK
from mmact_tiny.view.drawing import PALETTE
from mmact_tiny.view.sampling import read_sampling
from mmact_tiny.view.timeline import BAR, LEFT, WIDTH, borders_of, browse_video
from tools import browse

TSM = (
    "mmaction::recognition/tsm/tsm_imagenet-pretrained-r50_8xb16-dense-1x1x8-50e_kinetics400-rgb.py"
)
SLOW = "mmaction::recognition/slowonly/slowonly_r50_8xb16-4x16x1-256e_kinetics400-rgb.py"

THIRDS = [(0, 100 / 3), (100 / 3, 200 / 3), (200 / 3, 100)]
# config, split, frames of the video -> segments
BORDERS = {
    "training draws from each": (STOCK, "train", 300, [(0, 100), (100, 200), (200, 300)]),
    "validation takes the middles": (STOCK, "val", 300, [(0, 100), (100, 200), (200, 300)]),
    "a number that does not divide": (STOCK, "val", 100, THIRDS),
    "dense sampling has none": (TSM, "train", 300, []),
    "one clip anywhere": (SLOW, "val", 300, []),
}


@pytest.mark.parametrize("case", BORDERS)
def test_borders_of_segments(case: str) -> None:
    config, split, num_frames, expected = BORDERS[case]
    sampling = read_sampling(read_config(config), split, num_frames=num_frames)
    borders = [border for pair in borders_of(sampling) for border in pair]
    assert borders == pytest.approx([border for pair in expected for border in pair])


def test_marks_are_where_the_frames_are(tmp_path: Path) -> None:
    """Validation, 1x1x3: the middles of three equal parts, at a steady rate."""
    video = write_video(tmp_path / "video.mp4", num_frames=60)
    image = np.asarray(browse_video(read_config(STOCK), video, seed=0)).astype(int)
    sampling = read_sampling(read_config(STOCK), "val", num_frames=60)
    assert sampling.frame_inds == [[10], [30], [50]]
    bars = [y for y in range(len(image)) if _colors(image[y]) == {0, 1, 2}]
    assert len(bars) >= 2 * BAR  # training's and validation's; test has more colours
    columns = []
    for color in PALETTE[:3]:
        marked = np.abs(image[bars[-BAR // 2]] - color).max(1) == 0
        columns.append(float(np.flatnonzero(marked).mean()))
    expected = [LEFT + frame / 60 * (WIDTH - 2 * LEFT) for frame in (10, 30, 50)]
    assert columns == pytest.approx(expected, abs=2)


def _colors(row: np.ndarray) -> set[int]:
    return {i for i, color in enumerate(PALETTE) if (np.abs(row - color).max(1) == 0).any()}


@pytest.mark.parametrize(
    ("config", "num_frames"), [(STOCK, 1), (STOCK, 70), (TSM, 1), (TSM, 70), (SLOW, 70)]
)
def test_any_strategy_and_length(config: str, num_frames: int, tmp_path: Path) -> None:
    video = write_video(tmp_path / "video.mp4", num_frames=num_frames)
    page = browse_video(read_config(config), video, seed=3)
    assert page.width == WIDTH and page.height > 3 * 200


def test_the_tool_writes_it(tmp_path: Path) -> None:
    video = write_video(tmp_path / "video.mp4", num_frames=30)
    out = tmp_path / "line.png"
    assert browse.main([STOCK, "--out", str(out), str(video)]) == EXIT_OK
    assert Image.open(out).size[0] == WIDTH
    first = out.read_bytes()
    browse.main([STOCK, str(video), "--out", str(out)])
    assert out.read_bytes() == first
