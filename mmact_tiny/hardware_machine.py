"""The machine as the operating system tells of it, without PyTorch."""

import os
import platform
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from . import hardware

# Of the CPU's flags, those that decide how fast a network runs.
CPU_FLAGS = (
    *("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "avx512_fp16"),
    *("amx_tile", "amx_int8", "amx_bf16", "amx_fp16", "asimd", "bf16", "i8mm", "sve"),
)
GIB = 1 << 30


def describe_machine() -> dict[str, Any]:
    """Returns cores, memory and disk, and whether the current folder can be written to."""
    try:
        with tempfile.TemporaryFile(dir="."):
            writable = True
    except OSError:
        writable = False
    shared = Path("/dev/shm")
    affinity = getattr(os, "sched_getaffinity", None)
    return {
        "platform": platform.platform(),
        "cpu": _cpu_name(),
        "cores": os.cpu_count(),
        "usable_cores": len(affinity(0)) if affinity else os.cpu_count(),
        "cpu_flags": [flag for flag in CPU_FLAGS if flag in hardware.cpu_flags()],
        "memory_gib": _memory_gib(),
        "shared_memory_gib": _gib(shutil.disk_usage(shared).total) if shared.is_dir() else None,
        "disk_free_gib": _gib(shutil.disk_usage(".").free),
        "folder": str(Path.cwd()),
        "folder_writable": writable,
    }


def _gib(num_bytes: float) -> float:
    return round(num_bytes / GIB, 2)


def _cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    names = re.findall(r"^model name\s*:\s*(.+)$", info.read_text() if info.is_file() else "", re.M)
    return names[0] if names else platform.processor() or platform.machine()


def _memory_gib() -> float | None:
    """Returns the machine's memory, or the container's share of it where that is less."""
    limits = [
        int(text)
        for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
        if Path(path).is_file() and (text := Path(path).read_text().strip()).isdigit()
    ]
    if "SC_PHYS_PAGES" in getattr(os, "sysconf_names", {}):
        limits.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    return _gib(min(limits)) if limits else None


def _run(command: Iterable[str]) -> str | None:
    """Returns what a program printed, None where it is missing, fails or hangs."""
    try:
        done = subprocess.run(list(command), capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None


def find_program(name: str) -> str | None:
    """Returns a program's own line on its version, None where it is missing."""
    text = _run([name, "-version" if name == "ffmpeg" else "--version"])
    if not text:
        return None
    lines = text.strip().splitlines()
    return next((line for line in lines if "release" in line), lines[0])


def list_gpus() -> list[dict[str, Any]]:
    """Returns the NVIDIA GPUs that the driver has, also those that PyTorch cannot use."""
    fields = "name,memory.total,driver_version"
    text = _run(["nvidia-smi", f"--query-gpu={fields}", "--format=csv,noheader,nounits"]) or ""
    rows = [[part.strip() for part in line.split(",")] for line in text.strip().splitlines()]
    return [
        {
            "name": name,
            "memory_gib": round(float(memory) / 1024, 1) if memory.isdigit() else None,
            "driver": driver,
        }
        for name, memory, driver in (row for row in rows if len(row) == 3)
    ]
