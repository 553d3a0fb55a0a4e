"""Calls a function in processes of its own, where a decoder may crash, hang or leak."""

import contextlib
import multiprocessing
import os
import pickle
import signal
import stat
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, CancelledError, Future, TimeoutError, wait
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any, TypeVar

from pebble import ProcessExpired, ProcessPool

from .. import hardware
from ..errors import UserError
from .files import reason_of

VIDEO_SECONDS = 120.0
VIDEOS_A_PROCESS = 200  # decord 0.6 leaks a little with every video
Key = TypeVar("Key")


class Lost(UserError):
    """Why a call has no result.

    Attributes:
        kind: a few words, the same for all of the kind.
        detail: the particulars.
    """

    def __init__(self, kind: str, detail: str, message: str) -> None:
        super().__init__(message)
        self.kind, self.detail = kind, detail


class GuardedReader:
    """Calls a function in other processes; a call that takes one down costs itself only.

    The processes are forked when the first call needs them: they have what this one has then, so
    the function need not be picklable, and nothing is imported again. Its arguments and results
    are pickled.

    Args:
        function: What is called, a pipeline for one.
        video_seconds: Time limit for a call.
        calls_a_process: After so many calls a new process takes over.
        num_processes: How many calls may run at once.
        niceness: Of the processes; by default that of all readers beside a model.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        video_seconds: float = VIDEO_SECONDS,
        calls_a_process: int = VIDEOS_A_PROCESS,
        *,
        num_processes: int = 1,
        niceness: int | None = None,
    ) -> None:
        self.function = function
        self.video_seconds = video_seconds
        self.calls_a_process = calls_a_process
        self.num_processes = num_processes
        self.niceness = niceness
        self._pool: ProcessPool | None = None
        self._end_pool: Callable[[], object] = lambda: (
            None
        )  # at most once, or when this object goes
        self._lock = threading.Lock()
        self._calls: set[Future[bytes]] = set()

    def __call__(self, *arguments: Any) -> Any:
        """Returns what the function returns.

        Raises:
            Lost: the function failed, crashed, or took too long; in a line.
        """
        future = self._schedule(arguments, self.video_seconds)
        wait([future])
        if not future.cancelled() and isinstance(future.exception(), BrokenProcessPool):
            # The system ended the process before it took the call.
            self._calls.discard(future)
            future = self._schedule(arguments, self.video_seconds)
        return self._result(future, self.video_seconds)

    def call_each(
        self, calls: Iterable[tuple[Key, tuple[Any, ...], float]]
    ) -> Iterator[tuple[Key, Any]]:
        """Yields `(key, result or Lost)` of each call, in the order in which they are done.

        Args:
            calls: `(key, arguments, time limit in seconds)`, taken as processes become free.
        """
        waiting = iter(calls)
        running: dict[Future[bytes], tuple[Key, float]] = {}
        try:
            while True:
                # One call more than a process needs: it never waits for this one.
                while len(running) < 2 * self.num_processes and (call := next(waiting, None)):
                    key, arguments, seconds = call
                    running[self._schedule(arguments, seconds)] = key, seconds
                if not running:
                    return
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    key, seconds = running.pop(future)
                    try:
                        yield key, self._result(future, seconds)
                    except Lost as lost:
                        yield key, lost
        finally:
            self.close()

    def start(self) -> None:
        """Starts the processes where none run. A call does it too."""
        with self._lock:
            self._running_pool()

    def close(self) -> None:
        """Ends the processes, from any thread; the next call starts others."""
        with self._lock:
            self._pool = None
            for future in list(self._calls):
                future.cancel()
            self._end_pool()

    def _running_pool(self) -> ProcessPool:
        # A pool is broken once the system ended a process between two calls.
        if self._pool is None or not self._pool.active:
            self._end_pool()
            niceness = hardware.reader_niceness() if self.niceness is None else self.niceness
            self._pool = ProcessPool(
                self.num_processes,
                self.calls_a_process,
                _set_up,
                (weakref.ref(self), os.getpid(), niceness),
                multiprocessing.get_context("fork"),
            )
            self._end_pool = end = weakref.finalize(self, _end, self._pool)
            end.atexit = False  # pebble ends its processes then
            if not self._pool.active:  # asking starts it
                raise RuntimeError("the processes that read videos cannot be started")
        return self._pool

    def _schedule(self, arguments: tuple[Any, ...], seconds: float) -> Future[bytes]:
        with self._lock:
            future = self._running_pool().schedule(_call, arguments, timeout=seconds)
            self._calls.add(future)
        return future

    def _result(self, future: Future[bytes], seconds: float) -> Any:
        try:
            reason, result = pickle.loads(future.result())
        except TimeoutError:
            limit = f"{seconds:g} s"
            raise Lost("timed out", f"no end after {limit}", f"timed out after {limit}") from None
        except ProcessExpired as error:
            code = error.exitcode
            name = signal.Signals(-code).name if code < 0 else f"status {code}"
            raise Lost("decoder crashed", name, f"the decoder crashed ({name})") from None
        except (BrokenProcessPool, CancelledError):
            raise Lost("decoder crashed", "ended", "the decoder was ended") from None
        finally:
            self._calls.discard(future)
        if reason is not None:
            raise Lost("unreadable", reason, reason)
        return result


def _end(pool: ProcessPool) -> None:
    """Ends a pool's processes; its threads take 0.1 s to notice, which nobody waits for."""
    pool.stop()
    threading.Thread(target=pool.join, daemon=True).start()


_function: Callable[..., Any]  # of this process, where it is one of a pool


def _set_up(reader: "weakref.ref[GuardedReader]", parent: int, niceness: int) -> None:
    """Makes a forked process fit for calls."""
    global _function
    owner = reader()
    if owner is None:  # given up meanwhile
        os._exit(0)
    _function = owner.function
    os.nice(niceness)
    _drop_sockets()
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # how pebble ends it: also within a decoder
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)  # a forked thread pool would never answer
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: int) -> None:
    """Ends this process after its parent: other forks keep the pipe open that would tell it."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(0)


def _drop_sockets() -> None:
    """Lets go of the parent's connections: a fork would keep them open when the parent closes them.

    Their numbers stay taken, by /dev/null: an inherited object may close them once more.
    """
    nothing = os.open(os.devnull, os.O_RDWR)
    with contextlib.suppress(FileNotFoundError):  # a system without /proc
        for fd in [int(path.name) for path in Path("/proc/self/fd").iterdir()]:
            with contextlib.suppress(OSError):  # the one that listed them
                if fd > 2 and stat.S_ISSOCK(os.fstat(fd).st_mode):
                    os.dup2(nothing, fd)


def _call(*arguments: Any) -> bytes:
    """Calls the function; returns `(reason, result)` as bytes.

    Pickled here, tensors too: PyTorch would pass them in shared memory, which ends with a process.
    """
    try:
        answer: tuple[str | None, Any] = (None, _function(*arguments))
    except Exception as error:  # whatever a decoder throws at a broken file
        answer = (reason_of(error), None)
    return pickle.dumps(answer, protocol=pickle.HIGHEST_PROTOCOL)
