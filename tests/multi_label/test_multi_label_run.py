"""A recognizer of several labels is trained, tested and asked; the other kind of list is told."""

import json

import numpy as np
import pytest
import torch
from jobs import run
from mmaction.evaluation import mean_average_precision

from mmact_tiny.checkpoints.load import checkpoint_thresholds, load_checkpoint
from mmact_tiny.config import load_config
from mmact_tiny.errors import UserError
from mmact_tiny.evaluate import test as run_test
from mmact_tiny.export.safetensors import export_safetensors
from mmact_tiny.infer import infer
from mmact_tiny.recognizer import Recognizer
from mmact_tiny.report.report import write_report
from mmact_tiny.train import check_inputs

MULTI = {"multi_label": {"enabled": True}}


@pytest.fixture(scope="module")
def several(config):
    """The small job, of which the odd videos have a second label, and the last one none."""
    data = config.parent / "data"
    for split, count in (("train", 16), ("val", 4)):
        lines = [f"{index}.mp4 0{' 1' * (index % 2)}\n" for index in range(count)]
        (data / f"{split}.txt").write_text("".join(lines))
    return config


def test_a_run_of_several_labels(several, tmp_path, capsys):
    work_dir = run(several, tmp_path / "work", MULTI | {"schedule": {"max_epochs": 2}})
    best = next(work_dir.glob("best_acc_mean_average_precision*.pth"))
    thresholds = checkpoint_thresholds(load_checkpoint(best))
    assert len(thresholds) == 2 and all(0 <= one <= 1 for one in thresholds)
    result = run_test(work_dir=work_dir, protocol="val")
    assert [row["label"] for row in result.rows] == [[0], [0, 1], [0], [0, 1]]
    scores = [np.array(row["scores"]) for row in result.rows]
    truth = [np.isin([0, 1], row["label"]).astype(int) for row in result.rows]
    assert result.accuracies[0].name == "mAP"
    assert result.accuracies[0].value == pytest.approx(
        mean_average_precision(scores, truth), abs=1e-6
    )
    stock = result.metrics["acc/mean_average_precision"]
    assert result.accuracies[0].value == pytest.approx(stock, abs=1e-6)
    page = write_report([work_dir]).read_text()
    assert "bootstrap over the videos" in page and "AP of white" in page
    assert "Confusion matrix" not in page

    video = several.parent / "data" / "val" / "1.mp4"
    for path in (best, export_safetensors(best, tmp_path / "x.safetensors").path):
        recognizer = Recognizer(path, engine="torch", protocol="val")
        assert recognizer.thresholds.tolist() == pytest.approx(thresholds)
        found = recognizer.scores(video)
        assert found == pytest.approx(scores[1], abs=1e-5)
        recognizer.thresholds = np.array([0.0, 1.1])
        assert [label for label, _ in recognizer.predict(video)] == ["red"]
        recognizer.thresholds = np.array([1.1, 1.1])
        assert recognizer.predict(video) == []
    checkpoint = load_checkpoint(best)
    del checkpoint["message_hub"]["runtime_info"]["thresholds"]
    torch.save(checkpoint, tmp_path / "none.pth")
    assert Recognizer(tmp_path / "none.pth").thresholds.tolist() == [0.5, 0.5]
    settings = dict(protocol="val", engine="torch", precision="fp32")
    answer = infer([video], checkpoint=best, **settings)
    labels = {one["label"] for one in answer.rows[0]["predictions"]}
    assert labels == {
        n for n, s, t in zip(["red", "white"], found, thresholds, strict=True) if s >= t
    }


def test_the_override_and_the_dump(several, tmp_path):
    cfg = load_config(several, changes=MULTI)
    assert cfg.train_dataloader.dataset.multi_class and cfg.model.cls_head.average_clips == "score"
    assert cfg.model.cls_head.loss_cls == dict(type="BCELossWithLogits", loss_weight=1.0)
    cfg.dump(tmp_path / "dump.py")
    again = load_config(tmp_path / "dump.py")
    assert again.val_evaluator == cfg.val_evaluator


def test_the_other_kind_of_list_is_one_line_that_names_the_flag(several, tmp_path):
    with pytest.raises(UserError, match=r"train.txt:2: labels 0 1: .* with --multi-label$"):
        check_inputs(load_config(several))
    data = several.parent / "data"
    kept = {split: (data / f"{split}.txt").read_text() for split in ("train", "val")}
    try:
        for split, text in kept.items():
            (data / f"{split}.txt").write_text(text.replace(" 0 1", " 1"))
        with pytest.raises(UserError, match="has several labels: train without --multi-label"):
            check_inputs(load_config(several, changes=MULTI))
        check_inputs(load_config(several, changes=MULTI), splits=("val",))  # a test: they may
    finally:
        for split, text in kept.items():
            (data / f"{split}.txt").write_text(text)


def test_what_is_written_of_a_test_has_all_labels(several, tmp_path):
    cfg = load_config(several, changes=MULTI)
    assert json.dumps(cfg.test_evaluator) and cfg.test_dataloader.dataset.num_classes == 2
