"""A data loader that goes on where it stopped, and outlives its workers."""

import logging
import os
import signal
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from torch.utils.data import DataLoader

from .. import hardware
from ..compat.mm import (
    HOOKS,
    EpochBasedTrainLoop,
    Hook,
    TestLoop,
    ValLoop,
    get_rank,
    is_main_process,
)
from ..errors import UserError
from .bad_videos import BadVideos
from .dataset import Draws, Fault, GuardedDataset, collate_readable
from .processes import agree, stop_all
from .watchdog import Watchdog

MAX_RESTARTS = 3  # of the workers, without a batch or a video to blame between
# A cluster's preemption reaches workers too. 0: torch's workers end so where this process asks.
ASKED_TO_END = (-signal.SIGTERM, -signal.SIGINT, 0)
logger = logging.getLogger("mmact_tiny")


class GuardedLoader:
    """Stands in a loop for the stock loader and reads the same batches in the same order.

    A worker that crashes, or is at one video for longer than `video_seconds`, is replaced with
    its fellows; reading goes on at the batch that is due, without that video. So are workers that
    have grown by `watchdog.MAX_GROWTH_BYTES`: decord leaks nearly 1 MB with every video. Without
    workers (num_workers=0) a crash or a hang is that of the run.

    Args:
        loader: What `Runner.build_dataloader` returned; its own workers are never started.
        split: train, val or test.
        seed: The run's seed.
        bad: Where faults go.
        video_seconds: Time limit for one video.
    """

    def __init__(
        self, loader: Any, *, split: str, seed: int, bad: BadVideos, video_seconds: float
    ) -> None:
        self.loader = loader
        self.split = split
        self.bad = bad
        self.video_seconds = video_seconds
        self.skip = 0  # batches that the next pass leaves out
        self.draws = Draws(loader, seed=seed, rank=get_rank(), padded=split == "train")
        self.guarded = GuardedDataset(
            loader.dataset,
            num_workers=loader.num_workers,
            replace=split == "train",
            skipped=bad.skipped,
        )
        self._inner: DataLoader = DataLoader(
            self.guarded,  # type: ignore[arg-type]
            batch_sampler=self.draws,  # type: ignore[arg-type]
            num_workers=loader.num_workers,
            collate_fn=partial(collate_readable, loader.collate_fn),
            pin_memory=loader.pin_memory,
            worker_init_fn=partial(
                _start_worker, loader.worker_init_fn, hardware.reader_niceness()
            ),
            multiprocessing_context=loader.multiprocessing_context,
            prefetch_factor=loader.prefetch_factor,
            persistent_workers=loader.persistent_workers,
        )

    def __getattr__(self, name: str) -> Any:
        return getattr(self.loader, name)

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[Any]:
        """Yields batches from the one after `skip` on, which counts for one pass.

        Raises:
            UserError: too many bad videos, or workers that die without one.
        """
        number, self.skip = self.skip, 0
        restarts = num_read = 0
        while number < len(self.draws):
            self.draws.first, self.draws.drain = number, False
            iterator = iter(self._inner)
            _hear_of_workers_in_turn(self._inner.num_workers)
            with Watchdog(iterator, self.guarded.watch, self.draws, self.video_seconds) as watchdog:
                try:
                    for batch, faults in iterator:
                        number, restarts = number + 1, 0
                        self._add(faults, lost=batch is None)
                        if batch is not None:
                            num_read += 1
                            yield batch
                    if not self.draws.drain:
                        break
                except RuntimeError as error:
                    restarts += 1
                    if not watchdog.dead_workers() or restarts > MAX_RESTARTS:
                        raise
                    if self._blame(watchdog, error):
                        restarts = 0  # each video is blamed once, so this comes to an end
            self._restart(iterator)
        if self.split != "train":
            self.bad.share()
            if not agree(num_read, "sum") and self.bad.reasons.get(self.split):
                stop_all(self._none_readable())

    def _none_readable(self) -> str:
        return f"no {self.split} video can be read\n  {self.bad.listing(self.split)}"

    def _add(self, faults: list[Fault], *, lost: bool) -> None:
        for fault in faults:
            self.bad.add(self.split, Fault(*fault), num_videos=len(self.guarded))
        if lost and self.guarded.replace:
            raise UserError(self._none_readable())

    def _blame(self, watchdog: "Watchdog", error: RuntimeError) -> bool:
        """Notes the videos that dead workers were at; returns whether there was one."""
        blamed = False
        for worker, status in watchdog.dead_workers():
            index = self.guarded.watch.index_of(worker)
            if worker in watchdog.timed_out:
                reason = f"timed out after {self.video_seconds:g} s"
            elif status in ASKED_TO_END or index is None:
                logger.warning("a loader worker ended (status %s): %s", status, error)
                continue
            else:
                reason = f"the decoder crashed ({_signal_name(status)})"
            if index is not None:
                blamed = True
                fault = Fault(self.guarded.video(index), reason)
                self.bad.add(self.split, fault, num_videos=len(self.guarded), skip=True)
        return blamed

    def _restart(self, iterator: Any) -> None:
        """Ends what is left of the workers; the next pass forks new ones."""
        for worker in iterator._workers:
            worker.kill()
        for worker in iterator._workers:
            worker.join()
        self._inner._iterator = None  # what persistent_workers keeps
        self.guarded.watch.clear()

    def close(self) -> None:
        """Ends the workers that `persistent_workers` keeps; another pass would fork new ones.

        Left to the garbage collector they may miss the word to end, and are waited for 5 s each.
        """
        iterator: Any = self._inner._iterator
        self._inner._iterator = None
        if iterator is not None:
            iterator._shutdown_workers()
            self.guarded.watch.clear()


def _start_worker(init: Any, niceness: int, worker: int) -> None:
    os.nice(niceness)
    if init is not None:
        init(worker)


def _hear_of_workers_in_turn(num_workers: int) -> None:
    """Takes torch's SIGCHLD handler away, which raises wherever the main thread is, mid-step too.

    The loader looks for dead workers by itself when a batch is late by 5 s.
    """
    if num_workers and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)


def _signal_name(status: int | None) -> str:
    if status is None or status >= 0:
        return f"status {status}"
    return signal.Signals(-status).name


@HOOKS.register_module()
class DataGuardHook(Hook):
    """Puts a `GuardedLoader` in the place of each loop's loader.

    Args:
        max_bad_fraction: More bad videos than this share of a split stop training.
        video_seconds: Time limit for one video, in loader workers.
    """

    priority = "VERY_HIGH"

    def __init__(self, max_bad_fraction: float = 0.1, video_seconds: float = 120) -> None:
        self.max_bad_fraction = max_bad_fraction
        self.video_seconds = video_seconds
        self.bad: BadVideos | None = None
        self.loaders: list[GuardedLoader] = []

    def before_run(self, runner: Any) -> None:
        training = isinstance(runner._train_loop, EpochBasedTrainLoop)
        path = Path(runner.work_dir) / "bad_videos.json"
        self.bad = BadVideos(path, self.max_bad_fraction if training else None)
        if training and runner._resume:
            self.bad.load()
        elif is_main_process():
            path.unlink(missing_ok=True)
        loops = (runner._train_loop, runner._val_loop, runner._test_loop)
        kinds = (EpochBasedTrainLoop, ValLoop, TestLoop)
        for split, loop, kind in zip(("train", "val", "test"), loops, kinds, strict=True):
            if isinstance(loop, kind) and not isinstance(loop.dataloader, GuardedLoader):
                loop.dataloader = guarded = GuardedLoader(
                    loop.dataloader,
                    split=split,
                    seed=runner.seed,
                    bad=self.bad,
                    video_seconds=self.video_seconds,
                )
                self.loaders.append(guarded)
                if not guarded.num_workers:
                    logger.warning(
                        "%s_dataloader.num_workers=0: videos are decoded in this process, and one "
                        "that crashes the decoder or hangs it ends the run; 1 or more guard it",
                        split,
                    )

    def after_train_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Counts what the processes of a job met: the share allowed is one of the whole split."""
        if self.bad is not None and agree(len(self.bad.own)):
            self.bad.share()

    def after_train_epoch(self, runner: Any) -> None:
        if self.bad is not None:
            self.bad.write()

    def after_run(self, runner: Any) -> None:
        if self.bad is not None:
            self.bad.write()
            self.bad.log_all()
        for loader in self.loaders:
            loader.close()
