"""A process that is lost costs its own call only; the next items are read ahead, in order."""

import gc
import multiprocessing
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import av
import pytest
import torch
from conftest import ROOT
from jobs import run_python

from mmact_tiny.errors import UserError
from mmact_tiny.video.isolated import VIDEOS_AHEAD, GuardedReader, Lost, ReadAhead

CRASHED = ("decoder crashed", "SIGKILL", "the decoder crashed (SIGKILL)")
PATIENCE = 120  # seconds: what is waited for comes at once, but on a machine that is busy
TIMED_OUT = ("timed out", "no end after 2 s", "timed out after 2 s")


def double(value: int) -> int:
    """Returns twice the value; crashes on 3, hangs on 5, raises on 7."""
    if value == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    if value == 5:
        time.sleep(1000)
    if value == 7:
        raise ValueError("seven\nand a stack")
    return 2 * value


@pytest.fixture
def reader() -> Iterator[GuardedReader]:
    reader = GuardedReader(double, PATIENCE, num_processes=2, niceness=0)
    yield reader
    reader.close()


def found(result: int | Lost) -> int | tuple[str, str, str]:
    return (result.kind, result.detail, str(result)) if isinstance(result, Lost) else result


def test_a_lost_process_costs_its_own_call_only(reader):
    lost = {3: CRASHED, 5: TIMED_OUT, 7: ("unreadable", "seven", "seven")}
    expected = {value: lost.get(value, 2 * value) for value in range(12)}
    seconds = {5: 2.0}
    calls = ((value, (value,), seconds.get(value, PATIENCE)) for value in range(12))
    assert {key: found(result) for key, result in reader.call_each(calls)} == expected
    for value in range(12):
        reader.video_seconds = seconds.get(value, PATIENCE)
        try:
            assert reader(value) == expected[value]
        except Lost as error:
            assert found(error) == expected[value]


def test_calls_are_taken_as_processes_become_free(reader):
    taken = []

    def calls() -> Iterator[tuple[int, tuple[int], float]]:
        for value in range(0, 400, 20):
            taken.append(value)
            yield value, (value,), PATIENCE

    results = reader.call_each(calls())
    next(results)
    assert len(taken) == 4
    results.close()
    assert list(reader.call_each([])) == []


def test_who_waits_for_a_reader_that_is_closed_waits_no_more():
    reader, started = GuardedReader(double, 1000, niceness=0), threading.Event()
    lost: list[Lost] = []

    def call() -> None:
        started.set()
        try:
            reader(5)
        except Lost as error:
            lost.append(error)

    thread = threading.Thread(target=call)
    thread.start()
    assert started.wait(PATIENCE)
    while not reader._calls:
        time.sleep(0.01)
    reader.close()
    thread.join(PATIENCE)
    assert [str(error) for error in lost] == ["the decoder was ended"]
    assert reader(1) == 2, "the next call starts another"
    reader.close()


def test_a_process_makes_room_for_another_after_its_calls():
    reader = GuardedReader(lambda: os.getpid(), calls_a_process=2, niceness=0)
    pids = [reader() for _ in range(6)]
    reader.close()
    assert len(set(pids)) == 3 and pids[0::2] == pids[1::2]


@pytest.mark.parametrize("noticed", [True, False])
def test_a_process_that_the_system_ends_between_two_calls_costs_none(noticed):
    reader = GuardedReader(lambda: os.getpid(), niceness=0)
    first = reader()
    os.kill(first, signal.SIGKILL)
    while noticed and reader._pool.active:
        time.sleep(0.01)
    assert reader() != first
    reader.close()


def test_results_outlive_the_process_that_made_them():
    """PyTorch would pass tensors in shared memory of a process that is there no more."""
    reader = GuardedReader(lambda: torch.arange(3.0), calls_a_process=1, niceness=0)
    results = [reader() for _ in range(3)]
    reader.close()
    assert [result.tolist() for result in results] == [[0, 1, 2]] * 3


def test_connections_of_this_process_end_when_it_ends_them():
    """A server's client would wait for the end of an answer until the reader's process ends."""
    ours, theirs = socket.socketpair()
    reader = GuardedReader(double, niceness=0)
    assert reader(1) == 2
    ours.close()
    theirs.settimeout(PATIENCE)
    assert theirs.recv(1) == b""
    theirs.close()
    reader.close()


PROGRAM = """
import os
from mmact_tiny.video.isolated import GuardedReader
reader = GuardedReader(lambda: os.getpid(), niceness=0)
print(reader() != os.getpid(), flush=True)
"""


@pytest.mark.parametrize("how", ["-c", "stdin", "file"])
def test_a_program_without_a_main_guard_ends_though_its_reader_is_open(how, tmp_path):
    """A Recognizer at the top level of a script lives until the interpreter is gone."""
    (tmp_path / "program.py").write_text(PROGRAM)
    command = {"-c": ["-c", PROGRAM], "stdin": ["-"], "file": [str(tmp_path / "program.py")]}
    environ = dict(os.environ, PYTHONPATH=str(ROOT))
    done = run_python(*command[how], input=PROGRAM, env=environ)
    assert (done.stdout, done.stderr) == ("True\n", "")


def test_processes_end_with_a_program_that_is_killed():
    program = PROGRAM.replace("print(reader() != os.getpid(), flush=True)", "print(reader())")
    program += "second = GuardedReader(lambda: os.getpid(), niceness=0)\nprint(second())\n"
    program += "os.kill(os.getpid(), 9)\n"
    done = run_python("-uc", program, status=-signal.SIGKILL)
    assert len(done.stdout.split()) == 2, "its output ends with the last process that has it"


def test_no_call_is_lost_when_the_system_ends_idle_processes():
    """Now and then one is handed over at the moment when the pool finds its process dead."""
    readers = [GuardedReader(lambda number: number + 1, PATIENCE) for _ in range(3)]
    for reader in readers:
        assert reader(1) == 2
    for number in range(45):
        for process in multiprocessing.active_children():
            process.kill()
        assert readers[number % 3](number) == number + 1
    for reader in readers:
        reader.close()


def test_a_process_frees_nothing_that_it_inherits():
    """A decoder with threads, in a circle that only the garbage collector finds."""
    container = av.open(str(next((ROOT / "data/tiny/val").glob("*.mp4"))))
    container.streams.video[0].thread_type = "AUTO"
    next(container.decode(video=0))
    circle = [container]
    circle.append(circle)  # type: ignore[arg-type]
    reader = GuardedReader(lambda: gc.collect() >= 0, PATIENCE)
    reader.start()
    del container, circle
    assert reader() is True
    reader.close()


@pytest.mark.parametrize("at_once", [1, 3])
def test_the_next_items_are_read_while_the_caller_works(at_once):
    read, together = {number: threading.Event() for number in range(6)}, threading.Barrier(at_once)

    def note(number: int) -> int:
        together.wait(timeout=PATIENCE)
        read[number].set()
        return number * 10

    ahead = ReadAhead(note, range(6), at_once)
    assert read[0].wait(timeout=PATIENCE)  # before the first result is asked for
    results = iter(ahead)
    assert next(results) == 0
    for number in range(1, at_once):
        assert read[number].wait(timeout=PATIENCE)
    assert not read[VIDEOS_AHEAD + at_once].is_set()  # memory is bounded
    assert list(results) == [10, 20, 30, 40, 50]


def test_an_exception_comes_where_its_item_would():
    """A UserError is a result: the others are read as well."""

    def read(number: int) -> float:
        if number < 0:
            raise UserError("below 0")
        return 1 // number

    results = iter(ReadAhead(read, [1, -1, 0, 1]))
    assert next(results) == 1 and str(next(results)) == "below 0"
    with pytest.raises(ZeroDivisionError):
        next(results)


def test_what_nobody_waits_for_is_not_read():
    started, go_on, read = threading.Event(), threading.Event(), []

    def note(number: int) -> None:
        started.set()
        go_on.wait(timeout=PATIENCE)
        read.append(number)

    ahead = ReadAhead(note, range(6))
    assert started.wait(timeout=PATIENCE)
    threads = ahead._threads
    del ahead
    go_on.set()
    threads.shutdown(wait=True)
    assert read == [0]


def answers(reader: GuardedReader, queue: "multiprocessing.Queue[Any]") -> None:

    queue.put((reader(1), dict(reader.call_each([(2, (2,), PATIENCE)])), reader(4)))


@pytest.mark.parametrize("daemon", [False, True])
def test_a_fork_has_processes_of_its_own(daemon, reader):
    """A web server's preloaded workers; a daemonic process, which may have none, reads itself."""
    assert reader(1) == 2
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    forks = [context.Process(target=answers, args=(reader, queue), daemon=daemon) for _ in range(3)]
    for fork in forks:
        fork.start()
    assert [queue.get(timeout=PATIENCE) for _ in forks] == [(2, {2: 4}, 8)] * 3
    for fork in forks:
        fork.join(PATIENCE)
    assert [fork.exitcode for fork in forks] == [0, 0, 0]
    assert reader(4) == 8


def test_a_fork_that_ends_leaves_its_parents_processes():
    program = """
import os, sys
from mmact_tiny.video.isolated import GuardedReader
reader = GuardedReader(lambda: os.getpid(), niceness=0)
first = reader()
if not (fork := os.fork()):
    sys.exit(reader() == first)
assert os.waitpid(fork, 0)[1] == 0
print(reader() == first)
"""
    done = run_python("-c", program, env=dict(os.environ, PYTHONPATH=str(ROOT)))
    assert (done.stdout, done.stderr) == ("True\n", "")
