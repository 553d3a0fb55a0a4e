"""Stock pipelines read the cache, and their results have the shapes that they always had."""

import copy
import logging
import pickle
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from h264_videos import mirror
from mmengine.dataset import Compose
from mmengine.registry import init_default_scope
from pattern_videos import count_decoded, make_video, psnr

from mmact_tiny.cache.cache import ClipCache
from mmact_tiny.cache.transforms import CachedVideo, ClipInit
from mmact_tiny.pipeline import with_decoder

TRAIN = [
    dict(type="SampleFrames", clip_len=1, frame_interval=1, num_clips=3),
    dict(type="DecordDecode"),
    dict(type="Resize", scale=(-1, 256)),
    dict(
        type="MultiScaleCrop",
        input_size=224,
        scales=(1, 0.875, 0.75, 0.66),
        random_crop=False,
        max_wh_scale_gap=1,
    ),
    dict(type="Resize", scale=(224, 224), keep_ratio=False),
    dict(type="Flip", flip_ratio=0.5),
    dict(type="FormatShape", input_format="NCHW"),
    dict(type="PackActionInputs"),
]
TEST = [
    dict(type="SampleFrames", clip_len=1, frame_interval=1, num_clips=8, test_mode=True),
    dict(type="DecordDecode"),
    dict(type="Resize", scale=(-1, 256)),
    dict(type="ThreeCrop", crop_size=256),
    dict(type="FormatShape", input_format="NCHW"),
    dict(type="PackActionInputs"),
]


def compose(steps: list[dict[str, Any]], root: Path | None, **settings: Any) -> Compose:
    init_default_scope("mmaction")
    if root is None:
        return Compose([dict(type="DecordInit"), *steps])
    cached = dict(type="CachedVideo", root=str(root), **settings)
    return Compose([cached, dict(type="ClipInit"), *with_decoder(steps, "packets")])


def sample(video: Path | str) -> dict[str, Any]:
    return dict(filename=str(video), label=1, start_index=0, modality="RGB")


@pytest.mark.parametrize("format", ["small", "fast"])
@pytest.mark.parametrize("size", [(640, 360), (360, 640), (720, 900), (320, 240)])
def test_the_stock_pipeline_with_and_without_the_cache(size, format, tmp_path):
    video = make_video(tmp_path / "a.mp4", size=size)
    for steps in (TRAIN, TEST):
        outputs = []
        for root in (None, tmp_path / "cache"):
            np.random.seed(3)
            random.seed(3)
            settings = dict(format=format) if root else {}
            outputs.append(compose(steps, root, **settings)(sample(video)))
        exact, cached = outputs
        assert cached["inputs"].shape == exact["inputs"].shape
        assert psnr(cached["inputs"].numpy(), exact["inputs"].numpy()) > 36
        samples = [output["data_samples"] for output in outputs]
        assert samples[0].metainfo["img_shape"] == samples[1].metainfo["img_shape"]
        assert samples[0].gt_label == samples[1].gt_label
    assert len(list((tmp_path / "cache").glob("*/*/*.mp4"))) == 1


def test_a_training_sample_decodes_at_most_12_frames(tmp_path, monkeypatch):
    """The guard on speed that no clock disturbs: stock decodes up to 250 a frame that it uses."""
    video = make_video(tmp_path / "a.mp4", num_frames=48, options={"g": "250"})
    pipeline = compose(TRAIN, tmp_path / "cache")
    pipeline(sample(video))
    counts = []
    decoded = count_decoded(monkeypatch)
    for _ in range(20):
        del decoded[:]
        pipeline(sample(video))
        counts.append(len(decoded))
    assert max(counts) <= 12
    assert 3 <= sum(counts) / 20 < 10  # 7.5 expected


def test_what_cannot_be_cached_is_read_from_its_source(tmp_path, caplog):
    video = make_video(tmp_path / "a.mp4")
    (tmp_path / "file").touch()
    pipeline = compose(TRAIN, tmp_path / "file" / "cache")
    with caplog.at_level(logging.WARNING, logger="mmact_tiny"):
        for _ in range(3):
            assert pipeline(sample(video))["inputs"].shape == (3, 3, 224, 224)
    told = [r.getMessage() for r in caplog.records if "without the clip cache" in r.getMessage()]
    assert len(told) == 1 and str(video) in told[0]


def test_without_building(tmp_path):
    video = make_video(tmp_path / "a.mp4")
    results = compose(TEST[:2], tmp_path / "cache", build=False)(sample(video))
    assert results["filename"] == str(video) and "clip" not in results
    assert results["img_shape"] == (360, 640)
    assert not list((tmp_path / "cache").glob("*/*/*.mp4"))


def test_what_has_no_clip_is_read_as_it_is_shown(tmp_path):
    """Decord, which the stock steps name, turns a mirrored video by 180 degrees."""
    video = make_video(tmp_path / "a.mp4")
    stored = compose(TEST[:2], tmp_path / "cache", build=False)(sample(video))["imgs"]
    shown = compose(TEST[:2], tmp_path / "cache", build=False)(sample(mirror(video)))["imgs"]
    assert np.array_equal(shown, np.stack(stored)[:, :, ::-1])


def test_a_full_cache_is_told_once(tmp_path, caplog):
    videos = [make_video(tmp_path / f"{i}.mp4", num_frames=8 + i) for i in range(3)]
    entry = ClipCache(tmp_path / "cache").build(videos[0])
    pipeline = compose(TEST[:2], tmp_path / "cache", max_bytes=entry.stat().st_size + 10)
    other = copy.deepcopy(pipeline)  # as a worker of the next epoch has it
    for each in (pipeline, pipeline, other):
        assert ["clip" in each(sample(video)) for video in videos] == [True, False, False]
    assert [message for message in caplog.messages if "no room in the" in message] == [
        "videos without an entry are read without the clip cache: no room in the "
        f"{entry.stat().st_size + 10} bytes of the cache {tmp_path / 'cache'}, which has 1 clip(s)"
    ]
    assert list((tmp_path / "cache").glob("*/*/*.mp4")) == [entry]


def test_a_name_without_suffix_and_a_clip_that_is_removed(tmp_path):
    video = make_video(tmp_path / "a.mp4")
    cached = CachedVideo(root=str(tmp_path / "cache"))
    results = cached(sample(tmp_path / "a"))  # DecordInit reads a.mp4
    assert results["filename"] == str(ClipCache(tmp_path / "cache").build(video))
    assert results["source"] == str(tmp_path / "a") and "clip" in results
    ClipCache(tmp_path / "cache").clear()
    results = ClipInit()(results)
    assert results["total_frames"] == 24 and results["avg_fps"] == 25
    assert results["filename"] == str(tmp_path / "a")


def test_it_is_sent_to_workers(tmp_path):
    video = make_video(tmp_path / "a.mp4")
    for used in (False, True):
        pipeline = compose(TRAIN, tmp_path / "cache")
        if used:
            pipeline(sample(video))
        copy = pickle.loads(pickle.dumps(pipeline))
        assert copy(sample(video))["inputs"].shape == (3, 3, 224, 224)
