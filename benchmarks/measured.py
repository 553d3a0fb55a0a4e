"""Runs a command and measures it: seconds, CPU seconds, and the memory of its process tree."""

import os
import subprocess
import sys
import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path

import psutil

SAMPLE_SECONDS = 0.25


@dataclass(frozen=True)
class Measured:
    """What a command took: wall-clock and CPU seconds, peak memory in bytes, its output."""

    seconds: float
    cpu_seconds: float
    peak_bytes: int
    output: str


def measure(command: list[str], *, cwd: Path, env: dict[str, str], log: Path) -> Measured:
    """Runs a command to its end.

    The memory is the sum of the proportional set sizes of the process and its children, so that
    what they share counts once; sampled four times a second.

    Raises:
        RuntimeError: the command failed; names its log.
    """
    import resource
    import time

    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    started = time.perf_counter()
    with log.open("w") as file:
        process = subprocess.Popen(command, cwd=cwd, env=env, stdout=file, stderr=subprocess.STDOUT)
        peak = [0]
        done = threading.Event()
        sampler = threading.Thread(target=_sample, args=(process.pid, peak, done))
        sampler.start()
        status = process.wait()
        seconds = time.perf_counter() - started
        done.set()
        sampler.join()
    if status != 0:
        raise RuntimeError(f"{' '.join(command)}: exit status {status}, see {log}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Measured(seconds, cpu, peak[0], log.read_text(errors="replace"))


def _sample(pid: int, peak: list[int], done: threading.Event) -> None:
    while not done.wait(SAMPLE_SECONDS):
        try:
            root = psutil.Process(pid)
            tree = [root, *root.children(recursive=True)]
        except psutil.Error:
            return
        total = 0
        for process in tree:
            try:
                total += process.memory_full_info().pss
            except (psutil.Error, AttributeError):
                continue
        peak[0] = max(peak[0], total)


def main() -> int:
    """Measures the command in the arguments: `python benchmarks/measured.py python tools/...`."""
    log = Path(tempfile.mkdtemp(prefix="measured_")) / "output.txt"
    done = measure(sys.argv[1:], cwd=Path.cwd(), env=dict(os.environ), log=log)
    print(done.output, end="")
    print(
        f"peak memory of the process tree {done.peak_bytes / 1e9:.2f} GB, {done.seconds:.1f} s, "
        f"{done.cpu_seconds:.1f} CPU seconds"
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
