"""Tells what this machine offers, and chooses from it, each choice with its reason."""

import os
import platform
import re
import sys
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TypedDict

from .errors import UserError

OPENCV = (
    *("opencv-python", "opencv-contrib-python"),
    *("opencv-python-headless", "opencv-contrib-python-headless"),
)
# The distributions whose versions a run notes and tools/check_env.py shows.
PACKAGES = (
    *("torch", "torchvision", "mmengine", "mmcv-lite", "mmcv", "mmaction2", "numpy"),
    *("decord", "av", "torchcodec", *OPENCV, "setuptools", "packaging"),
)
# A container's share of the memory, which psutil does not know (cgroup v2 and v1).
MEMORY_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
GIB = 1 << 30

LAUNCHERS = ("none", "pytorch", "slurm", "mpi")
PRECISIONS = ("auto", "fp32", "bf16", "fp16")
DTYPES = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}  # as PyTorch names them
READER_NICENESS = 10  # a tenth of a core that the model wants too, all of one that it does not
MAX_WORKERS = 8  # stock's num_workers; more was not tried
MAX_SEED = 2**32 - 1  # of the random generators: numpy's
MPS = "MMACT_TINY_MPS"  # set: MPS is the device; MMEngine would take it wherever it is


def select_device(device: str) -> None:
    """Makes `auto`, `cpu`, `cuda`, `cuda:N` or `mps` the device that MMEngine finds.

    MMEngine takes the first accelerator that it sees when it is imported, so this is called
    before: it narrows CUDA_VISIBLE_DEVICES. `auto` takes CUDA or the CPU.

    Raises:
        UserError: an unknown name, or a device that is not there.
    """
    if device == "auto":
        return
    if device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
        os.environ.pop(MPS, None)
        return
    name, _, index = device.partition(":")
    if device != "mps" and (name != "cuda" or (index and not index.isdecimal())):
        raise UserError(f"--device {device}: expected auto, cpu, cuda, cuda:N or mps")
    import torch

    if device == "mps":
        if not torch.backends.mps.is_available():
            raise UserError("--device mps: this machine has none, or this PyTorch lacks it")
        os.environ[MPS] = "1"
        return
    available = torch.cuda.device_count()
    if int(index or 0) >= available:
        raise UserError(f"--device {device}: this machine has {available} CUDA device(s)")
    if index:
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        chosen = visible.split(",")[int(index)] if visible else index
        os.environ["CUDA_VISIBLE_DEVICES"] = chosen


def rank(environ: Mapping[str, str] = os.environ) -> int:
    """Returns this process's rank as torchrun, Slurm or Open MPI give it, before torch is there."""
    return _first_number(environ, ("RANK", "SLURM_PROCID", "OMPI_COMM_WORLD_RANK"), 0)


def world_size(environ: Mapping[str, str] = os.environ) -> int:
    """Returns how many processes the job has."""
    return _first_number(environ, ("WORLD_SIZE", "SLURM_NTASKS", "OMPI_COMM_WORLD_SIZE"), 1)


def local_rank(environ: Mapping[str, str] = os.environ) -> int:
    """Returns this process's place among those of the job on this machine: its GPU's index."""
    return _first_number(environ, ("LOCAL_RANK", "SLURM_LOCALID", "OMPI_COMM_WORLD_LOCAL_RANK"), 0)


def local_world_size(environ: Mapping[str, str] = os.environ) -> int:
    """Returns how many processes of the job share this machine."""
    names = ("LOCAL_WORLD_SIZE", "SLURM_NTASKS_PER_NODE", "OMPI_COMM_WORLD_LOCAL_SIZE")
    return _first_number(environ, names, 1)


def _first_number(environ: Mapping[str, str], names: Sequence[str], default: int) -> int:
    return next((int(environ[name]) for name in names if environ.get(name, "").isdigit()), default)


def has_cuda() -> bool:
    """Returns whether MMEngine will train on a CUDA device."""
    import torch

    return torch.cuda.is_available()


def _cpu_info() -> str:
    path = Path("/proc/cpuinfo")
    return path.read_text() if path.is_file() else ""


@cache
def cpu_flags() -> frozenset[str]:
    """Returns the CPU's feature flags as Linux names them, empty elsewhere."""
    return frozenset(" ".join(re.findall(r"(?m)^flags\s*:(.*)$", _cpu_info())[:1]).split())


def num_usable_cores() -> int:
    """Returns how many cores this process may run on."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


class Machine(TypedDict):
    """The machine as the operating system tells of it."""

    platform: str
    cpu: str
    cores: int | None
    usable_cores: int
    memory_gib: float


def describe_machine() -> Machine:
    """Returns the name of the system and the CPU, the cores, and the memory."""
    import psutil

    names = re.findall(r"(?m)^model name\s*:\s*(.+)$", _cpu_info())
    limits = [Path(path).read_text().strip() for path in MEMORY_LIMITS if Path(path).is_file()]
    memory = min([psutil.virtual_memory().total, *(int(text) for text in limits if text.isdigit())])
    return Machine(
        platform=platform.platform(),
        cpu=names[0] if names else platform.processor() or platform.machine(),
        cores=os.cpu_count(),
        usable_cores=num_usable_cores(),
        memory_gib=round(memory / GIB, 2),
    )


def version(distribution: str) -> str | None:
    """Returns the version of an installed distribution, None where there is none."""
    from importlib import metadata  # late: it takes as long as all other imports of `--help`

    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def describe_device() -> str:
    """Returns the device in words: the GPUs by name, or the CPU and its threads."""
    import torch

    if has_cuda():
        return f"{torch.cuda.device_count()} x {torch.cuda.get_device_name()}"
    return f"CPU, {torch.get_num_threads()} threads"


def choose_precision(precision: str = "auto", cuda: bool | None = None) -> tuple[str, str]:
    """Returns `(precision, reason)`, precision one of fp32, bf16, fp16.

    Args:
        precision: What was asked for.
        cuda: Whether the device is a CUDA one, by default whether MMEngine will take one.

    Raises:
        UserError: an unknown precision, or fp16 on a CPU.
    """
    if precision not in PRECISIONS:
        raise UserError(f"precision {precision!r}: expected one of {', '.join(PRECISIONS)}")
    cuda = has_cuda() if cuda is None else cuda
    if precision == "fp16" and not cuda:
        raise UserError("precision fp16 needs a CUDA device; a CPU takes bf16 or fp32")
    if precision != "auto":
        return precision, "as asked"
    if cuda:
        import torch

        if torch.cuda.is_bf16_supported(including_emulation=False):
            return "bf16", "the GPU has bf16 units"
        return "fp16", "the GPU has no bf16 units"
    flags = cpu_flags() & {"avx512_bf16", "amx_bf16"}
    if flags:
        return "bf16", f"the CPU has {', '.join(sorted(flags))}"
    return "fp32", "the CPU has no bf16 instructions"


def choose_num_workers() -> tuple[int, str]:
    """Returns `(num_workers, reason)` for what reads a process's videos."""
    share = max(1, num_usable_cores() // local_world_size())
    if "torch" in sys.modules and has_cuda():
        return min(MAX_WORKERS, share), f"{share} CPU core(s) for this GPU"
    return min(2, share), f"{share} CPU core(s), which the model needs too"


def reader_niceness() -> int:
    """Returns how far a process that reads videos stands back, in the operating system's steps.

    On a CPU the model's threads wait for each other at every layer, so a reader that takes a core
    from one of them holds up all; the model goes first, and reading is done while it waits.
    """
    return 0 if "torch" in sys.modules and has_cuda() else READER_NICENESS
