"""Sheets of samples and time lines: pictures of the tensors, seeded; marks; broken videos."""

from pathlib import Path

import numpy as np
import pytest
from conftest import STOCK
from h264_videos import write_video
from matplotlib.colors import to_rgb
from mmaction.registry import DATASETS
from mmengine.registry import init_default_scope
from PIL import Image

from mmact_tiny.checkpoints.config_text import read_config
from mmact_tiny.errors import EXIT_ERROR, EXIT_OK
from mmact_tiny.hooks.dataset import seed_generators
from mmact_tiny.video.times import FrameTimes, read_frame_times
from mmact_tiny.view.browse import (
    LINE_HEIGHT,
    LINE_WIDTH,
    MAX_PICTURES,
    browse_video,
    draw_time_line,
    read_pictures,
    seconds_of,
)
from mmact_tiny.view.sampling import read_samplings
from mmact_tiny.view.sheet import PALETTE, to_pixels
from tools import browse

INIT = [
    dict(type="DecordInit"),
    dict(type="SampleFrames", clip_len=1, frame_interval=1, num_clips=3),
    dict(type="DecordDecode"),
]
CROP = [
    dict(type="Resize", scale=(-1, 48)),
    dict(type="MultiScaleCrop", input_size=32, scales=(1, 0.8), random_crop=False),
    dict(type="Resize", scale=(32, 32), keep_ratio=False),
    dict(type="Flip", flip_ratio=0.5),
]
PACK = [dict(type="FormatShape", input_format="NCHW"), dict(type="PackActionInputs")]
TESTING = [dict(type="Resize", scale=(-1, 40)), dict(type="TenCrop", crop_size=32)]
CLIPS = dict(type="SampleFrames", clip_len=4, frame_interval=2, num_clips=2, test_mode=True)

# pipeline -> shape of the inputs, pictures, the tensor that they are of
PIPELINES = {
    "training": ([*INIT, *CROP, *PACK], (3, 3, 32, 32), 3),
    "ten crops": (
        [INIT[0], dict(INIT[1], num_clips=25, test_mode=True), INIT[2], *TESTING, *PACK],
        (250, 3, 32, 32),
        MAX_PICTURES,
    ),
    "clips": (
        [
            *(INIT[0], CLIPS, INIT[2], TESTING[0]),
            dict(type="CenterCrop", crop_size=32),
            dict(type="FormatShape", input_format="NCTHW"),
            PACK[1],
        ],
        (2, 3, 4, 32, 32),
        8,
    ),
}


def dataset_of(pipeline: list, folder: Path) -> object:
    init_default_scope("mmaction")
    if not (folder / "video.mp4").exists():  # x264 need not write the same file twice
        write_video(folder / "video.mp4", num_frames=60)
    (folder / "list.txt").write_text("video.mp4 1\n")
    return DATASETS.build(
        dict(
            type="VideoDataset",
            ann_file=str(folder / "list.txt"),
            data_prefix=dict(video=str(folder)),
            pipeline=pipeline,
        )
    )


@pytest.mark.parametrize("name", PIPELINES)
def test_pictures_are_what_the_model_gets(name, tmp_path):
    pipeline, shape, count = PIPELINES[name]
    dataset = dataset_of(pipeline, tmp_path)
    pictures, frames, found = read_pictures(dataset, 0, seed=5)
    if name == "clips":
        assert np.diff(frames).tolist() == [2, 2, 2, frames[4] - frames[3], 2, 2, 2]
    if name == "ten crops":
        assert frames[0] == 1 and max(frames) == 58  # the middles of 25 parts of 60 frames
    assert found == shape and len(pictures) == len(frames) == count
    assert pictures[0].shape == (32, 32, 3) and pictures[0].dtype == np.uint8
    seed_generators(5, 0)
    inputs = dataset[0]["inputs"]
    ends = (inputs[0], inputs[-1]) if inputs.ndim == 4 else (inputs[0][:, 0], inputs[-1][:, -1])
    first, last = ends
    assert (pictures[0] == first.permute(1, 2, 0).numpy()).all()
    assert (pictures[-1] == last.permute(1, 2, 0).numpy()).all()


class Normalized:
    """A transform as a user may have one; MMAction2 1.x has none."""

    mean, std = [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]

    def __call__(self, results: dict) -> dict:
        imgs = [(img - np.array(self.mean)) / np.array(self.std) for img in results["imgs"]]
        return dict(results, imgs=imgs)


def test_normalized_inputs_are_shown_as_pictures(tmp_path):
    shown = []
    for steps in ([], [Normalized()]):
        dataset = dataset_of([*INIT, *CROP, *steps, *PACK], tmp_path)
        shown.append(np.stack(read_pictures(dataset, 0, seed=1)[0]))
    assert shown[1].dtype == np.uint8 and np.ptp(shown[1]) > 100
    assert np.abs(shown[0].astype(int) - shown[1]).max() <= 1


def test_the_sheet_of_the_bundled_clips_and_a_time_line(tmp_path):
    flags = ["configs/tsn_tiny.py", "--pretrained", "none", "--num", "3"]
    for name, more in (("a", []), ("b", []), ("c", ["--seed", "1"])):
        out = str(tmp_path / f"{name}.png")
        assert browse.main([*flags, *more, "--out", out]) == EXIT_OK
    same, again, other = ((tmp_path / f"{name}.png").read_bytes() for name in "abc")
    assert same == again != other
    width, height = Image.open(tmp_path / "a.png").size
    assert width > 3 * 3 * 150 and height > 200
    video = write_video(tmp_path / "video.mp4", num_frames=30)
    for name, arguments in (("d", [str(video), "--out"]), ("e", ["--out"])):
        last = [] if name == "d" else [str(video)]
        out = tmp_path / f"{name}.png"
        assert browse.main([STOCK, *arguments, str(out), *last]) == EXIT_OK
    first, second = ((tmp_path / f"{name}.png").read_bytes() for name in "de")
    assert first == second and Image.open(out).size[0] > LINE_WIDTH


def test_a_video_that_cannot_be_read_is_a_cell(toy_dataset, tmp_path):
    """Six empty files: six cells with the reason, in red."""
    (toy_dataset / "train" / "3.mp4").unlink()
    flags = ["configs/tsn_tiny.py", "--pretrained", "none", "--data", str(toy_dataset)]
    assert browse.main([*flags, "--out", str(tmp_path / "a.png")]) == EXIT_OK
    image = np.asarray(Image.open(tmp_path / "a.png").convert("RGB")).astype(int)
    red = (np.abs(image - (176, 0, 32)).max(2) < 20).sum()
    assert red > 200


WRONG = {
    "none asked for": (["--num", "0"], "--num 0: expected 1 or more"),
    "not a picture": (["--out", "a.jpg"], "--out a.jpg: expected a name that ends in .png"),
    "no such video": (["gone.mp4"], "cannot read video gone.mp4: no such file"),
    "no such config key": (["--cfg-options", "x=1"], "no key 'x' in the config"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_flag(case, capsys):
    flags, message = WRONG[case]
    assert browse.main(["configs/tsn_tiny.py", "--pretrained", "none", *flags]) == EXIT_ERROR
    assert message in capsys.readouterr().err


def test_a_stock_config_without_a_training_part_needs_data(capsys):
    assert browse.main(["mmaction::x3d_m_16x5x1_facebook-kinetics400-rgb"]) == EXIT_ERROR
    assert "no train split of annotated RGB videos: name your dataset" in capsys.readouterr().err


TSM = (
    "mmaction::recognition/tsm/tsm_imagenet-pretrained-r50_8xb16-dense-1x1x8-50e_kinetics400-rgb.py"
)
SLOW = "mmaction::recognition/slowonly/slowonly_r50_8xb16-4x16x1-256e_kinetics400-rgb.py"


def test_marks_are_where_the_frames_are(tmp_path):
    """Validation, 1x1x3: the middles of three equal parts, at a steady rate."""
    cfg, video = read_config(STOCK), write_video(tmp_path / "video.mp4", num_frames=60)
    page = browse_video(cfg, video, seed=0)
    said = [text.get_text() for text in page.axes[0].texts]
    assert "val: 3 clip(s) x 1 frame x interval 1, at fixed places (SampleFrames)" in said[8]
    assert said[11:14] == ["10: 0.40 s, clip 1", "30: 1.20 s, clip 2", "50: 2.00 s, clip 3"]
    line = draw_time_line(read_samplings(cfg, video=video)["val"], read_frame_times(video))
    middle = line[LINE_HEIGHT * 3 // 4]
    for color, frame in zip(PALETTE, (10, 30, 50), strict=False):
        marked = (middle == np.round(255 * np.array(to_rgb(color)))).all(1)
        assert np.flatnonzero(marked).mean() == pytest.approx(30 + frame / 60 * 1440, abs=2)


def test_frames_are_placed_by_their_time():
    times = FrameTimes(np.array([0.0, 0.1, 5.0]), 6.0, 10.0, [0, 1, 50])
    placed = [seconds_of(times, frame) for frame in (0, 1, 1.5, 2, 3)]
    assert placed == pytest.approx([0.0, 0.1, 2.55, 5.0, 6.0])


@pytest.mark.parametrize(
    ("config", "num_frames"), [(STOCK, 1), (STOCK, 70), (TSM, 1), (TSM, 70), (SLOW, 70)]
)
def test_any_strategy_and_length(config, num_frames, tmp_path):
    video = write_video(tmp_path / "video.mp4", num_frames=num_frames)
    height, width, _ = to_pixels(browse_video(read_config(config), video, seed=3)).shape
    assert width > LINE_WIDTH and height > 3 * (150 + LINE_HEIGHT)


def test_a_split_that_fails_is_a_line(tmp_path):
    video = write_video(tmp_path / "video.mp4", num_frames=30)
    cfg = read_config(STOCK)
    cfg.train_dataloader.dataset.pipeline = [dict(type="SampleFrames", clip_len=1)]
    said = [text.get_text() for text in browse_video(cfg, video, seed=0).axes[0].texts]
    assert said[2] == "train" and said[4].startswith("the train pipeline does not sample and dec")
    assert said[5].startswith("val: 3 clip(s)")
