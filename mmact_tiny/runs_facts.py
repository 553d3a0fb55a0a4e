"""What a run notes about itself, to be done again: command, seed, versions, machine."""

import os
import platform
from datetime import datetime
from pathlib import Path
from typing import Any

from . import cli, hardware
from .doctor.environment import PACKAGES, version
from .files import write_json
from .hardware_machine import describe_machine

FILE = "run.json"
KEPT = ("platform", "cpu", "cores", "usable_cores", "memory_gib")


def run_facts() -> dict[str, Any]:
    """Returns the command (None outside the tools), the time, and what it runs on."""
    machine = describe_machine()
    versions = {name: version(name) for name in ("mmact-tiny", *PACKAGES)}
    return {
        "command": full_command(),
        "started": datetime.now().astimezone().isoformat(timespec="seconds"),
        "num_processes": hardware.world_size(),
        "python": platform.python_version(),
        "device": hardware.describe_device(),
        "machine": {key: machine[key] for key in KEPT},
        "packages": {name: found for name, found in versions.items() if found},
    }


def full_command() -> str | None:
    """Returns the command line of the tool that runs, under torchrun where that started it."""
    command = cli.command_line()
    if command is None or "TORCHELASTIC_RUN_ID" not in os.environ:
        return command
    launch = f"torchrun --nproc_per_node={hardware.local_world_size()}"
    return f"{launch} {command.removeprefix('python ')}"


def record_run(runner: Any) -> None:
    """Writes the facts of a training process into its folder of logs, on rank 0."""
    if runner.rank == 0:
        write_json(Path(runner.log_dir) / FILE, {**run_facts(), "seed": runner.seed})
