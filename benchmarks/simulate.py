"""Drives jobs of many workers that only wait, a tenth of which die: what docs/scale.md draws."""

import json
import os
import pickle
import random
import signal
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from threading import Thread
from typing import Any

from benchmarks.ray_cluster import Cluster

# Seconds of a core that a video takes: the 3 frames of `val` of 40 filmed ones, by tenths, and
# ResNet-50 on them at 45 frames a second.
DECODE = (0.03, 0.05, 0.07, 0.09, 0.10, 0.12, 0.16, 0.21, 0.27, 0.32, 0.44)
MODEL = 3 / 45
TOGETHER = 16  # videos of a batch, as in a job of less than 1,024; larger ones are easier on Ray
PLAIN, RAY = (1, 2, 5, 10, 20, 50, 100, 200, 500), (3, 10, 20, 40)


def simulate(folder: Path, num_workers: int, count: int, seconds: float, seed: int) -> dict:
    """Returns how near a job of many processes comes to the ideal time; a tenth of them die.

    Each worker is a thread with the real list, shares and parts; it waits in the place of decoding
    and scoring, a time drawn for each part. One that dies, at a random moment, loses its part and
    is started again after a second, as a job array does.

    Args:
        folder: Where the job goes.
        num_workers: How many there are.
        count: Videos.
        seconds: The ideal time: what all parts take, over the workers.
        seed: Of the times and deaths.
    """
    from mmact_tiny.scale.job import Job, begin

    draw, job = random.Random(seed), _begin(begin, folder, count)
    mean = seconds * num_workers / job.num_parts
    takes = [draw.gauss(mean, 0.1 * mean) for _ in range(job.num_parts)]  # 64 of DECODE vary so
    ideal = sum(takes) / num_workers
    deaths = {draw.randrange(num_workers) for _ in range(num_workers // 10)}
    moments = {worker: draw.uniform(0, seconds) for worker in deaths}
    lost, written = [], []
    parts = list(job.parts(range(job.num_parts)))  # a worker reads the list in half a second

    def work(worker: int) -> None:
        again = Job(folder / "answers")
        began = time.monotonic()
        for number in again.missing(worker, num_workers):
            part = parts[number]
            if worker in moments and time.monotonic() - began + takes[number] > moments[worker]:
                time.sleep(max(0.0, moments.pop(worker) - (time.monotonic() - began)))
                lost.append(number)
                time.sleep(1)
                return work(worker)
            time.sleep(takes[number])
            again.write(part, [dict(video=video) for video in part.videos])
            written.append(number)

    threads = [Thread(target=work, args=(worker,)) for worker in range(num_workers)]
    start = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    took = time.monotonic() - start
    assert sorted(written) == list(range(job.num_parts)) and job.missing() == []
    return _found("plain", num_workers, job, len(lost), ideal, took)


def _begin(begin: Any, folder: Path, count: int) -> Any:
    (folder / "list.txt").write_text("".join(f"{number}.mp4\n" for number in range(count)))
    return begin(folder / "answers", [str(folder / "list.txt")], dict(protocol="none: waits"))


def _found(
    way: str, num_workers: int, job: Any, died: int, ideal: float, took: float
) -> dict[str, Any]:
    return dict(
        way=way,
        workers=num_workers,
        parts=job.num_parts,
        died=died,
        ideal=ideal,
        took=took,
        share_of_ideal=ideal / took,
    )


@dataclass(frozen=True)
class Service:
    """How long a worker of Ray waits for a batch, and at which it dies, once."""

    folder: Path
    seed: int
    deaths: frozenset[tuple[str, int, int]]  # step, part and start of a batch

    def seconds(self, step: str, part: int, start: int, videos: Sequence[str]) -> float:
        """Returns what a step takes on a core: `read` or `score`."""
        draw = random.Random(f"{self.seed} {part} {start}")
        return sum(draw.choices(DECODE, k=len(videos))) if step == "read" else len(videos) * MODEL

    def wait(self, step: str, part: int, start: int, videos: bytes) -> None:
        """Waits that long, or dies before."""
        seconds = self.seconds(step, part, start, pickle.loads(videos))
        died = self.folder / f"died-{step}-{part}-{start}"
        if (step, part, start) in self.deaths and not died.exists():
            time.sleep(seconds / 2)
            died.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(seconds)


def read(batch: dict[str, Any], *, service: Service) -> dict[str, Any]:
    """Stands for `cluster.read_batch`; what it hands over is as large: 3 frames of 224 x 224."""
    service.wait("read", **batch)
    return {**batch, "samples": bytes(TOGETHER * 3 * 224 * 224 * 3)}


class Scorer:
    """Stands for `cluster.Scorer`."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        del batch["samples"]
        self._service.wait("score", **batch)
        rows = [dict(video=video) for video in pickle.loads(batch["videos"])]
        return {"part": batch["part"], "start": batch["start"], "rows": json.dumps(rows)}


def simulate_ray(folder: Path, num_workers: int, seconds: float, seed: int) -> dict[str, Any]:
    """Returns how near Ray's way comes to the ideal time; of its N workers a tenth die.

    They are processes as always, but wait: actors, and readers in the ratio that has neither wait
    for the other. Ideal is all of them busy from first to last. This machine's cores start them,
    where a cluster's do so side by side: `after_start` counts from the last two thirds alone.
    """
    from mmact_tiny.scale import cluster
    from mmact_tiny.scale.job import begin
    from mmact_tiny.scale.score import write_parts

    mean = TOGETHER * sum(DECODE) / len(DECODE), TOGETHER * MODEL
    readers = 2 * round(num_workers * mean[0] / sum(mean) / 2)  # two have a core
    actors = num_workers - readers
    batches = round(seconds / max(mean[0] / readers, mean[1] / actors))
    cores = readers // 2 + actors  # Ray Data gives an actor with a GPU a core, too
    own = Cluster(num_cpus=cores, num_gpus=actors, object_store_memory=2_000_000_000)
    with closing(own), cluster.connected(own.address) as resources:
        job = _begin(begin, folder, batches * TOGETHER)
        numbers, ends, start = job.missing(), [], time.monotonic()
        each = [
            (step, number, at)
            for step in ("read", "score")
            for number in numbers
            for at in range(0, job.size_of(number), TOGETHER)
        ]
        deaths = frozenset(random.Random(seed).sample(each, num_workers // 10))
        service = Service(folder, seed, deaths)
        some = (partial(read, service=service), Scorer, dict(service=service), resources)

        def scored() -> Iterator[Any]:
            for part, rows in cluster.spread(job, numbers, TOGETHER, *some):
                ends.append(time.monotonic() - start)
                yield part, rows

        write_parts(job, scored(), numbers)
        took = time.monotonic() - start
    assert job.missing() == []
    total, parts = dict(read=0.0, score=0.0), list(job.parts(numbers))
    for part in parts:
        job.read(part)  # each video once, or it raises
    for step, number, at in each:
        total[step] += service.seconds(step, number, at, parts[number].videos[at : at + TOGETHER])
    ideal, third = max(total["read"] / readers, total["score"] / actors), len(ends) // 3
    rest = ideal * (1 - (third + 1) / len(ends))
    found = _found("ray", num_workers, job, len(list(folder.glob("died-*"))), ideal, took)
    found |= dict(readers=readers, actors=actors, batches=len(each) // 2)
    return found | dict(after_start=rest / (took - ends[third]))


def draw_curve(folder: Path, seconds: float, seed: int, target: Path) -> list[dict[str, Any]]:
    """Simulates 1 to 500 workers, and draws the share of the ideal time; returns all of it."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot as plt

    def plain(workers: int) -> dict[str, Any]:
        (folder / f"plain{workers}").mkdir()
        return simulate(folder / f"plain{workers}", workers, 2000 * workers, seconds, seed)

    with ThreadPoolExecutor(len(PLAIN)) as side_by_side:  # they only wait
        found = list(side_by_side.map(plain, PLAIN[:-1]))
    found.append(plain(PLAIN[-1]))
    for workers in RAY:
        (folder / f"ray{workers}").mkdir()
        found.append(simulate_ray(folder / f"ray{workers}", workers, seconds, seed))
    figure, axes = plt.subplots(figsize=(6, 3.2), layout="constrained")
    for way, value, label in (
        ("plain", "share_of_ideal", "--part I/N"),
        ("ray", "after_start", "--ray, once started"),
        ("ray", "share_of_ideal", "--ray, from the first moment"),
    ):
        rows = [row for row in found if row["way"] == way]
        axes.plot([row["workers"] for row in rows], [row[value] for row in rows], "o-", label=label)
    axes.axhline(0.9, color="grey", linewidth=0.8, linestyle="--")
    axes.set(xscale="log", ylim=(0, 1.02), xlabel="workers", ylabel="ideal time / time")
    axes.set_xticks(PLAIN, [str(workers) for workers in PLAIN])
    axes.legend()
    figure.savefig(target, dpi=100)
    return found
