"""The stock Runner, unchanged, writes, resumes and fine-tunes through our loading and writing."""

import errno
import hashlib
import itertools
import os
import re
from pathlib import Path

import pytest
import torch
from file_server import FileServer
from hostile_checkpoints import CANARY, Evil
from mmengine.runner import load_checkpoint as stock_load
from mmengine.runner.checkpoint import _load_checkpoint
from toy import Toy

from mmact_tiny import files as atomic
from mmact_tiny.checkpoints import stock as stock_checkpoints
from mmact_tiny.checkpoints.load import checkpoint_config, load_checkpoint
from mmact_tiny.compat import CheckpointLoader, Runner
from mmact_tiny.errors import UserError
from mmact_tiny.hooks import checkpoint as checkpoint_hooks

stock_checkpoints.register()
NUMBERS = itertools.count()


def make_runner(work_dir, max_epochs, model=None, **options) -> Runner:
    torch.manual_seed(0)
    data = [(torch.randn(4), i % 2) for i in range(8)]
    schedule = {"type": "MultiStepLR", "by_epoch": True, "milestones": [1], "gamma": 0.5}
    schedule["end"] = 100  # else the end of the first run is resumed with it
    checkpoint = {"type": "SafeCheckpointHook", "interval": 1, "max_keep_ckpts": 1}
    checkpoint |= options.pop("checkpoint", {})
    return Runner(
        model or Toy(),
        work_dir=str(work_dir),
        train_dataloader={
            "batch_size": 4,
            "sampler": {"type": "DefaultSampler", "shuffle": True},
            "dataset": data,
            "collate_fn": {"type": "pseudo_collate"},
        },
        train_cfg={"by_epoch": True, "max_epochs": max_epochs},
        optim_wrapper={"optimizer": {"type": "SGD", "lr": 0.1, "momentum": 0.9}},
        param_scheduler=[schedule],
        default_scope="mmaction",
        default_hooks={"checkpoint": checkpoint, "logger": {"type": "LoggerHook", "interval": 1}},
        custom_hooks=options.pop("custom_hooks", [{"type": "WeightsHook"}]),
        experiment_name=f"toy_{next(NUMBERS)}",  # loggers of one name are shared
        **options,
    )


def prepared(work_dir, checkpoint) -> tuple[Runner, checkpoint_hooks.SafeCheckpointHook]:
    """A run of which a test calls the checkpoint hook itself."""
    runner = make_runner(work_dir, 1, checkpoint=checkpoint)
    hook = next(h for h in runner.hooks if isinstance(h, checkpoint_hooks.SafeCheckpointHook))
    runner.train_loop  # noqa: B018  # builds it
    hook.before_train(runner)
    runner.optim_wrapper = runner.build_optim_wrapper(runner.optim_wrapper)
    runner.param_schedulers = runner.build_param_scheduler(runner.param_schedulers)
    return runner, hook


def fill_disk(monkeypatch) -> None:
    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(atomic.os, "fsync", full)


def test_a_run_of_the_stock_runner_is_resumed(tmp_path):
    first = make_runner(tmp_path, 1)
    first.train()
    checkpoint = load_checkpoint(tmp_path / "epoch_1.pth")
    assert checkpoint["meta"]["epoch"] == 1 and checkpoint["meta"]["iter"] == 2
    log = checkpoint["message_hub"]["log_scalars"]["train/loss"].data[0]
    assert len(log) == 2
    assert torch.load(tmp_path / "epoch_1.pth", weights_only=True).keys() == checkpoint.keys()
    assert checkpoint_config(checkpoint, source="x") == first.cfg.to_dict()

    second = make_runner(tmp_path, 2, resume=True)
    second.train()
    assert (second.epoch, second.iter) == (2, 4)
    continued = second.message_hub.log_scalars["train/loss"].data[0]
    assert len(continued) == 4 and continued[:2].tolist() == log.tolist()
    assert second.optim_wrapper.get_lr()["lr"] == [0.05]
    assert (tmp_path / "last_checkpoint").read_text() == str(tmp_path / "epoch_2.pth")
    assert sorted(p.name for p in tmp_path.glob("*.pth")) == ["epoch_2.pth"]
    assert not list(tmp_path.glob(".*.tmp"))


def test_resume_restores_weights_optimizer_and_schedule(tmp_path):
    first = make_runner(tmp_path, 1)
    first.train()
    second = make_runner(tmp_path, 2, resume=True)
    second._train_loop = second.build_train_loop(second._train_loop)
    second.optim_wrapper = second.build_optim_wrapper(second.optim_wrapper)
    second.load_or_resume()
    for a, b in zip(*(r.model.state_dict().values() for r in (first, second)), strict=True):
        assert torch.equal(a, b)
    states = [r.optim_wrapper.optimizer.state_dict()["state"] for r in (first, second)]
    for key in states[0]:
        assert torch.equal(*(state[key]["momentum_buffer"] for state in states))
    assert second.param_schedulers[0].milestones == first.param_schedulers[0].milestones
    assert type(second.param_schedulers[0].milestones).__name__ == "Counter"


def test_fine_tuning_explains_the_new_head(tmp_path, caplog):
    torch.save({"state_dict": Toy(400).state_dict()}, tmp_path / "k400.pth")
    (tmp_path / "run").mkdir()
    runner = make_runner(tmp_path / "run", 1, load_from=str(tmp_path / "k400.pth"))
    runner.train()
    log = next((tmp_path / "run").rglob("*.log")).read_text()
    assert "7 of 9 tensors loaded from" in log
    assert "checkpoint has 400 classes, the config 2: the head is re-initialised" in log
    assert "do not match exactly" not in log


def test_a_best_checkpoint_cannot_be_resumed_by_half(tmp_path):
    torch.save(
        {"state_dict": Toy().state_dict(), "meta": {}, "message_hub": {}}, tmp_path / "best.pth"
    )
    runner = make_runner(tmp_path, 1, resume=True, load_from=str(tmp_path / "best.pth"))
    with pytest.raises(UserError, match=r"best.pth: it has no optimizer"):
        runner.train()


def test_stock_loading_refuses_code(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": Evil()}, "bad.pth")
    for load in (_load_checkpoint, lambda name: stock_load(Toy(), name)):
        with pytest.raises(UserError, match=r"bad.pth is refused: it names 'posix.system'"):
            load("bad.pth")
    assert not Path(CANARY).exists()


def test_every_other_scheme_is_refused():
    for name in ("pavi://x", "s3://x", "petrel://x", "a:s3://x", "open-mmlab://x"):
        with pytest.raises(UserError, match="expected a local file"):
            CheckpointLoader.load_checkpoint(name)
    for package in ("torchvision", "mmcls"):
        with pytest.raises(UserError, match=f"{package} has no weights named 'nix'"):
            CheckpointLoader.load_checkpoint(f"{package}://nix")


def test_the_published_hash_is_checked_before_loading(tmp_path, monkeypatch):
    """From the mirror to torch.hub's folder; also what MMEngine knows by a name."""
    torch.save({"state_dict": {"w": torch.ones(1)}}, tmp_path / "x.pth")
    data = (tmp_path / "x.pth").read_bytes()
    host = "https://download.openmmlab.com"
    good = f"{host}/x_20220906-{hashlib.sha256(data).hexdigest()[:8]}.pth"
    named = f"{host}/mmclassification/v0/mobilenet_v2/"
    named += "mobilenet_v2_batch256_imagenet_20200708-3b2dc3af.pth"
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with FileServer() as server:
        monkeypatch.setenv("MMACT_TINY_MIRROR", server.url)
        server.files = dict.fromkeys((url.removeprefix(host) for url in (good, named)), data)
        for _ in range(2):
            assert _load_checkpoint(good)["state_dict"]["w"] == 1
        assert len(server.ranges) == 1
        with pytest.raises(UserError, match="its SHA-256 does not start with 3b2dc3af"):
            _load_checkpoint("mmcls://mobilenet_v2")


def test_the_last_checkpoint_outlives_a_failed_write(tmp_path, monkeypatch):
    make_runner(tmp_path, 1).train()
    before = (tmp_path / "epoch_1.pth").read_bytes()

    fill_disk(monkeypatch)
    with pytest.raises(UserError, match=r"no space to write .*epoch_2.pth .* Free some space"):
        make_runner(tmp_path, 2, resume=True).train()
    assert (tmp_path / "epoch_1.pth").read_bytes() == before
    assert (tmp_path / "last_checkpoint").read_text() == str(tmp_path / "epoch_1.pth")
    assert sorted(p.name for p in tmp_path.glob("*.pth")) == ["epoch_1.pth"]
    assert not list(tmp_path.glob(".*.tmp"))


def test_the_previous_best_goes_after_the_new_one_is_written(tmp_path):
    runner, hook = prepared(tmp_path, {"save_best": "acc"})
    seen = []
    stock_save = runner.save_checkpoint

    def save(*args, **kwargs):
        seen.append(sorted(p.name for p in tmp_path.glob("best*")))
        stock_save(*args, **kwargs)

    runner.save_checkpoint = save
    for epoch, score in ((1, 0.5), (2, 0.7), (3, 0.6)):
        runner.train_loop._epoch = epoch
        hook.after_val_epoch(runner, {"acc": score})
    assert seen == [[], ["best_acc_epoch_1.pth"]]
    assert [p.name for p in tmp_path.glob("best*")] == ["best_acc_epoch_2.pth"]
    assert re.search("best", runner.message_hub.get_info("best_ckpt"))


def test_one_epoch_and_the_best_stay_when_the_score_rises(tmp_path):
    """Stock saves the epoch again when it was the best, whatever the interval says."""
    runner, hook = prepared(tmp_path, {"save_best": "acc", "interval": 5, "max_keep_ckpts": 1})
    for epoch in range(8):
        runner.train_loop._epoch = epoch
        hook.after_train_epoch(runner)
        runner.train_loop._epoch = epoch + 1
        hook.after_val_epoch(runner, {"acc": epoch / 10})
    hook.after_train(runner)
    names = sorted(path.name for path in tmp_path.glob("*.pth"))
    assert names == ["best_acc_epoch_8.pth", "epoch_8.pth"]


def test_a_failed_write_of_the_best_removes_neither(tmp_path, monkeypatch):
    runner, hook = prepared(tmp_path, {"save_best": "acc", "max_keep_ckpts": 1})
    hook.after_train_epoch(runner)
    runner.train_loop._epoch = 1
    hook.after_val_epoch(runner, {"acc": 0.5})
    before = sorted(path.name for path in tmp_path.glob("*.pth"))
    assert before == ["best_acc_epoch_1.pth", "epoch_1.pth"]

    fill_disk(monkeypatch)
    runner.train_loop._epoch = 2
    with pytest.raises(UserError, match=r"no space to write .*best_acc_epoch_2.pth"):
        hook.after_val_epoch(runner, {"acc": 0.7})
    assert sorted(path.name for path in tmp_path.glob("*.pth")) == before


def test_a_best_that_has_its_own_name_again_is_not_removed(tmp_path):
    """As after a resume from before it: the epoch is trained and validated again."""
    runner, hook = prepared(tmp_path, {"save_best": "acc"})
    for score in (0.5, 0.7):
        runner.train_loop._epoch = 1
        hook.after_val_epoch(runner, {"acc": score})
        assert [path.name for path in tmp_path.glob("best*")] == ["best_acc_epoch_1.pth"]


def test_save_best_of_what_no_validation_gives_is_an_error(tmp_path):
    runner, hook = prepared(tmp_path, {"save_best": "acc"})
    with pytest.raises(UserError, match="save_best=acc: a validation gives top1, top5 "):
        hook.after_val_epoch(runner, {"top1": 0.5, "top5": 1.0})
    runner, hook = prepared(tmp_path, {"save_best": "auto"})
    runner.train_loop._epoch = 1
    hook.after_val_epoch(runner, {"acc/top1": 0.5, "acc/top5": 1.0})
    assert [path.name for path in tmp_path.glob("best*")] == ["best_acc_top1_epoch_1.pth"]


def test_the_average_of_weights_starts_from_what_was_loaded(tmp_path, capsys):
    """WeightsHook is before EMAHook: a head that does not fit is not copied into the average."""
    torch.save({"state_dict": Toy(400).state_dict()}, tmp_path / "k400.pth")
    hooks = [{"type": "EMAHook"}, {"type": "WeightsHook"}]
    runner = make_runner(tmp_path, 1, load_from=str(tmp_path / "k400.pth"), custom_hooks=hooks)
    runner.train()
    assert load_checkpoint(tmp_path / "epoch_1.pth")["ema_state_dict"]
    assert "size mismatch" not in capsys.readouterr().out


def test_a_head_that_does_not_fit_is_for_a_new_training_alone(tmp_path):
    """To test and to resume, all of the weights have to fit."""
    make_runner(tmp_path, 1).train()
    other = load_checkpoint(tmp_path / "epoch_1.pth") | {"state_dict": Toy(400).state_dict()}
    torch.save(other, tmp_path / "epoch_1.pth")
    with pytest.raises(UserError, match="does not fit the model: checkpoint has 400 classes"):
        make_runner(tmp_path, 2, resume=True).train()
    tested = make_runner(tmp_path, 1, load_from=str(tmp_path / "epoch_1.pth"))
    with pytest.raises(UserError, match="does not fit the model: checkpoint has 400 classes"):
        tested.load_or_resume()  # as Runner.test does, which builds no training loop
