"""What a video is, and which of its frames are shown: the middle crop of each, in order."""

from io import BytesIO
from pathlib import Path

import pytest

pytest.importorskip("fastapi", reason="the web extra is not installed")

import numpy as np
import torch
from bad_inputs import write_clip
from h264_videos import write_video
from mmaction.datasets.transforms import FormatShape, TenCrop, ThreeCrop
from PIL import Image
from video_files import FORMATS
from video_files import write_video as write_format

from mmact_tiny.serve.answer import centre_frames, examine


@pytest.mark.parametrize(("codec", "suffix"), FORMATS)
def test_every_format_that_people_share(tmp_path: Path, codec: str, suffix: str) -> None:
    path = write_format(tmp_path / f"video{suffix}", codec=codec)
    seen = examine(dict(filename=str(path.rename(tmp_path / "upload.video"))))
    assert seen.seconds == pytest.approx(2.0, abs=0.1)  # 24 frames at 12 frames/s
    assert Image.open(BytesIO(seen.poster)).size == (240, 180)


def test_a_length_that_the_header_hides(tmp_path: Path) -> None:
    """The packets count: a file made by a stream recorder says nothing, and a forged one lies."""
    path = write_video(tmp_path / "video.mp4", num_frames=50, milliseconds=(1000, 1001))
    data = path.read_bytes()
    for box, offset in ((b"mvhd", 16), (b"tkhd", 24), (b"mdhd", 16)):
        place = data.index(box) + 4 + offset
        data = data[:place] + b"\0\0\0\1" + data[place + 4 :]
    path.write_bytes(data)
    assert examine(dict(filename=str(path))).seconds >= 49
    one = write_clip(tmp_path / "one.mp4", frames=1)
    assert examine(dict(filename=str(one))).seconds == pytest.approx(0.1)


def results(height: int, width: int) -> dict:
    """Six frames whose pixels tell their frame, row and column."""
    imgs = np.moveaxis(np.mgrid[:6, :height, :width], 0, -1).astype(np.uint8)
    return dict(imgs=list(imgs), img_shape=(height, width), num_clips=3, clip_len=2)


@pytest.mark.parametrize("layout", ["NCHW", "NCTHW"])
@pytest.mark.parametrize(
    ("crop", "crops", "size", "corner"),
    [
        (None, 1, (32, 40), (0, 0)),
        (ThreeCrop(32), 3, (32, 40), (0, 4)),
        (TenCrop(32), 10, (40, 48), (4, 8)),
    ],
)
def test_the_middle_crops_in_order(
    layout: str, crop: object, crops: int, size: tuple[int, int], corner: tuple[int, int]
) -> None:
    packed = results(*size)
    if crop is not None:
        packed = crop(packed)  # type: ignore[operator]
    inputs = torch.from_numpy(FormatShape(layout)(packed)["imgs"])
    frames = centre_frames(inputs, crops)
    assert frames[:, 0, 0, 0].tolist() == [0, 1, 2, 3, 4, 5]
    assert tuple(frames[0, 1:, 0, 0].tolist()) == corner
    assert frames[0, 2, 0, 1] == corner[1] + 1  # not mirrored
