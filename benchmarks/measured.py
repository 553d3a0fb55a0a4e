"""Runs a command and measures it: seconds, CPU seconds, and the memory of its process tree."""

import os
import signal
import subprocess
import sys
import tempfile
import threading
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parent.parent
SAMPLE_SECONDS = 0.25


@dataclass(frozen=True)
class Measured:
    """What a command took: wall-clock and CPU seconds, peak memory in bytes, its output."""

    seconds: float
    cpu_seconds: float
    peak_bytes: int
    output: str


def environment() -> dict[str, str]:
    """Returns this process's environment, in which Python finds this project first."""
    others = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *others])}


def measure(
    command: list[str],
    *,
    cwd: Path,
    env: dict[str, str],
    log: Path,
    seconds: float | None = None,
    max_bytes: int | None = None,
) -> Measured:
    """Runs a command to its end, and ends it with all its processes where it passes a limit.

    The memory is the sum of the proportional set sizes of the process and its children, so that
    what they share counts once; sampled four times a second. `RLIMIT_AS` is no such limit: it
    counts addresses, of which CUDA and OpenVINO reserve far more than they use, and each process.

    Args:
        command: The program and its arguments.
        cwd: Folder that it runs in.
        env: Its environment.
        log: File for what it prints.
        seconds: Wall-clock time that it may take.
        max_bytes: Memory that it may take.

    Raises:
        RuntimeError: the command failed or passed a limit; names its log.
    """
    import resource
    import time

    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    started = time.perf_counter()
    with log.open("w") as file:
        process = subprocess.Popen(
            command, cwd=cwd, env=env, stdout=file, stderr=subprocess.STDOUT, start_new_session=True
        )
        watch = Watch(process.pid, max_bytes)
        try:
            status = process.wait(seconds)
        except subprocess.TimeoutExpired:
            status, watch.passed = None, f"took more than {seconds:.0f} s"
        finally:
            took = time.perf_counter() - started
            watch.end()
            process.wait()
    if watch.passed:
        raise RuntimeError(f"{watch.passed}, see {log}")
    if status != 0:
        raise RuntimeError(f"{' '.join(command)}: exit status {status}, see {log}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Measured(took, cpu, watch.peak, log.read_text(errors="replace"))


class Watch:
    """Samples the memory of a process and its children, in a thread of its own."""

    def __init__(self, pid: int, max_bytes: int | None) -> None:
        self.pid = pid
        self.max_bytes = max_bytes
        self.peak = 0
        self.passed = ""  # which limit, in words
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._sample)
        self._thread.start()

    def _sample(self) -> None:
        while not self._done.wait(SAMPLE_SECONDS):
            try:
                root = psutil.Process(self.pid)
                tree = [root, *root.children(recursive=True)]
            except psutil.Error:
                return
            total = 0
            for process in tree:
                try:
                    total += process.memory_full_info().pss
                except (psutil.Error, AttributeError):
                    continue
            self.peak = max(self.peak, total)
            if self.max_bytes is not None and total > self.max_bytes:
                self.passed = f"took more than {self.max_bytes / 2**30:.1f} GiB of memory"
                self._kill()
                return

    def end(self) -> None:
        """Stops sampling, and ends what the command left running."""
        self._done.set()
        self._thread.join()
        self._kill()

    def _kill(self) -> None:
        end_processes_of(self.pid)
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)


def end_processes_of(pid: int) -> None:
    """Ends the children of a process, and theirs, whatever session they are in."""
    with suppress(psutil.NoSuchProcess):
        for process in psutil.Process(pid).children(recursive=True):
            with suppress(psutil.NoSuchProcess):
                process.kill()


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
