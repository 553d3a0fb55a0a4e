"""Memory stays bounded: a run of many epochs, a long video, a folder of many clips."""

import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import av
import numpy as np
import psutil
import pytest
from bad_inputs import write_clip
from jobs import PIPELINE

GB = 10**9


def family_bytes() -> int:
    """Returns the memory of this process and its children; pages that they share count twice."""
    me = psutil.Process()
    return sum(p.memory_info().rss for p in [me, *me.children(recursive=True)])


def growth_over_epochs(folder: Path, epochs: int) -> list[int]:
    """Returns the bytes in use at the end of each epoch over the videos of a dataset folder."""
    from mmaction.registry import DATASETS
    from mmengine.dataset import DefaultSampler, pseudo_collate
    from mmengine.registry import init_default_scope
    from torch.utils.data import DataLoader

    from mmact_tiny.hooks.guard import BadVideos, GuardedLoader

    init_default_scope("mmaction")
    dataset = DATASETS.build(
        dict(
            type="VideoDataset",
            ann_file=str(folder / "train.txt"),
            data_prefix=dict(video=str(folder / "train")),
            pipeline=PIPELINE,
        )
    )
    stock = DataLoader(
        dataset,
        batch_size=4,
        sampler=DefaultSampler(dataset, seed=0),
        num_workers=1,
        persistent_workers=True,
        collate_fn=pseudo_collate,
    )
    bad = BadVideos(folder / "bad.json", None)
    loader = GuardedLoader(stock, split="train", seed=0, bad=bad, video_seconds=300)
    used = []
    for epoch in range(epochs):
        loader.sampler.set_epoch(epoch)
        for _ in loader:
            pass
        used.append(family_bytes())
    assert bad.rows == {}
    return used


def test_epochs_do_not_grow(tmp_path):
    (tmp_path / "train").mkdir()
    for number in range(8):
        write_clip(tmp_path / "train" / f"{number}.mp4", seed=number)
    (tmp_path / "train.txt").write_text("".join(f"{n}.mp4 0\n" for n in range(8)))
    used = growth_over_epochs(tmp_path, 6)
    assert used[-1] - used[1] < 0.1 * GB


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_20_epochs_of_real_videos_stay_bounded(tmp_path, real_data):
    """What decord leaks goes with its worker, at the latest when that has grown by 512 MB."""
    source = real_data / "exercise_or_typing"
    for name in ("train", "train.txt"):
        (tmp_path / name).symlink_to(source / name)
    used = growth_over_epochs(tmp_path, 20)
    print("GB after each epoch:", [round(number / GB, 2) for number in used])
    assert max(used) - used[0] < 0.8 * GB


def write_long_video(path: Path, *, seconds: int, size: tuple[int, int]) -> None:
    """Writes one frame a second: as long to seek in as a film, not as long to encode."""
    width, height = size
    with av.open(str(path), "w") as sink:
        stream = sink.add_stream("libx264", rate=1, options={"preset": "ultrafast", "g": "60"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        image = np.zeros((height, width, 3), np.uint8)
        for second in range(seconds):
            image[second % height] = second % 256
            sink.mux(stream.encode(av.VideoFrame.from_ndarray(image, "rgb24")))
        sink.mux(stream.encode(None))


def peak_of_reading(videos: list[Path]) -> int:
    """Returns the most that reading videos for inference takes above the idle process."""
    from mmengine.dataset import Compose
    from mmengine.registry import init_default_scope

    from mmact_tiny.video.files import sample_of
    from mmact_tiny.video.isolated import GuardedReader

    init_default_scope("mmaction")
    idle = psutil.Process().memory_info().rss
    steps = [dict(step) for step in PIPELINE]
    steps[1]["num_clips"] = 25
    reader = GuardedReader(Compose(steps), 600)
    peak = 0
    for video in videos:
        reader(sample_of(video))
        peak = max(peak, family_bytes() - idle)
    reader.close()
    return peak


def peak_in_a_fresh_process(videos: list[Path]) -> int:
    """Returns the same of a process that is not as large as this one: forks count its pages."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(peak_of_reading, videos).result()


def test_reading_for_inference_is_bounded(tmp_path):
    write_long_video(tmp_path / "long.mp4", seconds=300, size=(320, 192))
    clip = write_clip(tmp_path / "clip.mp4")
    assert peak_in_a_fresh_process([tmp_path / "long.mp4"] + [clip] * 20) < 2 * GB


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_an_hour_of_1080p_and_1000_clips_stay_below_2_gb(tmp_path):
    write_long_video(tmp_path / "hour.mp4", seconds=3600, size=(1920, 1088))
    clips = []
    for number in range(1000):
        clips.append(tmp_path / f"{number}.mp4")
        if number:
            os.link(clips[0], clips[number])
        else:
            write_clip(clips[0])
    for name, videos in (("one hour of 1080p", [tmp_path / "hour.mp4"]), ("1,000 clips", clips)):
        peak = peak_in_a_fresh_process(videos)
        print(f"{name}: {peak / GB:.2f} GB above the idle process")
        assert peak < 2 * GB
