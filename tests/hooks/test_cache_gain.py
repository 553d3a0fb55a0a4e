"""The advice to use the clip cache is measured on the run's own videos."""

import re
from pathlib import Path
from typing import Any

import pytest
from mmengine.config import Config
from mmengine.registry import init_default_scope
from pattern_videos import make_video

from mmact_tiny.hooks import cache_gain
from mmact_tiny.hooks.cache_gain import RAISE_WORKERS, cache_hint

RESIZE = dict(type="Resize", scale=(-1, 64))


def config(folder: Path, *after_decoding: dict[str, Any], name: str = "a.mp4") -> Config:
    """Returns a config that trains on one video of a folder."""
    init_default_scope("mmaction")
    (folder / "train.txt").write_text(f"{name} 0\n")
    pipeline = [
        dict(type="DecordInit"),
        dict(type="SampleFrames", clip_len=1, frame_interval=1, num_clips=3),
        dict(type="DecordDecode"),
        *after_decoding,
        dict(type="FormatShape", input_format="NCHW"),
        dict(type="PackActionInputs"),
    ]
    dataset = dict(
        type="VideoDataset",
        ann_file=str(folder / "train.txt"),
        data_prefix=dict(video=str(folder)),
        pipeline=pipeline,
    )
    return Config(dict(train_dataloader=dict(dataset=dataset)))


def test_the_gain_is_measured(tmp_path: Path) -> None:
    one_keyframe = {"x264-params": "keyint=200:bframes=0"}
    make_video(tmp_path / "a.mp4", size=(1280, 720), num_frames=60, options=one_keyframe)
    hint = cache_hint(config(tmp_path, RESIZE))
    gain = re.fullmatch(r"use --cache \(about (\d+)x faster here\)", hint)
    assert gain and int(gain[1]) >= 3
    assert {path.name for path in tmp_path.iterdir()} == {"a.mp4", "train.txt"}


def test_a_gain_that_is_not_worth_the_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache_gain, "measure_gain", lambda cfg: 1.2)
    assert cache_hint(config(tmp_path, RESIZE)) == RAISE_WORKERS


def test_no_cache_where_it_does_not_fit_or_nothing_can_be_read(tmp_path: Path) -> None:
    make_video(tmp_path / "a.mp4", size=(96, 64))
    assert cache_hint(config(tmp_path)) == RAISE_WORKERS  # no Resize
    (tmp_path / "b.mp4").write_text("no video")
    assert cache_hint(config(tmp_path, RESIZE, name="b.mp4")) == RAISE_WORKERS
    assert cache_hint(Config(dict(train_dataloader=dict(dataset=dict(type="Other"))))) == (
        RAISE_WORKERS
    )
