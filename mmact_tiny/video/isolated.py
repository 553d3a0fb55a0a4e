"""Runs a function in worker processes that may crash, hang or run out of memory.

A decoder can bring its process down or never return; `concurrent.futures` gives up the whole
pool then. Here each worker is a plain `python -m mmact_tiny.video.isolated` that takes a call at
a time as a line of JSON, so that a lost worker costs its one call and is replaced. The workers
import what the function's module imports and nothing of the caller's.
"""

import contextlib
import importlib
import json
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

READY = b"ready\n"


@dataclass(frozen=True, slots=True)
class Lost:
    """In place of a result: why the call has none."""

    reason: str


class Worker:
    """One process, and the call it is busy with."""

    def __init__(self, task: str) -> None:
        paths = os.pathsep.join(path or str(Path.cwd()) for path in sys.path)
        self.messages = tempfile.TemporaryFile()  # noqa: SIM115
        # A session of its own: Ctrl-C reaches the caller only, which then ends the workers.
        self.process = subprocess.Popen(
            [sys.executable, "-m", "mmact_tiny.video.isolated", task],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.messages,
            env=dict(os.environ, PYTHONPATH=paths),
            start_new_session=True,
        )
        assert self.process.stdin is not None and self.process.stdout is not None
        self.stdin, self.stdout = self.process.stdin, self.process.stdout
        self.key: Any = None
        self.deadline = 0.0
        self.seconds = 0.0
        self.answer = b""
        self.started = False

    def call(self, key: Any, arguments: dict[str, Any], seconds: float) -> None:
        self.key, self.seconds, self.answer = key, seconds, b""
        self.deadline = time.monotonic() + seconds
        with contextlib.suppress(BrokenPipeError):  # gone: its end of file is read next
            self.stdin.write(json.dumps(arguments).encode() + b"\n")
            self.stdin.flush()

    def receive(self) -> Any:
        """Returns the result, `Lost`, or None when only a part of the answer has come."""
        chunk = os.read(self.stdout.fileno(), 1 << 20)
        self.answer += chunk
        if not self.started and self.answer.startswith(READY):
            self.started, self.answer = True, self.answer.removeprefix(READY)
        if self.answer.endswith(b"\n"):
            result = json.loads(self.answer)
            return Lost(result["raised"]) if "raised" in result else result["result"]
        if chunk:
            return None
        status = self.process.wait()
        if not self.started:  # no call is at fault: every worker would end like this one
            self.messages.seek(0)
            raise RuntimeError(f"a worker cannot start:\n{self.messages.read().decode()}")
        name = signal.Signals(-status).name if status < 0 else f"status {status}"
        return Lost(f"decoder crashed: {name}")

    def end(self) -> None:
        self.process.kill()
        self.process.wait()
        self.stdout.close()
        self.messages.close()
        with contextlib.suppress(BrokenPipeError):
            self.stdin.close()


def run_isolated(
    task: str,
    calls: Iterable[tuple[Any, dict[str, Any], float]],
    *,
    num_workers: int,
) -> Iterator[tuple[Any, Any]]:
    """Calls `task` once for every item of `calls`, in `num_workers` processes.

    Args:
        task: `package.module:function`; the function takes keyword arguments and returns
            something that JSON can hold.
        calls: (key, keyword arguments, time limit in seconds), taken as workers become free.
        num_workers: how many processes, at most one call in each.

    Yields:
        (key, result or `Lost`), in the order in which they are done.
    """
    waiting = iter(calls)
    selector = selectors.DefaultSelector()
    workers: set[Worker] = set()

    def start() -> Worker:
        worker = Worker(task)
        workers.add(worker)
        selector.register(worker.stdout, selectors.EVENT_READ, worker)
        return worker

    def end(worker: Worker) -> None:
        workers.discard(worker)
        selector.unregister(worker.stdout)
        worker.end()

    def give(worker: Worker | None) -> None:
        """Gives the next call to a worker, to a new one for None; ends it when none is left."""
        call = next(waiting, None)
        if call is not None:
            (worker or start()).call(*call)
        elif worker is not None:
            end(worker)

    try:
        for _ in range(num_workers):
            give(None)
        while workers:
            soonest = min(worker.deadline for worker in workers)
            ready = [
                (key.data, key.data.receive())
                for key, _ in selector.select(max(0.0, soonest - time.monotonic()))
            ]
            answered = {worker for worker, result in ready if result is not None}
            now = time.monotonic()
            for worker in [w for w in workers if w.deadline <= now and w not in answered]:
                ready.append((worker, Lost(f"timed out: no end after {worker.seconds:.0f} s")))
                worker.process.kill()
            for worker, result in ready:
                if result is None:
                    continue
                key = worker.key
                alive = worker.process.poll() is None and not _timed_out(result)
                if not alive:
                    end(worker)
                give(worker if alive else None)
                yield key, result
    finally:
        for worker in workers:
            worker.end()
        selector.close()


def _timed_out(result: Any) -> bool:
    return isinstance(result, Lost) and result.reason.startswith("timed out")


def serve(task: str) -> None:
    """Answers calls until the caller is gone: the body of a worker process."""
    module, _, name = task.partition(":")
    function = getattr(importlib.import_module(module), name)
    # Only answers go to the pipe; what a library prints does not.
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    answers.write(READY)
    answers.flush()
    for line in sys.stdin.buffer:
        try:
            answer = {"result": function(**json.loads(line))}
        except Exception as error:
            answer = {"raised": f"{type(error).__name__}: {error}"}
        answers.write(json.dumps(answer).encode() + b"\n")
        answers.flush()


if __name__ == "__main__":
    serve(sys.argv[1])
