"""The queue by itself, without a server."""

import threading

import pytest

pytest.importorskip("fastapi", reason="the web extra is not installed")

from mmact_tiny.serve.app import Queue


def test_one_at_a_time_in_order_of_coming() -> None:
    queue, gate = Queue(9), threading.Event()
    running, served = [], []

    def work(number: int) -> int:
        running.append(number)
        gate.wait(10)
        served.append(list(running))
        running.remove(number)
        return number

    jobs = [queue.join(lambda number=number: work(number)) for number in range(4)]
    assert [queue.num_ahead(job) for job in jobs] == [0, 1, 2, 3]
    jobs[1].cancel()
    assert [queue.num_ahead(job) for job in jobs] == [0, 0, 1, 2]
    gate.set()
    assert [jobs[number].result(10) for number in (0, 2, 3)] == [0, 2, 3]
    assert served == [[0], [2], [3]] and jobs[1].cancelled()
    assert queue.close(5)


def test_closing_does_not_wait_for_work_that_goes_on() -> None:
    queue, begun, gate = Queue(1), threading.Event(), threading.Event()
    queue.join(lambda: begun.set() or gate.wait(10))
    waiting = queue.join(lambda: None)
    begun.wait(10)
    assert not queue.close(0.05) and waiting.cancelled()
    gate.set()
    assert queue.close(5)
