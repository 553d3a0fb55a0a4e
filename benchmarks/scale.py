"""Measures jobs over many videos, and kills them: what docs/scale.md reports.

python benchmarks/scale.py --kills 20          killed at random moments, in 1 to 3 processes
python benchmarks/scale.py --kills 60 --ray    workers, machines and the caller of a Ray cluster
python benchmarks/scale.py --overhead          what parts and manifest cost
python benchmarks/scale.py --paths 1000000 [--list]   memory, and seconds to the first answer
python benchmarks/scale.py --ray               Ray beside the plain way
python benchmarks/scale.py --simulate 500      shares and parts, with workers that only wait
python benchmarks/scale.py --simulate 20 --ray Ray's readers and actors on 20 cores, that only wait
python benchmarks/scale.py --curve docs/scale.png   both over 1 to 500
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
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests"), str(ROOT / "tests/support")]  # as a script, too

from benchmarks.ray_cluster import Cluster  # noqa: E402
from benchmarks.simulate import draw_curve, simulate, simulate_ray  # noqa: E402
from benchmarks.small_job import fork_ranks  # noqa: E402

MOST_PROCESSES, MOST_KILLS = 3, 4
SETTINGS = dict(engine="torch", precision="fp32")


def write_videos(folder: Path, count: int, data: Path | None = None) -> Path:
    """Writes a folder of videos, by links to 4 small clips or to those in `data`; one is none."""
    from h264_videos import write_video

    clips = sorted(path.resolve() for path in data.rglob("*.mp4")) if data else []
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
    """Returns the videos a second of a job with and without Ray, by the commands of a user.

    Plain is one process as it comes, and a share on each core. `start` is what comes before the
    job's list, with Ray its own start; `first` the seconds from there to the first part, with Ray
    those in which actors start; `rate` counts from the list on, `after_first` from that part on.
    """
    from small_recognizer import write_checkpoint

    videos, cores = write_videos(folder, count, data), len(os.sched_getaffinity(0))
    checkpoint = write_checkpoint(folder / "tiny.pth")
    own = ["--checkpoint", str(checkpoint), "--protocol", "val", "--engine", "torch"]
    shares = [["--part", f"{number}/{cores}"] for number in range(1, cores + 1)]
    found: dict[str, Any] = dict(videos=count, data=str(data or "small clips"))
    for way, processes in dict(one=[[]], shares=shares, ray=[["--ray"]]).items():
        out, environ = folder / way, {**os.environ, "OMP_NUM_THREADS": "1"}
        if way == "one":
            del environ["OMP_NUM_THREADS"]
        start = time.time()
        command = [sys.executable, "tools/infer.py", str(videos), "--out", str(out), *own]
        running = [
            subprocess.Popen([*command, *flags], cwd=ROOT, env=environ) for flags in processes
        ]
        for process in running:
            process.wait()
        ends = sorted((path.stat().st_mtime, path) for path in out.glob("part-*"))
        begun, (first, path), last = (out / "job.json").stat().st_mtime, ends[0], ends[-1][0]
        rest = count - len(path.read_text().splitlines())
        found[way] = dict(start=begun - start, first=first - begun)
        found[way] |= dict(rate=count / (last - begun), after_first=rest / (last - first))
        assert parts_of(out) == parts_of(folder / "one")
    for name in ("rate", "after_first"):
        found[f"ratio_{name}"] = found["ray"][name] / max(found[w][name] for w in ("one", "shares"))
    return found


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
    parser.add_argument("--curve", type=Path, metavar="PNG")
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
        if args.ray and not args.kills and not args.simulate:
            done.append(measure_ray(folder, args.videos, args.data))
        if args.simulate and args.ray:
            done.append(simulate_ray(folder, args.simulate, args.seconds, args.seed))
        elif args.simulate:
            done.append(simulate(folder, args.simulate, 1_000_000, args.seconds, args.seed))
        if args.curve:
            done += draw_curve(folder, args.seconds, args.seed, args.curve)
    for row in done:
        print(json.dumps(row, indent=1))


if __name__ == "__main__":
    main()
