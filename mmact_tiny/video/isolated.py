"""Reads videos in processes of their own, where a decoder may crash, hang or leak, and ahead."""

import contextlib
import gc
import itertools
import multiprocessing
import os
import pickle
import signal
import stat
import sys
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import (
    FIRST_COMPLETED,
    CancelledError,
    Future,
    ThreadPoolExecutor,
    TimeoutError,
    wait,
)
from concurrent.futures.process import BrokenProcessPool
from dataclasses import KW_ONLY, dataclass
from multiprocessing.util import Finalize
from pathlib import Path
from typing import Any, Generic, TypeVar

from pebble import ProcessExpired, ProcessPool

from .. import hardware
from ..errors import UserError
from .files import explain, no_views

VIDEO_SECONDS = 120.0
PIPELINE = "pipeline failed"  # the kind of a loss that is not the video's
MAX_ATTEMPTS = 3  # of a call that no process took
SECONDS_BETWEEN_LOOKS = 0.5  # at whether a pool still runs; a call's end is seen at once
VIDEOS_A_PROCESS = 200  # decord 0.6 leaks a little with every video
VIDEOS_AHEAD = 2  # read and waiting: 250 views of a video take 38 MB
Item = TypeVar("Item")
Key = TypeVar("Key")
Result = TypeVar("Result")


class Lost(UserError):
    """Why a call has no result: `kind`, the same few words for all of it, and `detail`."""

    def __init__(self, kind: str, detail: str, message: str) -> None:
        super().__init__(message)
        self.kind, self.detail = kind, detail


def blame(video: object, error: UserError) -> str:
    """Returns in a line why a call has no views of a video: the file, or the pipeline."""
    is_read = isinstance(error, Lost) and error.kind == PIPELINE
    return no_views(video, error, after_decoding=is_read)


@dataclass(eq=False)
class GuardedReader:
    """Calls a function in other processes; a call that takes one down costs itself only.

    The processes are forked when the first call needs them: they have what this one has then, so
    the function need not be picklable, and nothing is imported again. Its arguments and results
    are pickled.

    A fork of this process, as a web server's worker, has processes of its own. Where a process may
    have none, being daemonic itself (`multiprocessing.Pool`, task queues), the function is called
    in it: a call that crashes or hangs is not guarded there.
    """

    function: Callable[..., Any]  # what is called, a pipeline for one
    video_seconds: float = VIDEO_SECONDS  # time limit for a call
    calls_a_process: int = VIDEOS_A_PROCESS  # then a new process takes over; 0: none does
    _: KW_ONLY
    num_processes: int = 1  # how many calls may run at once
    niceness: int | None = None  # of the processes, by default that of a reader beside a model

    def __post_init__(self) -> None:
        self._forget()
        _readers.add(self)

    def _forget(self) -> None:
        """Starts anew: what a fork inherits belongs to its parent."""
        self._pool: ProcessPool | None = None
        self._end_pool: Callable[..., object] = bool  # once, at the latest when this object goes
        self._lock = threading.Lock()
        self._calls: dict[Future[bytes], ProcessPool] = {}

    def __call__(self, *arguments: Any) -> Any:
        """Returns what the function returns.

        Raises:
            Lost: the function failed, crashed, or took too long; in a line.
        """
        if _is_childless():
            return self._unpacked(_call_here(self.function, arguments))
        for _ in range(MAX_ATTEMPTS):
            future = self._schedule(arguments, self.video_seconds)
            if not self._is_lost(future):
                break
            self._calls.pop(future, None)
        return self._result(future, self.video_seconds)

    def _is_lost(self, future: "Future[bytes]") -> bool:
        """Waits for the end of a call; returns whether no process took it.

        The system may end an idle process. pebble 5.2 then fails the calls that wait, but forgets
        one that is handed over at that moment: nothing ever ends it.
        """
        pool, looks = self._calls[future], 0
        while looks < 2:
            try:
                return isinstance(future.exception(SECONDS_BETWEEN_LOOKS), BrokenProcessPool)
            except CancelledError:
                return False
            except TimeoutError:
                looks += not pool.active
        future.cancel()
        return True

    def call_each(
        self, calls: Iterable[tuple[Key, tuple[Any, ...], float]]
    ) -> Iterator[tuple[Key, Any]]:
        """Yields `(key, result or Lost)` of each call, in the order in which they are done.

        Args:
            calls: `(key, arguments, time limit in seconds)`, taken as processes become free.
        """
        waiting = iter(calls)
        if _is_childless():
            for key, arguments, _ in waiting:
                try:
                    yield key, self(*arguments)
                except Lost as error:
                    yield key, error
            return
        running: dict[Future[bytes], tuple[Key, tuple[Any, ...], float]] = {}
        # One call more than a process needs: it never waits for this one.
        room = 2 * self.num_processes
        try:
            while True:
                for call in itertools.islice(waiting, room - len(running)):
                    running[self._schedule(*call[1:])] = call
                if not running:
                    return
                done = wait(running, SECONDS_BETWEEN_LOOKS, FIRST_COMPLETED).done
                if not done and not any(self._calls[future].active for future in running):
                    lost = [future for future in running if self._is_lost(future)]
                    waiting = itertools.chain([running.pop(future) for future in lost], waiting)
                for future in done:
                    key, _, seconds = running.pop(future)
                    try:
                        yield key, self._result(future, seconds)
                    except Lost as lost:
                        yield key, lost
        finally:
            self.close()

    def start(self) -> None:
        """Starts the processes where none run. A call does it too."""
        if not _is_childless():
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
            # Also when a process ends that `multiprocessing` started, which would wait for them;
            # not in a fork of this one.
            self._end_pool = Finalize(self, _end, (self._pool,), exitpriority=10)
            if not self._pool.active:  # asking starts it
                raise RuntimeError("the processes that read videos cannot be started")
        return self._pool

    def _schedule(self, arguments: tuple[Any, ...], seconds: float) -> Future[bytes]:
        with self._lock:
            pool = self._running_pool()
            future = pool.schedule(_call, arguments, timeout=seconds)
            self._calls[future] = pool
        return future

    def _result(self, future: Future[bytes], seconds: float) -> Any:
        try:
            answer = future.result()
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
            self._calls.pop(future, None)
        return self._unpacked(answer)

    @staticmethod
    def _unpacked(answer: bytes) -> Any:
        lost, result = pickle.loads(answer)
        if lost is not None:
            reason, after_decoding = lost
            raise Lost(PIPELINE if after_decoding else "unreadable", reason, reason)
        return result


_readers: "weakref.WeakSet[GuardedReader]" = weakref.WeakSet()


def _forget_all() -> None:
    """Makes a fork forget its parent's processes and threads.

    It would end the processes when it ends; `multiprocessing` forgets them itself in those that it
    starts, not after `os.fork`. And PyTorch would wait for threads that did not come along.
    """
    if not _readers:
        return
    # What a fork inherits is never freed there: FFmpeg's threads did not come along, and to free
    # a decoder that had some would wait for them for ever.
    gc.freeze()
    multiprocessing.process._children.clear()  # type: ignore[attr-defined]
    for reader in list(_readers):
        reader._forget()
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)  # a forked thread pool would never answer


os.register_at_fork(after_in_child=_forget_all)


def _is_childless() -> bool:
    """Returns whether this process may have no children."""
    return multiprocessing.current_process().daemon


def _end(pool: ProcessPool) -> None:
    """Ends a pool's processes; its threads take 0.1 s to notice, which nobody waits for."""
    pool.stop()
    with contextlib.suppress(RuntimeError):  # the interpreter ends: pebble's own mark does it
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
    """Calls the function; returns `(what `explain` says or None, result)` as bytes.

    Pickled here, tensors too: PyTorch would pass them in shared memory, which ends with a process.
    """
    return _call_here(_function, arguments)


def _call_here(function: Callable[..., Any], arguments: tuple[Any, ...]) -> bytes:
    try:
        answer: tuple[tuple[str, bool] | None, Any] = (None, function(*arguments))
    except Exception as error:  # whatever a decoder throws at a broken file
        answer = (explain(error), None)
    return pickle.dumps(answer, protocol=pickle.HIGHEST_PROTOCOL)


class ReadAhead(Generic[Item, Result]):
    """What `read` returns for each item, in order, a few of them read ahead in threads.

    Of an item that it raises a UserError for, that is the result. Reading begins at once, before
    the first result is asked for.

    Args:
        read: What reads an item.
        items: All of them; as many are taken as are read ahead.
        at_once: How many may be read at a time.
    """

    def __init__(
        self, read: Callable[[Item], Result], items: Iterable[Item], at_once: int = 1
    ) -> None:
        self._read = read
        self._items = iter(items)
        self._most = VIDEOS_AHEAD + at_once
        self._threads = ThreadPoolExecutor(at_once, thread_name_prefix="read")
        self._ahead: deque[Future[Result]] = deque()
        # What is not being read yet is given up when the caller wants no more.
        weakref.finalize(self, self._threads.shutdown, wait=False, cancel_futures=True)
        self._fill()

    def _fill(self) -> None:
        for item in self._items:
            self._ahead.append(self._threads.submit(self._read, item))
            if len(self._ahead) >= self._most:
                return

    def __iter__(self) -> Iterator[Result | UserError]:
        while self._ahead:
            try:
                result: Result | UserError = self._ahead.popleft().result()
            except UserError as error:
                result = error
            yield result
            self._fill()
