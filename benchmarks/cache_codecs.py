"""Measures codecs and keyframe spacings for the clip cache, each through the cache's own code.

    python benchmarks/cache_codecs.py DIR [--videos 10] [--variants small fast] [--json FILE]

DIR holds videos, at any depth. Times are CPU milliseconds of this process, all threads counted,
medians over videos; "stock" is MMAction2's pipeline on the source. PSNR is against the frames
that stock's Resize gives.
"""

import argparse
import io
import json
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mmact_tiny import compat

compat.repair()

import cv2  # noqa: E402
import decord  # noqa: E402
import mmcv  # noqa: E402
import numpy as np  # noqa: E402
from mmengine.dataset import Compose  # noqa: E402
from mmengine.registry import init_default_scope  # noqa: E402

from mmact_tiny.cache import transforms  # noqa: E402
from mmact_tiny.cache.clip import CODECS, ClipReader, Codec  # noqa: E402
from mmact_tiny.cache.encode import write_clip  # noqa: E402

SUFFIXES = {".mp4", ".mkv", ".webm", ".avi", ".mov"}
NUM_DRAWS = 3  # of 3 random frames, for each video


def x264(
    keyint: int, crf: int, preset: str, *, fast: bool = True, pix_fmt: str = "yuv420p"
) -> Codec:
    options = dict(preset=preset, crf=str(crf), g=str(keyint), bf="0", sc_threshold="0")
    return Codec("libx264", pix_fmt, keyint, options | (dict(tune="fastdecode") if fast else {}))


# The cache's own "small" is H.264, keyint 4, crf 18, veryfast, fastdecode; "fast" is MJPEG, q 3.
VARIANTS = {f"keyint {k}": x264(k, 18, "veryfast") for k in (1, 2, 8, 16)}
VARIANTS |= {f"crf {crf}": x264(4, crf, "veryfast") for crf in (14, 16, 22)}
VARIANTS |= {preset: x264(4, 18, preset) for preset in ("ultrafast", "superfast", "medium")}
VARIANTS["no fastdecode"] = x264(4, 18, "veryfast", fast=False)
VARIANTS["4:4:4"] = x264(4, 18, "veryfast", pix_fmt="yuv444p")
VARIANTS |= {
    f"MJPEG, q {q}": Codec("mjpeg", "yuvj420p", 1, dict(qmin=str(q), qmax=str(q))) for q in (2, 5)
}

RESIZE = dict(type="Resize", scale=(-1, 256))
STEPS = [
    dict(type="SampleFrames", clip_len=1, frame_interval=1, num_clips=3),
    dict(type="DecordDecode"),
    RESIZE,
    dict(
        type="MultiScaleCrop",
        input_size=224,
        scales=(1, 0.875, 0.75, 0.66),
        random_crop=False,
        max_wh_scale_gap=1,
    ),
    dict(type="Resize", scale=(224, 224), keep_ratio=False),
    dict(type="Flip", flip_ratio=0.5),
    dict(type="FormatShape", input_format="NCHW"),
    dict(type="PackActionInputs"),
]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("--videos", type=int, help="only so many, evenly spread")
    parser.add_argument("--variants", nargs="*", choices=[*CODECS, *VARIANTS], metavar="NAME")
    parser.add_argument("--json", type=Path, help="write all figures there")
    args = parser.parse_args()
    cv2.setNumThreads(1)
    init_default_scope("mmaction")
    CODECS.update(VARIANTS)
    videos = sorted(path for path in args.data.rglob("*") if path.suffix.lower() in SUFFIXES)
    if args.videos:
        step = len(videos) / args.videos
        videos = [videos[int(i * step)] for i in range(args.videos)]
    names = args.variants or list(CODECS)
    rows: dict[str, list[dict[str, float]]] = {"stock": [], **{name: [] for name in names}}
    for number, video in enumerate(videos, 1):
        for name, figures in measure(video, names):
            rows[name].append(figures)
        print(f"{number}/{len(videos)} {video.name}", flush=True)
    print_table(rows)
    if args.json:
        args.json.write_text(json.dumps(rows, indent=1))


def measure(video: Path, names: list[str]) -> Any:
    """Yields `(variant, {figure: value})` for stock and each variant on one video."""
    rng = random.Random(video.name)
    reader = decord.VideoReader(io.BytesIO(video.read_bytes()), num_threads=1)
    third = len(reader) // 3
    draws = [[i * third + rng.randrange(third) for i in range(3)] for _ in range(NUM_DRAWS)]
    uniform = [int((i + 0.5) * len(reader) / 25) for i in range(25)]
    height, width = reader[0].shape[:2]
    size = mmcv.rescale_size((width, height), (np.inf, 256))
    frames = reader.get_batch(uniform).asnumpy()
    exact = np.stack([mmcv.imresize(frame, size) for frame in frames]).astype(np.float32)
    stock = Compose([dict(type="DecordInit"), *STEPS])
    yield (
        "stock",
        {
            "pipeline": median_ms(lambda _: run(stock, video), draws[:2]),
            "3 by decord": median_ms(lambda wanted: by_decord(video, wanted), draws[:2]),
            "25 by decord": median_ms(lambda _: by_decord(video, uniform), [0]),
        },
    )
    for name in names:
        with tempfile.TemporaryDirectory() as folder:
            yield name, measure_variant(name, video, Path(folder) / "clip.mp4", draws, exact)


def measure_variant(
    name: str, video: Path, clip: Path, draws: list[list[int]], exact: np.ndarray
) -> dict[str, float]:
    """Encodes the video into `clip` and reads it by each decoder."""
    start = time.process_time()
    with clip.open("w+b") as file:
        info = write_clip(video, file, source="", short_side=256, format=name)
    seconds = time.process_time() - start
    uniform = [int((i + 0.5) * info.num_frames / 25) for i in range(25)]
    error = float(np.mean((ClipReader(clip, info).get_batch(uniform).asnumpy() - exact) ** 2))
    cached = Compose([transforms.ClipInit(), *STEPS])
    figures = {
        "build": 1000 * seconds,
        "bytes": info.num_bytes,
        "source bytes": video.stat().st_size,
        "PSNR": 10 * np.log10(255**2 / error),
        "pipeline": median_ms(lambda _: run(cached, clip, clip=info), draws),
    }
    readers: dict[str, Callable[[list[int]], Any]] = {
        "clip": lambda wanted: ClipReader(clip, info).get_batch(wanted),
        "decord": lambda wanted: by_decord(clip, wanted),
        "OpenCV": lambda wanted: by_opencv(clip, wanted),
    }
    for reader, read in readers.items():
        figures[f"3 by {reader}"] = median_ms(read, draws)
        figures[f"25 by {reader}"] = median_ms(read, [uniform])
    return figures


def run(pipeline: Compose, video: Path, **extra: Any) -> None:
    pipeline(
        dict(
            filename=str(video), source=str(video), label=0, start_index=0, modality="RGB", **extra
        )
    )


def by_decord(video: Path, wanted: list[int]) -> None:
    reader = decord.VideoReader(io.BytesIO(video.read_bytes()), num_threads=1)
    reader.get_batch(wanted).asnumpy()


def by_opencv(video: Path, wanted: list[int]) -> None:
    capture = cv2.VideoCapture(str(video))
    for index in wanted:
        capture.set(cv2.CAP_PROP_POS_FRAMES, index)
        cv2.cvtColor(capture.read()[1], cv2.COLOR_BGR2RGB)


def median_ms(function: Callable[[Any], Any], arguments: list[Any]) -> float:
    times = []
    for argument in arguments:
        start = time.process_time()
        function(argument)
        times.append(time.process_time() - start)
    return 1000 * statistics.median(times)


def print_table(rows: dict[str, list[dict[str, float]]]) -> None:
    """Prints medians over videos; bytes are of the whole set."""
    medians = {
        name: {key: statistics.median(row[key] for row in videos) for key in videos[0]}
        for name, videos in rows.items()
    }
    stock = medians["stock"]
    print("stock: " + ", ".join(f"{key} {value:.0f} ms" for key, value in stock.items()))
    readers = ("clip", "decord", "OpenCV")
    print(
        "| codec | bytes | PSNR, mean (least) | build | pipeline | ratio | 3 frames: clip, "
        "decord, OpenCV | 25 frames | ratio |"
    )
    print("|" + " --- |" * 9)
    for name, videos in rows.items():
        if name == "stock":
            continue
        mid = medians[name]
        size = sum(row["bytes"] for row in videos) / sum(row["source bytes"] for row in videos)
        psnr = [row["PSNR"] for row in videos]
        few = ", ".join(f"{mid[f'3 by {reader}']:.1f}" for reader in readers)
        many = ", ".join(f"{mid[f'25 by {reader}']:.1f}" for reader in readers)
        print(
            f"| {name} | {size:.2f}x | {statistics.mean(psnr):.1f} ({min(psnr):.1f}) dB "
            f"| {mid['build'] / 1000:.2f} s | {mid['pipeline']:.1f} ms "
            f"| {stock['pipeline'] / mid['pipeline']:.0f}x | {few} | {many} "
            f"| {stock['25 by decord'] / mid['25 by clip']:.0f}x |"
        )


if __name__ == "__main__":
    main()
