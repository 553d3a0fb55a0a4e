"""Jobs of two processes, which talk through gloo: they stop together and resume exactly."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest
from conftest import ROOT
from jobs import output, wait_for, with_lines
from torch.distributed import TCPStore

from benchmarks import small_job as job
from mmact_tiny.errors import EXIT_PARTIAL
from mmact_tiny.hooks.processes import meet_processes
from mmact_tiny.runs import newest_checkpoint
from tools import test

ACCUMULATE = "optim_wrapper = dict(accumulative_counts=3)"
IMPORTS = "custom_imports = dict(imports=['disturbances'])"
# The loss reads what the first stage gives: the second one has no gradient, nor have frozen layers.
UNUSED = """
model["backbone"].update(out_indices=(0,), frozen_stages=0)
model["cls_head"]["in_channels"] = 64
"""
NO_PROGRESS: dict[str, Any] = {"checkpoints": {"every": None}}
# Python's own thread at the end of a loader, now and then: it closes a pipe that is closed already.
FEEDER = re.compile(
    r"Exception in thread QueueFeederThread:\n.*?\nValueError: semaphore [^\n]*\n", re.DOTALL
)


def end(processes: list[Any], seconds: float = 300) -> list[int | None]:
    """Returns the exit statuses by rank; a process that hangs is killed, and has -9."""
    last = time.monotonic() + seconds
    for process in processes:
        process.join(max(0.0, last - time.monotonic()))
        process.kill()
        process.join()
    return [process.exitcode for process in processes]


def test_a_signalled_job_saves_once_and_resumes_identical(config, tmp_path):
    """In the middle of an epoch, and of a step of 3 iterations; one process gets the signal."""
    accumulating = with_lines(config, tmp_path, ACCUMULATE)
    changes = {**NO_PROGRESS, "batch_size": {"train": 2}, "schedule": {"max_epochs": 2}}
    undisturbed, work_dir = tmp_path / "undisturbed", tmp_path / "run"
    assert end(job.start_ranks(accumulating, undisturbed, changes)) == [0, 0], output(undisturbed)
    processes = job.start_ranks(accumulating, work_dir, changes)
    wait_for(lambda: "[2][1/4]" in output(work_dir), processes[0])
    os.kill(processes[1].pid, signal.SIGTERM)
    assert end(processes, 60) == [143, 143], output(work_dir)
    checkpoint = newest_checkpoint(work_dir)
    text = output(work_dir)
    assert text.count("--resume goes on from there") == 1
    assert f"SIGTERM: saved {checkpoint}; " in text
    assert checkpoint.name in ("iter_5.pth", "iter_6.pth", "iter_7.pth")
    assert "without a gradient" not in text
    assert end(job.start_ranks(accumulating, work_dir, changes)) == [0, 0], output(work_dir)
    assert job.differences(job.outcome(undisturbed), job.outcome(work_dir)) == []


def test_processes_that_start_again_do_not_meet_those_that_ended(monkeypatch):
    """torchrun gives both the same store, and any of them may be late."""
    server = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    monkeypatch.setenv("TORCHELASTIC_USE_AGENT_STORE", "True")
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    monkeypatch.setenv("MASTER_PORT", str(server.port))

    def meet(rank: int, seconds: float) -> Any:
        time.sleep(seconds)
        return meet_processes(rank, 3)

    for delays in ([0, 0, 0], [0.3, 0, 0], [0, 0.3, 0]):
        with ThreadPoolExecutor(3) as pool:
            stores = list(pool.map(meet, range(3), delays))
        assert not any(store.check(["address"]) for store in stores)
        stores[0].set("address", str(delays))
        assert {store.get("address").decode() for store in stores} == {str(delays)}


def test_a_killed_process_starts_the_job_again(config, tmp_path):
    """By torchrun's agent, from the newest checkpoint; the benchmark kills at random moments."""
    undisturbed, work_dir = tmp_path / "undisturbed", tmp_path / "run"
    changes = {"schedule": {"max_epochs": 2}, "batch_size": {"train": 2}}
    assert end(job.start_ranks(config, undisturbed, changes)) == [0, 0], output(undisturbed)
    agent = job.start_elastic(config, work_dir, changes)
    wait_for(lambda: "[2][2/4]" in output(work_dir), agent)
    held_by = re.findall(r"process (\d+)", (work_dir / ".lock").read_text())
    os.kill(int(held_by[0]), signal.SIGKILL)
    assert end([agent]) == [0], output(work_dir)[-3000:]
    assert "Auto resumed from the latest checkpoint" in output(work_dir)
    assert job.differences(job.outcome(undisturbed), job.outcome(work_dir)) == []


@pytest.mark.parametrize("num_processes", [1, 3])
def test_a_job_goes_on_with_another_number_of_processes(config, tmp_path, num_processes):
    """From the middle of an epoch: each of its videos is seen once, at the rate of the rule."""
    seen, work_dir = tmp_path / "seen.txt", tmp_path / "run"
    hook = f"custom_hooks = [dict(type='SeenVideos', file={str(seen)!r})]"
    recording = with_lines(config, tmp_path, IMPORTS, hook, ACCUMULATE)
    changes = {**NO_PROGRESS, "batch_size": {"train": 2}, "schedule": {"max_epochs": 2}}
    processes = job.start_ranks(recording, work_dir, changes)
    wait_for(lambda: "[2][1/4]" in output(work_dir), processes[0])
    os.kill(processes[1].pid, signal.SIGTERM)
    assert end(processes, 60) == [143, 143], output(work_dir)
    again = job.start_ranks(recording, work_dir, changes, num_processes)
    assert end(again) == [0] * num_processes, output(work_dir)
    assert f"num_processes was 2, now {num_processes}: from here on" in output(work_dir)
    videos: dict[str, Counter[str]] = {"1": Counter(), "2": Counter()}
    for epoch, *names in map(str.split, seen.read_text().splitlines()):
        videos[epoch].update(names)
    every = dict.fromkeys((f"{number}.mp4" for number in range(16)), 1)
    assert videos["1"] == every
    # Three processes have as many videos each: one or two of the others fill up.
    assert videos["2"].keys() == every.keys() and videos["2"].total() - 16 <= num_processes - 1
    log = sorted(work_dir.glob("*/vis_data/scalars.json"))[-1]
    rates = [line["lr"] for line in map(json.loads, log.read_text().splitlines()) if "lr" in line]
    assert rates[:4] == [0.5 * 4 * 3 / 256] * 4  # batch 2 in 2 processes, steps of 3 iterations
    assert rates[-1] == pytest.approx(0.1 * 0.5 * 2 * num_processes * 3 / 256)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_under_torchrun(config, tmp_path):
    """SIGTERM to torchrun, then SIGKILL to one process of the job, then the end."""
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", "--standalone"]
    command += ["tools/train.py", str(config), "--launcher", "pytorch", "--device", "cpu"]
    command += ["--verbose", "--resume", "--checkpoint-every", "2", "--work-dir"]

    def start(work_dir: Path) -> subprocess.Popen:
        work_dir.mkdir(exist_ok=True)
        log = (work_dir / "output.txt").open("a")
        environ = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        arguments = [*command, str(work_dir)]
        return subprocess.Popen(arguments, cwd=ROOT, env=environ, stdout=log, stderr=log)

    undisturbed, work_dir = tmp_path / "undisturbed", tmp_path / "run"
    assert start(undisturbed).wait(300) == 0, output(undisturbed)[-3000:]
    first = start(work_dir)
    wait_for(lambda: "[1][1/2]" in output(work_dir), first)
    first.terminate()
    assert first.wait(60) != 0
    assert output(work_dir).count("SIGTERM: saved ") == 1
    second = start(work_dir)
    wait_for(lambda: "[2][1/2]" in output(work_dir), second)
    ranks = [
        child
        for child in psutil.Process(second.pid).children()
        if child.environ().get("LOCAL_RANK") == "1"
    ]
    ranks[0].kill()
    assert second.wait(60) != 0
    assert start(work_dir).wait(300) == 0, output(work_dir)[-3000:]
    assert job.differences(job.outcome(undisturbed), job.outcome(work_dir)) == []


def test_what_is_wrong_with_the_lists_is_found_together_and_told_once(config, tmp_path):
    lists, changed = tmp_path / "lists", with_lines(config, tmp_path)
    shutil.copytree(config.parent / "data", lists)
    for number in (4, 5):  # one in the share of each process
        (lists / "train" / f"{number}.mp4").unlink()
    changed.write_text(changed.read_text().replace(str(config.parent / "data"), str(lists)))
    assert end(job.start_ranks(changed, tmp_path / "run"), 60) == [2, 2]
    error = output(tmp_path / "run")
    assert error.count("error: ") == 1 and error.count("no file ") == 2
    assert "error: 2 problem(s) in the annotations:\n" in error


def start_apart() -> None:
    from mmact_tiny.hooks.processes import check_same_start, start_processes

    start_processes({"launcher": "pytorch"})
    check_same_start("run/epoch_2.pth" if os.environ["RANK"] == "0" else "the beginning")


def test_processes_that_would_go_on_from_different_places_are_refused(tmp_path):
    """As with a work directory that the machines do not share: they would train apart, silently."""
    assert end(job.fork_ranks(start_apart, (), tmp_path, 2), 60) == [1, 2]
    message = "process 0 starts from run/epoch_2.pth, process 1 from the beginning: expected one"
    assert output(tmp_path).count(message) == 1


def test_parameters_without_a_gradient_are_found(config, tmp_path):
    work_dir = tmp_path / "run"
    changes = {"batch_size": {"train": 4}, "schedule": {"max_epochs": 1}}
    unused = with_lines(config, tmp_path, UNUSED)
    assert end(job.start_ranks(unused, work_dir, changes), 120) == [0, 0], output(work_dir)
    named = "parameters without a gradient: backbone.layer2.0.conv1.conv.weight and 14 more have"
    assert output(work_dir).count(named) == 1


def test_nan_in_one_process_stops_all_and_names_its_videos(config, tmp_path):
    hook = "custom_hooks = [dict(type='PoisonedBatch', rank=1, iteration=2)]"
    poisoned = with_lines(config, tmp_path, IMPORTS, hook)
    work_dir = tmp_path / "run"
    changes = {"checkpoints": {"every": 1}, "batch_size": {"train": 2}}
    assert end(job.start_ranks(poisoned, work_dir, changes), 60) == [2, 2]
    text = output(work_dir)
    assert text.count("error: ") == 1 and "Traceback" not in FEEDER.sub("", text)
    error = text[text.index("error: ") :]
    assert "error: the loss is nan at iteration 3 (epoch 1, batch 3); kept: " in error
    assert f"{work_dir / 'iter_2.pth'}" in error
    assert "videos of process 1: " in error and "process 0" not in error
    assert error.count(".mp4") == 2


@pytest.mark.slow
def test_the_bad_videos_of_all_processes_are_counted_over_the_job(config, tmp_path):
    """Each process meets less than the share allowed, all together more; then all are allowed."""
    data = tmp_path / "data"
    shutil.copytree(config.parent / "data", data)
    broken = {"train": [5, 6, 7], "val": [1, 2]}
    for split, numbers in broken.items():
        for number in numbers:
            (data / split / f"{number}.mp4").write_text("not a video")
    job_file = with_lines(config, tmp_path)
    job_file.write_text(job_file.read_text().replace(str(config.parent / "data"), str(data)))
    changes: dict[str, Any] = {**NO_PROGRESS, "schedule": {"max_epochs": 1}}
    stopped = tmp_path / "stopped"
    changes["data_guard"] = {"max_bad_fraction": 0.18}
    assert end(job.start_ranks(job_file, stopped, changes), 60) == [2, 2]
    text = output(stopped)
    assert text.count("error: ") == 1 and "Traceback" not in FEEDER.sub("", text)
    assert "3 of 16 train videos cannot be read, more than max_bad_fraction=0.18 allows" in text

    work_dir = tmp_path / "run"
    changes["data_guard"] = {"max_bad_fraction": 0.5}
    assert end(job.start_ranks(job_file, work_dir, changes), 60) == [0, 0], output(work_dir)
    assert [path.name for path in work_dir.glob("bad_videos*")] == ["bad_videos.json"]
    rows = json.loads((work_dir / "bad_videos.json").read_text())
    found = {(row["split"], Path(row["video"]).name) for row in rows}
    assert found == {(split, f"{n}.mp4") for split, numbers in broken.items() for n in numbers}
    text = output(work_dir)
    for split, numbers in broken.items():
        for number in numbers:
            assert text.count(f"cannot read {data / split / f'{number}.mp4'}: ") == 1
    assert text.count("3 train video(s) could not be read, met 3 time(s)") == 1
    assert text.count("2 val video(s) could not be read, met 2 time(s)") == 1

    out = tmp_path / "test.json"
    arguments = ["--work-dir", str(work_dir), "--protocol", "val", "--device", "cpu"]
    arguments += ["--launcher", "pytorch", "--out", str(out)]
    processes = job.fork_ranks(run_test, (arguments,), tmp_path, 2)
    assert end(processes, 60) == [EXIT_PARTIAL, 0], output(tmp_path)
    rows = json.loads(out.read_text())["videos"]
    assert sorted(Path(row["video"]).name for row in rows if "scores" in row) == ["0.mp4", "3.mp4"]
    assert sorted(Path(row["video"]).name for row in rows if "error" in row) == ["1.mp4", "2.mp4"]


def run_test(arguments: list[str]) -> None:
    raise SystemExit(test.main(arguments))


def check_first_gradients() -> None:
    """The mean of both processes' gradients, computed here alone, is what each has."""
    import copy
    from types import SimpleNamespace

    import torch
    from torch.nn.parallel import DistributedDataParallel

    from mmact_tiny.hooks.precision import PrecisionHook
    from mmact_tiny.hooks.processes import start_processes

    start_processes({"launcher": "pytorch"})
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.Conv2d(8, 4, 3))
    alone = copy.deepcopy(model)
    runner: Any = SimpleNamespace(
        model=DistributedDataParallel(model),
        cfg={"find_unused_parameters": False},
        wrap_model=lambda cfg, model: DistributedDataParallel(model),
    )
    hook = PrecisionHook()
    hook.before_run(runner)
    hook.before_train_iter(runner, 0)
    inputs = torch.rand(2, 2, 3, 12, 12)
    runner.model(inputs[torch.distributed.get_rank()]).square().sum().backward()
    (sum(alone(part).square().sum() for part in inputs) / 2).backward()
    for here, there in zip(model.parameters(), alone.parameters(), strict=True):
        torch.testing.assert_close(here.grad, there.grad)


def test_the_first_step_has_the_mean_of_all_gradients(tmp_path):
    """DDP notes each parameter's layout, and channels_last changes it."""
    processes = job.fork_ranks(check_first_gradients, (), tmp_path, 2)
    assert end(processes, 60) == [0, 0], output(tmp_path)
