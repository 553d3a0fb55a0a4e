"""Deferred operations keep their order, and one that fails stops those behind it."""

import os
import threading

import pytest

from mmact_tiny.errors import UserError
from mmact_tiny.hooks.later_writes import LaterWrites


def test_deferred_operations_wait_in_order_and_the_next_one_for_them() -> None:
    writes, done, go_on = LaterWrites(), [], threading.Event()

    def slow(name: str) -> None:
        assert go_on.wait(timeout=10)
        done.append(name)

    with writes.deferred():
        writes.do(slow, "checkpoint")
        with writes.deferred():  # one within another does not wait
            writes.do(done.append, "pointer")
        assert done == []
    go_on.set()
    writes.do(done.append, "at once")
    assert done == ["checkpoint", "pointer", "at once"]


def test_nothing_is_removed_for_a_checkpoint_that_was_not_written() -> None:
    writes, done = LaterWrites(), []

    def full() -> None:
        raise UserError("no space to write epoch_2.pth")

    with writes.deferred():
        writes.do(full)
        writes.do(done.append, "epoch_1.pth removed")
    with pytest.raises(UserError, match="no space"), writes.deferred():
        pytest.fail("the next checkpoint begins before the failure is known")
    assert done == []
    writes.do(done.append, "later")  # what failed is told once
    assert done == ["later"]


def test_an_operation_that_is_not_deferred_fails_at_once() -> None:
    writes = LaterWrites()
    with pytest.raises(ZeroDivisionError):
        writes.do(lambda: 1 // 0)
    writes.wait()


def test_a_forked_process_has_a_thread_of_its_own() -> None:
    writes, done = LaterWrites(), []
    with writes.deferred():
        writes.do(done.append, "parent")
    writes.wait()
    child = os.fork()
    if child == 0:
        with writes.deferred():
            writes.do(done.append, "child")
        writes.wait()
        os._exit(0 if done == ["parent", "child"] else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
