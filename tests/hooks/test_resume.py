"""Killed and interrupted runs end as the undisturbed one: real processes, real signals."""

import json
import re
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from jobs import output, run, wait_for, with_hook, with_lines

from benchmarks import small_job as job
from benchmarks.kill_resume import kill_and_compare, kill_within
from mmact_tiny.checkpoints.load import load_checkpoint
from mmact_tiny.runs import newest_checkpoint, open_run


@pytest.fixture(scope="module")
def undisturbed(config: Path) -> dict[str, Any]:
    work_dir = run(config, config.parent / "undisturbed")
    assert not list(work_dir.glob("iter_*.pth")), "epochs are over"
    return job.outcome(work_dir)


def test_killed_and_resumed_runs_are_identical(config, undisturbed, tmp_path):
    """In an epoch, and within the write of a checkpoint; the slow test has 20 at random moments."""
    work_dir = tmp_path / "run"
    process = job.start(config, work_dir)
    wait_for(lambda: "[2][3/4]" in output(work_dir), process)
    process.kill()
    process.join()
    again = job.start(config, work_dir)
    assert kill_within(again, work_dir, 0, writes=1) is not None
    again.join()
    assert job.differences(undisturbed, job.outcome(run(config, work_dir))) == []


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_twenty_killed_runs_are_identical(tmp_path):
    rows = kill_and_compare(tmp_path, runs=20, seed=0)
    assert [row["run"] for row in rows if row["differences"]] == []


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGUSR1, 138)]
)
def test_a_signal_saves_within_an_iteration_and_resumes_identical(
    config, undisturbed, tmp_path, number, status
):
    marker = str(tmp_path / "sent")
    hook = f"dict(type='SignalInIteration', iteration=6, number={number:d}, marker={marker!r})"
    signalling = with_hook(config, tmp_path, hook)
    work_dir, changes = tmp_path / "run", {"checkpoints": {"every": None}}
    run(signalling, work_dir, changes, status)
    checkpoint = newest_checkpoint(work_dir)
    assert checkpoint == work_dir / "iter_7.pth", "saved after the iteration it was in"
    assert load_checkpoint(checkpoint)["meta"]["iter"] == 7
    assert output(work_dir).count("Epoch(train)") in (6, 7)
    assert f"saved {checkpoint}; --resume goes on from there" in output(work_dir)
    run(signalling, work_dir, changes)
    assert job.differences(undisturbed, job.outcome(work_dir)) == []
    # The log of the last process is that of the whole run: no gap, nothing twice.
    log = sorted(work_dir.glob("*/vis_data/scalars.json"))[-1]
    steps = [line["step"] for line in map(json.loads, log.read_text().splitlines()) if "lr" in line]
    assert steps == list(range(1, 13))


def test_a_signal_within_a_validation_saves_and_resumes_identical(config, undisturbed, tmp_path):
    """The validation starts anew. A resume here tells the same run but for the hook."""
    hook = f"dict(type='SignalInValidation', epoch=2, marker={str(tmp_path / 'sent')!r})"
    signalling = with_hook(config, tmp_path, hook)
    work_dir = run(signalling, tmp_path / "run", status=143)
    assert f"SIGTERM: saved {work_dir / 'iter_8.pth'}; --resume goes on" in output(work_dir)
    assert job.differences(undisturbed, job.outcome(run(signalling, work_dir))) == []


def test_gradients_that_wait_for_their_step_survive_a_kill(config, tmp_path):
    """Steps of 3 iterations, checkpoints every 2 and at the end of an epoch, which has 4."""
    hook = "dict(type='EarlyStoppingHook', monitor='acc/top1', patience=1, min_delta=2)"
    stopping = f"custom_hooks = [{hook}]"
    accumulate = "optim_wrapper = dict(accumulative_counts=3)"
    accumulating = with_lines(config, tmp_path, accumulate, stopping)
    expected = job.outcome(run(accumulating, tmp_path / "undisturbed"))
    work_dir = tmp_path / "run"
    for place in ("[1][3/4]", "[2][2/4]"):
        killed = job.start(accumulating, work_dir)
        wait_for(lambda place=place: place in output(work_dir), killed)
        killed.kill()
        killed.join()
    run(accumulating, work_dir)
    assert "gradients of the step under way restored" in output(work_dir)
    assert job.differences(expected, job.outcome(work_dir)) == []
    # No accuracy is better by 2, so the hook stopped both runs after the second epoch.
    for path in (tmp_path / "undisturbed", work_dir):
        last_checkpoint = newest_checkpoint(path)
        assert last_checkpoint is not None and last_checkpoint.name == "epoch_2.pth"


def test_a_second_run_is_refused_and_a_killed_one_is_not_in_the_way(config, tmp_path):
    work_dir = tmp_path / "run"
    first = job.start(config, work_dir)
    wait_for(lambda: "[1][1/4]" in output(work_dir), first)
    run(config, work_dir, status=2)
    assert f"{work_dir} is in use by process {first.pid} on " in output(work_dir)
    first.kill()
    first.join()
    iterations = output(work_dir).count("Epoch(train)")
    third = job.start(config, work_dir)
    wait_for(lambda: output(work_dir).count("Epoch(train)") > iterations, third)
    third.kill()
    third.join()


def test_a_loss_that_is_no_number_stops_and_keeps_the_good_checkpoint(config, tmp_path):
    schedule = "param_scheduler = [dict(type='MultiStepLR', milestones=[1], gamma=1e22)]"
    clip = "optim_wrapper = dict(clip_grad=dict(max_norm=40))"
    changes = {"checkpoints": {"every": None}, "schedule": {"max_epochs": 2}}
    explosive = with_lines(config, tmp_path, schedule, clip)
    work_dir = run(explosive, tmp_path / "run", changes, status=2)
    text = output(work_dir)
    error = text[text.index("error: the loss is nan at iteration 6 (epoch 2, batch 2)") :]
    assert "Traceback" not in error
    for part in (
        f"kept: {work_dir / 'epoch_1.pth'}",
        "learning rate: 7.8125e+19",
        "gradient norm: ",
    ):
        assert part in error
    assert error.count(".mp4") == 4, "names the four videos of the batch"
    for path in work_dir.glob("*.pth"):
        weights = load_checkpoint(path)["state_dict"].values()
        assert all(tensor.isfinite().all() for tensor in weights if tensor.is_floating_point())


def test_a_run_knows_its_own_checkpoints_from_what_it_started_from(
    config: Path, tmp_path: Path
) -> None:
    """The second run starts from the first one's last epoch, in the same folder; it goes on."""
    work_dir, first = tmp_path / "run", tmp_path / "run/epoch_3.pth"
    run(config, work_dir)
    weights, dump = first.read_bytes(), (work_dir / config.name).read_text()
    torch.save({"state_dict": {"backbone.other": torch.ones(3)}}, tmp_path / "other.pth")
    run(config, work_dir, {"pretrained": {"weights": str(tmp_path / "other.pth")}}, status=2)
    assert open_run(work_dir).checkpoint.read_bytes() and first.read_bytes() == weights
    assert (work_dir / config.name).read_text() == dump  # a start that fails changes nothing
    changes = {"schedule": {"max_epochs": 2}, "pretrained": {"weights": str(first)}}
    run(config, work_dir, changes | {"checkpoints": {"every": 1}})
    assert first.read_bytes() == weights
    assert newest_checkpoint(work_dir) == work_dir / "epoch_2.pth"
    before = len(output(work_dir))
    resumed = {"resume": True, "work_dir": str(work_dir)}
    run(config, work_dir, {"schedule": {"max_epochs": 4}, "pretrained": resumed})
    text = output(work_dir)[before:]
    assert f"Auto resumed from the latest checkpoint {work_dir / 'epoch_2.pth'}" in text
    scores = [float(score) for score in re.findall(r"acc/top1: ([\d.]+)", output(work_dir))]
    info = load_checkpoint(work_dir / "epoch_4.pth")["message_hub"]["runtime_info"]
    assert info["best_score"] == pytest.approx(max(scores[3:]), abs=1e-4)
    assert not [*work_dir.glob("earlier/*/iter_1.pth")], "the new run's own"
    (kept,) = work_dir.glob("earlier/*/epoch_3.pth")
    assert kept.read_bytes() == weights
