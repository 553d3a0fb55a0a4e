"""Watches a loader's workers from a thread: their time at a video, their memory."""

import os
import threading
from pathlib import Path
from typing import Any

from .dataset import Draws, Watch

MAX_GROWTH_BYTES = 512 * 2**20
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


def resident_bytes(pid: int) -> int:
    """Returns the memory that a process has in RAM; 0 where there is no /proc, or no process."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE_BYTES
    except (OSError, IndexError, ValueError):
        return 0


class Watchdog:
    """A thread that kills workers at one video for too long, and has grown ones replaced."""

    def __init__(self, iterator: Any, watch: Watch, draws: Draws, seconds: float) -> None:
        self.workers = getattr(iterator, "_workers", [])
        self.watch = watch
        self.draws = draws
        self.seconds = seconds
        self.timed_out: set[int] = set()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> "Watchdog":
        if self.workers:
            self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._done.set()

    def _run(self) -> None:
        began = [resident_bytes(worker.pid) for worker in self.workers]
        while not self._done.wait(min(1.0, self.seconds / 4)):
            now = [resident_bytes(worker.pid) for worker in self.workers]
            if any(b - a > MAX_GROWTH_BYTES for a, b in zip(began, now, strict=True)):
                self.draws.drain = True
            for worker in self.watch.overdue(self.seconds):
                if self.workers[worker].is_alive():
                    self.timed_out.add(worker)
                    self.workers[worker].kill()

    def dead_workers(self) -> list[tuple[int, int | None]]:
        """Returns the number and the exit status of each worker that is gone."""
        return [(n, w.exitcode) for n, w in enumerate(self.workers) if not w.is_alive()]
