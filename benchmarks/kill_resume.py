"""Kills training runs with SIGKILL at random moments, resumes them, and compares what comes out.

python benchmarks/kill_resume.py --runs 20
python benchmarks/kill_resume.py --runs 20 --processes 2

Each run is killed up to three times, at a moment drawn from its whole time or within the write
of a checkpoint, and resumed until it ends. It has to end with bitwise the weights, optimizer
state, losses, metrics and best score of a run that was left alone. With several processes a kill
hits one of them, and it is torchrun that starts all again.
"""

import argparse
import json
import multiprocessing
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # run as a script, too

from benchmarks.small_job import differences, outcome, start, write_job  # noqa: E402

MAX_KILLS = 3


class Job:
    """A training under torchrun, of which a kill hits one process; each dies once or more.

    Args:
        config: Of the run.
        work_dir: Where it goes on, if something is there.
        num_processes: How many torchrun starts.
        seed: Of which one is killed.
    """

    def __init__(self, config: Path, work_dir: Path, num_processes: int, seed: int = 0) -> None:
        self.victims = random.Random(seed)
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
        command += [f"--nproc_per_node={num_processes}", "--max-restarts=10", "tools/train.py"]
        command += [str(config), "--launcher", "pytorch", "--resume", "--work-dir", str(work_dir)]
        command += ["--checkpoint-every", "2", "--device", "cpu", "--verbose"]
        environ = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        work_dir.mkdir(parents=True, exist_ok=True)
        with (work_dir / "output.txt").open("a") as log:
            self.agent = subprocess.Popen(command, cwd=ROOT, env=environ, stdout=log, stderr=log)

    def is_alive(self) -> bool:
        return self.agent.poll() is None

    def kill(self) -> None:
        """Kills a process of the job, as soon as there is one."""
        while self.is_alive():
            if ranks := psutil.Process(self.agent.pid).children():
                self.victims.choice(ranks).kill()
                return

    def join(self) -> None:
        self.agent.wait()

    @property
    def exitcode(self) -> int | None:
        return self.agent.poll()


def kill_within(
    process: multiprocessing.process.BaseProcess | Job, work_dir: Path, seconds: float, writes: int
) -> str | None:
    """Kills a run after `seconds`, or within the write of its n-th checkpoint where `writes` > 0.

    Returns:
        The moment in words; None if the run had ended before.
    """
    began = time.monotonic()
    seen: set[tuple[str, int]] = set()
    while process.is_alive():
        if not writes and time.monotonic() - began >= seconds:
            process.kill()
            return f"{seconds:.1f} s"
        for path in work_dir.glob(".*.pth.tmp") if writes else ():
            try:
                seen.add((path.name, path.stat().st_ino))
            except FileNotFoundError:
                continue
            if len(seen) >= writes:
                process.kill()
                return f"in write {writes} ({path.name})"
        time.sleep(0.001)
    return None


def disturb(
    config: Path, work_dir: Path, seconds: float, moments: random.Random, num_processes: int = 1
) -> list[str]:
    """Runs a job to its end, killed on the way; returns the moments of the kills.

    Raises:
        RuntimeError: a run that was not killed failed.
    """
    kills: list[str] = []
    planned = moments.randint(1, MAX_KILLS)
    process: Any = None
    while True:
        if process is None or not process.is_alive():
            process = start_job(config, work_dir, num_processes, seed=moments.randint(0, 999))
        if len(kills) < planned:
            writes = moments.randint(1, 4) if moments.random() < 0.5 else 0
            moment = kill_within(process, work_dir, moments.uniform(0.2, seconds), writes)
            if moment is not None:
                kills.append(moment)
                if num_processes == 1:
                    process.join()
                continue
        process.join()
        if (
            not kills and not process.exitcode
        ):  # it was faster than the moment: once more, and earlier
            shutil.rmtree(work_dir)
            seconds *= 0.6
            continue
        if process.exitcode:
            tail = (work_dir / "output.txt").read_text()[-2000:]
            raise RuntimeError(f"a resumed run ended with status {process.exitcode}\n{tail}")
        return kills


def start_job(config: Path, work_dir: Path, num_processes: int, seed: int = 0) -> Any:
    """Starts a run of one process, or of several under torchrun."""
    if num_processes == 1:
        return start(config, work_dir)
    return Job(config, work_dir, num_processes, seed)


def kill_and_compare(
    folder: Path, runs: int, seed: int, num_processes: int = 1
) -> list[dict[str, Any]]:
    """Returns a row for each run: its kills, and what was not identical in the end."""
    import torch

    import mmact_tiny.train  # noqa: F401  imported once, before the forks

    torch.set_num_threads(1)
    config = write_job(folder)
    began = time.monotonic()
    undisturbed = start_job(config, folder / "undisturbed", num_processes)
    undisturbed.join()
    seconds = time.monotonic() - began
    if undisturbed.exitcode:
        raise RuntimeError((folder / "undisturbed" / "output.txt").read_text()[-2000:])
    expected = outcome(folder / "undisturbed")
    moments = random.Random(seed)
    rows = []
    for number in range(1, runs + 1):
        work_dir = folder / f"run_{number}"
        kills = disturb(config, work_dir, seconds, moments, num_processes)
        wrong = differences(expected, outcome(work_dir))
        print(f"run {number}: killed {', '.join(kills)}: {wrong[:3] or 'identical'}", flush=True)
        rows.append(dict(run=number, kills=kills, differences=wrong))
        if not wrong:
            shutil.rmtree(work_dir)
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--processes", type=int, default=1, help="more than 1: under torchrun")
    parser.add_argument("--work-dir", type=Path, help="default: a temporary folder")
    parser.add_argument("--out", type=Path, metavar="FILE.json")
    args = parser.parse_args()
    folder = args.work_dir or Path(tempfile.mkdtemp(prefix="kill_resume_"))
    rows = kill_and_compare(folder, args.runs, args.seed, args.processes)
    identical = sum(not row["differences"] for row in rows)
    kills = sum(len(row["kills"]) for row in rows)
    print(f"{identical} of {len(rows)} runs ended identical, after {kills} kills")
    if args.out:
        args.out.write_text(json.dumps(rows, indent=1) + "\n")
    if args.work_dir is None and identical == len(rows):
        shutil.rmtree(folder)
    return 0 if identical == len(rows) else 1


if __name__ == "__main__":
    raise SystemExit(main())
