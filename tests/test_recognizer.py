"""A recognizer's scores are stock's, video by video, however they share batches."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import models
import numpy as np
import psutil
import pytest
import torch
from h264_videos import mirror, write_video
from mmaction.structures import ActionDataSample
from mmengine.dataset import Compose
from models import check_scores
from small_recognizer import PIPELINE, small_recognizer

from mmact_tiny import hardware
from mmact_tiny.checkpoints.load import k400_labels, labels_of
from mmact_tiny.engine import engine
from mmact_tiny.errors import UserError
from mmact_tiny.recognizer import Recognizer, default_checkpoint
from mmact_tiny.video.files import sample_of


@pytest.fixture
def recognizer() -> Recognizer:
    """7 classes, 3 views, random weights."""
    return small_recognizer()


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("videos")
    return [write_video(folder / f"{i}.mp4", num_frames=9, seed=i) for i in range(5)]


def by_stock(videos: Sequence[Path], pipeline: Sequence[Any] = PIPELINE) -> np.ndarray:
    """Returns the scores of stock's pipeline and stock's model, a video at a time."""
    model, read = models.build("TSN"), Compose(list(pipeline))
    inputs = [read(sample_of(video))["inputs"] for video in videos]
    data = [dict(inputs=[each], data_samples=[ActionDataSample()]) for each in inputs]
    return np.concatenate([models.stock_scores(model, each) for each in data])


def count_passes(recognizer: Recognizer) -> list[int]:
    """Returns a list that grows by an entry with each forward pass."""
    passes: list[int] = []
    recognizer.engine.before_chunk = lambda: passes.append(1)
    return passes


def test_scores_are_stocks_in_any_batch(recognizer, videos):
    expected = by_stock(videos)
    passes = count_passes(recognizer)
    check_scores([recognizer.scores(video) for video in videos], expected)
    assert len(passes) == 5
    check_scores(list(recognizer.score_videos(videos)), expected)
    assert len(passes) == 6, "one for all"
    recognizer.engine._chunk_pixels = 6 * 48 * 48
    check_scores(list(recognizer.score_videos(videos)), expected)
    assert len(passes) == 9, "two videos of three views in each"


@pytest.mark.parametrize("count, num_processes", [(1, 1), (5, 3)])
def test_many_videos_have_many_readers(count, num_processes, videos, monkeypatch):
    monkeypatch.setattr(hardware, "choose_num_workers", lambda: (3, ""))
    recognizer, before = small_recognizer(), {*psutil.Process().children()}
    samples = recognizer.read_videos(videos[:count])
    assert len({*psutil.Process().children()} - before) == num_processes
    scores = np.stack(list(recognizer.score_samples(samples)))
    assert scores == pytest.approx(np.stack(by_stock(videos[:count])), abs=1e-5)


def test_no_more_videos_wait_than_fit_in_a_pass(recognizer, videos):
    samples = list(recognizer.read_videos(videos))
    recognizer.engine._chunk_pixels = 6 * 48 * 48  # two videos of three views
    taken: list[int] = []
    answers = recognizer.score_samples(taken.append(1) or sample for sample in samples)
    counts = [len(taken) for _ in answers]
    assert counts == [2, 2, 4, 4, 5]


@pytest.mark.parametrize("num_together", [1, 2, 9])
def test_what_cannot_be_read_keeps_its_place(num_together, recognizer, videos, tmp_path):
    recognizer.engine._chunk_pixels = num_together * 3 * 48 * 48
    rubbish, gone = tmp_path / "rubbish.mp4", tmp_path / "gone.mp4"
    rubbish.write_text("no video")
    paths = [gone, videos[0], rubbish, tmp_path, videos[1], videos[2], gone]
    answers = list(recognizer.score_videos(paths))
    assert [isinstance(answer, UserError) for answer in answers] == [
        *(True, False, True, True, False, False, True)
    ]
    check_scores([answers[index] for index in (1, 4, 5)], by_stock(videos[:3]))
    assert str(answers[0]) == str(answers[6]) == f"cannot read video {gone}: no such file"
    assert str(answers[2]).startswith(f"cannot read video {rubbish}: ")
    assert str(answers[3]) == f"cannot read video {tmp_path}: not a regular file"
    with pytest.raises(UserError, match=r"gone\.mp4: no such file"):
        recognizer.scores(gone)


def test_a_pipeline_that_fails_is_not_blamed_on_the_video(videos):
    steps = [*PIPELINE[:4], dict(type="ThreeCrop", crop_size=models.SIZE // 2), *PIPELINE[5:]]
    message = "^the pipeline fails on .*0.mp4, which can be read: ThreeCrop failed .AssertionErr"
    with pytest.raises(UserError, match=message):
        small_recognizer(steps).predict(videos[0])


def test_without_a_video_no_model_is_built(recognizer, tmp_path):
    (answer,) = recognizer.score_videos([tmp_path / "gone.mp4"])
    assert isinstance(answer, UserError) and "engine" not in vars(recognizer)
    assert list(recognizer.score_videos([])) == []


def test_views_of_two_sizes_side_by_side(tmp_path):
    """Without a crop a portrait's views are of another size than a landscape's."""
    uncropped = [*PIPELINE[:4], *PIPELINE[5:]]
    sizes = [(96, 64), (64, 96), (96, 64), (64, 96)]
    videos = [
        write_video(tmp_path / f"{i}.mp4", num_frames=9, seed=i, size=size)
        for i, size in enumerate(sizes)
    ]
    check_scores(
        list(small_recognizer(uncropped).score_videos(videos)), by_stock(videos, uncropped)
    )


def test_views_stay_uint8_until_their_chunk(recognizer, videos, monkeypatch):
    (sample,) = recognizer.read_videos(videos[:1])
    assert sample["inputs"].dtype == torch.uint8
    sizes = []
    normalize = engine.normalize
    monkeypatch.setattr(
        engine, "normalize", lambda chunk, p: sizes.append(len(chunk)) or normalize(chunk, p)
    )
    recognizer.engine._chunk_pixels = 48 * 48
    recognizer.scores(videos[0])
    assert sizes == [1, 1, 1]  # never more in float32 than a chunk


def test_reading_has_a_time_limit(recognizer):
    assert recognizer._pipeline.video_seconds == 120
    assert small_recognizer(video_seconds=7)._pipeline.video_seconds == 7


def test_the_decoder_is_the_one_asked_for(recognizer, videos, tmp_path):
    decord = small_recognizer(decoder="decord")
    check_scores(list(decord.score_videos(videos)), by_stock(videos))
    steps = [r.steps[0]["type"] for r in (recognizer, decord)]
    assert steps == ["PacketInit", "CheckedDecordInit"]
    with pytest.raises(UserError, match="decord reads other frames than are shown: mirrored"):
        decord.scores(mirror(Path(shutil.copy(videos[0], tmp_path))))


def test_the_protocol_is_the_one_asked_for(tiny_checkpoint):
    full = Recognizer(tiny_checkpoint)
    assert full.protocol.startswith("full: 25 clips x 10 crops = 250 views a video, ")
    val = Recognizer(tiny_checkpoint, protocol="val")
    assert val.protocol.startswith("val: 3 clips x 1 crops = 3 views a video, ")
    assert (full.steps[1]["num_clips"], val.steps[1]["num_clips"]) == (25, 3)
    with pytest.raises(UserError, match="protocol 'fast': expected full or val"):
        Recognizer(tiny_checkpoint, protocol="fast")


def test_precision_and_engine_are_those_asked_for(tiny_checkpoint, monkeypatch):
    assert str(Recognizer(tiny_checkpoint, engine="torch").engine) == "torch, fp32"
    fast = Recognizer(tiny_checkpoint, precision="bf16", engine="torch").engine
    assert str(fast).startswith("torch, bf16 ")
    with pytest.raises(UserError, match=r"no int8 model of these weights in .*/tiny.openvino\n"):
        _ = Recognizer(tiny_checkpoint, precision="int8").engine


def test_the_best_labels_are_named(recognizer, videos):
    expected = recognizer.scores(videos[0])
    best = recognizer.predict(videos[0], k=2)
    order = sorted(range(7), key=lambda index: -expected[index])
    assert best == [(f"class {index}", pytest.approx(expected[index])) for index in order[:2]]
    assert len(recognizer.predict(videos[0])) == 5
    recognizer.labels = ["a", "b", "c"]
    scores = np.array([0.1, 0.7, 0.2], dtype=np.float32)
    assert recognizer.top_k(scores, 2) == [("b", pytest.approx(0.7)), ("c", pytest.approx(0.2))]
    assert recognizer.top_k(np.array([0.2, 0.6, 0.2]), 9) == [("b", 0.6), ("a", 0.2), ("c", 0.2)]
    recognizer.thresholds = np.array([0.125, 0.75, 0.25])  # of several labels a video
    assert recognizer.top_k(np.array([0.25, 0.5, 0.25]), 3) == [("a", 0.25), ("c", 0.25)]
    recognizer.thresholds = None
    recognizer.labels = [str(index) for index in range(40)]
    ties = recognizer.top_k(np.tile([0.01, 0.04], 20), 3)
    assert [label for label, _ in ties] == ["1", "3", "5"]  # of equals the first
    with pytest.raises(UserError, match="top-k 0: expected 1 or more"):
        recognizer.top_k(scores, 0)


def test_the_400_labels_are_those_of_the_tutorial(real_data):
    """MMAction2's wheel leaves its label map out; torchvision's list has to be the same."""
    assert k400_labels() == (real_data / "label_map_k400.txt").read_text().splitlines()


def test_the_400_labels_without_that_file():
    labels = k400_labels()
    assert (len(labels), labels[0], labels[6], labels[399]) == (
        400,
        "abseiling",
        "arm wrestling",
        "zumba",
    )


def test_k400_weights_serve_where_no_run_is(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"tools/download.py tsn_r50_k400"):
        default_checkpoint()
    weights = Path(
        "checkpoints/"
        "tsn_imagenet-pretrained-r50_8xb32-1x1x3-100e_kinetics400-rgb_20220906-cd10898e.pth"
    )
    weights.parent.mkdir()
    weights.touch()
    assert default_checkpoint() == weights


NAMED = {"meta": {"dataset_meta": {"classes": ["jump", "run"]}}}
# What the checkpoint carries, lines of the label map beside it, of the one given; the first name.
LABELS = {
    "carried": (NAMED, ["a", "b"], None, "jump"),
    "given": (NAMED, ["a", "b"], ["c", "d"], "c"),
    "beside": ({}, ["a", "b"], None, "a"),
    "carried for other classes": ({"meta": {"CLASSES": ("x", "y", "z")}}, ["a", "b"], None, "a"),
    "none": ({}, None, None, "class 0"),
    "beside, too short": ({}, ["a"], None, "{beside} has 1 lines; the model has 2 classes"),
}


@pytest.mark.parametrize("case", LABELS)
def test_names_of_the_classes(case: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    carried, beside, given, expected = LABELS[case]
    files = {tmp_path / "w_1-2.label_map.txt": beside, tmp_path / "mine.txt": given}
    for path, lines in files.items():
        if lines is not None:
            path.write_text("\n".join(lines))
    label_map = tmp_path / "mine.txt" if given else None
    try:
        labels = labels_of(carried, tmp_path / "w_1-2.pth", label_map, 2)
    except UserError as error:
        labels = [str(error)]
    assert labels[0].endswith(expected.format(beside=tmp_path / "w_1-2.label_map.txt"))
    said = [message for message in caplog.messages if "has no names of its classes" in message]
    assert len(said) == (case == "none")


@pytest.mark.parametrize(
    ("name", "backbone", "label"),
    [
        (
            "slowfast_r50_8xb8-4x16x1-256e_kinetics400-rgb_20220901-701b0f6f",
            "ResNet3dSlowFast",
            "abseiling",
        ),
        (
            "vmz_ircsn_from_scratch_r152_32x2x1_180e_kinetics400_rgb_20210617-5c933ae1",
            "ResNet3dCSN",
            "abseiling",
        ),
        (
            "tsm_imagenet-pretrained-r50_8xb16-1x1x8-50e_sthv2-rgb_20230317-be0fc26e",
            "ResNetTSM",
            "class 0",
        ),
    ],
)
def test_a_published_file_needs_no_config(
    name: str, backbone: str, label: str, tmp_path: Path
) -> None:
    torch.save({"state_dict": {}, "meta": {}}, tmp_path / f"{name}.pth")
    recognizer = Recognizer(tmp_path / f"{name}.pth", protocol="val")
    assert recognizer.cfg.model.backbone.type == backbone
    assert recognizer.labels[0] == label
