"""Scores the videos of a job, and writes their rows in parts."""

import hashlib
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial
from itertools import islice, tee
from pathlib import Path
from typing import Any

from .. import __version__, hardware, progress
from ..checkpoints.config_text import config_to_json
from ..errors import EXIT_ERROR, EXIT_OK, EXIT_PARTIAL, UserError
from ..files import Row, printable, sha256
from ..infer import answer_rows, open_recognizer
from ..pipeline import num_views, sampling_step
from ..recognizer import Recognizer
from ..video.isolated import VIDEO_SECONDS
from .fetch import LocalCopies
from .job import Format, Job, Part, begin

logger = logging.getLogger("mmact_tiny")
# Frames that may be scored together: those of one forward pass on a GPU, see engine.CHUNK_FRAMES.
FRAMES_TOGETHER = 250


def share_of(launcher: str = "none", part: str | None = None) -> tuple[int, int]:
    """Returns `(rank, processes)`: which parts of a job are this process's.

    Args:
        launcher: pytorch, slurm or mpi, whose variables tell.
        part: `I/N`, from 1/N to N/N.

    Raises:
        UserError: both, or one that tells nothing.
    """
    if part is not None:
        number, _, of = part.partition("/")
        if launcher != "none":
            raise UserError(f"--part {part}: expected without --launcher {launcher}")
        if not (number.isdecimal() and of.isdecimal() and 1 <= int(number) <= int(of)):
            raise UserError(f"--part {part}: expected I/N, from 1/N to N/N")
        return int(number) - 1, int(of)
    if launcher == "none":
        return 0, 1
    if not {"RANK", "SLURM_PROCID", "OMPI_COMM_WORLD_RANK"} & set(os.environ):
        raise UserError(
            f"--launcher {launcher}: no launcher has started this process\n"
            "  start the same command with torchrun --nproc_per_node=2 in the place of python"
        )
    return hardware.rank(), hardware.world_size()


def device_of_rank() -> str:
    """Returns the device of a process that a launcher started: each has a GPU of its own."""
    import torch

    count = torch.cuda.device_count()
    return f"cuda:{hardware.local_rank() % count}" if count else "auto"


def score_job(
    sources: Sequence[str],
    out: str,
    *,
    share: tuple[int, int] = (0, 1),
    parquet: bool = False,
    top_k: int | None = None,
    time_limit: float | None = None,
    rows_of: partial[Iterable[Row]] | None = None,
    **settings: Any,
) -> int:
    """Scores what is missing of a job, which it begins where there is none; returns the status.

    That is 0, or 3 where some videos cannot be read, 2 where none can. Of several processes each
    ends with 0 then: a launcher would take another status for the end of the job.

    Args:
        sources, out: As `job.begin` has them.
        share: What `share_of` returned.
        parquet: Whether parts are Parquet, not JSON Lines.
        top_k, time_limit, settings: As for `infer`.
        rows_of: As for `infer`, with what its rows depend on as keywords: window and stride.

    Raises:
        UserError: what cannot be used or written; all parts that are there stay.
    """
    settings["video_seconds"] = time_limit or VIDEO_SECONDS
    recognizer, top_k = open_recognizer(top_k, **settings)
    recognizer.read_videos([])  # its processes have no need of the model
    identity = identity_of(recognizer, top_k)
    if rows_of is not None:
        identity |= rows_of.keywords
    job = begin(out, sources, identity, "parquet" if parquet else "jsonl")
    logger.info("checkpoint: %s", recognizer.checkpoint)
    numbers = to_do(job, share)
    parts = job.parts(numbers)
    if rows_of is None:
        scored = score_parts(recognizer, top_k, parts)
    else:
        ask = rows_of  # each video by itself
        scored = rows_of_parts(
            parts, lambda paths: (row for path in paths for row in ask(recognizer, [path], top_k))
        )
    return write_parts(job, scored, numbers, alone=share[1] == 1)


def fill_job(
    sources: Sequence[str],
    out: str,
    *,
    share: tuple[int, int],
    identity: Mapping[str, Any],
    suffix: str,
    kind: type[Format],
    rows_of: Callable[[Iterable[Path]], Iterable[Row]],
) -> int:
    """Does what `score_job` does for rows of another kind.

    Args:
        sources, out, identity, suffix, kind: As `job.begin` has them.
        share: What `share_of` returned.
        rows_of: Gives the row of each video in turn, read from the file that it is given.
    """
    job = begin(out, sources, identity, suffix, kind)
    numbers = to_do(job, share)
    scored = rows_of_parts(job.parts(numbers), rows_of)
    return write_parts(job, scored, numbers, alone=share[1] == 1)


def to_do(job: Job, share: tuple[int, int] = (0, 1)) -> list[int]:
    """Returns the numbers of the missing parts of a share, and says what the job is."""
    for name in ("protocol", "engine"):
        logger.info("%s: %s", name, job.facts[name])
    numbers = job.missing(*share)
    missing = sum(map(job.size_of, numbers))
    logger.info("%s: %s of %s videos to do", job.store, f"{missing:,}", f"{job.num_videos:,}")
    return numbers


def identity_of(recognizer: Recognizer, top_k: int) -> dict[str, Any]:
    """Returns what the answers of a recognizer depend on."""
    own = dict(model=recognizer.cfg.get("model"), steps=recognizer.steps, labels=recognizer.labels)
    config = config_to_json(own)
    return dict(
        mmact_tiny=__version__,
        checkpoint=sha256(recognizer.checkpoint),
        config_and_labels=hashlib.sha256(config.encode()).hexdigest(),
        protocol=recognizer.protocol,
        engine=str(recognizer.engine),
        top_k=top_k,
        window=None,
        stride=None,
    )


def videos_together(recognizer: Recognizer) -> int:
    """Returns how many consecutive videos are scored together, whatever the device.

    A score may differ in its last bits with what shares its batch, so batches are cut at the same
    places in every process, plain or Ray's, however often it is started again.
    """
    clips, crops = num_views(recognizer.steps)
    frames = clips * crops * sampling_step(recognizer.steps).get("clip_len", 1)
    return max(1, FRAMES_TOGETHER // frames)


def score_parts(
    recognizer: Recognizer, top_k: int, parts: Iterable[Part]
) -> Iterator[tuple[Part, Iterator[Row]]]:
    """Yields each part with its rows; reading goes on ahead over the ends of parts."""
    ahead, parts = tee(parts)
    size = videos_together(recognizer)
    with closing(LocalCopies(video for part in ahead for video in part.videos)) as copies:
        samples = iter(recognizer.read_videos(copies))

        def rows(part: Part) -> Iterator[Row]:
            for start in range(0, len(part.videos), size):
                videos = part.videos[start : start + size]
                read = copies.named(islice(samples, len(videos)))
                yield from answer_rows(recognizer, videos, recognizer.score_samples(read), top_k)

        for part in parts:
            yield part, rows(part)


def rows_of_parts(
    parts: Iterable[Part], rows_of: Callable[[Iterable[Path]], Iterable[Row]]
) -> Iterator[tuple[Part, Iterator[Row]]]:
    """Yields each part with its rows, see `fill_job`."""
    ahead, parts = tee(parts)
    with closing(LocalCopies(video for part in ahead for video in part.videos)) as copies:
        found = iter(rows_of(copies))

        def rows(part: Part) -> Iterator[Row]:
            for video, row in zip(part.videos, islice(found, len(part.videos)), strict=True):
                (error,) = copies.named([UserError(row.get("error", ""))])
                yield {**row, "video": video, **({"error": str(error)} if "error" in row else {})}

        for part in parts:
            yield part, rows(part)


def write_parts(
    job: Job,
    scored: Iterable[tuple[Part, Iterable[Row]]],
    numbers: Sequence[int],
    *,
    alone: bool = True,
) -> int:
    """Writes each part when its last row is there; returns the exit status, see `score_job`."""
    failed = done = 0
    total, written = sum(map(job.size_of, numbers)), None
    bar = progress.Bar("inference", total, keep=hardware.rank() == 0)
    with ThreadPoolExecutor(1) as writer, bar:  # disks and networks take their time
        for part, rows in scored:
            kept = []
            for row in rows:
                if "error" in row:
                    failed += 1
                    progress.say(f"error: {printable(row['error'])}")
                kept.append(row)
                bar.advance()
            if written is not None:
                written.result()
            written = writer.submit(job.write, part, kept)
            done += len(kept)
        if written is not None:
            written.result()
    logger.info("written: %s videos to %s", f"{done:,}", job.store)
    if failed:
        logger.error("%d of %d videos could not be read", failed, done)
    if not failed or not alone:
        return EXIT_OK
    return EXIT_ERROR if failed == done else EXIT_PARTIAL
