"""Measures jobs over many videos, and kills them: what docs/scale.md reports.

python benchmarks/scale.py --kills 20          killed at random moments, in 1 to 3 processes
python benchmarks/scale.py --kills 60 --ray    workers, machines and the caller of a Ray cluster
python benchmarks/scale.py --overhead          what parts and manifest cost
python benchmarks/scale.py --paths 1000000 [--list]   memory, and seconds to the first answer
python benchmarks/scale.py --ray               Ray beside the plain way
python benchmarks/scale.py --simulate 500      shares and parts, with workers that only wait
"""

import argparse
import json
import os
import random
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from functools import partial
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests"), str(ROOT / "tests/support")]  # as a script, too

from benchmarks.small_job import fork_ranks  # noqa: E402

MOST_PROCESSES, MOST_KILLS = 3, 4
SETTINGS = dict(engine="torch", precision="fp32")
# Of a machine of a test cluster: a core, and bytes for what its processes hand over.
SIZE = dict(num_cpus=1, object_store_memory=100_000_000)
WORKERS = dict(reader="ray::Map(read_batch)", actor="ray::MapWorker")  # what they call themselves


def write_videos(folder: Path, count: int, data: Path | None = None) -> Path:
    """Writes a folder of videos, by links to 4 small clips or to those in `data`; one is none."""
    from h264_videos import write_video

    clips = sorted(path.resolve() for path in data.glob("*.mp4")) if data else []
    if not data:
        clips = [write_video(folder / f"clip{n}.mp4", num_frames=9, seed=n) for n in range(4)]
    videos = folder / "videos"
    videos.mkdir()
    for number in range(count):
        (videos / f"{number:06}.mp4").symlink_to(clips[number % len(clips)])
    (folder / "bad.mp4").write_text("no video")
    (videos / "000005.mp4").unlink()
    (videos / "000005.mp4").symlink_to(folder / "bad.mp4")
    return videos


def score(videos: Path, out: Path, checkpoint: Path, ray: str = "") -> None:
    """Scores what is missing of a job, as tools/infer.py does; the rank says which share."""
    import torch

    from mmact_tiny.scale import cluster
    from mmact_tiny.scale.score import score_job, share_of

    torch.set_num_threads(1)
    if ray:
        cluster.score_job([str(videos)], str(out), ray=ray, checkpoint=checkpoint, **SETTINGS)
        return
    share = share_of("pytorch" if "RANK" in os.environ else "none")
    score_job([str(videos)], str(out), share=share, checkpoint=checkpoint, **SETTINGS)


def parts_of(folder: Path) -> dict[str, bytes]:
    """Returns the contents of a job's parts."""
    return {path.name: path.read_bytes() for path in sorted(folder.glob("part-*"))}


def disturb(
    videos: Path, out: Path, checkpoint: Path, seconds: float, moments: random.Random
) -> list[str]:
    """Runs a job to its end, some of its processes killed; returns the moments of the kills.

    It begins anew after each kill, on another number of processes, the last time on one. A kill
    comes at a moment of the whole time, or while a part is being written.
    """
    kills: list[str] = []
    for _ in range(moments.randint(1, MOST_KILLS)):
        count = moments.randint(1, MOST_PROCESSES)
        ranks = fork_ranks(score, (videos, out, checkpoint), out.parent / "log", count)
        victim, at = moments.choice(ranks), moments.uniform(0.2, seconds)
        in_write, began = moments.random() < 0.5, time.monotonic()
        while victim.is_alive():
            written = in_write and any(out.glob("..*.tmp"))
            if written or (not in_write and time.monotonic() - began > at):
                victim.kill()
                kills.append("in a write" if written else f"{at:.1f} s, of {count}")
                break
            time.sleep(0.0005)
        for process in ranks:
            process.join()
    (last,) = fork_ranks(score, (videos, out, checkpoint), out.parent / "log", 1)
    last.join()
    assert last.exitcode == 0, (out.parent / "log" / "output.txt").read_text()[-2000:]
    return kills


class Cluster:
    """Two machines of a Ray cluster with a core each: raylets of this one, with workers.

    The first one's stays; the second one's can be killed, and another is put in its place.
    """

    def __init__(self) -> None:
        from ray.cluster_utils import Cluster as Raylets

        path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
        os.environ.update(RAY_USAGE_STATS_ENABLED="0", PYTHONPATH=path)  # workers inherit both
        # A machine that is silent counts as lost after 5 s, not 30, so that a job is short.
        noticed = dict(health_check_period_ms=1000, health_check_initial_delay_ms=1000)
        head = dict(SIZE, include_dashboard=False, _system_config=noticed)
        self._cluster = Raylets(initialize_head=True, head_node_args=head)
        self.address = self._cluster.address
        self._second = self._cluster.add_node(**SIZE)

    def start_again(self) -> None:
        """Puts a machine in the place of a second one that was killed."""
        if not self.find("node"):
            self._cluster.remove_node(self._second, allow_graceful=False)
            self._second = self._cluster.add_node(**SIZE)

    def find(self, what: str) -> list[Any]:
        """Returns the processes: the second raylet, or workers that decode or have a model."""
        import psutil

        raylets = [
            psutil.Process(each.process.pid)
            for node in self._cluster.list_all_nodes()
            for each in node.all_processes["raylet"]
            if each.process.poll() is None
        ]
        if what == "node":
            second = self._second.all_processes["raylet"][0].process.pid
            return [raylet for raylet in raylets if raylet.pid == second]
        found = []
        for worker in [worker for raylet in raylets for worker in raylet.children()]:
            with suppress(psutil.Error):
                if " ".join(worker.cmdline()).startswith(WORKERS[what]):
                    found.append(worker)
        return found

    def close(self) -> None:
        """Ends all of it."""
        self._cluster.shutdown()


def disturb_ray(
    cluster: Cluster,
    videos: Path,
    out: Path,
    checkpoint: Path,
    seconds: float,
    moments: random.Random,
) -> list[str]:
    """Does what `disturb` does on a cluster: kills a worker, a machine, and the calling process.

    The job goes on after the first two, and is started again after the third.
    """
    kills: list[str] = []
    waiting, log = [moments.choice(["reader", "actor"]), "node", "caller"], out.parent / "log"
    while True:
        (caller,) = fork_ranks(score, (videos, out, checkpoint, cluster.address), log, 1)
        began, due = time.monotonic(), {what: moments.uniform(0.2, seconds) for what in waiting}
        while caller.is_alive():
            at = time.monotonic() - began
            for what in [what for what in waiting if at > due[what]]:
                for victim in [caller] if what == "caller" else cluster.find(what)[:1]:
                    victim.kill()
                    kills.append(f"{what} {at:.1f} s")
                    waiting.remove(what)
            time.sleep(0.01)
        caller.join()
        cluster.start_again()
        if caller.exitcode != -signal.SIGKILL:
            break
    assert caller.exitcode == 0, (log / "output.txt").read_text()[-2000:]
    return kills


def kill_and_compare(
    folder: Path, num_kills: int, count: int, seed: int, cluster: Cluster | None = None
) -> dict[str, Any]:
    """Returns how many kills there were, and how many jobs ended otherwise than undisturbed."""
    from small_recognizer import small_recognizer

    checkpoint, videos = small_recognizer().checkpoint, write_videos(folder, count)
    seconds = 0.0
    for name, address in [("whole", "")] + ([("ray", cluster.address)] if cluster else []):
        began = time.monotonic()
        some = (videos, folder / name, checkpoint, address)
        (process,) = fork_ranks(score, some, folder / "log", 1)
        process.join()
        seconds = time.monotonic() - began
    expected = parts_of(folder / "whole")
    moments, kills, jobs, others = random.Random(seed), [], 0, 0
    run = partial(disturb_ray, cluster) if cluster else disturb
    while len(kills) < num_kills:
        out = folder / f"job{jobs}"
        kills += run(videos, out, checkpoint, seconds, moments)
        jobs, others = jobs + 1, others + (parts_of(out) != expected)
        print(f"{len(kills)} kills, {others} of {jobs} jobs otherwise", file=sys.stderr)
    return dict(kills=len(kills), jobs=jobs, other_jobs=others, parts=len(expected), moments=kills)


def measure_overhead(folder: Path, count: int, data: Path | None) -> dict[str, Any]:
    """Returns the seconds of a job, and those of them that scoring waits for its folder."""
    from small_recognizer import small_recognizer

    from mmact_tiny.scale import job as jobs
    from mmact_tiny.scale.score import identity_of, score_parts, write_parts

    videos, clock, scoring = write_videos(folder, count, data), time.perf_counter, 0.0
    recognizer = small_recognizer(precision="fp32")
    identity = identity_of(recognizer, 5)
    start = clock()
    job = jobs.begin(folder / "answers", [str(videos)], identity)
    numbers = job.missing()

    def scored() -> Iterator[Any]:
        nonlocal scoring
        parts = score_parts(recognizer, 5, job.parts(numbers))
        while True:
            before = clock()
            part, rows = next(parts, (None, ()))
            kept = list(rows)
            scoring += clock() - before
            if part is None:
                return
            yield part, kept

    write_parts(job, scored(), numbers)
    seconds = clock() - start
    own = seconds - scoring
    return dict(videos=count, parts=job.num_parts, seconds=seconds, own=own, share=own / seconds)


class Stub:
    """Stands for a recognizer ONLY where memory and start are measured: it reads no video."""

    labels = [f"class {number}" for number in range(400)]
    steps = [dict(type="SampleFrames", clip_len=1, num_clips=3, test_mode=True)]

    def read_videos(self, videos: Any) -> Iterator[int]:
        return (len(str(video)) for video in videos)

    def score_samples(self, samples: Any) -> Iterator[Any]:
        import numpy as np

        return (np.linspace(0, 1, 400) * sample for sample in samples)

    def top_k(self, scores: Any, k: int) -> list[tuple[str, float]]:
        return [(self.labels[index], float(scores[index])) for index in range(k)]


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure_paths(folder: Path, count: int, as_list: bool) -> dict[str, Any]:
    """Returns memory and seconds of a job of many paths, without decoding and model."""
    from h264_videos import write_video

    from mmact_tiny.scale.collect import collect
    from mmact_tiny.scale.job import begin
    from mmact_tiny.scale.score import score_parts, write_parts

    clip = write_video(folder / "clip.mp4", num_frames=9)
    videos = folder / "videos"
    for number in range(count):
        if number % 10_000 == 0:
            (videos / f"{number // 10_000:04}").mkdir(parents=True)
        path = videos / f"{number // 10_000:04}" / f"{number:07}.mp4"
        os.symlink(clip, path)  # noqa: PTH211
    source = videos
    if as_list:
        source = folder / "list.txt"
        with source.open("w") as file:
            file.writelines(f"videos/{n // 10_000:04}/{n:07}.mp4\n" for n in range(count))
    idle, start, first, cpu = peak_mb(), time.perf_counter(), [], time.process_time()
    job = begin(folder / "answers", [str(source)], dict(protocol="none: a stub"))
    begun, cpu = time.perf_counter() - start, time.process_time() - cpu
    numbers = job.missing()

    def scored() -> Iterator[Any]:
        for part, rows in score_parts(Stub(), 5, job.parts(numbers)):  # type: ignore[arg-type]
            yield part, rows
            first.append(time.perf_counter() - start)  # its file is there

    write_parts(job, scored(), numbers)
    seconds, after = time.perf_counter() - start, peak_mb()
    collect(str(folder / "answers"), str(folder / "all.csv"))
    return dict(
        paths=count,
        source="list" if as_list else "folder",
        begun=begun,
        begun_cpu=cpu,
        first=first[0],
        seconds=seconds,
        collect=time.perf_counter() - start - seconds,
        mb_before=idle,
        mb_scored=after,
        peak_mb=peak_mb(),
    )


def measure_ray(folder: Path, count: int, data: Path | None) -> dict[str, Any]:
    """Returns the videos a second of a job with and without Ray, from its list to its last part.

    The commands are those of a user. Ray's own start is apart, that of its actors is not.
    """
    from small_recognizer import write_checkpoint

    videos = write_videos(folder, count, data)
    checkpoint = write_checkpoint(folder / "tiny.pth")
    found: dict[str, Any] = dict(videos=count)
    for name, flags in (("plain", []), ("ray", ["--ray"])):
        flags += ["--checkpoint", str(checkpoint), "--protocol", "val", "--engine", "torch"]
        start, out = time.time(), folder / name
        command = [sys.executable, "tools/infer.py", str(videos), "--out", str(out), *flags]
        subprocess.run(command, cwd=ROOT, check=False)
        ends = sorted(path.stat().st_mtime for path in out.glob("part-*"))
        begun = (out / "job.json").stat().st_mtime
        found[name] = dict(start=begun - start, rate=count / (ends[-1] - begun))
    found["ratio"] = found["ray"]["rate"] / found["plain"]["rate"]
    found["same"] = parts_of(folder / "ray") == parts_of(folder / "plain")
    return found


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
    from threading import Thread

    from mmact_tiny.scale.job import Job, begin

    draw = random.Random(seed)
    (folder / "list.txt").write_text("".join(f"{number}.mp4\n" for number in range(count)))
    job = begin(folder / "answers", [str(folder / "list.txt")], dict(protocol="none: waits"))
    mean = seconds * num_workers / job.num_parts
    takes = [draw.gauss(mean, 0.1 * mean) for _ in range(job.num_parts)]
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
    return dict(
        workers=num_workers,
        parts=job.num_parts,
        died=len(lost),
        ideal=ideal,
        took=took,
        share_of_ideal=ideal / took,
    )


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int)
    parser.add_argument("--overhead", action="store_true")
    parser.add_argument("--paths", type=int)
    parser.add_argument("--list", action="store_true", help="the paths are in a list file")
    parser.add_argument("--videos", type=int, default=512)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--ray", action="store_true")
    parser.add_argument("--data", type=Path, help="a folder of videos, in the place of small clips")
    parser.add_argument("--simulate", type=int, metavar="WORKERS")
    parser.add_argument("--seconds", type=float, default=100.0, help="ideal time of a simulation")
    args = parser.parse_args(argv)
    done = []
    with tempfile.TemporaryDirectory(prefix="scale-") as name:
        folder = Path(name)
        if args.kills and args.ray:
            with closing(Cluster()) as cluster:
                done.append(kill_and_compare(folder, args.kills, 240, args.seed, cluster))
        elif args.kills:
            done.append(kill_and_compare(folder, args.kills, 48, args.seed))
        if args.overhead:
            done.append(measure_overhead(folder, args.videos, args.data))
        if args.paths:
            done.append(measure_paths(folder, args.paths, args.list))
        if args.ray and not args.kills:
            done.append(measure_ray(folder, args.videos, args.data))
        if args.simulate:
            some = (args.simulate, 1_000_000, args.seconds, args.seed)
            done.append(simulate(folder, *some))
    for row in done:
        print(json.dumps(row, indent=1))


if __name__ == "__main__":
    main()
