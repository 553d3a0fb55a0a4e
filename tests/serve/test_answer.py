"""Which frames of a packed video are shown: the middle crop of each, in the order of time."""

import pytest

pytest.importorskip("fastapi", reason="the web extra is not installed")

import numpy as np
import torch
from mmaction.datasets.transforms import FormatShape, TenCrop, ThreeCrop

from mmact_tiny.serve.answer import centre_frames

NUM_FRAMES, CLIPS = 6, 3


def results(height: int, width: int) -> dict:
    """Frames whose pixels tell their frame, row and column."""
    rows, columns = np.mgrid[:height, :width]
    imgs = [
        np.stack([np.full_like(rows, index), rows, columns], axis=-1).astype(np.uint8)
        for index in range(NUM_FRAMES)
    ]
    clips = dict(num_clips=CLIPS, clip_len=NUM_FRAMES // CLIPS)
    return dict(imgs=imgs, img_shape=(height, width), **clips)


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
