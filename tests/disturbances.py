"""Hooks that disturb a run at a certain place; a config names this module in `custom_imports`."""

import os
import signal
from pathlib import Path

import torch
from mmaction.registry import HOOKS
from mmengine.dist import get_rank
from mmengine.hooks import Hook


@HOOKS.register_module()
class SignalInValidation(Hook):
    """Sends SIGTERM to its own process in the validation after an epoch, once a run."""

    def __init__(self, epoch: int, marker: str) -> None:
        self.epoch = epoch
        self.marker = Path(marker)

    def before_val_iter(self, runner, batch_idx, data_batch=None) -> None:
        mine = self.marker.with_suffix(f".{get_rank()}")
        if runner.epoch == self.epoch and not mine.exists():
            mine.touch()
            os.kill(os.getpid(), signal.SIGTERM)


@HOOKS.register_module()
class PoisonedBatch(Hook):
    """Makes the first clip of one process's batch nan, before an iteration counted from 0."""

    def __init__(self, rank: int, iteration: int) -> None:
        self.rank = rank
        self.iteration = iteration

    def before_train_iter(self, runner, batch_idx, data_batch=None) -> None:
        if get_rank() == self.rank and runner.iter == self.iteration:
            clip = data_batch["inputs"][0]
            data_batch["inputs"][0] = torch.full(clip.shape, torch.nan)
