"""Reading the next videos while the device computes the current one."""

import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

VIDEOS_AHEAD = 2  # read and waiting: 250 views of a video take 38 MB
Item = TypeVar("Item")
Result = TypeVar("Result")


class ReadAhead(Generic[Item, Result]):
    """What `read` returns for each item, in order, a few of them read ahead in a thread.

    Reading begins at once, before the first result is asked for.
    """

    def __init__(self, read: Callable[[Item], Result], items: Iterable[Item]) -> None:
        self._read = read
        self._items = iter(items)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="read")
        self._ahead: deque[Future[Result]] = deque()
        # What is not being read yet is given up when the caller wants no more.
        weakref.finalize(self, self._thread.shutdown, wait=False, cancel_futures=True)
        self._fill()

    def _fill(self) -> None:
        for item in self._items:
            self._ahead.append(self._thread.submit(self._read, item))
            if len(self._ahead) > VIDEOS_AHEAD:
                return

    def __iter__(self) -> Iterator[Result]:
        while self._ahead:
            yield self._ahead.popleft().result()
            self._fill()
