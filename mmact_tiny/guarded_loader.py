"""A data loader that goes on where it stopped, and outlives its workers."""

import logging
import os
import signal
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from mmaction.registry import HOOKS
from mmengine.dist import get_rank
from mmengine.hooks import Hook
from mmengine.runner import EpochBasedTrainLoop, TestLoop, ValLoop
from torch.utils.data import DataLoader

from .bad_videos import BadVideos
from .errors import UserError
from .guarded_dataset import Draws, Fault, GuardedDataset, Watch, collate_readable

MAX_RESTARTS = 3  # of the workers, without a batch between
MAX_GROWTH_BYTES = 512 * 2**20
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
ASKED_TO_END = (-signal.SIGTERM, -signal.SIGINT)  # a cluster's preemption reaches workers too
logger = logging.getLogger("mmact_tiny")


class GuardedLoader:
    """Stands in a loop for the stock loader and reads the same batches in the same order.

    A worker that crashes, or is at one video for longer than `video_seconds`, is replaced with
    its fellows; reading goes on at the batch that is due, without that video. So are workers
    that have grown by `MAX_GROWTH_BYTES`: decord leaks nearly 1 MB with every video. Without
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
        self.draws = Draws(loader, seed=seed, rank=get_rank())
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
            worker_init_fn=loader.worker_init_fn,
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
            with _Watchdog(
                iterator, self.guarded.watch, self.draws, self.video_seconds
            ) as watchdog:
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
                    self._blame(watchdog, error)
            self._restart(iterator)
        if not num_read and self.split != "train" and self.bad.reasons.get(self.split):
            self._refuse()

    def _refuse(self) -> None:
        raise UserError(f"no {self.split} video can be read\n  {self.bad.listing(self.split)}")

    def _add(self, faults: list[Fault], *, lost: bool) -> None:
        for fault in faults:
            self.bad.add(self.split, Fault(*fault), num_videos=len(self.guarded))
        if lost and self.guarded.replace:
            self._refuse()

    def _blame(self, watchdog: "_Watchdog", error: RuntimeError) -> None:
        """Notes the videos that dead workers were at."""
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
                fault = Fault(self.guarded.video(index), reason)
                self.bad.add(self.split, fault, num_videos=len(self.guarded), skip=True)

    def _restart(self, iterator: Any) -> None:
        """Ends what is left of the workers; the next pass forks new ones."""
        for worker in iterator._workers:
            worker.kill()
        for worker in iterator._workers:
            worker.join()
        self._inner._iterator = None  # what persistent_workers keeps
        self.guarded.watch.clear()


def _hear_of_workers_in_turn(num_workers: int) -> None:
    """Takes torch's SIGCHLD handler away, which raises wherever the main thread is, mid-step too.

    The loader looks for dead workers by itself when a batch is late by 5 s.
    """
    if num_workers and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)


def resident_bytes(pid: int) -> int:
    """Returns the memory that a process has in RAM; 0 where there is no /proc, or no process."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE_BYTES
    except (OSError, IndexError, ValueError):
        return 0


def _signal_name(status: int | None) -> str:
    if status is None or status >= 0:
        return f"status {status}"
    return signal.Signals(-status).name


class _Watchdog:
    """A thread that kills workers at one video for too long, and has grown ones replaced."""

    def __init__(self, iterator: Any, watch: Watch, draws: Draws, seconds: float) -> None:
        self.workers = getattr(iterator, "_workers", [])
        self.watch = watch
        self.draws = draws
        self.seconds = seconds
        self.timed_out: set[int] = set()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> "_Watchdog":
        if self.workers:
            self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._done.set()

    def _run(self) -> None:
        began = [resident_bytes(worker.pid) for worker in self.workers]
        while not self._done.wait(min(1.0, self.seconds / 4)):
            now = [resident_bytes(worker.pid) for worker in self.workers]
            if any(b - a > MAX_GROWTH_BYTES for a, b in zip(began, now, strict=True)):
                self.draws.drain = True
            for worker in self.watch.overdue(self.seconds):
                if self.workers[worker].is_alive():
                    self.timed_out.add(worker)
                    self.workers[worker].kill()

    def dead_workers(self) -> list[tuple[int, int | None]]:
        """Returns the number and the exit status of each worker that is gone."""
        return [(n, w.exitcode) for n, w in enumerate(self.workers) if not w.is_alive()]


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

    def before_run(self, runner: Any) -> None:
        training = isinstance(runner._train_loop, EpochBasedTrainLoop)
        rank = get_rank()
        path = Path(runner.work_dir) / (
            "bad_videos.json" if not rank else f"bad_videos_{rank}.json"
        )
        self.bad = BadVideos(path, self.max_bad_fraction if training else None)
        if training and runner._resume:
            self.bad.load()
        else:
            path.unlink(missing_ok=True)
        loops = (runner._train_loop, runner._val_loop, runner._test_loop)
        kinds = (EpochBasedTrainLoop, ValLoop, TestLoop)
        for split, loop, kind in zip(("train", "val", "test"), loops, kinds, strict=True):
            if isinstance(loop, kind) and not isinstance(loop.dataloader, GuardedLoader):
                loop.dataloader = GuardedLoader(
                    loop.dataloader,
                    split=split,
                    seed=runner.seed,
                    bad=self.bad,
                    video_seconds=self.video_seconds,
                )

    def after_train_epoch(self, runner: Any) -> None:
        if self.bad is not None:
            self.bad.write()

    def after_run(self, runner: Any) -> None:
        if self.bad is not None:
            self.bad.write()
            self.bad.log_all()
