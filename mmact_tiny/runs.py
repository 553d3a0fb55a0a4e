"""Runs on disk: `work_dirs/<config stem>/` with its dumped config and its checkpoints."""

import logging
import os
import platform
import re
import shutil
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import hardware
from .checkpoints.load import checkpoint_config, read_meta
from .errors import UserError
from .files import write_json

if TYPE_CHECKING:
    from .compat import Runner

WORK_DIRS = Path("work_dirs")
FACTS = "run.json"  # of a run, in its folder of logs
RESULTS = Path("test", "results.json")  # of a run's last test, below its work directory
logger = logging.getLogger("mmact_tiny")


@dataclass(frozen=True)
class Run:
    """A work directory: the dumped config, and the best checkpoint, else the last one."""

    work_dir: Path
    config: Path
    checkpoint: Path


def open_run(work_dir: str | Path) -> Run:
    """Returns the run in a work directory.

    Raises:
        UserError: it holds no checkpoint, or no dumped config, of which the newest counts.
    """
    folder = Path(work_dir)
    checkpoint = best_checkpoint(folder)
    if checkpoint is None:
        raise UserError(f"{say_empty(folder)}\n  train first: python tools/train.py CONFIG")
    configs = sorted(folder.glob("*.py"), key=lambda path: path.stat().st_mtime)
    if not configs:
        raise UserError(f"no dumped config in {folder}, beside {checkpoint.name}")
    return Run(folder, configs[-1], checkpoint)


def say_empty(work_dir: str | Path) -> str:
    """Returns that a folder has no checkpoint, with where those of an earlier run are."""
    earlier = max(Path(work_dir).glob("earlier/*/*.pth"), default=None)
    aside = f" (an earlier run's are in {earlier.parent})" if earlier else ""
    return f"no checkpoint in {work_dir}{aside}"


def newest_run(work_dirs: str | Path = WORK_DIRS) -> Run | None:
    """Returns the run whose checkpoint was written last, or None where there is none."""
    folders = {path.parent for path in Path(work_dirs).glob("*/*.pth")}
    ages = {
        folder: max(path.stat().st_mtime for path in own_checkpoints(folder))
        for folder in folders
        if any(folder.glob("*.py")) and best_checkpoint(folder) is not None
    }
    return open_run(max(ages, key=ages.__getitem__)) if ages else None


def own_checkpoints(work_dir: str | Path, pattern: str = "*.pth") -> list[Path]:
    """Returns the checkpoints that a run wrote; what it started from has a double in `earlier/`."""
    folder = Path(work_dir)
    earlier = set(map(_identity, folder.glob(f"earlier/*/{pattern}")))
    return [path for path in folder.glob(pattern) if _identity(path) not in earlier]


def _identity(path: Path) -> tuple[str, int, int]:
    return path.name, path.stat().st_size, path.stat().st_mtime_ns


def best_checkpoint(work_dir: str | Path) -> Path | None:
    """Returns `best_*.pth`, the newest of several; else the last checkpoint; else None."""
    best = own_checkpoints(work_dir, "best_*.pth")
    return max(best, key=lambda path: path.stat().st_mtime) if best else last_checkpoint(work_dir)


def last_checkpoint(work_dir: str | Path) -> Path | None:
    """Returns the checkpoint that the run wrote last; None where there is none."""
    written = [path for path in own_checkpoints(work_dir) if checkpoint_number(path) >= 0]
    return max(
        written, key=lambda path: (path.stat().st_mtime_ns, checkpoint_number(path)), default=None
    )


def checkpoint_number(path: Path) -> int:
    """Returns N of `epoch_N.pth` and `iter_N.pth`, -1 of other files."""
    match = re.fullmatch(r"(?:epoch|iter)_(\d+)\.pth", path.name)
    return int(match[1]) if match else -1


def newest_checkpoint(work_dir: str | Path) -> Path | None:
    """Returns the checkpoint of a run that is furthest on and can be read; None without any.

    Stock takes the one that the file `last_checkpoint` names, which a kill can leave behind.
    Of the epochs' and of the iterations' the last is read; one that is damaged is passed over.

    Raises:
        UserError: there are checkpoints and none can be read.
    """
    found = []
    errors = []
    for kind in ("epoch", "iter"):
        written = own_checkpoints(work_dir, f"{kind}_*.pth")
        for path in sorted(written, key=checkpoint_number, reverse=True):
            try:
                meta = read_meta(path)
                found.append((int(meta["iter"]), int(meta["epoch"]), path))
                break
            except (UserError, KeyError, TypeError, ValueError) as error:
                logger.warning("passed over: %s", error)
                errors.append(str(error))
    if errors and not found:
        raise UserError(f"no checkpoint in {work_dir} can be read\n  " + "\n  ".join(errors))
    return max(found)[2] if found else None


def set_aside(work_dir: str | Path, keep: str | Path | None = None) -> Path | None:
    """Moves the checkpoints of an earlier run out of the way of one that starts anew.

    They would be taken for the new run's own: the furthest to resume from, the best to test.
    Returns the folder below `earlier/` that has them now, None where there were none.

    Args:
        work_dir: The run's folder.
        keep: A file to leave where it is: the new run starts from its weights. It gets a double
            there, so that it is not taken for the new run's own, whose epochs may overwrite it.
    """
    folder = Path(work_dir)
    kept = Path(keep).resolve() if keep is not None and "://" not in str(keep) else None
    patterns = ("epoch_*.pth", "iter_*.pth", "best_*.pth", "best_*.openvino", "epoch_*.openvino")
    old = [path for pattern in patterns for path in folder.glob(pattern)]
    if not any(path.suffix == ".pth" for path in old):
        return None
    target = folder / "earlier" / datetime.now().strftime("%Y%m%d_%H%M%S_%f")
    target.mkdir(parents=True)
    for path in old:
        move = shutil.copy2 if path.resolve() == kept else shutil.move
        move(path, target)
    (folder / "last_checkpoint").unlink(missing_ok=True)
    logger.info("checkpoints of an earlier run: moved to %s", target)
    return target


def first_weights(checkpoint: str | Path) -> str | None:
    """Returns what the run of a checkpoint once started from; None where the file does not say."""
    if "://" in str(checkpoint):
        return None
    config = checkpoint_config(dict(meta=read_meta(checkpoint)), source=str(checkpoint))
    weights = config.get("initial_weights") if isinstance(config, dict) else None
    return weights if isinstance(weights, str) else None


def run_facts(command: str | None = None) -> dict[str, Any]:
    """Returns what a run notes about itself, to be done again: time, versions, machine.

    Args:
        command: What was typed to start it, None outside the tools.
    """
    versions = {name: hardware.version(name) for name in ("mmact-tiny", *hardware.PACKAGES)}
    return {
        "command": _launched(command),
        "started": datetime.now().astimezone().isoformat(timespec="seconds"),
        "num_processes": hardware.world_size(),
        "python": platform.python_version(),
        "device": hardware.describe_device(),
        "machine": hardware.describe_machine(),
        "packages": {name: found for name, found in versions.items() if found},
    }


def _launched(command: str | None) -> str | None:
    """Returns a tool's command line, under torchrun where that started it."""
    if command is None or "TORCHELASTIC_RUN_ID" not in os.environ:
        return command
    launch = f"torchrun --nproc_per_node={hardware.local_world_size()}"
    of_python = command.startswith("python ")
    return f"{launch} {command.removeprefix('python ') if of_python else f'--no-python {command}'}"


def record_run(runner: "Runner", command: str | None = None) -> None:
    """Writes the facts of a training process into its folder of logs, on rank 0."""
    if runner.rank == 0:
        write_json(Path(runner.log_dir) / FACTS, {**run_facts(command), "seed": runner.seed})
