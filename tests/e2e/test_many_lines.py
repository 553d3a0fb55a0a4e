"""A dataset of many lines: what a line costs at the start, in time and in memory."""

import subprocess
import sys
import time
import tracemalloc
from pathlib import Path

import psutil
import pytest
from conftest import ROOT
from jobs import command, wait_for

from mmact_tiny import annotations
from mmact_tiny.hooks.dataset import LeanVideoDataset

SECONDS_A_LINE, BYTES_A_LINE = 40e-6, 450  # of a core; 9e-6 and 250 measured


def write_lines(folder: Path, count: int) -> annotations.Split:
    """Writes a list of links to one file, 1,000 in a folder."""
    (folder / "clip.mp4").write_bytes(b"")
    names = [f"part_{n // 1000:04}/video_{n:07}.mp4" for n in range(count)]
    for n, name in enumerate(names):
        if n % 1000 == 0:
            (folder / name).parent.mkdir()
        (folder / name).symlink_to("../clip.mp4")
    (folder / "train.txt").write_text("".join(f"{name} {n % 2}\n" for n, name in enumerate(names)))
    return annotations.Split(folder / "train.txt", folder)


def test_a_line_costs_little(tmp_path):
    split = write_lines(tmp_path, 20_000)
    began = time.process_time()
    annotations.refuse(annotations.find_problems([split], 2))
    dataset = LeanVideoDataset(str(split.ann_file), [], data_prefix=dict(video=str(tmp_path)))
    assert time.process_time() - began < 20_000 * SECONDS_A_LINE
    tracemalloc.start()
    annotations.refuse(annotations.find_problems([split], 2))
    again = LeanVideoDataset(str(split.ann_file), [], data_prefix=dict(video=str(tmp_path)))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(again) == 20_000 and peak < 20_000 * BYTES_A_LINE
    last = dataset.get_data_info(19_999)
    assert (last["filename"], last["label"]) == (f"{tmp_path}/part_0019/video_0019999.mp4", 1)


def first_step(job: Path, work_dir: Path) -> tuple[float, float, list[float]]:
    """Returns seconds to the first step, and MB at most of the process and of each worker alone."""
    began, log = time.monotonic(), work_dir.with_suffix(".txt")
    arguments = command("train", job, "--work-dir", work_dir, "--verbose", "--epochs", "1")
    with log.open("w") as file:
        process = subprocess.Popen(arguments, cwd=ROOT, stdout=file, stderr=file)
    try:
        wait_for(lambda: "Epoch(train)" in log.read_text(), process)
        seconds = time.monotonic() - began
        status = Path(f"/proc/{process.pid}/status").read_text()
        peak = next(line for line in status.splitlines() if line.startswith("VmHWM"))
        workers = psutil.Process(process.pid).children()
        own = [worker.memory_full_info().uss / 1e6 for worker in workers]
        return seconds, int(peak.split()[1]) / 1e3, own
    finally:
        process.kill()
        process.wait()


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_million_lines_start_within_half_a_minute(config, tmp_path):
    """And within 500 MB more than a small dataset, none of it copied into the workers."""
    data = tmp_path / "data"
    (data / "train").mkdir(parents=True)
    (data / "val").symlink_to(config.parent / "data" / "val")
    for name in ("val.txt", "label_map.txt"):
        (data / name).write_text((config.parent / "data" / name).read_text())
    split = write_lines(data / "train", 1_000_000)
    split.ann_file.rename(data / "train.txt")
    (data / "train" / "clip.mp4").write_bytes((config.parent / "data/train/0.mp4").read_bytes())
    many = tmp_path / "job.py"
    many.write_text(config.read_text().replace(str(config.parent / "data"), str(data)))
    small = first_step(config, tmp_path / "small")
    large = first_step(many, tmp_path / "large")
    print(f"small: {small}, large: {large}")
    assert large[0] < 30
    assert large[1] - small[1] < 500
    assert max(large[2]) < max(small[2]) + 20
