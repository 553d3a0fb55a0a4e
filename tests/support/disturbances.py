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
        if runner.epoch == self.epoch:
            send_once(signal.SIGTERM, self.marker)


@HOOKS.register_module()
class SignalInIteration(Hook):
    """Sends a signal to its own process in an iteration counted from 0, once a run."""

    def __init__(self, iteration: int, number: int, marker: str) -> None:
        self.iteration = iteration
        self.number = number
        self.marker = Path(marker)

    def before_train_iter(self, runner, batch_idx, data_batch=None) -> None:
        if runner.iter == self.iteration:
            send_once(self.number, self.marker)


def send_once(number: int, marker: Path) -> None:
    """Sends a signal to this process, if no process of this rank has sent it yet."""
    mine = marker.with_suffix(f".{get_rank()}")
    if not mine.exists():
        mine.touch()
        os.kill(os.getpid(), number)


@HOOKS.register_module()
class SeenVideos(Hook):
    """Notes the epoch and the videos of each training batch in a file that all processes share."""

    def __init__(self, file: str) -> None:
        self.file = file

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        names = [Path(sample.filename).name for sample in data_batch["data_samples"]]
        with Path(self.file).open("a") as file:
            file.write(f"{runner.epoch + 1} {' '.join(names)}\n")


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
