"""Kills training runs with SIGKILL at random moments, resumes them, and compares what comes out.

python benchmarks/kill_resume.py --runs 20

Each run is killed up to three times, at a moment drawn from its whole time or within the write
of a checkpoint, and resumed until it ends. It has to end with bitwise the weights, optimizer
state, losses, metrics and best score of a run that was left alone.
"""

import argparse
import json
import multiprocessing
import random
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # run as a script, too

from benchmarks.small_job import differences, outcome, start, write_job  # noqa: E402

MAX_KILLS = 3


def kill_within(
    process: multiprocessing.process.BaseProcess, work_dir: Path, seconds: float, writes: int
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


def disturb(config: Path, work_dir: Path, seconds: float, moments: random.Random) -> list[str]:
    """Runs a job to its end, killed on the way; returns the moments of the kills.

    Raises:
        RuntimeError: a run that was not killed failed.
    """
    kills: list[str] = []
    planned = moments.randint(1, MAX_KILLS)
    while True:
        process = start(config, work_dir)
        if len(kills) < planned:
            writes = moments.randint(1, 4) if moments.random() < 0.5 else 0
            moment = kill_within(process, work_dir, moments.uniform(0.2, seconds), writes)
            if moment is not None:
                kills.append(moment)
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


def kill_and_compare(folder: Path, runs: int, seed: int) -> list[dict[str, Any]]:
    """Returns a row for each run: its kills, and what was not identical in the end."""
    import torch

    import mmact_tiny.train  # noqa: F401  imported once, before the forks

    torch.set_num_threads(1)
    config = write_job(folder)
    began = time.monotonic()
    undisturbed = start(config, folder / "undisturbed")
    undisturbed.join()
    seconds = time.monotonic() - began
    if undisturbed.exitcode:
        raise RuntimeError((folder / "undisturbed" / "output.txt").read_text()[-2000:])
    expected = outcome(folder / "undisturbed")
    moments = random.Random(seed)
    rows = []
    for number in range(1, runs + 1):
        work_dir = folder / f"run_{number}"
        kills = disturb(config, work_dir, seconds, moments)
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
    parser.add_argument("--work-dir", type=Path, help="default: a temporary folder")
    parser.add_argument("--out", type=Path, metavar="FILE.json")
    args = parser.parse_args()
    folder = args.work_dir or Path(tempfile.mkdtemp(prefix="kill_resume_"))
    rows = kill_and_compare(folder, args.runs, args.seed)
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
