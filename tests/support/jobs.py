"""Starts small jobs, in processes or by command line, and waits for what they write."""

import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from conftest import ROOT

from benchmarks import small_job as job

PIPELINE = [
    dict(type="DecordInit"),
    dict(type="SampleFrames", clip_len=1, frame_interval=1, num_clips=2, test_mode=True),
    dict(type="DecordDecode"),
    dict(type="Resize", scale=(32, 32), keep_ratio=False),
    dict(type="FormatShape", input_format="NCHW"),
    dict(type="PackActionInputs"),
]

# A ResNet-18 of one stage in the place of a config's ResNet-50.
SMALL = [
    *("model.backbone.depth=18", "+model.backbone.num_stages=1", "+model.backbone.strides=[1]"),
    *("+model.backbone.dilations=[1]", "+model.backbone.out_indices=[0]"),
    "model.cls_head.in_channels=64",
]


def wait_for(condition: Any, process: Any, seconds: float = 300) -> None:
    end = time.monotonic() + seconds
    while not condition():
        alive = process.poll() is None if hasattr(process, "poll") else process.is_alive()
        assert alive, "the run ended before"
        assert time.monotonic() < end
        time.sleep(0.005)


def output(work_dir: Path) -> str:
    path = work_dir / "output.txt"
    return path.read_text() if path.is_file() else ""


def run(config: Path, work_dir: Path, changes: Any = None, status: int = 0) -> Path:
    """Trains to the end, and checks the exit status."""
    process = job.start(config, work_dir, changes)
    process.join(300)
    if process.is_alive():
        os.kill(process.pid, signal.SIGABRT)  # it writes where it hangs
        process.join()
    assert process.exitcode == status, output(work_dir)[-2000:]
    return work_dir


def with_lines(config: Path, folder: Path, *lines: str) -> Path:
    """Writes the config with more lines into a folder."""
    changed = folder / "job.py"
    changed.write_text("\n".join([config.read_text(), *lines]))
    return changed


def with_hook(config: Path, folder: Path, hook: str) -> Path:
    """Writes the config with a hook of `disturbances`."""
    imports = "custom_imports = dict(imports=['disturbances'])"
    return with_lines(config, folder, imports, f"custom_hooks = [{hook}]")


def run_python(*arguments: object, status: int = 0, **settings: Any) -> Any:
    """Runs a process of Python in the project's folder, and checks its exit status.

    Returns what `subprocess.run` does, which takes the settings.
    """
    own = dict(cwd=ROOT, capture_output=True, text=True, timeout=500)
    done = subprocess.run([sys.executable, *map(str, arguments)], **(own | settings))
    assert done.returncode == status, f"{done.stdout}"[-2000:] + f"{done.stderr}"[-3000:]
    return done


@contextmanager
def full_disk(num_bytes: int) -> Iterator[None]:
    """Has the system refuse longer files: its own limit on a file's size stands for a full disk."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def command(tool: str, *arguments: object) -> list[str]:
    """Returns the command of a tool on one thread of the CPU."""
    words = [sys.executable, f"{ROOT}/tools/{tool}.py", *map(str, arguments), "--device", "cpu"]
    return ["env", "OMP_NUM_THREADS=1", f"PYTHONPATH={ROOT}", *words]


def train_command(job: Path, work_dir: Path, *flags: str) -> list[str]:
    return command("train", job, "--work-dir", work_dir, "--epochs", "1", *flags)
