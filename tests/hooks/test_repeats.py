"""Repeated augmentation reads what stock's does, and what stock's reads wrong as it is shown."""

import numpy as np
import pytest
import torch
from h264_videos import mirror, write_video
from mmaction.datasets import RepeatAugDataset

from mmact_tiny.compat import init_default_scope
from mmact_tiny.errors import UserError
from mmact_tiny.hooks.dataset import seed_generators
from mmact_tiny.hooks.repeats import RepeatedVideos
from mmact_tiny.pipeline import with_decoder

PIPELINE = [
    dict(type="DecordInit"),
    dict(type="SampleFrames", clip_len=4, frame_interval=2, num_clips=1),
    dict(type="DecordDecode"),
    dict(type="Flip", flip_ratio=0.5),
    dict(type="FormatShape", input_format="NCTHW"),
    dict(type="PackActionInputs"),
]


def sample(dataset, seed=0):
    seed_generators(seed)
    return torch.stack([one["inputs"] for one in dataset[0]])


# Of 5 frames some are sampled more than once.
@pytest.mark.parametrize(("num_frames", "sample_once"), [(20, False), (5, True)])
def test_the_samples_are_stocks(num_frames, sample_once, tmp_path):
    init_default_scope("mmaction")
    path = write_video(tmp_path / "a.mp4", num_frames=num_frames)
    (tmp_path / "train.txt").write_text("a.mp4 0\n")
    settings = dict(data_prefix=dict(video=str(tmp_path)), num_repeats=3, sample_once=sample_once)
    stock = RepeatAugDataset(str(tmp_path / "train.txt"), PIPELINE, **settings)
    ours, decord = (
        RepeatedVideos(str(tmp_path / "train.txt"), with_decoder(PIPELINE, name), **settings)
        for name in ("packets", "decord")
    )
    for seed in range(3):
        expected = sample(stock, seed)
        assert expected.shape == (3, 1, 3, 4, 64, 96)
        assert torch.equal(sample(ours, seed), expected)
        assert torch.equal(sample(decord, seed), expected)
    mirror(path)
    settled = [dict(step, flip_ratio=0) if step["type"] == "Flip" else step for step in PIPELINE]
    ours = RepeatedVideos(str(tmp_path / "train.txt"), with_decoder(settled, "packets"), **settings)
    stored = RepeatAugDataset(str(tmp_path / "train.txt"), settled, **settings)
    assert np.array_equal(sample(ours), sample(stored).flip(-2))  # decord turns it by 180 degrees
    with pytest.raises(UserError, match=r"decord reads other frames than are shown: mirrored"):
        sample(decord)
