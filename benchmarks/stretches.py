"""What training on stretches of long videos costs beside training on the same stretches as clips.

    python benchmarks/stretches.py --data ../shared/data/exercise_or_typing

Ten videos of ten minutes, each a filmed one over and over, have 20 stretches of 2 seconds each;
the clips are these, encoded as the video is. Measured are the samples a second that one process
reads of tsn_tiny's training pipeline, from the clip cache and from the files, and the bytes that
the cache holds. The sides take turns, and the median of their rounds counts.
"""

import argparse
import json
import statistics
import tempfile
import time
from fractions import Fraction
from pathlib import Path

import av

from mmact_tiny.cache.cache import ClipCache
from mmact_tiny.compat import DATASETS
from mmact_tiny.config import load_config
from mmact_tiny.dataset import find_dataset
from mmact_tiny.video.frames import open_video

NUM_VIDEOS, NUM_STRETCHES, SECONDS, LONG = 10, 20, 2.0, 600.0
ROUNDS = 3
EVERY = 10  # of the samples that are read from the files, which takes long


def repeat(source: Path, target: Path) -> None:
    """Writes a video's packets over and over, until it is long."""
    with av.open(str(source)) as video, av.open(str(target), "w") as sink:
        stream = video.streams.video[0]
        output = sink.add_stream_from_template(stream)
        packets = [(p, p.pts, p.dts) for p in video.demux(stream) if p.size]
        length = max(pts + p.duration for p, pts, _ in packets)
        for turn in range(int(LONG / float(length * stream.time_base)) + 1):
            for packet, pts, dts in packets:
                packet.pts, packet.dts = pts + turn * length, dts + turn * length
                packet.stream = output
                sink.mux(packet)


def cut(video: Path, start: float, target: Path) -> None:
    """Writes a stretch as a clip of its own."""
    with av.open(str(target), "w") as sink:
        reader = open_video(video, stretch=(start, start + SECONDS))
        output = None
        rate = round(reader.average_fps)
        for number, frame in enumerate(reader.frames()):
            if output is None:
                output = sink.add_stream("libx264", rate=rate, options={"preset": "veryfast"})
                output.width, output.height = frame.width, frame.height
            frame.pts, frame.time_base = number, Fraction(1, rate)
            sink.mux(output.encode(frame))
        sink.mux(output.encode(None))


def write_datasets(videos: list[Path], folder: Path) -> None:
    """Writes the dataset of the stretches and that of the clips."""
    rows, lines = ["path,start,end,label"], []
    for number, source in enumerate(videos):
        long = folder / "stretches" / f"{number}.mp4"
        for name in ("stretches", "clips"):
            (folder / name).mkdir(parents=True, exist_ok=True)
            (folder / name / "label_map.txt").write_text("".join(f"c{i}\n" for i in range(10)))
        repeat(source, long)
        for index in range(NUM_STRETCHES):
            start = 1.0 + index * (LONG - 10) / NUM_STRETCHES
            clip = f"{number}-{index}.mp4"
            cut(long, start, folder / "clips" / clip)
            rows.append(f"{number}.mp4,{start},{start + SECONDS},{number}")
            lines.append(f"{clip} {number}")
    for split in ("train", "val"):
        (folder / "stretches" / f"{split}.csv").write_text("\n".join(rows) + "\n")
        (folder / "clips" / f"{split}.txt").write_text("\n".join(lines) + "\n")


def measure(folder: Path) -> dict[str, float]:
    """Returns the samples a second and the bytes of each side."""
    found: dict[str, list[float]] = {}
    sets = {}
    for side in ("clips", "stretches"):
        for cached in (True, False):
            changes = {"dataset_paths": {"data_root": str(folder / side)}}
            if cached:
                changes["clip_cache"] = {"root": str(folder / f"cache-{side}")}
            cfg = load_config("configs/tsn_tiny_scratch.py", changes=changes)
            sets[side, cached] = DATASETS.build(cfg.train_dataloader.dataset)
    for turn in range(ROUNDS + 1):
        for (side, cached), dataset in sets.items():
            started = time.perf_counter()
            indices = range(0, len(dataset), 1 if cached else EVERY)
            for index in indices:
                dataset[index]
            if turn:  # the first one fills the cache
                speed = len(indices) / (time.perf_counter() - started)
                found.setdefault(f"{side} {'cached' if cached else 'read'}", []).append(speed)
    figures = {name: statistics.median(speeds) for name, speeds in found.items()}
    for side in ("clips", "stretches"):
        figures[f"{side} bytes"] = ClipCache(folder / f"cache-{side}").num_bytes()
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    args = parser.parse_args()
    videos = sorted(find_dataset(args.data).splits["train"].video_dir.glob("*.mp4"))
    videos = sorted(videos, key=lambda path: path.stat().st_size)[:NUM_VIDEOS]
    with tempfile.TemporaryDirectory() as folder:
        write_datasets(videos, Path(folder))
        figures = measure(Path(folder))
    for name in ("cached", "read", "bytes"):
        figures[f"ratio {name}"] = figures[f"stretches {name}"] / figures[f"clips {name}"]
    print(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
