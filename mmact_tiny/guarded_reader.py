"""Reads videos in a process of its own, where a decoder may crash, hang or leak."""

import atexit
import contextlib
import multiprocessing
import multiprocessing.util  # its exit handler waits for children; ours is to run before it
import os
import pickle
import signal
import threading
import weakref
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

from .errors import UserError
from .guarded_dataset import reason_of

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
    """

    def __init__(
        self, pipeline: Callable[[dict], Any], video_seconds: float = VIDEO_SECONDS
    ) -> None:
        self.pipeline = pipeline
        self.video_seconds = video_seconds
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
            if self._process is None or self._calls >= VIDEOS_A_PROCESS:
                self.close()
                self._start()
            assert self._connection is not None
            self._calls += 1
            try:
                self._connection.send_bytes(pickle.dumps(sample))
                if not self._connection.poll(self.video_seconds):
                    self.close()
                    raise UserError(f"timed out after {self.video_seconds:g} s")
                reason, result = pickle.loads(self._connection.recv_bytes())
            except (EOFError, OSError):
                self._process.join()
                status = self._process.exitcode or 0
                self.close()
                name = signal.Signals(-status).name if status < 0 else f"status {status}"
                raise UserError(f"the decoder crashed ({name})") from None
        if reason is not None:
            raise UserError(reason)
        return result

    def _start(self) -> None:
        context = multiprocessing.get_context("fork")  # the pipeline may not be picklable
        self._connection, theirs = context.Pipe()
        self._process = context.Process(
            target=_serve, args=(self.pipeline, theirs, self._connection), daemon=True
        )
        self._process.start()
        _open.add(self)
        theirs.close()
        self._calls = 0

    def close(self) -> None:
        """Ends the process; the next call starts another."""
        if self._process is not None:
            self._process.kill()
            self._process.join()
            self._process = None
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _serve(pipeline: Callable[[dict], Any], calls: Connection, theirs: Connection) -> None:
    """Answers calls until the caller is gone."""
    import torch

    theirs.close()
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
