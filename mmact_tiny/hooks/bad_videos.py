"""The videos of a run that could not be read: counted, named once, listed, written down."""

import json
import logging
from collections import Counter
from pathlib import Path

from ..compat.mm import all_gather_object, broadcast_object_list, get_world_size, is_main_process
from ..errors import UserError
from ..files import write_atomically
from .dataset import Fault
from .processes import stop_all

MAX_SHOWN = 20
logger = logging.getLogger("mmact_tiny")


class BadVideos:
    """The faults of one run, kept in a JSON file of its work directory.

    In a job of several processes each notes its `own` until they `share` them; then all know
    all, and rank 0 logs and writes them.

    Args:
        path: The file; an unchanged run has none.
        max_fraction: The share of a split above which the run stops; None never stops.
    """

    def __init__(self, path: Path, max_fraction: float | None) -> None:
        self.path = path
        self.max_fraction = max_fraction
        self.reasons: dict[str, dict[str, str]] = {}
        self.times: Counter[tuple[str, str]] = Counter()
        self.skipped: dict[str, str] = {}
        self.own: list[tuple[str, Fault, int, bool]] = []

    def load(self) -> None:
        """Takes up what an earlier process of the run met, the videos to skip above all."""
        text = [self.path.read_text(encoding="utf-8") if self.path.is_file() else "[]"]
        broadcast_object_list(text)  # only rank 0 may have the file
        try:
            for row in json.loads(text[0]):
                self.reasons.setdefault(row["split"], {})[row["video"]] = row["reason"]
                self.times[row["split"], row["video"]] = row["times"]
                if row["skipped"]:
                    self.skipped[row["video"]] = row["reason"]
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(f"cannot read {self.path}: {error}; delete it to go on") from None

    def add(self, split: str, fault: Fault, *, num_videos: int, skip: bool = False) -> None:
        """Counts a fault; the first of a video is logged and written, now or when it is shared.

        Args:
            split: train, val or test.
            fault: What was met.
            num_videos: How many videos the split has.
            skip: Whether the video took its worker down.

        Raises:
            UserError: too many videos of the split are bad; lists them.
        """
        if skip:
            self.skipped[fault.video] = fault.reason
        self.own.append((split, fault, num_videos, skip))
        if get_world_size() == 1:
            self.share()

    def share(self) -> None:
        """Counts what every process noted since the last time; all of them have to call.

        Raises:
            UserError: as `add`, from rank 0.
        """
        noted = [row for rows in all_gather_object(self.own) for row in rows]
        self.own = []
        for row in noted:
            self._count(*row)

    def _count(self, split: str, fault: Fault, num_videos: int, skip: bool) -> None:
        reasons = self.reasons.setdefault(split, {})
        self.times[split, fault.video] += 1
        if skip:
            self.skipped[fault.video] = fault.reason
        if fault.video in reasons and not skip:
            return
        reasons[fault.video] = fault.reason
        action = "replaced by another" if split == "train" else "left out"
        logger.warning("cannot read %s: %s (%s: %s)", fault.video, fault.reason, split, action)
        self.write()
        if self.max_fraction is not None and len(reasons) > self.max_fraction * num_videos:
            stop_all(
                f"{len(reasons)} of {num_videos} {split} videos cannot be read, more than "
                f"max_bad_fraction={self.max_fraction:g} allows\n  {self.listing(split)}\n"
                f"  all are in {self.path}; tools/prepare_data.py leaves broken videos out"
            )

    def listing(self, split: str) -> str:
        """Returns the videos of a split with their reasons, one a line."""
        rows = [f"{video}: {reason}" for video, reason in self.reasons.get(split, {}).items()]
        more = [f"... and {len(rows) - MAX_SHOWN} more"] if len(rows) > MAX_SHOWN else []
        return "\n  ".join(rows[:MAX_SHOWN] + more)

    def log_all(self) -> None:
        """Lists the bad videos of the run, at its end."""
        for split, reasons in self.reasons.items():
            times = sum(count for (name, _), count in self.times.items() if name == split)
            logger.warning(
                "%d %s video(s) could not be read, met %d time(s), recorded in %s\n  %s",
                *(len(reasons), split, times, self.path, self.listing(split)),
            )

    def write(self) -> None:
        """Writes the record, if there is anything in it."""
        rows = [
            dict(
                split=split,
                video=video,
                reason=reason,
                times=self.times[split, video],
                skipped=video in self.skipped,
            )
            for split, reasons in self.reasons.items()
            for video, reason in reasons.items()
        ]
        if rows and is_main_process():
            text = json.dumps(rows, indent=1, ensure_ascii=False) + "\n"
            write_atomically(text.encode("utf-8", "surrogateescape"), self.path)
