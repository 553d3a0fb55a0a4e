"""Reading the next videos while the device computes the current one."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

VIDEOS_AHEAD = 2  # read and waiting: 250 views of a video take 38 MB
Item = TypeVar("Item")
Result = TypeVar("Result")


def read_ahead(read: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """Yields what `read` returns for each item, in order, a few of them read ahead in a thread."""
    ahead: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(1, thread_name_prefix="read") as thread:
        try:
            for item in items:
                ahead.append(thread.submit(read, item))
                if len(ahead) > VIDEOS_AHEAD:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()
        finally:  # the caller wants no more
            for future in ahead:
                future.cancel()
