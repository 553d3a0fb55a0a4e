"""Spreads a job over a cluster with Ray Data: decoding on any CPU, the recognizer in actors.

Ray's streaming execution hands batches over by reference, holds back whoever is ahead, adds
actors where they are the bottleneck, and computes again what a lost process or machine had. The
program that was called writes the parts. Videos, lists and checkpoint have to be where each
machine finds them: on a shared file system, or videos at an address.
"""

import functools
import json
import logging
import os
import pickle
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

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

MOST_BLOCKS = 4096  # tasks that Ray keeps in mind; each has a batch of videos, or several
SECONDS_TO_ANSWER = 30  # of a cluster
# Shares of a core, for a reader and for an actor without a GPU: a core has one of each, and the
# reader stands back (hardware.reader_niceness). Ray runs steps of equal shares in one process.
READER, ACTOR = 0.5, 0.49


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
    with connected(ray):
        cluster = Cluster(top_k, **settings, video_seconds=time_limit or VIDEO_SECONDS)
        job = begin(out, sources, cluster.identity, "parquet" if parquet else "jsonl")
        numbers = to_do(job, cluster.identity)
        return write_parts(job, cluster.score_parts(job, numbers), numbers)


@contextmanager
def connected(address: str) -> Iterator[None]:
    """Connects with a cluster, or starts Ray on this machine, which ends with the block.

    Raises:
        UserError: Ray is not installed, no cluster answers, or its Ray, Python or mmact_tiny is
            of another version.
    """
    if find_spec("ray") is None:
        raise UserError("--ray needs Ray: pip install 'mmact-tiny[ray]'")
    if Path(address).exists():
        raise UserError(f"--ray {address}: expected an address; put --ray behind the videos")
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    import ray
    import ray.data

    quiet = dict(log_to_driver=False, logging_level=logging.ERROR)
    with ExitStack() as stack:
        if address == "local":
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="ray-"))
            place = dict(address="local", include_dashboard=False, _temp_dir=folder)
        else:
            place = dict(address=address)
            os.environ.setdefault("RAY_gcs_rpc_server_reconnect_timeout_s", str(SECONDS_TO_ANSWER))
        stack.callback(ray.shutdown)
        try:
            ray.init(**place, **quiet)
        except Exception as error:  # ConnectionError, or RuntimeError with both versions
            reason = " ".join(str(error).split())[:300]
            raise UserError(f"--ray {address}: no cluster to work with: {reason}") from None
        _check_versions(address)
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        ray.data.DataContext.get_current().enable_progress_bars = False
        yield


def _check_versions(address: str) -> None:
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    ask = ray.remote(num_cpus=0, max_retries=0)(_version)
    for node in [node for node in ray.nodes() if node["Alive"]]:
        there = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        name = node["NodeManagerAddress"]
        try:
            version = ray.get(ask.options(scheduling_strategy=there).remote(), timeout=120)
        except Exception as error:
            reason = str(getattr(error, "cause", None) or error).strip().splitlines()[-1]
            raise UserError(f"--ray {address}: {name} cannot run mmact_tiny: {reason}") from None
        if version != __version__:
            raise UserError(
                f"--ray {address}: {name} has mmact_tiny {version}, this machine {__version__}: "
                "install the same on both"
            )


def _version() -> str:
    return __version__


def describe(settings: dict[str, Any], top_k: int | None) -> tuple[dict[str, Any], int, list]:
    """Returns the identity of a recognizer in a worker, its videos together, and its pipeline."""
    recognizer, top_k = open_recognizer(top_k, **settings)
    return identity_of(recognizer, top_k), videos_together(recognizer), recognizer.steps


class Cluster:
    """A recognizer that is spread over the cluster with which this process is connected.

    Args:
        top_k: As for `infer`.
        settings: The arguments of `Recognizer`.

    Raises:
        UserError: as for `open_recognizer`, in a worker.
    """

    def __init__(self, top_k: int | None, **settings: Any) -> None:
        import ray

        settings["checkpoint"] = settings.get("checkpoint") or default_checkpoint()
        for name in ("checkpoint", "config", "label_map"):
            if settings.get(name) and Path(settings[name]).exists():
                settings[name] = str(Path(settings[name]).absolute())
        self._settings = settings
        self._num_gpus = int(ray.cluster_resources().get("GPU", 0))
        self._num_cores = int(ray.cluster_resources().get("CPU", 1))
        self._resources = dict(num_gpus=1) if self._num_gpus else dict(num_cpus=ACTOR)
        ask = ray.remote(**self._resources)(describe)
        with _plain_errors():
            self.identity, self._together, self._steps = ray.get(ask.remote(settings, top_k))

    def score_parts(self, job: Job, numbers: Sequence[int]) -> Iterator[tuple[Part, list[Row]]]:
        """Yields parts with their rows in the order in which they are done."""
        import ray

        together = min(self._together, job.part_size)
        batches = [
            (number, start)
            for number in numbers
            for start in range(0, job.size_of(number), together)
        ]
        read = dict(
            folder=str(job.store),
            batches=ray.put(batches),
            offsets=ray.put(job.offsets(numbers)),
            together=together,
            steps=self._steps,
            seconds=self._settings["video_seconds"],
        )
        ids = np.array_split(np.arange(len(batches)), min(len(batches), MOST_BLOCKS))
        pool = ray.data.ActorPoolStrategy(min_size=1, max_size=self._num_gpus or self._num_cores)
        rows = (
            ray.data.from_numpy(ids)
            .map(read_batch, fn_kwargs=read, num_cpus=READER)
            .map(
                Scorer,
                fn_constructor_kwargs=dict(settings=self._settings, identity=self.identity),
                compute=pool,
                **self._resources,
            )
            .iter_rows()
        )
        waiting: dict[int, dict[int, list[Row]]] = defaultdict(dict)
        with _plain_errors():
            for row in rows:
                number, start = batches[row["data"]]
                found = waiting[number]
                found[start] = json.loads(row["rows"])
                if sum(map(len, found.values())) == job.size_of(number):
                    in_order = chain.from_iterable(found[start] for start in sorted(found))
                    yield Part(job.name_of(number), []), list(in_order)
                    del waiting[number]


def read_batch(
    row: dict[str, Any],
    *,
    folder: str,
    batches: Any,
    offsets: Any,
    together: int,
    steps: list,
    seconds: float,
) -> dict[str, Any]:
    """Returns the views of videos that are scored together, on any core of the cluster."""
    import ray

    number, start = ray.get(batches)[row["data"]]
    part = _job(folder).part_at(number, ray.get(offsets)[number])
    videos = part.videos[start : start + together]
    copies = LocalCopies(videos)
    reader = _reader(pickle.dumps(steps), seconds)

    def read(path: Path) -> Any:
        try:
            return reader(sample_of(path))
        except UserError as error:
            return UserError(f"cannot read video {path}: {error}")

    samples = list(copies.named(map(read, copies)))
    copies.close()
    return {"data": row["data"], "batch": pickle.dumps((videos, samples), pickle.HIGHEST_PROTOCOL)}


@functools.cache
def _job(folder: str) -> Job:
    return Job(folder)


@functools.cache
def _reader(steps: bytes, seconds: float) -> GuardedReader:
    init_default_scope("mmaction")
    return GuardedReader(Compose(pickle.loads(steps)), seconds)


class Scorer:
    """An actor with the recognizer, on a GPU or a core of its own."""

    def __init__(self, settings: dict[str, Any], identity: dict[str, Any]) -> None:
        self._recognizer, self._top_k = open_recognizer(identity["top_k"], **settings)
        if identity_of(self._recognizer, self._top_k) != identity:
            raise UserError(
                f"a machine of the cluster has another checkpoint or engine: "
                f"{self._recognizer.engine} there, {identity['engine']} in the job"
            )

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        videos, samples = pickle.loads(row["batch"])
        scores = self._recognizer.score_samples(samples)
        rows = list(answer_rows(self._recognizer, videos, scores, self._top_k))
        return {"data": row["data"], "rows": json.dumps(rows)}


@contextmanager
def _plain_errors() -> Iterator[None]:
    """Turns what failed in a worker into the error that it was there."""
    import ray

    try:
        yield
    except ray.exceptions.RayError as error:
        found: BaseException | None = error
        while found is not None:
            inner = getattr(found, "cause", None)
            if isinstance(inner, UserError):
                raise UserError(str(inner)) from None
            found = inner or found.__cause__
        reason = str(error).strip().splitlines()[-1][:300]
        raise UserError(f"Ray gave up: {reason}; run it again to go on") from error
