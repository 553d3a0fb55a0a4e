"""Reads videos in a process of its own, where a decoder may crash, hang or leak."""

import atexit
import contextlib
import multiprocessing
import multiprocessing.util  # its exit handler waits for children; ours is to run before it
import os
import pickle
import signal
import stat
import threading
import weakref
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from .. import hardware
from ..errors import UserError
from .files import reason_of

VIDEO_SECONDS = 120.0
VIDEOS_A_PROCESS = 200  # decord 0.6 leaks a little with every video


_open: "weakref.WeakSet[GuardedReader]" = weakref.WeakSet()


@atexit.register
def _close_all() -> None:
    """Ends the processes of readers that outlive the program; they would be waited for for ever."""
    for reader in list(_open):
        reader.close()


class GuardedReader:
    """Calls a pipeline in another process; a call that takes that process down costs itself only.

    Args:
        pipeline: A transform, called with a sample.
        video_seconds: Time limit for a call.
        calls_a_process: After so many calls a new process takes over.
    """

    def __init__(
        self,
        pipeline: Callable[[dict], Any],
        video_seconds: float = VIDEO_SECONDS,
        calls_a_process: int = VIDEOS_A_PROCESS,
    ) -> None:
        self.pipeline = pipeline
        self.video_seconds = video_seconds
        self.calls_a_process = calls_a_process
        self._process: Any = None
        self._connection: Connection | None = None
        self._calls = 0
        self._lock = threading.Lock()

    def __call__(self, sample: dict) -> Any:
        """Returns what the pipeline returns.

        Raises:
            UserError: the pipeline failed, crashed, or took too long; in a line.
        """
        with self._lock:
            if self._calls >= self.calls_a_process:
                self.close()
            self.start()
            process, connection = self._process, self._connection
            assert connection is not None
            self._calls += 1
            try:
                connection.send_bytes(pickle.dumps(sample))
                if not connection.poll(self.video_seconds):
                    self.close()
                    raise UserError(f"timed out after {self.video_seconds:g} s")
                reason, result = pickle.loads(connection.recv_bytes())
            except (EOFError, OSError):
                process.join()
                status = process.exitcode or 0
                self.close()
                name = signal.Signals(-status).name if status < 0 else f"status {status}"
                raise UserError(f"the decoder crashed ({name})") from None
        if reason is not None:
            raise UserError(reason)
        return result

    def start(self) -> None:
        """Starts the process where none runs; it has what this one has now. A call does it too."""
        if self._process is not None:
            return
        context = multiprocessing.get_context("fork")  # the pipeline may not be picklable
        self._connection, theirs = context.Pipe()
        self._process = context.Process(
            target=_serve,
            args=(self.pipeline, theirs, self._connection, hardware.reader_niceness()),
            daemon=True,
        )
        self._process.start()
        _open.add(self)
        theirs.close()
        self._calls = 0

    def close(self) -> None:
        """Ends the process, from any thread; the next call starts another."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.join()
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()


def _drop_sockets(but: int) -> None:
    """Lets go of the parent's connections: a fork would keep them open when the parent closes them.

    Their numbers stay taken, by /dev/null: an inherited object may close them once more.
    """
    nothing = os.open(os.devnull, os.O_RDWR)
    with contextlib.suppress(FileNotFoundError):  # a system without /proc
        for fd in [int(path.name) for path in Path("/proc/self/fd").iterdir()]:
            with contextlib.suppress(OSError):  # the one that listed them
                if fd not in (0, 1, 2, but) and stat.S_ISSOCK(os.fstat(fd).st_mode):
                    os.dup2(nothing, fd)


def _serve(
    pipeline: Callable[[dict], Any], calls: Connection, theirs: Connection, niceness: int
) -> None:
    """Answers calls until the caller is gone."""
    import torch

    os.nice(niceness)
    theirs.close()
    _drop_sockets(but=calls.fileno())
    for number in (signal.SIGINT, signal.SIGTERM):  # the caller ends this process
        signal.signal(number, signal.SIG_IGN)
    torch.set_num_threads(1)  # the forked thread pool would be waited for without end
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
        while True:
            sample = pickle.loads(calls.recv_bytes())
            try:
                answer: tuple[str | None, Any] = (None, pipeline(sample))
            except Exception as error:  # whatever a decoder throws at a broken file
                answer = (reason_of(error), None)
            calls.send_bytes(pickle.dumps(answer, protocol=pickle.HIGHEST_PROTOCOL))
    os._exit(0)
