"""Parts of a config that cannot be built: a line each, before anything is trained."""

import os
from pathlib import Path

import pytest
from conftest import STOCK

from mmact_tiny.build import explained
from mmact_tiny.config import load_config
from mmact_tiny.errors import EXIT_ERROR, UserError
from mmact_tiny.train import check_inputs
from tools import train

PARTS = {
    "model.backbone.type=ResNett": "ResNett is not in the mmaction::model registry; did you mean",
    "model.backbone.depth=17": "the config's ResNet cannot be built: invalid depth 17 for resnet",
    "model.cls_head.dropout_ratio=2.0": "TSNHead cannot be built: dropout probability has to be",
    "+model.backbone.colour=1": "unexpected keyword argument 'colour'",
    "train_dataloader.dataset.pipeline.0.type=Decod": "Decod is not in the mmaction::transform",
    "optim_wrapper.optimizer.type=SGDD": "there is no such optimizer; did you mean 'SGD'?",
    "param_scheduler.0.type=StepLRR": "StepLRR is not in the mmaction::parameter scheduler",
    "default_hooks.checkpoint.save_best=banana": "Cannot infer the rule for key banana",
}


@pytest.mark.parametrize("option", PARTS)
def test_a_part_that_cannot_be_built_is_named_with_the_reason(option, config, tmp_path, capsys):
    arguments = [str(config), "--work-dir", str(tmp_path / "run"), "--device", "cpu"]
    assert train.main([*arguments, "--cfg-options", option]) == EXIT_ERROR
    error = capsys.readouterr().err
    assert error.startswith("error: the config's ") and PARTS[option] in error
    assert error.count("\n") == 1


def test_only_the_splits_that_are_run_are_checked(toy_dataset):
    changes = {"dataset_paths": {"data_root": str(toy_dataset)}, "pretrained": {"weights": "none"}}
    cfg = load_config(STOCK, changes=changes)
    (toy_dataset / "val" / "3.mp4").unlink()
    cfg.load_from = "https://example.org/a.pth"
    check_inputs(cfg, ["train"])
    with pytest.raises(UserError, match=r"3\.mp4"):
        check_inputs(cfg)
    cfg.load_from = "gone.pth"
    with pytest.raises(UserError, match=r"no checkpoint gone\.pth \(load_from\)"):
        check_inputs(cfg, ["train"])


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full on this system")
def test_a_disk_too_full_for_the_logs_is_a_line():
    message = "no space for the logs: No space left on device"
    with pytest.raises(UserError, match=message), explained():
        Path("/dev/full").write_text("epoch 1")


def test_an_error_of_anything_else_stays_what_it_is():
    """A bug is not to be taken for a mistake in the config."""
    with pytest.raises(ZeroDivisionError), explained():
        print(1 / 0)


def test_a_best_score_that_validation_does_not_give_is_named_and_the_epoch_kept(
    config, tmp_path, capsys, monkeypatch
):
    monkeypatch.setenv("WANDB_QUIET", "false")
    folder = tmp_path / "run"
    options = [
        "default_hooks.checkpoint.save_best=acc/top9",
        "+default_hooks.checkpoint.rule=greater",
    ]
    arguments = [str(config), "--work-dir", str(folder), "--device", "cpu"]
    assert train.main([*arguments, "--cfg-options", *options]) == EXIT_ERROR
    error = capsys.readouterr().err
    assert "error: save_best=acc/top9: a validation gives acc/top1, acc/top5, acc/mean1" in error
    assert (folder / "epoch_1.pth").is_file()
    assert os.environ["WANDB_QUIET"] == "false", "what the user has set stays"
