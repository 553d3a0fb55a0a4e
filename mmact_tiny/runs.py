"""Runs on disk: `work_dirs/<config stem>/` with its dumped config and its checkpoints."""

import re
from dataclasses import dataclass
from pathlib import Path

from .errors import UserError

WORK_DIRS = Path("work_dirs")


@dataclass(frozen=True)
class Run:
    """A work directory: the dumped config, and the best checkpoint, else the last one."""

    work_dir: Path
    config: Path
    checkpoint: Path


def open_run(work_dir: str | Path) -> Run:
    """Returns the run in a work directory.

    Raises:
        UserError: it holds no checkpoint, or not exactly the config that the run dumped.
    """
    folder = Path(work_dir)
    checkpoint = best_checkpoint(folder)
    if checkpoint is None:
        raise UserError(f"no checkpoint in {folder}\n  train first: python tools/train.py CONFIG")
    configs = sorted(folder.glob("*.py"), key=lambda path: path.stat().st_mtime)
    if not configs:
        raise UserError(f"no dumped config in {folder}, beside {checkpoint.name}")
    return Run(folder, configs[-1], checkpoint)


def newest_run(work_dirs: str | Path = WORK_DIRS) -> Run | None:
    """Returns the run whose checkpoint was written last, or None where there is none."""
    folders = {path.parent for path in Path(work_dirs).glob("*/*.pth")}
    trained = {folder: best_checkpoint(folder) for folder in folders if any(folder.glob("*.py"))}
    ages = {
        folder: max(path.stat().st_mtime for path in folder.glob("*.pth"))
        for folder, checkpoint in trained.items()
        if checkpoint is not None
    }
    return open_run(max(ages, key=ages.__getitem__)) if ages else None


def best_checkpoint(work_dir: str | Path) -> Path | None:
    """Returns `best_*.pth`, the newest of several; else the last checkpoint; else None."""
    folder = Path(work_dir)
    best = sorted(folder.glob("best_*.pth"), key=lambda path: path.stat().st_mtime)
    if best:
        return best[-1]
    return last_checkpoint(folder)


def last_checkpoint(work_dir: str | Path) -> Path | None:
    """Returns the checkpoint that the run wrote last, by its number; None where there is none."""
    numbered = {
        path: int(match[1])
        for path in Path(work_dir).glob("*.pth")
        if (match := re.fullmatch(r"(?:epoch|iter)_(\d+)\.pth", path.name))
    }
    return max(numbered, key=numbered.__getitem__) if numbered else None
