"""The time line of a video: segments, marks at the frames that are taken, pictures."""

from pathlib import Path

import numpy as np
import pytest
from conftest import STOCK
from h264_videos import write_video
from matplotlib.colors import to_rgb
from PIL import Image

from mmact_tiny.compat.configs import read_config
from mmact_tiny.errors import EXIT_OK
from mmact_tiny.video.frames import FrameTimes
from mmact_tiny.view.sampling import read_sampling
from mmact_tiny.view.sheet import PALETTE, to_pixels
from mmact_tiny.view.timeline import WIDTH, borders_of, browse_video, seconds_of
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
    page = browse_video(read_config(STOCK), video, seed=0)
    _, _, validation, _ = page.subfigs
    line, *pictures = validation.axes
    assert [axes.get_xlabel() for axes in pictures] == [
        "frame 10\n0.40 s, clip 1",
        "frame 30\n1.20 s, clip 2",
        "frame 50\n2.00 s, clip 3",
    ]
    assert line.get_xlim() == (0, 2.4)
    image = to_pixels(page)[..., :3]
    left, right = (round(line.transAxes.transform((x, 0))[0]) for x in (0, 1))
    middle = len(image) - round(line.transAxes.transform((0, 0.5))[1])
    for color, frame in zip(PALETTE, (10, 30, 50), strict=False):
        marked = (image[middle] == np.round(255 * np.array(to_rgb(color)))).all(1)
        assert np.flatnonzero(marked).mean() == pytest.approx(
            left + frame / 60 * (right - left), abs=2
        )


def test_frames_are_placed_by_their_time() -> None:
    times = FrameTimes(np.array([0.0, 0.1, 5.0]), 6.0, 10.0, [0, 1, 50])
    placed = [seconds_of(times, frame) for frame in (0, 1, 1.5, 2, 3)]
    assert placed == pytest.approx([0.0, 0.1, 2.55, 5.0, 6.0])


@pytest.mark.parametrize(
    ("config", "num_frames"), [(STOCK, 1), (STOCK, 70), (TSM, 1), (TSM, 70), (SLOW, 70)]
)
def test_any_strategy_and_length(config: str, num_frames: int, tmp_path: Path) -> None:
    video = write_video(tmp_path / "video.mp4", num_frames=num_frames)
    page = browse_video(read_config(config), video, seed=3)
    height, width, _ = to_pixels(page).shape
    assert width == WIDTH and height == 40 + 3 * 340


def test_a_split_that_fails_is_a_line(tmp_path: Path) -> None:
    video = write_video(tmp_path / "video.mp4", num_frames=30)
    cfg = read_config(STOCK)
    cfg.train_dataloader.dataset.pipeline = [dict(type="SampleFrames", clip_len=1)]
    page = browse_video(cfg, video, seed=0)
    assert page.subfigs[1].texts[0].get_text().startswith("train: the train pipeline does not")
    assert to_pixels(page).shape[0] == 40 + 40 + 2 * 340


def test_the_tool_writes_it(tmp_path: Path) -> None:
    video = write_video(tmp_path / "video.mp4", num_frames=30)
    out = tmp_path / "line.png"
    assert browse.main([STOCK, "--out", str(out), str(video)]) == EXIT_OK
    assert Image.open(out).size[0] == WIDTH
    first = out.read_bytes()
    browse.main([STOCK, str(video), "--out", str(out)])
    assert out.read_bytes() == first
