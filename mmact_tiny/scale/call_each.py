"""Calls a function for each of many videos in tasks of a Ray cluster, each on a core.

Every process of the cluster imports this module: it does without PyTorch.
"""

import errno
import functools
import itertools
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

from ..errors import UserError
from ..video.isolated import GuardedReader, Lost

TASKS_A_CORE = 2  # that wait or run: a core never waits for the program that was called


def call_each(
    function: Callable[..., Any],
    calls: Iterable[tuple[str, tuple[Any, ...], float]],
    folder: str | None = None,
) -> Iterator[tuple[str, Any]]:
    """Yields `(path, result or Lost)` of each call, in the order in which they are done.

    Ray makes up for a worker or a machine that is lost, by its own rule: up to 3 times a call.
    Calls are held back as Ray advises, by `ray.wait`:
    https://docs.ray.io/en/latest/ray-core/patterns/limit-pending-tasks.html

    Args:
        function: Every machine can import it.
        calls: `(path, arguments, time limit in seconds)`, taken as cores become free.
        folder: Where the function writes.

    Raises:
        UserError: a machine does not have the path or the folder that this one has.
    """
    import ray

    waiting, running = iter(calls), dict[Any, str]()
    task = ray.remote(num_cpus=1)(_call)
    with ExitStack() as stack:
        mark = None  # in the folder, by a name that no other machine has by chance
        if folder is not None:
            file = stack.enter_context(NamedTemporaryFile(dir=folder, prefix=".ray-"))
            mark = str(Path(file.name).absolute())
        while True:
            most = TASKS_A_CORE * max(1, int(ray.cluster_resources().get("CPU", 1)))
            for call in itertools.islice(waiting, max(0, most - len(running))):
                running[task.remote(function, mark, *call)] = call[0]
            if not running:
                return
            for done in ray.wait(list(running))[0]:
                yield (path := running.pop(done)), _result(done, path, mark)


def _result(done: Any, path: str, mark: str | None) -> Any:
    """Returns what a task found, or a `Lost`."""
    import ray
    from ray import exceptions as of

    try:
        found, lost, machine, missing = ray.get(done)
    except of.OutOfMemoryError:  # Ray ended it to save the machine
        return Lost("decoder crashed", "out of memory", "the decoder ran out of memory")
    except (of.LocalRayletDiedError, of.NodeDiedError, of.WorkerCrashedError):
        each = "with its worker of Ray, each time"
        return Lost("decoder crashed", each, f"the decoder crashed {each}")
    if missing is None:
        return found if lost is None else Lost(*lost)
    if not os.access(missing, os.R_OK):  # gone meanwhile
        return Lost("unreadable", os.strerror(errno.ENOENT), "it is not there any more")
    where, advice = path, ""
    if missing == mark:
        where, advice = f"--out {Path(missing).parent}", ", or add --no-convert"
    raise UserError(
        f"--ray: {machine} of the cluster cannot read {where}, which has to be at the same path "
        f"on every machine{advice}"
    )


def _call(
    function: Callable[..., Any],
    mark: str | None,
    path: str,
    arguments: tuple[Any, ...],
    seconds: float,
) -> tuple[Any, tuple[str, str, str] | None, str, str | None]:
    """Returns the result, or what a `Lost` is made of; the machine, and what it cannot read."""
    import ray

    machine = ray.util.get_node_ip_address()
    for needed in filter(None, (mark, path)):
        if not os.access(needed, os.R_OK):
            return None, None, machine, needed
    reader = _reader(function)
    reader.video_seconds = seconds
    try:
        return reader(*arguments), None, machine, None
    except Lost as lost:
        return None, (lost.kind, lost.detail, str(lost)), machine, None


@functools.cache
def _reader(function: Callable[..., Any]) -> GuardedReader:
    """Returns the process beside this one that decodes, which a bad video may take down."""
    return GuardedReader(function, calls_a_process=0, niceness=0)
