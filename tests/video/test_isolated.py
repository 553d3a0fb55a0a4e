import time

import pytest

from mmact_tiny.video.isolated import Lost, run_isolated


def test_a_lost_worker_costs_its_own_call_only() -> None:
    calls = ((value, {"value": value}, 2.0) for value in range(12))
    results = dict(run_isolated("isolated_tasks:double", calls, num_workers=2))
    assert results == {
        **{value: 2 * value for value in (0, 1, 2, 4, 6, 8, 9, 10, 11)},
        3: Lost("decoder crashed: SIGKILL"),
        5: Lost("timed out: no end after 2 s"),
        7: Lost("ValueError: seven"),
    }


def test_calls_are_taken_as_workers_become_free() -> None:
    taken = []

    def calls():
        for value in range(0, 400, 20):
            taken.append(value)
            yield value, {"value": value}, 10.0

    results = run_isolated("isolated_tasks:double", calls(), num_workers=2)
    next(results)
    assert len(taken) <= 4
    results.close()


def test_workers_end_with_their_caller() -> None:
    calls = [(5, {"value": 5}, 60.0), (1, {"value": 1}, 60.0)]
    start = time.monotonic()
    results = run_isolated("isolated_tasks:double", calls, num_workers=2)
    assert next(results) == (1, 2)
    results.close()
    assert time.monotonic() - start < 10


def test_workers_that_cannot_start_are_an_error() -> None:
    with pytest.raises(RuntimeError, match="No module named 'no_such_module'"):
        list(run_isolated("no_such_module:f", [(0, {}, 5.0)], num_workers=1))


def test_nothing_to_do() -> None:
    assert list(run_isolated("isolated_tasks:double", [], num_workers=2)) == []
