"""What is chosen from a machine, for machines that are not this one."""

import os
from pathlib import Path

import pytest

from mmact_tiny import hardware
from mmact_tiny.errors import UserError


@pytest.mark.parametrize(
    ("cores", "processes", "cuda", "expected"),
    [
        (8, 4, True, (2, "2 CPU core(s) for this GPU")),
        (2, 4, True, (1, "1 CPU core(s) for this GPU")),
        (64, 1, True, (8, "64 CPU core(s) for this GPU")),
        (8, 1, False, (2, "8 CPU core(s), which the model needs too")),
        (8, 8, False, (1, "1 CPU core(s), which the model needs too")),
    ],
)
def test_loader_workers(cores, processes, cuda, expected, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(cores)), raising=False)
    monkeypatch.setattr(hardware, "local_world_size", lambda: processes)
    monkeypatch.setattr(hardware, "has_cuda", lambda: cuda)
    assert hardware.choose_num_workers() == expected


@pytest.mark.parametrize(
    ("asked", "cuda", "units", "flags", "expected"),
    [
        ("auto", True, True, "", ("bf16", "the GPU has bf16 units")),
        ("auto", True, False, "avx512_bf16", ("fp16", "the GPU has no bf16 units")),
        ("auto", False, True, "avx2", ("fp32", "the CPU has no bf16 instructions")),
        ("auto", False, False, "amx_bf16 avx2 avx512_bf16", ("bf16", "the CPU has amx_bf16, avx5")),
        ("bf16", False, False, "", ("bf16", "as asked")),
        ("fp16", True, True, "", ("fp16", "as asked")),
        ("fp32", True, True, "", ("fp32", "as asked")),
    ],
)
def test_precision(asked, cuda, units, flags, expected, monkeypatch):
    import torch

    def has_units(including_emulation: bool = True) -> bool:
        return units or including_emulation  # what every GPU says that emulates them

    monkeypatch.setattr(torch.cuda, "is_bf16_supported", has_units)
    monkeypatch.setattr(hardware, "has_cuda", lambda: cuda)
    monkeypatch.setattr(hardware, "cpu_flags", lambda: frozenset(flags.split()))
    for precision, reason in (
        hardware.choose_precision(asked),
        hardware.choose_precision(asked, cuda=cuda),
    ):
        assert precision == expected[0]
        assert reason.startswith(expected[1])


@pytest.mark.parametrize("precision", ["fp64", "fp16"])
def test_a_precision_that_is_not_to_be_had(precision):
    with pytest.raises(UserError, match=r"expected one of auto, fp32|fp16 needs a CUDA device"):
        hardware.choose_precision(precision, cuda=False)


ENVIRONS = {  # rank, processes, place and processes on this machine
    "": (0, 1, 0, 1),
    "RANK=5 WORLD_SIZE=8 LOCAL_RANK=1 LOCAL_WORLD_SIZE=4": (5, 8, 1, 4),
    "SLURM_PROCID=3 SLURM_NTASKS=4 SLURM_LOCALID=1 SLURM_NTASKS_PER_NODE=2": (3, 4, 1, 2),
    "OMPI_COMM_WORLD_RANK=1 OMPI_COMM_WORLD_SIZE=6 OMPI_COMM_WORLD_LOCAL_RANK=1 "
    "OMPI_COMM_WORLD_LOCAL_SIZE=3": (1, 6, 1, 3),
    "SLURM_NTASKS_PER_NODE=2(x3) RANK= SLURM_PROCID=7": (7, 1, 0, 1),
}


@pytest.mark.parametrize("environ", ENVIRONS)
def test_the_place_in_a_job(environ):
    variables = dict(pair.split("=") for pair in environ.split())
    assert ENVIRONS[environ] == (
        hardware.rank(variables),
        hardware.world_size(variables),
        hardware.local_rank(variables),
        hardware.local_world_size(variables),
    )


@pytest.mark.parametrize(
    ("device", "visible", "expected"),
    [
        ("auto", None, None),
        ("auto", "2,3", "2,3"),
        ("cpu", "2,3", ""),
        ("cuda", None, None),
        ("cuda:1", None, "1"),
        ("cuda:1", "2,3", "3"),
    ],
)
def test_the_device_narrows_what_is_visible(device, visible, expected, monkeypatch):
    import torch

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2 if device == "cuda:1" else 1)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible or "")
    if visible is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    hardware.select_device(device)
    assert os.environ.get("CUDA_VISIBLE_DEVICES") == expected


@pytest.mark.parametrize(
    ("device", "message"),
    [
        ("gpu", "--device gpu: expected auto, cpu, cuda, cuda:N or mps"),
        ("cuda:x", "--device cuda:x: expected auto"),
        ("cuda:2", r"--device cuda:2: this machine has 2 CUDA device\(s\)"),
        ("mps", "--device mps: this machine has none"),
    ],
)
def test_a_device_that_is_not_there(device, message, monkeypatch):
    import torch

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(UserError, match=message):
        hardware.select_device(device)


@pytest.mark.parametrize(
    ("text", "flags"),
    [
        ("model name : x\nflags : fpu avx2\nflags : sse\n", {"fpu", "avx2"}),
        ("", set()),
        (None, set()),
    ],
)
def test_the_flags_of_the_first_core(text, flags, tmp_path, monkeypatch):
    if text is not None:
        (tmp_path / "cpuinfo").write_text(text)
    monkeypatch.setattr(hardware, "Path", lambda path: tmp_path / Path(path).name)
    assert hardware.cpu_flags.__wrapped__() == flags


def test_the_machine_has_what_its_container_is_given(tmp_path, monkeypatch):
    own = hardware.describe_machine()
    (tmp_path / "limit").write_text(f"{1 << 29}\n")
    (tmp_path / "none").write_text("max\n")
    limits = (str(tmp_path / "none"), str(tmp_path / "absent"))
    monkeypatch.setattr(hardware, "MEMORY_LIMITS", limits)
    assert hardware.describe_machine()["memory_gib"] >= own["memory_gib"] > 0.5
    monkeypatch.setattr(hardware, "MEMORY_LIMITS", (*limits, str(tmp_path / "limit")))
    assert hardware.describe_machine()["memory_gib"] == 0.5
