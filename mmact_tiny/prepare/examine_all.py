"""Probes many videos in parallel processes, and remembers what was found."""

import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from ..progress import show_progress
from ..video.isolated import Lost, run_isolated
from .examine import Record
from .probe_log import ProbeLog

TASK = "mmact_tiny.prepare.examine:probe"
SECONDS_PER_VIDEO = 60.0
SECONDS_PER_MEGABYTE = 5.0  # on top: more than the slowest decoders take


def probe_all(
    paths: Sequence[str],
    log: ProbeLog,
    *,
    num_workers: int | None = None,
    seconds_per_video: float = SECONDS_PER_VIDEO,
) -> tuple[dict[str, Record], int]:
    """Returns the record of every path, and how many videos had to be read for it.

    A video whose worker crashes or runs out of time has a record with `error` set, which is not
    remembered: the next run tries again.
    """
    records: dict[str, Record] = {}
    new = []
    for path in paths:
        if reason := _why_unreadable(path):
            records[path] = {"hash": "", "error": f"unreadable: {reason}"}
        elif (record := log.get(path)) is not None:
            records[path] = record
        else:
            new.append(path)
    if not new:
        return records, 0
    cores = count_cores()
    workers = min(num_workers or cores, len(new))
    calls = _calls(new, log, seconds_per_video, num_threads=max(1, cores // workers))
    with show_progress("checking videos", len(new), already=len(records)) as advance:
        for path, result in run_isolated(TASK, calls, num_workers=workers):
            if isinstance(result, Lost):
                records[path] = {"hash": "", "error": result.reason}
            elif not result["hash"]:
                records[path] = result
            else:
                records[path] = log.add(path, result)
            advance()
    return records, len(new)


def count_cores() -> int:
    """Returns how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _why_unreadable(path: str) -> str | None:
    try:
        mode = os.stat(path).st_mode  # noqa: PTH116
    except OSError as error:
        is_link = os.path.islink(path)  # noqa: PTH114
        return "a broken link" if is_link else error.strerror or str(error)
    return None if stat.S_ISREG(mode) else "not a regular file"  # a pipe would wait for ever


def _calls(
    paths: Iterable[str], log: ProbeLog, seconds: float, *, num_threads: int
) -> Iterator[tuple[str, dict[str, Any], float]]:
    for path in paths:
        megabytes = os.stat(path).st_size / 1e6  # noqa: PTH116
        arguments = {
            "path": path,
            "known_hashes": log.known_contents(path),
            "num_threads": num_threads,
        }
        yield path, arguments, seconds + megabytes * SECONDS_PER_MEGABYTE
