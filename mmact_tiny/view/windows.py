"""Scores a long video in windows of seconds, and merges neighbours of equal label to segments.

Windows begin at 0, stride, 2 x stride, ... seconds, as long as they fit. Where frames are left
after the last of them, one more of the same length ends with the video. A video that is shorter
than a window is one window. Within a window the frames are those that the protocol's sampler
takes of a video of that length. Every frame is decoded once, however many windows overlap there.

At any moment the window counts whose middle is nearest, so the border between two windows is
half-way between their middles. Neighbours with the same best label make one segment, with the
mean of their scores for it.
"""

from collections.abc import Iterator, Sequence
from itertools import groupby, pairwise
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple, NotRequired, Required, TypedDict

import av
import numpy as np

from ..errors import UserError
from ..files import Row, printable, write_answers
from ..infer import Prediction
from ..progress import track
from ..recognizer import Recognizer
from ..video.files import sample_of, upright
from ..video.isolated import VIDEO_SECONDS, GuardedReader, ReadAhead, blame
from ..video.packets import EDGE, decode, frames_between
from ..video.times import FrameTimes, ask_frame_times
from ..video.window import Compose, WindowPipeline

COLUMNS = ("video", "kind", "start", "end", "label", "score", "error")


class WindowAnswer(TypedDict):
    """The best labels of a window, from `start` to `end` seconds, or why there are none."""

    start: float
    end: float
    predictions: NotRequired[list[Prediction]]
    error: NotRequired[str]


class Segment(TypedDict):
    """Neighbouring windows with the same best label, and the mean of their scores for it."""

    start: float
    end: float
    label: str
    score: float


class WindowsRow(TypedDict, total=False):
    """The answer for a video, in seconds; for one that cannot be read `video` and `error` alone."""

    video: Required[str]
    duration: float
    window: float
    stride: float
    windows: list[WindowAnswer]
    segments: list[Segment]
    error: str


class Cell(NamedTuple):
    """The stretch of seconds where one answer counts; no predictions where it has an error."""

    start: float
    end: float
    predictions: list[tuple[str, float]]

    @property
    def label(self) -> str | None:
        return self.predictions[0][0] if self.predictions else None


class Window(NamedTuple):
    """A stretch of a video: from `start` to `end` seconds, its frames `first` to `last - 1`."""

    start: float
    end: float
    first: int
    last: int


def cut_windows(times: FrameTimes, *, window: float, stride: float) -> list[Window]:
    """Returns the windows of a video; `window` and `stride` are seconds.

    A frame belongs to a window where its time is from `start` up to, not including, `end`. A
    window between two frames has the one that is on the screen then.
    """
    starts = [0.0]
    while len(starts) * stride + window <= times.duration + EDGE:
        starts.append(len(starts) * stride)
    if starts[-1] + window <= float(times.seconds[-1]) + EDGE:
        starts.append(times.duration - window)
    windows = []
    for start in starts:
        end = times.duration if start == starts[-1] else start + window
        first, last = frames_between(times.seconds, start, end)
        last = len(times) if start == starts[-1] else last
        windows.append(Window(start, end, first, last))
    return windows


def score_windows(
    recognizer: Recognizer, video: str | Path, *, window: float, stride: float
) -> list[tuple[Window, np.ndarray | UserError]]:
    """Returns the windows of a video, and for each its class scores or why there are none.

    The next windows are decoded while the device computes.

    Raises:
        UserError: the video or none of its windows can be read, or the protocol's pipeline takes
            no video.
    """
    times = ask_frame_times(video)
    windows = cut_windows(times, window=window, stride=stride)
    views = WindowViews(video, times, windows, recognizer.steps, recognizer.compose)
    reader = GuardedReader(
        views, video_seconds=VIDEO_SECONDS + 10 * window, calls_a_process=len(windows)
    )
    try:
        scored = recognizer.score_samples(ReadAhead(reader, range(len(windows))))
        found = list(
            track(zip(windows, scored, strict=True), "windows", len(windows), unit="windows")
        )
    finally:
        reader.close()
    errors = [scores for _, scores in found if isinstance(scores, UserError)]
    if len(errors) == len(found):
        raise UserError(blame(video, errors[0]))
    return found


class WindowViews:
    """Called with 0, 1, 2, ... returns the views of that window, packed.

    Between two calls it keeps the decoder open, and of the frames those that later windows
    sample too.

    Args:
        video: The file.
        times: When its frames are shown.
        windows: What `cut_windows` made of it.
        steps: The protocol's pipeline.
        compose: Makes of steps what runs them.
    """

    def __init__(
        self,
        video: str | Path,
        times: FrameTimes,
        windows: Sequence[Window],
        steps: Sequence[Any],
        compose: Compose,
    ) -> None:
        self._pipeline = WindowPipeline(steps, compose)
        self._samples = []
        for window in windows:  # as a video that has only the window's frames
            num_frames = window.last - window.first
            sample = self._pipeline.sample(sample_of(video), num_frames=num_frames, fps=times.fps)
            self._samples.append(dict(sample, frame_inds=sample["frame_inds"] + window.first))
        # the first frame that this window or a later one takes
        firsts = [int(min(sample["frame_inds"])) for sample in self._samples]
        self._oldest = np.minimum.accumulate(firsts[::-1])[::-1]
        self._decoded = self._decode(video, times)
        self._frames: dict[int, av.VideoFrame] = {}
        self._position = -1
        self._next = 0

    def __call__(self, number: int) -> dict[str, Any]:
        if number != self._next:  # a new process has taken over from one that was lost
            raise UserError("not read: the decoder was lost at an earlier window")
        self._next += 1
        frame_inds = self._samples[number]["frame_inds"].tolist()
        for old in [index for index in self._frames if index < self._oldest[number]]:
            del self._frames[old]
        while self._position < max(frame_inds) and (found := next(self._decoded, None)):
            self._position, frame = found
            self._frames[self._position] = frame
        if missing := set(frame_inds) - self._frames.keys():
            raise UserError(f"{len(missing)} of its frames cannot be decoded")
        images = {index: upright(self._frames[index]) for index in set(frame_inds)}
        return self._pipeline.pack(self._samples[number], [images[index] for index in frame_inds])

    def _decode(self, video: str | Path, times: FrameTimes) -> Iterator[tuple[int, av.VideoFrame]]:
        """Yields the frames that any window takes, each with its index."""
        taken = {i for sample in self._samples for i in sample["frame_inds"].tolist()}
        wanted = {times.pts[i] for i in taken} if times.pts else None
        index_of: dict[int | None, int] = {time: i for i, time in enumerate(times.pts)}
        for position, (stamp, frame) in enumerate(decode(video, wanted)):
            index = index_of.get(stamp, -1) if times.pts else position
            if index in taken:
                yield index, frame


def window_rows(
    recognizer: Recognizer, videos: Sequence[Path], top_k: int, *, window: float, stride: float
) -> Iterator[WindowsRow]:
    """Yields the answer for each video; every window has its `top_k` best labels."""
    for video in videos:
        try:
            scored = score_windows(recognizer, video, window=window, stride=stride)
        except UserError as error:
            yield dict(video=str(video), error=str(error))
            continue
        duration = round(scored[-1][0].end, 3)
        row = WindowsRow(video=str(video), duration=duration, window=window, stride=stride)
        row["windows"] = []
        for part, scores in scored:
            answer = WindowAnswer(start=round(part.start, 3), end=round(part.end, 3))
            if isinstance(scores, UserError):
                answer["error"] = str(scores)
            else:
                best = recognizer.top_k(scores, top_k)
                answer["predictions"] = [dict(label=label, score=score) for label, score in best]
            row["windows"].append(answer)
        cells = cells_of(row)
        row["segments"] = merge(cells) if recognizer.thresholds is None else merge_each(cells)
        yield row


def cells_of(row: Row) -> list[Cell]:
    """Returns which answer counts when, without a gap from 0 to the end.

    Args:
        row: From `window_rows`; or an answer for the whole video, with `predictions` alone.
    """
    whole = WindowAnswer(start=0.0, end=float("inf"), predictions=row.get("predictions", []))
    windows = row.get("windows") or [whole]
    middles = [(one["start"] + one["end"]) / 2 for one in windows]
    borders = [0.0, *map(fmean, pairwise(middles)), windows[-1]["end"]]
    return [
        Cell(start, end, [(best["label"], best["score"]) for best in one.get("predictions", [])])
        for (start, end), one in zip(pairwise(borders), windows, strict=True)
    ]


def merge(cells: Sequence[Cell]) -> list[Segment]:
    """Returns the segments; the stretch of windows that have no answer is left out."""
    segments: list[Segment] = []
    for label, group in groupby(cells, key=lambda cell: cell.label):
        same = list(group)
        if label is not None:
            score = fmean(cell.predictions[0][1] for cell in same)
            start, end = round(same[0].start, 3), round(same[-1].end, 3)
            segments.append(dict(start=start, end=end, label=label, score=score))
    return segments


def merge_each(cells: Sequence[Cell]) -> list[Segment]:
    """Returns the segments of each label by itself, where a window may have several or none."""
    segments: list[Segment] = []
    for label in {label for cell in cells for label, _ in cell.predictions}:
        of_label = [[one for one in cell.predictions if one[0] == label] for cell in cells]
        pairs = zip(cells, of_label, strict=True)
        segments += merge([cell._replace(predictions=found) for cell, found in pairs])
    return sorted(segments, key=lambda one: (one["start"], one["label"]))


def say_segments(row: Row) -> list[str]:
    """Returns a line for each segment: `   0.0 -   5.0 s  typing: 0.93`."""
    return [
        f"{s['start']:7.1f} - {s['end']:7.1f} s  {printable(s['label'])}: {s['score']:.4f}"
        for s in row["segments"]
    ]


def write_segments(path: Path, rows: Sequence[Row]) -> None:
    """Writes answers as a JSON list, JSON Lines, or CSV.

    The CSV has the best label of each window (kind `window`), then the merged stretches (kind
    `segment`); a video that cannot be read is a row of kind `video`.

    Raises:
        UserError: the file cannot be written; what was there is as before.
    """
    write_answers(path, rows, COLUMNS, _table)


def _table(row: Row) -> Iterator[dict[str, Any]]:
    video = row["video"]
    if "error" in row:
        yield dict(video=video, kind="video", error=row["error"])
        return
    for one in row["windows"]:
        found = one.get("predictions", [])
        best = found[0] if found else dict(error=one.get("error", ""))
        yield dict(video=video, kind="window", start=one["start"], end=one["end"], **best)
    for one in row["segments"]:
        yield dict(video=video, kind="segment", **one)
