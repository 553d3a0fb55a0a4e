"""Many small clips: memory stays bounded, and the speed is near the decoder's own."""

import contextlib
import json
import resource
import subprocess
import sys
import time
from pathlib import Path

import av
import numpy as np
import psutil
import pytest

ROOT = Path(__file__).resolve().parents[2]
FRAMES, WIDTH, HEIGHT = 48, 160, 120


def make_clips(folder: Path, count: int) -> None:
    """Writes clips of two classes, each a view that moves over one large picture."""
    cells = np.random.default_rng(0).integers(0, 256, (960 // 20, 1280 // 20, 3))
    picture = np.kron(cells, np.ones((20, 20, 1))).astype(np.uint8)
    for index in range(count):
        generator = np.random.default_rng(index)
        corners = generator.uniform(0, 1, (2, 2)) * (960 - HEIGHT, 1280 - WIDTH)
        path = folder / f"class{index % 2}" / f"clip{index:05d}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        with av.open(path, "w") as sink:
            stream = sink.add_stream(
                "libx264", rate=24, options={"preset": "ultrafast", "threads": "1"}
            )
            stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
            for part in np.linspace(0, 1, FRAMES):
                y, x = (corners[0] + part * (corners[1] - corners[0])).astype(int)
                view = np.ascontiguousarray(picture[y : y + HEIGHT, x : x + WIDTH])
                sink.mux(stream.encode(av.VideoFrame.from_ndarray(view, "rgb24")))
            sink.mux(stream.encode(None))


def bare_seconds(paths: list[Path]) -> float:
    """Returns the processor seconds that decoding alone takes."""
    start = time.process_time()
    for path in paths:
        with av.open(path) as container:
            container.streams.video[0].codec_context.thread_count = 1
            for _ in container.decode(video=0):
                pass
    return time.process_time() - start


def measure(folder: Path, count: int) -> dict[str, float]:
    """Makes and prepares clips; returns what it took."""
    make_clips(folder / "src", count)
    paths = sorted((folder / "src").rglob("*.mp4"))[:: max(1, count // 500)]
    bare = bare_seconds(paths) / len(paths)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "tools/prepare_data.py", folder / "src", "--out", folder / "out"]
    tool = subprocess.Popen(list(map(str, command)), cwd=ROOT, stdout=subprocess.DEVNULL)
    peak = largest = 0
    while tool.poll() is None:
        with contextlib.suppress(psutil.NoSuchProcess):
            process = psutil.Process(tool.pid)
            sizes = [one.memory_info().rss for one in (process, *process.children())]
            peak, largest = max(peak, sum(sizes)), max(largest, sizes[0])
        time.sleep(0.05)
    assert tool.returncode == 0
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {
        "videos": count,
        "processor_seconds_per_video": round(used / count, 5),
        "bare_decode_seconds_per_video": round(bare, 5),
        "peak_megabytes_all_processes": round(peak / 1e6),
        "peak_megabytes_main_process": round(largest / 1e6),
    }


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("count", [200, pytest.param(10_000, marks=pytest.mark.slow)])
def test_many_clips(tmp_path: Path, count: int) -> None:
    figures = measure(tmp_path, count)
    print(json.dumps(figures))
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert sum(summary["videos"].values()) == count and summary["quarantined"] == {}
    assert figures["peak_megabytes_main_process"] < 250
    if count >= 1000:  # else the start of the processes weighs too much
        assert figures["processor_seconds_per_video"] < 2 * figures["bare_decode_seconds_per_video"]
