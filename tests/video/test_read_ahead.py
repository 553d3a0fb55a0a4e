"""ReadAhead reads the next items while the caller works on one, in order, and not without end."""

import threading

import pytest

from mmact_tiny.video.isolated import VIDEOS_AHEAD, ReadAhead


def test_the_next_item_is_read_while_the_caller_works():
    read = {number: threading.Event() for number in range(6)}

    def note(number: int) -> int:
        read[number].set()
        return number * 10

    ahead = ReadAhead(note, range(6))
    assert read[0].wait(timeout=10)  # before the first result is asked for
    results = iter(ahead)
    assert next(results) == 0
    for number in range(1, VIDEOS_AHEAD + 1):
        assert read[number].wait(timeout=10)
    assert not read[VIDEOS_AHEAD + 1].is_set()  # memory is bounded
    assert list(results) == [10, 20, 30, 40, 50]


def test_an_exception_comes_where_its_item_would():
    results = iter(ReadAhead(lambda number: 1 // number, [1, 0, 1]))
    assert next(results) == 1
    with pytest.raises(ZeroDivisionError):
        next(results)


def test_what_nobody_waits_for_is_not_read():
    started, go_on, read = threading.Event(), threading.Event(), []

    def note(number: int) -> None:
        started.set()
        go_on.wait(timeout=10)
        read.append(number)

    ahead = ReadAhead(note, range(6))
    assert started.wait(timeout=10)
    thread = ahead._thread
    del ahead
    go_on.set()
    thread.shutdown(wait=True)
    assert read == [0]
