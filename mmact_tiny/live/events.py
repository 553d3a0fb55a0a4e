"""Smooths the scores of windows, makes events of them, and appends events to a file."""

import errno
import json
import os
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

import numpy as np

from ..errors import UserError, suggest
from ..files import finite, writing_to

KEEP = 0.75  # of what begins an event, below which its score ends it


class Event(TypedDict):
    """A label, from `start` to `end` seconds of the stream, and the mean of its scores."""

    label: str
    start: float
    end: float
    score: float


@dataclass
class Going:
    """An event that has not ended."""

    start: float
    total: float = 0.0
    count: int = 0


class Smoothing:
    """The mean of the scores of the last windows, and the middle of the time that they cover.

    Args:
        count: How many windows.
    """

    def __init__(self, count: int) -> None:
        self._last: deque[tuple[float, np.ndarray]] = deque(maxlen=count)

    def add(self, middle: float, scores: np.ndarray) -> tuple[float, np.ndarray]:
        """Returns both after one window more: of shape (classes,) the scores."""
        self._last.append((middle, scores))
        middles, all_scores = zip(*self._last, strict=True)
        return float(np.mean(middles)), np.mean(all_scores, axis=0)

    def clear(self) -> None:
        """Forgets the windows: what comes is not their neighbour."""
        self._last.clear()


class Events:
    """Makes events of smoothed scores, so that labels do not flicker.

    An event begins when its label is the best and its score reaches the threshold. It ends when
    the score falls below `KEEP` of the threshold, or of the best label's score where that has
    reached the threshold: two thresholds, as a Schmitt trigger has. Of a recognizer of several
    labels each has its events by itself. The border between two windows is half-way between their
    middles, as between windows of files.

    Args:
        labels: Of the classes.
        thresholds: Of each class, or one for all.
        one_at_a_time: Whether the labels exclude each other.
        background: The label that stands for nothing: none of its stretches is an event.

    Raises:
        UserError: no such background.
    """

    def __init__(
        self,
        labels: Sequence[str],
        thresholds: np.ndarray | float,
        *,
        one_at_a_time: bool = True,
        background: str | None = None,
    ) -> None:
        if background is not None and background not in labels:
            raise UserError(f"--background {background}: no class{suggest(background, labels)}")
        self.labels, self.one_at_a_time, self.background = labels, one_at_a_time, background
        self.thresholds = np.broadcast_to(thresholds, len(labels))
        self.going: dict[int, Going] = {}
        self._middle: float | None = None  # of the window before
        self._end = 0.0

    def add(self, start: float, end: float, middle: float, scores: np.ndarray) -> list[Event]:
        """Takes the smoothed scores of a window; returns the events that end with it.

        Args:
            start, end: Of the window, in seconds.
            middle: Of the time that the scores stand for.
            scores: Shape (classes,).
        """
        border = max(start, self._end)
        if self._middle is not None:
            border = (self._middle + middle) / 2
        self._middle, self._end = middle, end
        best, reached = int(scores.argmax()), scores >= self.thresholds
        least = KEEP * self.thresholds
        if self.one_at_a_time:
            least = np.maximum(least, KEEP * scores[best] * reached[best])
            reached = reached & (np.arange(len(scores)) == best)
        ended = [self._end_of(i, border) for i in [*self.going] if scores[i] < least[i]]
        for index in np.flatnonzero(reached).tolist():
            is_free = not (self.one_at_a_time and self.going)
            if is_free and self.labels[index] != self.background:
                self.going.setdefault(index, Going(border))
        for index, event in self.going.items():
            event.total += float(scores[index])
            event.count += 1
        return ended

    def close(self) -> list[Event]:
        """Ends all with the last window: the source has ended, or nothing comes for now."""
        self._middle = None
        return [self._end_of(index, self._end) for index in [*self.going]]

    def _end_of(self, index: int, end: float) -> Event:
        event = self.going.pop(index)
        score = event.total / event.count
        start, end = round(event.start, 3), round(end, 3)
        return Event(label=self.labels[index], start=start, end=end, score=score)


class Lines:
    """Appends rows to a JSON Lines file, each whole or not at all.

    A line is one write, so that a reader never meets half of one; what a full disk has taken of
    it is cut off again. A line that was cut when the machine lost its power stays a line.

    Args:
        path: The file; what is in it stays.

    Raises:
        UserError: it cannot be written.
    """

    def __init__(self, path: str | Path) -> None:
        self._path = Path(path)
        with writing_to(self._path):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._file = os.open(self._path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o666)
            size = os.fstat(self._file).st_size
            if size and os.pread(self._file, 1, size - 1) != b"\n":
                os.write(self._file, b"\n")

    def add(self, row: Mapping[str, Any]) -> None:
        """Appends a row.

        Raises:
            UserError: the disk is full.
        """
        line = (json.dumps(finite(row), ensure_ascii=False) + "\n").encode()
        with writing_to(self._path):
            size = os.fstat(self._file).st_size
            if os.write(self._file, line) < len(line):
                os.ftruncate(self._file, size)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def close(self) -> None:
        """Closes the file."""
        os.close(self._file)
