"""A real Slurm of one node runs tools/slurm.sh, warns and preempts it, and sees it end right."""

import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import ROOT

from benchmarks import small_job as job

CONF = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmUser={user}
SlurmdUser={user}
SlurmctldPort=26817
SlurmdPort=26818
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
StateSaveLocation={folder}
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
NodeName={host} NodeAddr=127.0.0.1 CPUs={cores}
PartitionName=low Nodes={host} Default=YES PriorityTier=1 GraceTime=60 State=UP
PartitionName=high Nodes={host} PriorityTier=2 State=UP
"""


def wait_until(condition: Callable[[], object], seconds: float = 180) -> None:
    last = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < last
        time.sleep(0.2)


def ask(*words: object) -> str:
    done = subprocess.run([*map(str, words)], capture_output=True, text=True, cwd=ROOT)
    return done.stdout + done.stderr


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Slurm's two daemons and munge, with files of their own; they run in the foreground."""
    sbin = f"{os.environ['PATH']}:/usr/sbin"
    programs = [shutil.which(name, path=sbin) for name in ("munged", "slurmctld", "slurmd")]
    if None in programs or shutil.which("sbatch") is None:
        pytest.skip("no Slurm here: apt install slurm-wlm munge")
    folder = Path(f"/tmp/slurm_{os.getpid()}")  # a socket's path is short, and all may enter it
    (folder / "spool").mkdir(parents=True)
    (folder / "munge.key").write_bytes(os.urandom(128))
    (folder / "munge.key").chmod(0o400)
    facts = dict(host=socket.gethostname().split(".")[0], cores=os.cpu_count(), folder=folder)
    (folder / "slurm.conf").write_text(CONF.format(user=Path.home().owner(), **facts))
    monkeypatch.setenv("SLURM_CONF", f"{folder}/slurm.conf")
    munge = [f"--{name}-file={folder}/munge.{name}" for name in ("key", "pid", "log", "seed")]
    munge += [f"--socket={folder}/munge.socket", "--foreground"]
    daemons = []
    try:
        for program, arguments in zip(programs, (munge, ["-D"], ["-D"]), strict=True):
            with (folder / "daemons.txt").open("a") as log:
                daemons.append(subprocess.Popen([program, *arguments], stdout=log, stderr=log))
            time.sleep(1)
        wait_until(lambda: "idle" in ask("sinfo", "--noheader"), 30)
        yield
    except AssertionError as error:
        text = (folder / "daemons.txt").read_text()[-500:]
        pytest.skip(f"Slurm does not run here: {text}") if "idle" in str(error) else None
        raise
    finally:
        for daemon in reversed(daemons):
            daemon.terminate()
            daemon.wait()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.usefixtures("slurm")
def test_a_job_is_warned_and_preempted_and_ends_as_an_undisturbed_one(config, tmp_path):
    """Two processes on one node; then another partition's job takes the node for a moment."""
    undisturbed, work_dir, log = tmp_path / "undisturbed", tmp_path / "run", tmp_path / "log.txt"
    for process in job.start_ranks(config, undisturbed, {"batch_size": {"train": 1}}):
        process.join()
    environ = {"PYTHON": sys.executable, "NPROC": "2", "PYTHONPATH": ROOT, "OMP_NUM_THREADS": 1}
    words = ["env", *(f"{name}={value}" for name, value in environ.items()), "sbatch"]
    words += [f"--output={log}", f"--cpus-per-task={os.cpu_count()}", "tools/slurm.sh"]
    words += ["tools/train.py", config, "--device", "cpu", "--verbose", "--work-dir", work_dir]
    words += ["--batch-size", "1"]
    (number,) = re.findall(r"Submitted batch job (\d+)", ask(*words))

    def trains(epoch: int) -> None:
        text = f"Epoch(train) [{epoch}]"
        wait_until(lambda: log.is_file() and text in log.read_text())

    def state() -> str:
        return ask("squeue", "--noheader", "--format=%T", "--states=all", "--jobs", number).strip()

    def begins_again() -> bool:
        ask("scontrol", "update", f"jobid={number}", "starttime=now")  # not in two minutes
        return state() == "RUNNING"

    trains(epoch=1)
    ask("scancel", "--batch", "--signal=USR1", number)  # as Slurm does before the time limit
    wait_until(lambda: state() == "PENDING")
    assert log.read_text().count("SIGTERM: saved ") == 1, log.read_text()[-5000:]
    wait_until(begins_again)
    trains(epoch=2)
    ask(
        "sbatch",
        "--partition=high",
        f"--cpus-per-task={os.cpu_count()}",
        "--output=/dev/null",
        "--wrap=sleep 1",
    )
    wait_until(lambda: state() == "PENDING")
    assert log.read_text().count("SIGTERM: saved ") == 2, log.read_text()[-5000:]
    wait_until(begins_again)
    wait_until(lambda: state() == "COMPLETED")
    assert job.differences(job.outcome(undisturbed), job.outcome(work_dir)) == []
