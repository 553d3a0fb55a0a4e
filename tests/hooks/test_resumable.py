"""What a checkpoint must be to go on from it, and that it cannot have any file removed."""

import json
import random
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from jobs import run
from mmengine import ConfigDict
from mmengine.optim import LinearLR, OptimWrapper, StepLR
from mmengine.runner import ValLoop
from torch.utils.data import DataLoader

from benchmarks.small_job import differences, outcome
from mmact_tiny.checkpoints.load import load_checkpoint
from mmact_tiny.errors import EXIT_ERROR, EXIT_OK, UserError
from mmact_tiny.hooks import resume as resume_hook
from mmact_tiny.hooks.resume import ResumeHook, check_resumable
from tools import train


@pytest.fixture(scope="module")
def trained(config: Path) -> tuple[Path, Path]:
    """The config and the work directory of a run of one epoch."""
    return config, run(config, config.parent / "run", {"schedule": {"max_epochs": 1}})


def forge(work_dir: Path, target: Path, edit: Callable[[dict], Any]) -> Path:
    """Writes a changed copy of the run's checkpoint."""
    checkpoint = load_checkpoint(work_dir / "epoch_1.pth")
    edit(checkpoint)
    torch.save(checkpoint, target)
    return target


def best_is(path: Path) -> Callable[[dict], Any]:
    info = dict(best_ckpt=str(path), best_score=-1.0)
    return lambda checkpoint: runtime_of(checkpoint).update(info)


def resume(config: Path, folder: Path, checkpoint: Path, *flags: str) -> int:
    arguments = ["--work-dir", str(folder), "--device", "cpu", "--epochs", "2"]
    return train.main([str(config), *arguments, "--resume", str(checkpoint), *flags])


def runtime_of(checkpoint: dict) -> dict:
    return checkpoint["message_hub"]["runtime_info"]


FORGED: dict[str, tuple[Callable[[dict], Any], str]] = {
    "epoch": (lambda c: c["meta"].update(epoch="x"), "its epoch is 'x'"),
    "past the end": (
        lambda c: c["meta"].update(epoch=6),
        "it is past epoch 2, the last of this run; --epochs 7 would go on. Resume with",
    ),
    "in the middle past the end": (
        lambda c: (c["meta"].update(epoch=2), c["progress"].update(batches=1)),
        "it is past epoch 2, the last of this run; --epochs 3 would go on. Resume with",
    ),
    "iteration": (lambda c: c["meta"].update(iter=-5), "its iter is -5"),
    "seed": (lambda c: c["meta"].update(seed=-1), "its seed is -1"),
    "optimizer": (lambda c: c.update(optimizer="x"), "its optimizer has no groups"),
    "groups": (lambda c: c["optimizer"].update(param_groups=[]), "its optimizer has groups of []"),
    "other optimizer": (
        lambda c: c["optimizer"]["param_groups"][0].pop("momentum"),
        "its optimizer is of another type, without momentum",
    ),
    "schedule": (
        lambda c: (c.update(param_schedulers=[]), runtime_of(c).update(max_epochs=2)),
        "it has 0 schedulers, the config 1",
    ),
    "message hub": (lambda c: c.update(message_hub={}), "must contain key: `log_scalars`"),
    "batches": (lambda c: c["progress"].update(batches=99), "99 batches of an epoch of 4"),
    "log": (
        lambda c: c["progress"].update(log=dict(path="../../etc/passwd", bytes=99)),
        "'../../etc/passwd' is no log of this run",
    ),
}


@pytest.mark.parametrize("case", FORGED)
def test_what_does_not_fit_is_a_line(case, trained, tmp_path, capsys):
    edit, message = FORGED[case]
    forged = forge(trained[1], tmp_path / "forged.pth", edit)
    assert resume(trained[0], tmp_path / "run", forged) == EXIT_ERROR
    error = capsys.readouterr().err
    assert error.startswith("error: cannot resume") and message in error
    assert error.count("\n") == 1


def test_the_middle_of_an_epoch_goes_on_with_another_batch_size_and_not_with_other_videos(
    trained, tmp_path, capsys
):
    """Two batches of 4 are done of 16 videos: four of 2 are left."""

    def edit(num_videos: int) -> Callable[[dict], Any]:
        changes = dict(batches=2, num_videos=num_videos)
        return lambda checkpoint: checkpoint["progress"].update(changes)

    forged = forge(trained[1], tmp_path / "iter_6.pth", edit(num_videos=15))
    assert resume(trained[0], tmp_path / "run", forged) == EXIT_ERROR
    error = capsys.readouterr().err
    assert "cannot resume in the middle of an epoch: num_videos was 15, now 16. Resume" in error
    forged = forge(trained[1], tmp_path / "iter_6.pth", edit(num_videos=16))
    assert resume(trained[0], tmp_path / "run", forged, "--batch-size", "2") == EXIT_OK
    text = capsys.readouterr().out
    assert "resumed with other batch_size: not the same run" in text
    assert (
        "batch_size was 4, now 2: from here on the rates of such a run (0.000390625, was 0.0078"
        in text
    )
    assert load_checkpoint(tmp_path / "run" / "epoch_2.pth")["meta"]["iter"] == 8


def test_each_iteration_and_process_has_draws_of_its_own(monkeypatch):
    def drawn(iteration: int) -> tuple[float, float, float]:
        runner: Any = SimpleNamespace(seed=7, iter=iteration)
        ResumeHook().before_train_iter(runner, 0)
        return random.random(), float(np.random.rand()), float(torch.rand(()))

    first, fifth = drawn(0), drawn(4)
    assert all(one != other for one, other in zip(first, fifth, strict=True))
    assert drawn(0) == first and drawn(4) == fifth
    monkeypatch.setattr(resume_hook, "get_rank", lambda: 1)
    assert all(one != other for one, other in zip(first, drawn(0), strict=True))


def test_the_seed_is_that_of_the_checkpoint(trained, tmp_path):
    """The config of a run that was given none says none, and its resumes draw as it did."""
    forged = forge(trained[1], tmp_path / "forged.pth", lambda c: c["meta"].update(seed=9))
    outcomes = []
    for seed in (7, 9):
        time.sleep(1)  # in one process MMEngine takes the log of a run of the same second
        assert resume(trained[0], tmp_path / f"{seed}", forged, "--seed", f"{seed}") == EXIT_OK
        outcomes.append(outcome(tmp_path / f"{seed}"))
    assert differences(*outcomes) == []


def test_an_epoch_of_which_all_batches_are_done_is_ended(trained, tmp_path, capsys):
    """What `--checkpoint-every` and SIGTERM save at the last iteration of an epoch."""

    def before_its_end(checkpoint: dict) -> None:
        checkpoint["meta"].update(epoch=0)
        checkpoint["progress"].update(batches=4)

    forged = forge(trained[1], tmp_path / "iter_4.pth", before_its_end)
    assert resume(trained[0], tmp_path / "run", forged) == EXIT_OK
    assert (tmp_path / "run" / "epoch_1.pth").is_file()
    assert load_checkpoint(tmp_path / "run" / "epoch_2.pth")["meta"]["iter"] == 8


def test_no_file_but_its_own_best_is_removed_and_changed_settings_are_named(
    trained, tmp_path, capsys
):
    """The first epoch after the resume is better than -1, and the one before it is removed."""
    config, work_dir = trained
    (best,) = work_dir.glob("best_*.pth")
    mine = tmp_path / "precious.txt"
    mine.touch()
    for number, victim in enumerate((best, mine)):
        forged = forge(work_dir, tmp_path / "forged.pth", best_is(victim))
        folder = tmp_path / f"run_{number}"
        flags = ("--cfg-options", "optim_wrapper.optimizer.lr=0.25")
        assert resume(config, folder, forged, *flags) == EXIT_OK
        assert list(folder.glob("best_*_epoch_2.pth")), "a new best, so the old one was due"
        assert victim.is_file()
        said = capsys.readouterr().out
        assert "resumed with the checkpoint's, not the config's: lr 0.0078125, not 0.0039" in said


def test_in_its_own_folder_the_best_before_is_still_removed(trained, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(trained[1], folder)
    (best,) = folder.glob("best_*.pth")
    forged = forge(trained[1], folder / "epoch_1.pth", best_is(best))
    assert resume(trained[0], folder, forged) == EXIT_OK
    assert [path.name for path in folder.glob("best_*.pth")] == ["best_acc_top1_epoch_2.pth"]
    assert load_checkpoint(folder / "epoch_2.pth")["meta"]["iter"] == 8, "no batch is passed over"


def saved_by(lr: float, step_size: int) -> tuple[SimpleNamespace, dict]:
    """Returns a runner with an optimizer and a schedule, and the checkpoint that it would save."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(2))], lr=lr, momentum=0.9)
    wrapper, scheduler = OptimWrapper(optimizer), StepLR(optimizer, step_size=step_size)
    runner = SimpleNamespace(optim_wrapper=wrapper, param_schedulers=[scheduler], logger=Mock())
    runner._train_loop = None
    meta, states = dict(seed=0, epoch=0, iter=0), [scheduler.state_dict()]
    checkpoint = dict(state_dict={}, meta=meta, message_hub={}, param_schedulers=states)
    return runner, {**checkpoint, "optimizer": wrapper.state_dict()}


def test_settings_that_the_checkpoint_changes_are_named():
    runner, own = saved_by(lr=0.01, step_size=3)
    check_resumable(own, "x.pth", runner)
    runner.logger.warning.assert_not_called()
    check_resumable(saved_by(lr=0.02, step_size=5)[1], "x.pth", runner)
    _, changed = runner.logger.warning.call_args.args
    assert changed == "lr 0.02, not 0.01; StepLR step_size 5, not 3"


def test_another_number_of_epochs_is_counted_within_an_epoch_too():
    """An epoch of 4 iterations and 2 of the next: 6 of the 9 steps from a tenth of the rate on."""
    runner, checkpoint = saved_by(lr=0.01, step_size=3)
    warmup = dict(start_factor=0.1, by_epoch=False, begin=0, end=10)
    runner.build_param_scheduler = lambda _: [LinearLR(runner.optim_wrapper.optimizer, **warmup)]
    runner.cfg = ConfigDict(param_scheduler=[warmup])
    runner.train_dataloader = DataLoader(range(20), batch_size=5)
    runner.train_loop = SimpleNamespace(dataloader=runner.train_dataloader)
    checkpoint["meta"]["epoch"] = 1
    checkpoint["progress"] = dict(batches=2, batch_size=5, num_processes=1)
    resume_hook.reschedule(checkpoint, runner, "2 epochs, not 3")
    assert checkpoint["optimizer"]["param_groups"][0]["lr"] == pytest.approx(0.007)


@pytest.mark.parametrize("seed", [0, 2**32 - 1, None])
def test_every_seed_that_a_run_can_have_is_taken(seed):
    runner, checkpoint = saved_by(lr=0.01, step_size=3)
    checkpoint["meta"]["seed"] = seed
    check_resumable(checkpoint, "x.pth", runner)
    checkpoint["meta"]["seed"] = 2**32
    with pytest.raises(UserError, match="its seed is 4294967296"):
        check_resumable(checkpoint, "x.pth", runner)


@pytest.mark.parametrize("key", ["state_dict", "meta", "message_hub", "optimizer"])
def test_what_is_missing_is_named(key):
    runner, checkpoint = saved_by(lr=0.01, step_size=3)
    del checkpoint[key]
    with pytest.raises(
        UserError, match=rf"cannot resume from checkpoint x\.pth: it has no {key}\."
    ):
        check_resumable(checkpoint, "x.pth", runner)


@pytest.mark.parametrize(
    ("epoch", "begin", "interval", "validated", "due"),
    [
        (0, 0, 1, None, False),  # nothing is trained yet
        (1, 1, 1, None, True),
        (1, 1, 1, 1, False),
        (2, 1, 1, 1, True),
        (1, 2, 1, None, False),
        (3, 1, 2, 2, False),
        (4, 1, 2, 2, True),
        (5, 1, 2, 4, True),  # the last one
    ],
)
def test_a_validation_that_a_kill_prevented_is_due(epoch, begin, interval, validated, due):
    loop = SimpleNamespace(val_begin=begin, val_interval=interval, max_epochs=5)
    hub = SimpleNamespace(runtime_info=dict(last_validated=validated))
    runner = SimpleNamespace(train_loop=loop, epoch=epoch, message_hub=hub)
    runner.val_loop = ValLoop.__new__(ValLoop)
    assert resume_hook._validation_is_due(runner) is due
    runner.val_loop = None
    assert not resume_hook._validation_is_due(runner)


def test_a_validation_that_a_kill_prevented_is_made_up_for_once(trained, tmp_path):
    """The checkpoint before it then knows of it, and of the best score, as without the kill."""
    folder, best = tmp_path / "run", ("last_validated", "best_score", "best_ckpt")

    def before_it(checkpoint: dict) -> None:
        checkpoint["progress"]["log"].update(bytes=0)
        for key in best:
            del runtime_of(checkpoint)[key]

    shutil.copytree(trained[1], folder)
    forged = forge(trained[1], folder / "epoch_1.pth", before_it)
    for epochs in (1, 2):
        assert resume(trained[0], folder, forged, "--epochs", str(epochs)) == EXIT_OK
        assert {*best} <= runtime_of(load_checkpoint(forged)).keys()
    log = sorted(folder.glob("*/vis_data/scalars.json"))[-1].read_text().splitlines()
    assert [line["step"] for line in map(json.loads, log) if "acc/top1" in line] == [1, 2]


def test_a_log_starts_with_what_was_logged_when_the_run_was_saved(tmp_path):
    before = tmp_path / "1" / "vis_data" / "scalars.json"
    before.parent.mkdir(parents=True)
    before.write_text("abcdef")
    runner = SimpleNamespace(work_dir=str(tmp_path), log_dir=str(tmp_path / "2"))
    resume_hook._restore_log(runner, dict(path="1/vis_data/scalars.json", bytes=4))
    assert (tmp_path / "2" / "vis_data" / "scalars.json").read_text() == "abcd"
    for path in ("../x/vis_data/scalars.json", "1/other.json"):
        with pytest.raises(ValueError, match="is no log of this run"):
            resume_hook._restore_log(runner, dict(path=path, bytes=4))


def test_weights_that_are_no_numbers_are_not_saved():
    weights = {"a": torch.ones(1), "b": torch.tensor([0.0, torch.nan])}
    with pytest.raises(UserError, match="weight b is not finite after iteration 5: nothing was"):
        runner: Any = SimpleNamespace(iter=4)
        ResumeHook().before_save_checkpoint(runner, dict(state_dict=weights))


def test_only_progress_before_is_removed(tmp_path):
    for name in ("iter_5.pth", "iter_7.pth", "iter_9.pth", "epoch_1.pth"):
        (tmp_path / name).touch()
    resume_hook._remove_progress(SimpleNamespace(work_dir=str(tmp_path)), before=7)
    left = sorted(path.name for path in tmp_path.iterdir())
    assert left == ["epoch_1.pth", "iter_7.pth", "iter_9.pth"]
