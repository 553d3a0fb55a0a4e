"""File operations of a run that are done while it trains on, in their order, no failure lost."""

import os
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any


class LaterWrites:
    """Does operations in the order in which they come: at once, or in a thread when deferred.

    After one that failed, those behind it are left out, so that nothing is removed for the sake
    of a checkpoint that was not written.
    """

    def __init__(self) -> None:
        self.forget()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self.forget)

    def forget(self) -> None:
        """Begins anew: a forked process has not the thread, and its parent does what waits."""
        self._thread: ThreadPoolExecutor | None = None
        self._waiting: deque[Future[None]] = deque()
        self._failed = threading.Event()
        self._deferring = False

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """Has `do` return at once; what was deferred before is done when this begins.

        So no more than one checkpoint's bytes wait in memory.

        Raises:
            UserError: what an earlier operation failed with.
        """
        if self._deferring:  # within another
            yield
            return
        self.wait()
        self._deferring = True
        try:
            yield
        finally:
            self._deferring = False

    def do(self, operation: Callable[..., Any], *args: Any) -> None:
        """Does an operation, after those that were deferred.

        Raises:
            UserError: what it, or an earlier one, failed with.
        """
        if self._deferring:
            self.later(operation, *args)
        else:
            self.wait()
            operation(*args)

    def later(self, operation: Callable[..., Any], *args: Any) -> None:
        """Does an operation in the thread, after those before it."""
        self._thread = self._thread or ThreadPoolExecutor(1, thread_name_prefix="write")
        self._waiting.append(self._thread.submit(self._run, operation, *args))

    def wait(self) -> None:
        """Waits until everything is done.

        Raises:
            UserError: what the first that failed did so with.
        """
        error: BaseException | None = None
        while self._waiting:
            error = self._waiting.popleft().exception() or error
        self._failed.clear()
        if error is not None:
            raise error

    def _run(self, operation: Callable[..., Any], *args: Any) -> None:
        if self._failed.is_set():
            return
        try:
            operation(*args)
        except BaseException:
            self._failed.set()
            raise


writes = LaterWrites()
