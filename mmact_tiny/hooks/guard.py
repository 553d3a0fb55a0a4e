"""A data loader that goes on where it stopped, outlives its workers, and records bad videos."""

import json
import logging
import os
import signal
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import partial
from itertools import chain
from multiprocessing.process import BaseProcess
from operator import sub
from pathlib import Path
from typing import Any

import psutil
from torch.utils.data import DataLoader

from .. import hardware
from ..compat import (
    HOOKS,
    EpochBasedTrainLoop,
    Hook,
    Runner,
    TestLoop,
    ValLoop,
    all_gather_object,
    broadcast_object_list,
    get_rank,
    get_world_size,
    is_main_process,
)
from ..errors import UserError
from ..files import write_json
from ..log import UPSTREAM
from ..video.files import no_views
from ..video.isolated import VIDEO_SECONDS
from . import _mmengine
from .dataset import Draws, Fault, GuardedDataset, collate_readable
from .processes import agree, stop_all

LOOPS = {"train": EpochBasedTrainLoop, "val": ValLoop, "test": TestLoop}
MAX_RESTARTS = 3  # of the workers, without a batch or a video to blame between
MAX_GROWTH_BYTES = 512 * 2**20  # of a worker: decord leaks nearly 1 MB with every video
MAX_SHOWN = 20
# A cluster's preemption reaches workers too. 0: torch's workers end so where this process asks.
ASKED_TO_END = (-signal.SIGTERM, -signal.SIGINT, 0)
MAX_BAD_FRACTION = 0.1  # of a split's videos
logger = logging.getLogger("mmact_tiny")


@dataclass
class BadVideo:
    """A video that was met `times` times and could not be read, and the first reason for it.

    One that is `skipped` took its worker down and is not opened again.
    """

    split: str
    video: str
    reason: str
    times: int = 1
    skipped: bool = False


class BadVideos:
    """The bad videos of one run, kept in a JSON file of its work directory.

    In a job of several processes each notes its `own` until they `share` them; then all know
    all, and rank 0 logs and writes them. With a `max_fraction` the run stops when more than that
    share of a split is bad.
    """

    def __init__(self, path: Path, max_fraction: float | None) -> None:
        self.path = path
        self.max_fraction = max_fraction
        self.num_videos: dict[str, int] = {}  # of each split
        self.rows: dict[tuple[str, str], BadVideo] = {}
        self.skipped: dict[str, str] = {}
        self.own: list[BadVideo] = []

    def load(self) -> None:
        """Takes up what an earlier process of the run met, the videos to skip above all."""
        text = [self.path.read_text(encoding="utf-8") if self.path.is_file() else "[]"]
        broadcast_object_list(text)  # only rank 0 may have the file
        try:
            rows = [BadVideo(**row) for row in json.loads(text[0])]
        except (ValueError, TypeError) as error:
            raise UserError(f"cannot read {self.path}: {error}; delete it to go on") from None
        self.rows = {(row.split, row.video): row for row in rows}
        self.skipped.update({row.video: row.reason for row in rows if row.skipped})

    def add(self, met: BadVideo) -> None:
        """Counts a video; its first time is logged and written, now or when it is shared.

        Raises:
            UserError: too many videos of the split are bad; lists them.
        """
        if met.skipped:
            self.skipped[met.video] = met.reason
        self.own.append(met)
        if get_world_size() == 1:
            self.share()

    def share(self) -> None:
        """Counts what every process noted since the last time; all have to call, as in `add`."""
        noted = all_gather_object(self.own)
        self.own = []
        for met in chain(*noted):
            self._count(met)

    def _count(self, met: BadVideo) -> None:
        split = met.split
        row = self.rows.setdefault((split, met.video), met)
        row.times += row is not met
        if met.skipped:
            row.skipped, row.reason = True, met.reason
            self.skipped[met.video] = met.reason
        elif row is not met:
            return
        action = "replaced by another" if split == "train" else "left out"
        logger.warning("cannot read %s: %s (%s: %s)", met.video, met.reason, split, action)
        self.write()
        num_bad, num_videos = len(self.reasons(split)), self.num_videos[split]
        if self.max_fraction is not None and num_bad > self.max_fraction * num_videos:
            stop_all(
                f"{num_bad} of {num_videos} {split} videos cannot be read, more than "
                f"max_bad_fraction={self.max_fraction:g} allows\n  {self.listing(split)}\n"
                f"  all are in {self.path}; `python tools/prepare_data.py` leaves broken ones out"
            )

    def reasons(self, split: str) -> dict[str, str]:
        """Returns the reason for each bad video of a split."""
        return {row.video: row.reason for row in self.rows.values() if row.split == split}

    def listing(self, split: str) -> str:
        """Returns the videos of a split with their reasons, one a line."""
        rows = [f"{video}: {reason}" for video, reason in self.reasons(split).items()]
        more = [f"... and {len(rows) - MAX_SHOWN} more"] if len(rows) > MAX_SHOWN else []
        return "\n  ".join(rows[:MAX_SHOWN] + more)

    def log_all(self) -> None:
        """Lists the bad videos of the run, at its end."""
        for split in dict.fromkeys(row.split for row in self.rows.values()):
            times = [row.times for row in self.rows.values() if row.split == split]
            logger.warning(
                "%d %s video(s) could not be read, met %d time(s), recorded in %s\n  %s",
                *(len(times), split, sum(times), self.path, self.listing(split)),
            )

    def write(self) -> None:
        """Writes the record, if there is anything in it."""
        if self.rows and is_main_process():
            write_json(self.path, [asdict(row) for row in self.rows.values()])


class GuardedLoader:
    """Stands in a loop for the stock loader and reads the same batches in the same order.

    A worker that crashes, or is at one video for longer than `video_seconds`, is replaced with
    its fellows; reading goes on at the batch that is due, without that video. So are workers that
    have grown by `MAX_GROWTH_BYTES`. Without workers a crash or a hang is that of the run. The
    workers of the stock loader are never started.
    """

    def __init__(
        self, loader: Any, *, split: str, seed: int, bad: BadVideos, video_seconds: float
    ) -> None:
        self.loader, self.split, self.bad = loader, split, bad
        self.video_seconds = video_seconds
        self.skip = 0  # batches that the next pass leaves out
        self._handler: Any = None  # PyTorch's, of SIGCHLD, until the loader is closed
        self.draws = Draws(loader, seed=seed, rank=get_rank(), padded=split == "train")
        self.guarded = GuardedDataset(
            loader.dataset,
            num_workers=loader.num_workers,
            replace=split == "train",
            skipped=bad.skipped,
        )
        bad.num_videos[split] = len(self.guarded)
        start = partial(_start_worker, loader.worker_init_fn, hardware.reader_niceness())
        self._inner: DataLoader = DataLoader(
            self.guarded,
            batch_sampler=self.draws,  # type: ignore[arg-type]
            num_workers=loader.num_workers,
            collate_fn=partial(collate_readable, loader.collate_fn),
            pin_memory=loader.pin_memory,
            # The wait for a batch after which the workers are looked at.
            timeout=min(1.0, video_seconds / 4) if loader.num_workers else 0,
            worker_init_fn=start,
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
            UserError: too many bad videos, or a transform that fails.
            RuntimeError: of the loader itself, or workers that die without a video to blame.
        """
        number, self.skip = self.skip, 0
        restarts = num_read = 0
        while number < len(self.draws):
            self.draws.first, self.draws.drain = number, False
            iterator = _mmengine.begin_pass(self._inner)
            workers = _mmengine.workers_of(iterator)
            if workers:  # looked at while a batch is waited for
                self._handler = _mmengine.take_signal_handler() or self._handler
            began = list(map(_resident_bytes, workers))
            lost = False
            while not lost:
                try:
                    batch, faults = next(iterator)
                except StopIteration:
                    break
                except (RuntimeError, ConnectionError, EOFError) as error:
                    lost, blamed = self._blame(workers, error)
                    # A worker that is ending takes with it what it had sent.
                    lost |= not isinstance(error, RuntimeError)
                    # Each video is blamed once, so this comes to an end.
                    restarts = 0 if blamed else restarts + lost
                    if not (lost or _mmengine.is_wait(error)) or restarts > MAX_RESTARTS:
                        raise
                    continue
                number, restarts = number + 1, 0
                self._note(faults)
                if batch is not None:
                    num_read += 1
                    yield batch
                elif self.guarded.replace:
                    raise UserError(self._none_readable())
                grown = map(sub, map(_resident_bytes, workers), began)
                self.draws.drain |= max(grown, default=0) > MAX_GROWTH_BYTES
            if not lost and not self.draws.drain:
                break
            _mmengine.kill_workers(self._inner, iterator)
            self.guarded.reading.zero_()
        if self.split != "train":
            self.bad.share()
            if not agree(num_read, "sum") and self.bad.reasons(self.split):
                stop_all(self._none_readable())

    def _none_readable(self) -> str:
        return f"no {self.split} video can be read\n  {self.bad.listing(self.split)}"

    def _note(self, faults: list[Fault]) -> None:
        for fault in faults:
            if fault.trace:
                logging.getLogger(UPSTREAM).error(fault.trace)
                said = no_views(fault.video, fault.reason, of=f"{self.split} ", after_decoding=True)
                raise UserError(f"{said}\n  correct the pipeline; the log file has the traceback")
            self.bad.add(BadVideo(self.split, fault.video, fault.reason))

    def _blame(self, workers: list[BaseProcess], error: Exception) -> tuple[bool, bool]:
        """Kills workers at one video for too long, and notes the videos that dead ones were at.

        Returns whether a worker is lost, and whether there was a video to blame.
        """
        late, lost, blamed = self.guarded.late(self.video_seconds), False, False
        for number, worker in enumerate(workers):
            timed_out = number in late and worker.is_alive()
            if timed_out:
                worker.kill()
                worker.join()
            elif worker.is_alive():
                continue
            lost = True
            index, status = self.guarded.read_by(number), worker.exitcode or 0
            if index is None or (status in ASKED_TO_END and not timed_out):
                logger.warning("a loader worker ended (status %s): %s", status, error)
                continue
            blamed = True
            how = signal.Signals(-status).name if status < 0 else f"status {status}"
            reason = f"timed out after {self.video_seconds:g} s"
            reason = reason if timed_out else f"the decoder crashed ({how})"
            self.bad.add(BadVideo(self.split, self.guarded.video(index), reason, skipped=True))
        return lost, blamed

    def close(self) -> None:
        """Ends the workers that are kept between two passes; another pass would fork new ones."""
        _mmengine.end_kept_workers(self._inner)
        if self._handler is not None:
            signal.signal(signal.SIGCHLD, self._handler)
            self._handler = None
        self.guarded.reading.zero_()


def _start_worker(init: Any, niceness: int, worker: int) -> None:
    os.nice(niceness)
    if init is not None:
        init(worker)


def _resident_bytes(worker: BaseProcess) -> int:
    """Returns the memory that a process has in RAM; 0 where it has ended."""
    try:
        return psutil.Process(worker.pid).memory_info().rss
    except psutil.Error:
        return 0


@HOOKS.register_module()
class DataGuardHook(Hook):
    """Puts a `GuardedLoader` in the place of each loop's loader.

    Args:
        max_bad_fraction: More bad videos than this share of a split stop training.
        video_seconds: Time limit for one video, in loader workers.
    """

    priority = "VERY_HIGH"

    def __init__(
        self, max_bad_fraction: float = MAX_BAD_FRACTION, video_seconds: float = VIDEO_SECONDS
    ) -> None:
        self.max_bad_fraction, self.video_seconds = max_bad_fraction, video_seconds
        self.bad: BadVideos  # from `before_run` on
        self.loaders: list[GuardedLoader] = []

    def before_run(self, runner: Runner) -> None:
        training = isinstance(_mmengine.loop_of(runner, "train"), EpochBasedTrainLoop)
        path = Path(runner.work_dir) / "bad_videos.json"
        self.bad = BadVideos(path, self.max_bad_fraction if training else None)
        if training and _mmengine.is_resumed(runner):
            self.bad.load()
        elif is_main_process():
            path.unlink(missing_ok=True)
        for split, kind in LOOPS.items():
            loop = _mmengine.loop_of(runner, split)
            if not isinstance(loop, kind) or isinstance(loop.dataloader, GuardedLoader):
                continue
            settings: Any = dict(seed=runner.seed, bad=self.bad, video_seconds=self.video_seconds)
            loop.dataloader = GuardedLoader(loop.dataloader, split=split, **settings)
            self.loaders.append(loop.dataloader)
            if not loop.dataloader.num_workers:
                logger.warning(
                    "%s_dataloader.num_workers=0: videos are decoded in this process, and one "
                    "that crashes the decoder or hangs it ends the run; 1 or more guard it",
                    split,
                )

    def after_train_iter(self, runner: Runner, batch_idx: int, **batch: Any) -> None:
        """Counts what the processes of a job met: the share allowed is one of the whole split."""
        if agree(len(self.bad.own)):
            self.bad.share()

    def after_train_epoch(self, runner: Runner) -> None:
        self.bad.write()

    def after_run(self, runner: Runner) -> None:
        self.bad.write()
        self.bad.log_all()
        for loader in self.loaders:
            loader.close()
