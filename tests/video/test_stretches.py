"""A stretch of a video is read as a video of its own, by its name, in all that reads videos."""

from fractions import Fraction

import numpy as np
import pytest
from jobs import PIPELINE, run
from mmengine.registry import init_default_scope
from pattern_videos import make_video

from mmact_tiny.cache.cache import ClipCache
from mmact_tiny.cache.transforms import CachedVideo, ClipInit
from mmact_tiny.compat import Compose
from mmact_tiny.errors import UserError
from mmact_tiny.hooks.dataset import StretchDataset
from mmact_tiny.recognizer import Recognizer
from mmact_tiny.video.files import find_videos, sample_of, split_name, stretch_name
from mmact_tiny.video.frames import PacketInit, PacketReader, open_video
from mmact_tiny.video.times import read_frame_times

CODECS = {  # B-frames and an open group of pictures; an index; no times of packets; no index
    "mp4": ("libx264", {"g": "12", "bf": "3", "x264-params": "open-gop=1:b-pyramid=normal"}),
    "mkv": ("libx264", {"g": "50"}),
    "avi": ("mpeg4", {"g": "12", "bf": "2"}),
    "ts": ("libx264", {"g": "10"}),
}
STRETCHES = [(0, 0.5), (0.4, 0.41), (0.5, 1.0), (1.37, 2.2), (1.9, 9)]


@pytest.mark.parametrize("suffix", CODECS)
def test_the_frames_are_those_between_two_times(suffix, tmp_path):
    codec, options = CODECS[suffix]
    video = make_video(
        tmp_path / f"a.{suffix}", size=(96, 64), num_frames=50, codec=codec, options=options
    )
    whole = open_video(video)
    for (start, end), inside in zip(
        STRETCHES, [(0, 13), (10, 11), (13, 25), (35, 50), (48, 50)], strict=True
    ):
        reader = open_video(video, stretch=(start, end))
        assert len(reader) == inside[1] - inside[0], (start, end)
        found = reader.get_batch([0, len(reader) - 1])
        assert np.array_equal(found, whole.get_batch([inside[0], inside[1] - 1]))
        assert len(list(open_video(video, stretch=(start, end)).frames())) == len(reader)
    with pytest.raises(UserError, match="before the stretch begins"):
        open_video(video, stretch=(2.5, 3))


def test_time_counts_not_the_frames_number(tmp_path):
    """Frames at 0 to 9 hundredths, then one in half a second."""
    pts = [*range(10), *range(50, 550, 50)]
    video = make_video(tmp_path / "a.mp4", num_frames=20, fps=Fraction(100), pts=pts)
    assert read_frame_times(video).seconds[[9, 10, 19]].tolist() == [0.09, 0.5, 5.0]
    reader = PacketReader(video, stretch=(0.5, 2.0))
    assert len(reader) == 3  # those at 0.5, 1.0 and 1.5 s
    assert np.array_equal(reader.get_batch([0]), PacketReader(video).get_batch([10]))


def test_only_what_a_stretch_needs_is_read(tmp_path):
    video = make_video(tmp_path / "a.mp4", num_frames=100, options={"g": "10", "bf": "0"})
    assert len(PacketReader(video, stretch=(2.0, 2.4))._packets) == 10


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a b.mp4 [12.0 s to 15.5 s]", ("a b.mp4", (12.0, 15.5))),
        ("a.mp4 [0 s to 0.125 s]", ("a.mp4", (0.0, 0.125))),
        ("a.mp4 [1 s to 2]", ("a.mp4 [1 s to 2]", None)),
    ],
)
def test_names(name, expected, tmp_path, monkeypatch):
    assert split_name(name) == expected
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).touch()  # a file of that name is that file
    assert split_name(name) == (name, None)
    assert split_name(stretch_name("a.mp4", 0, 1.23456)) == ("a.mp4", (0.0, 1.235))


def test_a_cached_stretch_has_its_frames_alone(tmp_path):
    video = make_video(tmp_path / "a.mp4", num_frames=50)
    cache = ClipCache(tmp_path / "cache", short_side=90)
    names = [stretch_name(video, *times) for times in ((0, 1), (0.4, 0.8))]
    assert list(cache.build_many(names).values()) == ["built", "built"]
    assert [cache.find(name)[1].num_frames for name in names] == [25, 10]
    assert cache.find(video) is None
    for build in (True, False):  # without an entry the source gives the same frames
        steps = CachedVideo(str(tmp_path / f"cache{build}"), 90, build=build), ClipInit()
        sample = Compose(steps)(sample_of(names[1]))
        assert sample["total_frames"] == 10 and ("clip" in sample) == build
    with pytest.raises(UserError, match=r"cannot cache .*before the stretch begins"):
        cache.build(stretch_name(video, 3, 4))


def test_a_dataset_of_stretches_and_what_opens_none(tmp_path):
    init_default_scope("mmaction")
    video = make_video(tmp_path / "a.mp4", num_frames=50)
    (tmp_path / "val.csv").write_text("path,start,end,label\na.mp4,1,1.2,3\n")
    settings = dict(ann_file=str(tmp_path / "val.csv"), data_prefix={"video": str(tmp_path)})
    with pytest.raises(UserError, match="lists stretches, which DecordInit cannot open"):
        StretchDataset(**settings, pipeline=PIPELINE)
    steps = [dict(type="PacketInit"), PIPELINE[1], dict(type="PacketDecode"), *PIPELINE[3:]]
    steps[-1] = dict(steps[-1], meta_keys=("filename", "frame_inds", "total_frames"))
    sample = StretchDataset(**settings, pipeline=steps)[0]["data_samples"]
    assert sample.filename == f"{video} [1.0 s to 1.2 s]"
    assert sample.total_frames == 5 and sample.gt_label.tolist() == [3]
    assert PacketInit()(sample_of(sample.filename))["total_frames"] == 5


def test_training_testing_and_inference_name_the_stretches(config, tmp_path):
    """Also through the clip cache, and without labels of their own: by name."""
    data = config.parent / "data"
    for split, count in (("train", 16), ("val", 4)):
        rows = [
            f"{i}.mp4,{0.1 * j:.1f},{0.1 * j + 0.5:.1f},{i % 2}"
            for i in range(count)
            for j in (0, 5)
        ]
        (data / f"{split}.txt").rename(data / f"{split}.txt.kept")
        (data / f"{split}.csv").write_text("\n".join(["path,start,end,label", *rows]) + "\n")
    try:
        changes = {"schedule": {"max_epochs": 1}, "run": {"work_dir": str(tmp_path / "w")}}
        work_dir = run(config, tmp_path / "w", changes)
        from mmact_tiny.evaluate import test

        best = next(work_dir.glob("best*.pth"))
        result = test(config=config, checkpoint=best, work_dir=work_dir, protocol="val")
    finally:
        for split in ("train", "val"):
            (data / f"{split}.csv").unlink()
            (data / f"{split}.txt.kept").rename(data / f"{split}.txt")
    assert len(result.rows) == 8
    name = f"{data}/val/0.mp4 [0.5 s to 1.0 s]"
    (row,) = [row for row in result.rows if row["video"] == name]
    recognizer = Recognizer(best, engine="torch", protocol="val")
    assert find_videos([name]) == [type(data)(name)]
    assert recognizer.scores(name) == pytest.approx(row["scores"], abs=1e-5)
