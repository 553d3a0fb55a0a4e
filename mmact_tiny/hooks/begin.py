"""Leaves an earlier run in the work directory as it is until the new one has begun."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..compat import Config, Hook
from ..errors import UserError
from ..files import held, write_atomically
from ..hardware import rank
from ..runs import best_checkpoint, newest_checkpoint, say_empty, set_aside
from .processes import check_same_start

if TYPE_CHECKING:
    from ..compat import Runner

# What a machine that is gone may hold the work directory for: an NFSv4 server's lease is 90 s.
PATIENCE = 120.0


class BeginHook(Hook):
    """Moves an earlier run's checkpoints to `earlier/` after the new run's first step."""

    priority = "VERY_HIGH"  # before whatever saves a checkpoint

    def __init__(self) -> None:
        self.begun = False

    def after_train_iter(self, runner: "Runner", batch_idx: int, **batch: Any) -> None:
        if not self.begun and rank() == 0 and not runner.cfg.get("resume"):
            set_aside(runner.work_dir, keep=runner.cfg.get("load_from"))
        self.begun = True


@contextmanager
def keeping_earlier_run(cfg: Config) -> Iterator[BeginHook]:
    """Holds the work directory, and gives the hook to train with.

    A start that fails leaves the earlier run's config as it was: stock's Runner dumps its own as
    soon as it is built. A run that goes on does so from its newest checkpoint.

    Raises:
        UserError: another process holds the directory; no checkpoint to go on from; not the same
            one in all processes.
    """
    hook, dump = BeginHook(), Path(cfg.work_dir, Path(cfg.filename or "").name)
    if rank() != 0:
        check_same_start(_start_of(cfg))
        yield hook
        return
    with held(cfg.work_dir, patience=PATIENCE if _is_restarted() else 0):
        if cfg.get("resume") and cfg.load_from is None:
            newest = newest_checkpoint(cfg.work_dir)
            if newest is None:
                raise UserError(f"{say_empty(cfg.work_dir)} to resume from: start without --resume")
            # Stock takes what this file says.
            write_atomically(str(newest).encode(), Path(cfg.work_dir, "last_checkpoint"))
        check_same_start(_start_of(cfg))
        before = dump.read_bytes() if dump.is_file() else None
        has_run = best_checkpoint(cfg.work_dir) is not None
        try:
            yield hook
        finally:
            if has_run and not hook.begun and before is not None:
                write_atomically(before, dump)
            elif has_run and not hook.begun and dump.is_file():
                dump.unlink()


def _is_restarted() -> bool:
    """Returns whether torchrun started this process in the place of one that may yet be ending."""
    return os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") != "0"


def _start_of(cfg: Config) -> str:
    """Returns what this process goes on from, in words."""
    if not cfg.get("resume"):
        return "the beginning"
    return str(cfg.load_from or newest_checkpoint(cfg.work_dir) or "no checkpoint")
