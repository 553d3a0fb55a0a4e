"""Joins the parts of a job to one file, after a look at whether each video is there once."""

import logging
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from ..errors import EXIT_ERROR, EXIT_OK, EXIT_PARTIAL, UserError
from ..files import Row, printable
from . import parquet
from .job import Answers, Format, Job, is_own
from .store import Store

SHOWN = 20  # failed videos; all of them are in the file
logger = logging.getLogger("mmact_tiny")


def collect(
    folder: str,
    out: str | None,
    write_windows: Callable[[Path, Iterable[Row]], None] | None = None,
    kind: type[Format] = Answers,
) -> int:
    """Writes the rows of all parts to one file, in the order of the list; returns the status.

    That is 0, or 3 where some videos could not be read, 2 where none could. No more than one part
    is in memory.

    Args:
        folder: A path or an address of a job.
        out: A file that ends as `kind` has it, here or at an address.
        write_windows: Writes rows of windows.
        kind: Of the rows.

    Raises:
        UserError: parts are missing or have other rows than their videos'; `out` is a file of the
            job; nothing is written.
    """
    if out is None or Path(out).suffix not in kind.suffixes:
        raise UserError(f"--collect needs --out, a name that ends in {', '.join(kind.suffixes)}")
    if Path(out).suffix == ".parquet":
        parquet.need()
    job = Job(folder, kind)
    place, _, name = out.rpartition("/")
    target = Store(place or ".")
    if target.address == job.store.address and is_own(name):
        raise UserError(f"--out {out}: that is a file of the job; name another")
    if missing := job.missing():
        count = sum(map(job.size_of, missing))
        raise UserError(
            f"{folder}: {count:,} of {job.num_videos:,} videos are missing, {len(missing):,} parts "
            f"from {job.name_of(missing[0])} on: run the job again, which computes them"
        )
    failed = 0

    def rows() -> Iterator[Row]:
        nonlocal failed
        for part in job.parts(range(job.num_parts)):
            for row in job.read(part):
                if "error" in row:
                    failed += 1
                    if failed <= SHOWN:
                        logger.error("%s", printable(row["error"]))
                yield row

    windows = job.facts.get("window") is not None
    write = write_windows if windows and write_windows else job.format.write
    target.write(name, lambda path: write(path, rows()))
    logger.info("written: %s, %s videos, each once", out, f"{job.num_videos:,}")
    if failed:
        more = f" ({failed - SHOWN:,} more than these)" if failed > SHOWN else ""
        logger.error("%d of %d videos could not be read%s", failed, job.num_videos, more)
    return EXIT_OK if not failed else EXIT_ERROR if failed == job.num_videos else EXIT_PARTIAL
