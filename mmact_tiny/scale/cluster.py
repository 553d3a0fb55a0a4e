"""Spreads a job over a cluster with Ray Data: decoding on any core, the recognizer in actors.

Ray's streaming execution hands batches over by reference, holds back whoever is ahead, adds
actors where they are the bottleneck, and computes again what a lost process or machine had. The
program that was called writes the parts. Checkpoint and videos have to be where every machine
finds them: at the same path, or videos at an address.
"""

import functools
import json
import logging
import os
import pickle
import socket
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psutil

from .. import __version__, log
from ..compat import Compose, init_default_scope
from ..errors import UserError
from ..files import Row
from ..infer import answer_rows, open_recognizer
from ..recognizer import default_checkpoint
from ..video.files import sample_of
from ..video.isolated import VIDEO_SECONDS, GuardedReader
from .fetch import LocalCopies
from .job import Job, Part, begin
from .score import identity_of, to_do, videos_together, write_parts

MOST_BLOCKS = 4096  # tasks that Ray keeps in mind; a task has a batch of videos, or several
# Shares of a core, for a reader and for an actor without a GPU: the reader stands back
# (hardware.reader_niceness). Where half of the machines are lost, all actors fit on the others and
# leave room for readers, without which both would wait for ever. Ray runs steps of equal shares in
# one process.
READER, ACTOR = 0.5, 0.24
SECONDS_TO_CONNECT = 10
SECONDS_TO_ANSWER = 120  # of a machine that has to import mmact_tiny
SECONDS_TO_END = 30  # of the processes of a Ray of our own


def score_job(
    sources: Sequence[str],
    out: str,
    *,
    ray: str,
    parquet: bool = False,
    top_k: int | None = None,
    time_limit: float | None = None,
    **settings: Any,
) -> int:
    """Does what `score.score_job` does, on the cluster at an address; `local` starts one here."""
    log.keep_stock_log_off()
    settings["checkpoint"] = settings.get("checkpoint") or default_checkpoint()
    for name in ("checkpoint", "config", "label_map"):
        if settings.get(name) and Path(settings[name]).exists():
            settings[name] = str(Path(settings[name]).absolute())
    settings["video_seconds"] = time_limit or VIDEO_SECONDS
    with connected(ray) as resources, plain_errors():
        from ray import get, remote

        ask = remote(**_share(resources))(describe)
        identity, together, steps = get(ask.remote(top_k, settings))
        job = begin(out, sources, identity, "parquet" if parquet else "jsonl")
        numbers = to_do(job)
        read = functools.partial(read_batch, steps=steps, seconds=settings["video_seconds"])
        scorer = dict(identity=identity, settings=settings)
        scored = spread(job, numbers, together, read, Scorer, scorer, resources)
        return write_parts(job, scored, numbers)


@contextmanager
def connected(address: str) -> Iterator[dict[str, float]]:
    """Connects with a cluster, or starts Ray on this machine until the block ends.

    Gives the resources of the cluster.

    Raises:
        UserError: Ray is not installed, no cluster answers, or its Ray, Python or mmact_tiny is
            of another version.
    """
    if find_spec("ray") is None:
        raise UserError("--ray needs Ray: pip install 'mmact-tiny[ray]'")
    if Path(address).exists():
        raise UserError(f"--ray {address}: expected an address; put --ray behind the videos")
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdecimal():
        try:  # Ray itself would try for minutes
            socket.create_connection((host, int(port)), SECONDS_TO_CONNECT).close()
        except OSError as error:
            raise UserError(f"--ray {address}: no cluster answers: {error}") from None
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # errors come as exceptions
    import ray
    import ray.data

    with ExitStack() as stack:
        place: dict[str, Any] = dict(address=address)
        if address == "local":
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="ray-"))
            place |= dict(include_dashboard=False, _temp_dir=folder)
        stack.callback(_end, address == "local")
        try:
            ray.init(**place, log_to_driver=False, logging_level=logging.ERROR)
        except Exception as error:  # ConnectionError, or RuntimeError with both versions
            reason = " ".join(str(error).split())[:300]
            raise UserError(f"--ray {address}: no cluster to work with: {reason}") from None
        _check_versions(address)
        logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # errors come as exceptions
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars, context.raise_original_map_exception = False, True
        # An actor ends where it has nothing to do, not little: another loads for seconds.
        context.autoscaling_config.actor_pool_util_downscaling_threshold = 0.0
        yield ray.cluster_resources()


def _end(is_ours: bool) -> None:
    """Leaves the cluster; of a Ray of our own no process is left, which takes them a while."""
    import ray

    processes = psutil.Process().children(recursive=True) if is_ours else []
    ray.shutdown()
    for process in psutil.wait_procs(processes, SECONDS_TO_END)[1]:
        process.kill()


def _check_versions(address: str) -> None:
    """Raises a UserError for a machine that has no mmact_tiny, or another one."""
    import ray
    from ray.exceptions import NodeDiedError, TaskUnschedulableError, WorkerCrashedError
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    ask = ray.remote(num_cpus=0, max_retries=0)(_version)
    for node in [node for node in ray.nodes() if node["Alive"]]:
        there = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        name, reason = node["NodeManagerAddress"], f"this machine has mmact_tiny {__version__}"
        try:
            asked = ask.options(scheduling_strategy=there).remote()
            version = ray.get(asked, timeout=SECONDS_TO_ANSWER)
        except (NodeDiedError, TaskUnschedulableError, WorkerCrashedError):
            continue  # lost since, and Ray's to make good
        except Exception as error:
            version, reason = "that cannot be imported", str(error).strip().splitlines()[-1]
        if version != __version__:
            raise UserError(f"--ray {address}: {name} has mmact_tiny {version}: {reason}")


def _version() -> str:
    return __version__


def _share(resources: dict[str, float]) -> dict[str, float]:
    """Returns what an actor takes: a GPU where the cluster has any."""
    return dict(num_gpus=1) if resources.get("GPU") else dict(num_cpus=ACTOR)


def describe(top_k: int | None, settings: dict[str, Any]) -> tuple[dict[str, Any], int, list]:
    """Returns of a recognizer in a worker its identity, videos together, and pipeline."""
    recognizer, top_k = open_recognizer(top_k, **settings)
    return identity_of(recognizer, top_k), videos_together(recognizer), recognizer.steps


def spread(
    job: Job,
    numbers: Sequence[int],
    together: int,
    read: Any,
    scorer: type,
    arguments: dict[str, Any],
    resources: dict[str, float],
) -> Iterator[tuple[Part, list[Row]]]:
    """Yields parts with their rows, in the order in which they are done.

    Args:
        job, numbers: The parts.
        together: Videos of a batch.
        read: Called with a batch in any process; adds its `samples`.
        scorer: A class whose object is called with that in an actor; adds its `rows`, as JSON.
        arguments: Of the class.
        resources: Of the cluster.

    Raises:
        UserError: Ray ended without all rows.
    """
    import ray.data

    batches = [
        dict(part=number, start=start, videos=pickle.dumps(part.videos[start : start + together]))
        for number, part in zip(numbers, job.parts(numbers), strict=True)
        for start in range(0, len(part.videos), together)
    ]
    if not batches:
        return
    most = max(1, int(resources.get("GPU") or resources["CPU"]))
    pool = ray.data.ActorPoolStrategy(min_size=1, max_size=min(most, len(batches)))
    rows = (
        ray.data.from_items(batches, override_num_blocks=min(len(batches), MOST_BLOCKS))
        .map(read, num_cpus=READER)
        .map(scorer, fn_constructor_kwargs=arguments, compute=pool, **_share(resources))
        .iter_rows()
    )
    waiting: dict[int, dict[int, list[Row]]] = {number: {} for number in numbers}
    for row in rows:
        found = waiting[row["part"]]
        found[row["start"]] = json.loads(row["rows"])
        if sum(map(len, found.values())) == job.size_of(row["part"]):
            in_order = [each for start in sorted(found) for each in found[start]]
            yield Part(job.name_of(row["part"]), []), in_order
            del waiting[row["part"]]
    if waiting:
        raise UserError(f"Ray ended without {len(waiting)} parts; run it again to go on")


def read_batch(batch: dict[str, Any], *, steps: list, seconds: float) -> dict[str, Any]:
    """Adds the views of the videos of a batch, or why there are none; on any core."""
    reader = _reader(pickle.dumps(steps), seconds)

    def read(path: Path) -> Any:
        try:
            return reader(sample_of(path))
        except UserError as error:
            return UserError(f"cannot read video {path}: {error}")

    with closing(LocalCopies(pickle.loads(batch["videos"]))) as copies:
        samples = list(copies.named(map(read, copies)))
    return {**batch, "samples": pickle.dumps(samples, pickle.HIGHEST_PROTOCOL)}


@functools.cache
def _reader(steps: bytes, seconds: float) -> GuardedReader:
    init_default_scope("mmaction")
    import_module("mmact_tiny.video.frames")  # a worker that only reads has not registered them
    return GuardedReader(Compose(pickle.loads(steps)), seconds)


class Scorer:
    """An actor with the recognizer, on a GPU or a core of its own.

    Raises:
        UserError: it is another than the job's.
    """

    def __init__(self, identity: dict[str, Any], settings: dict[str, Any]) -> None:
        self._recognizer, self._top_k = open_recognizer(identity["top_k"], **settings)
        mine = identity_of(self._recognizer, self._top_k)
        for name in identity:
            if mine[name] != identity[name]:
                there = f"{name} {mine[name]!r}, the job {identity[name]!r}"
                raise UserError(f"a machine of the cluster has {there}")

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        videos, samples = pickle.loads(batch["videos"]), pickle.loads(batch.pop("samples"))
        scores = self._recognizer.score_samples(samples)
        rows = answer_rows(self._recognizer, videos, scores, self._top_k)
        return {"part": batch["part"], "start": batch["start"], "rows": json.dumps(list(rows))}


@contextmanager
def plain_errors() -> Iterator[None]:
    """Turns what failed in a worker into the error that it was there."""
    from ray.exceptions import RayError

    try:
        yield
    except RayError as error:
        found: BaseException | None = error
        while found is not None:
            inner = getattr(found, "cause", None) or found.__cause__
            if isinstance(found, UserError) and inner is None:
                raise UserError(str(found)) from None
            found = inner
        reason = str(error).strip().splitlines()[-1][:300]
        raise UserError(f"Ray gave up: {reason}; run it again to go on") from error
