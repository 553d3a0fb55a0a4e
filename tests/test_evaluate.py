"""What is tested, how, and what is noted of it: a small run, through the stock Runner."""

import hashlib
import json
import shutil
from pathlib import Path

import models
import numpy as np
import pytest
import torch
from conftest import ROOT
from h264_videos import write_video
from mmengine.config import Config
from models import check_scores
from run_folders import write_run
from small_recognizer import PIPELINE, small_recognizer

from mmact_tiny import evaluate
from mmact_tiny.config import load_config
from mmact_tiny.errors import UserError
from mmact_tiny.evaluate import test as run_test  # pytest would collect its own name
from mmact_tiny.evaluate import write_result
from mmact_tiny.metrics import Accuracy

LABELS = [0, 3, 6]
NAMES = ["a.mp4", "b.mp4", "c.mp4"]
ONE_CLIP = [PIPELINE[0], dict(PIPELINE[1], num_clips=1), *PIPELINE[2:]]


def write_dataset(root: Path) -> Path:
    """Writes three videos, which are for training and for validation both, of seven classes."""
    lines = [f"{name} {label}\n" for name, label in zip(NAMES, LABELS, strict=True)]
    for split in ("train", "val"):
        (root / split).mkdir(parents=True)
        (root / f"{split}.txt").write_text("".join(lines))
        for seed, name in enumerate(NAMES):
            write_video(root / split / name, num_frames=9, seed=seed)
    (root / "label_map.txt").write_text("".join(f"class {index}\n" for index in range(7)))
    return root


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A work directory: the dumped config of a job on three videos, and a checkpoint."""
    folder = tmp_path_factory.mktemp("work_dirs") / "small"
    data = write_dataset(folder / "data")
    changes = dict(dataset_paths=dict(data_root=str(data)), pretrained=dict(weights="none"))
    cfg = load_config(ROOT / "configs/tsn_tiny.py", changes=changes)
    cfg.model = models.config("TSN")
    for loader, pipeline in ((cfg.val_dataloader, ONE_CLIP), (cfg.test_dataloader, PIPELINE)):
        loader.update(num_workers=0, persistent_workers=False)
        loader.dataset.pipeline = pipeline
    cfg.env_cfg.dist_cfg.backend = "nccl"  # trained on a GPU, and tracked
    cfg.visualizer.vis_backends = [*cfg.vis_backends, dict(type="TensorboardVisBackend")]
    (guard,) = [hook for hook in cfg.custom_hooks if hook["type"] == "DataGuardHook"]
    guard.max_bad_fraction = 0.5
    cfg.dump(folder / "small.py")
    shutil.copy(small_recognizer().checkpoint, folder / "epoch_1.pth")
    return folder


def scores(result: evaluate.TestResult) -> np.ndarray:
    return np.array([row["scores"] for row in result.rows])


def test_a_run_is_tested_as_its_recognizer_answers(run, tmp_path, caplog):
    dump = (run / "small.py").read_bytes()
    with caplog.at_level("INFO", logger="mmact_tiny"):
        result = run_test(work_dir=run, out=tmp_path / "out.json", command="python x")
    assert result.folder == run and result.errors == [] and result.seconds > 0
    assert [(Path(row["video"]).name, row["label"]) for row in result.rows] == [
        *zip(NAMES, LABELS, strict=True)
    ]
    expected = list(small_recognizer().score_videos(run / "data/val" / name for name in NAMES))
    check_scores(scores(result), expected)
    right = (np.argmax(expected, axis=1) == LABELS).mean()
    assert result.accuracies[0].value == result.metrics["acc/top1"] == pytest.approx(right)
    record = json.loads((run / "test" / "results.json").read_text())
    assert json.loads((tmp_path / "out.json").read_text()) == record
    sha256 = hashlib.sha256((run / "epoch_1.pth").read_bytes()).hexdigest()
    facts = dict(
        config=str(run / "small.py"),
        checkpoint=str(run / "epoch_1.pth"),
        checkpoint_sha256=sha256,
        precision="fp32",
        engine="torch",
        ann_file=str(run / "data/val.txt"),
        classes=[f"class {index}" for index in range(7)],
        command="python x",
    )
    assert {key: record[key] for key in facts} == facts
    assert record["protocol"].startswith("full: 3 clips x 1 crops = 3 views a video, ")
    assert record["videos"] == result.rows and record["started"]
    for line in (
        f"config: {run / 'small.py'}",
        f"checkpoint: {run / 'epoch_1.pth'}",
        f"videos: {run / 'data/val.txt'}",
        f"protocol: {record['protocol']}",
        "engine: torch, fp32",
        str(result.accuracies[0]),
        f"{3 / result.seconds:.2f} videos/s (3 in {result.seconds:.1f} s)",
        f"written: {tmp_path / 'out.json'}",
    ):
        assert line in caplog.messages
    assert (run / "small.py").read_bytes() == dump, "the run's own config was changed"


def test_what_is_asked_for_is_what_runs(run, caplog, tmp_path):
    """Another protocol, precision, list of videos and value of the config."""
    short = tmp_path / "short.txt"
    short.write_text("c.mp4 6\na.mp4 0\n")
    options = {"test_dataloader.dataset.ann_file": str(short)}
    options["train_dataloader.dataset.ann_file"] = "gone.txt"  # not needed here
    with caplog.at_level("INFO", logger="mmact_tiny"):
        result = run_test(work_dir=run, protocol="val", precision="bf16", options=options)
    assert [Path(row["video"]).name for row in result.rows] == ["c.mp4", "a.mp4"]
    one_clip = small_recognizer(ONE_CLIP)
    videos = [run / "data/val" / name for name in ("c.mp4", "a.mp4")]
    check_scores(scores(result), list(one_clip.score_videos(videos)), within=0.02)
    full = list(small_recognizer().score_videos(videos))
    assert np.abs(scores(result) - full).max() > 0.03, "the other protocol's"
    assert "engine: torch, bf16 (--precision fp32 is exact)" in caplog.messages
    record = json.loads((run / "test" / "results.json").read_text())
    assert record["protocol"].startswith("val: 1 clips x 1 crops = 1 views a video, ")
    assert (record["precision"], record["ann_file"]) == ("bf16", str(short))


def test_what_cannot_be_read_is_a_row_and_costs_no_accuracy(run, tmp_path, caplog):
    broken = tmp_path / "videos"
    shutil.copytree(run / "data/val", broken)
    (broken / "b.mp4").write_text("no video")
    options = {"test_dataloader.dataset.data_prefix.video": str(broken)}
    result = run_test(work_dir=run, options=options)
    assert [Path(row["video"]).name for row in result.rows] == ["a.mp4", "c.mp4"]
    ((error,), (top1, *_)) = result.errors, result.accuracies
    assert Path(error["video"]).name == "b.mp4" and error["error"]
    assert top1.counts.endswith(" of 2 videos")
    assert "1 of 3 videos could not be read" in caplog.messages
    record = json.loads((run / "test" / "results.json").read_text())
    assert record["videos"] == [*result.rows, error]


def test_int8_takes_the_engine_that_has_it(run):
    pytest.importorskip("openvino")
    with pytest.raises(UserError, match=r"no int8 model of these weights in .*/epoch_1\.openvino"):
        run_test(work_dir=run, precision="int8")
    with pytest.raises(UserError, match="int8 needs the engine openvino, not torch"):
        run_test(work_dir=run, precision="int8", engine="torch")


def test_the_config_checkpoint_and_folder_that_are_tested(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"no trained run in work_dirs/\n  train: "):
        run_test()
    job, other = Path("work_dirs/job"), Path("elsewhere")
    for folder in (job, other):
        write_run(folder)
        (folder / "epoch_3.pth").touch()
    job_py, job_pth, other_pth = job / "job.py", job / "epoch_3.pth", other / "epoch_3.pth"
    for given, expected in (
        ((None, None, None), (job_py, job_pth, job)),
        (("configs/job.py", None, None), (job_py, job_pth, job)),
        (("mmaction::recognition/job", None, None), (job_py, job_pth, job)),
        (("configs/job.py", "a.pth", None), ("configs/job.py", "a.pth", job)),
        (("configs/job.py", None, other), (other / "job.py", other_pth, other)),
        (("configs/new.py", None, other), ("configs/new.py", other_pth, other)),
        (("configs/new.py", "a.pth", "new"), ("configs/new.py", "a.pth", Path("new"))),
        (("configs/new.py", "a.pth", None), ("configs/new.py", "a.pth", Path("work_dirs/new"))),
        ((None, "a.pth", None), (job_py, "a.pth", job)),
        ((None, None, other), (other / "job.py", other_pth, other)),
        ((None, "a.pth", other), (other / "job.py", "a.pth", other)),
    ):
        assert evaluate._choose(*given) == expected
    with pytest.raises(UserError, match="no checkpoint in work_dirs/tsn_tiny\n"):
        run_test(config="configs/tsn_tiny.py")


@pytest.mark.parametrize(("time_limit", "seconds"), [(None, 120), (50, 50)])
def test_the_config_that_a_test_runs(time_limit, seconds, run, tmp_path):
    """It is dumped beside the logs before the weights are looked at, which do not fit."""
    data = write_dataset(tmp_path / "data")
    options = {"model.cls_head.num_classes": 8}
    with pytest.raises(UserError):
        run_test(work_dir=run, data_root=data, time_limit=time_limit, options=options)
    cfg = Config.fromfile(run / "test" / "small.py")
    assert (cfg.load_from, cfg.work_dir) == (str(run / "epoch_1.pth"), str(run / "test"))
    assert (cfg.launcher, cfg.env_cfg.dist_cfg.backend) == ("none", "gloo")
    assert [backend.type for backend in cfg.visualizer.vis_backends] == ["LocalVisBackend"]
    assert cfg.test_dataloader.dataset.ann_file == str(data / "val.txt")
    hooks = {hook["type"]: hook for hook in cfg.custom_hooks}
    assert (hooks["EngineHook"].precision, hooks["EngineHook"].engine) == ("fp32", "torch")
    assert hooks["DataGuardHook"]["video_seconds"] == seconds


def test_weights_that_started_from_random_ones_are_tested_at_the_size_for_these(tmp_path):
    weights = tmp_path / "weights.pth"
    torch.save(dict(meta=dict(cfg="initial_weights = 'random'\n"), state_dict={}), weights)
    with pytest.raises(UserError, match=r"weights\.pth"):
        run_test(config="configs/tsn_tiny.py", checkpoint=weights, work_dir=tmp_path)
    cfg = Config.fromfile(tmp_path / "test" / "tsn_tiny.py")
    assert (cfg.initial_weights, cfg.val_pipeline[4].crop_size) == ("random", 96)


def test_a_result_is_written_with_its_speed(tmp_path):
    rows = [dict(video="a.mp4", label=1, scores=[0.25, 0.75])] * 3
    errors = [dict(video="b.mp4", error="gone")]
    accuracy = Accuracy("top-1", 1.0, 0.5, 1.0, "3 of 3 videos")
    result = evaluate.TestResult({"acc/top1": np.float32(0.5)}, [accuracy], rows, 2.0, errors)
    write_result(tmp_path / "out.json", result, precision="fp32")
    assert json.loads((tmp_path / "out.json").read_text()) == dict(
        precision="fp32",
        seconds=2.0,
        videos_per_second=1.5,
        accuracies=[dict(name="top-1", value=1, low=0.5, high=1, counts="3 of 3 videos")],
        metrics={"acc/top1": 0.5},
        videos=[*rows, *errors],
    )
