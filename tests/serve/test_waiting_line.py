import threading
import time

import pytest

from mmact_tiny.serve.waiting_line import Full, Job, Left, WaitingLine


def test_a_bound_on_the_places() -> None:
    line = WaitingLine(2)
    with line.place():
        with line.place(), pytest.raises(Full), line.place():
            pass
        with line.place():
            assert line.num_taken == 2
    assert line.num_taken == 0


def test_one_at_a_time_in_order_of_coming() -> None:
    line, gate = WaitingLine(9), threading.Event()
    running, served = [], []

    def work(number: int) -> int:
        running.append(number)
        gate.wait(10)
        served.append(list(running))
        running.remove(number)
        return number

    jobs = [line.join(lambda job, number=number: work(number)) for number in range(4)]
    assert [line.num_ahead(job) for job in jobs] == [0, 1, 2, 3]
    line.leave(jobs[1])
    assert [line.num_ahead(job) for job in jobs] == [0, 0, 1, 2]
    gate.set()
    assert [jobs[number].future.result(10) for number in (0, 2, 3)] == [0, 2, 3]
    assert served == [[0], [2], [3]] and jobs[1].future.cancelled()
    assert line.close(5)


def test_who_leaves_ends_the_work_that_checks() -> None:
    line, begun = WaitingLine(1), threading.Event()

    def work(job: Job) -> None:
        begun.set()
        while True:
            job.check()
            time.sleep(0.01)

    job = line.join(work)
    begun.wait(10)
    line.leave(job)
    assert isinstance(job.future.exception(10), Left)


def test_closing_does_not_wait_for_work_that_does_not_check() -> None:
    line, begun, gate = WaitingLine(1), threading.Event(), threading.Event()
    line.join(lambda job: begun.set() or gate.wait(10))
    begun.wait(10)
    assert not line.close(0.05)
    gate.set()
    assert line.close(5)
