"""A waiting line: one piece of work at a time, in the order of coming, and a bound on how many."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from typing import Any


class Full(Exception):
    """No place is left."""


class Left(Exception):
    """Raised in the work of somebody who left."""


class Job:
    """One piece of work in the line, and its result."""

    def __init__(self) -> None:
        self.future: Future[Any] = Future()
        self.left = threading.Event()

    def check(self) -> None:
        """Raises `Left` where nobody waits for the result any more; work calls it now and then."""
        if self.left.is_set():
            raise Left


class WaitingLine:
    """A line with one worker thread; all but the work itself is called from one other thread.

    Args:
        places: How many may be in the house at once: arriving, waiting, or being served.
    """

    def __init__(self, places: int) -> None:
        self.places = places
        self.num_taken = 0
        self._jobs: list[Job] = []
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="recognize")

    @contextmanager
    def place(self) -> Iterator[None]:
        """Holds a place.

        Raises:
            Full: none is left.
        """
        if self.num_taken >= self.places:
            raise Full
        self.num_taken += 1
        try:
            yield
        finally:
            self.num_taken -= 1

    def join(self, work: Callable[[Job], Any]) -> Job:
        """Returns a job at the end of the line, whose future gets what `work(job)` returns."""
        job = Job()
        job.future = self._worker.submit(work, job)
        self._jobs = [other for other in self._jobs if not other.future.done()] + [job]
        return job

    def num_ahead(self, job: Job) -> int:
        """Returns how many are served before a job, with the current one; 0 at its turn."""
        waiting = [other for other in self._jobs if not other.future.done()]
        return waiting.index(job) if job in waiting else 0

    def leave(self, job: Job) -> None:
        """Takes a job out of the line; its work, where it has begun, ends at its next check."""
        job.left.set()
        job.future.cancel()

    def close(self, seconds: float) -> bool:
        """Ends all jobs; returns whether the current one ended within this time."""
        for job in self._jobs:
            self.leave(job)
        self._worker.shutdown(wait=False, cancel_futures=True)
        return not wait([job.future for job in self._jobs], timeout=seconds).not_done
