"""A window that slides over a long video: each stretch of seconds is scored as a clip by itself.

Windows begin at 0, stride, 2 x stride, ... seconds, as long as they fit. Where frames are left
after the last of them, one more of the same length ends with the video. A video that is shorter
than a window is one window. Within a window the frames are those that the protocol's sampler
takes of a video of that length. Every frame is decoded once, however many windows overlap there.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np

from ..compat.mm import TRANSFORMS, Compose
from ..errors import UserError
from ..progress import track
from ..recognizer import Recognizer, sample_of
from ..video.frame_times import FrameTimes, ask_frame_times, decode
from ..video.frames import upright
from ..video.guarded_reader import VIDEO_SECONDS, GuardedReader
from ..video.read_ahead import ReadAhead
from .sampling import find_sampler

EDGE = 1e-6  # seconds; times are sums of fractions
SHORTEST = 0.02  # seconds: about a frame, below which windows only repeat each other


@dataclass(frozen=True)
class Window:
    """A stretch of a video: from `start` to `end` seconds, its frames `first` to `last - 1`."""

    start: float
    end: float
    first: int
    last: int


@dataclass(frozen=True)
class WindowScores:
    """The windows of a video in order, and for each its class scores or why there are none."""

    duration: float
    windows: list[Window]
    scores: list[np.ndarray | UserError]


def check_window(window: float, stride: float) -> None:
    """Raises a UserError for a window and a stride, in seconds, that do not cover a video."""
    if not SHORTEST <= window < float("inf"):
        raise UserError(f"--window {window:g}: expected seconds, {SHORTEST:g} or more")
    if not SHORTEST <= stride <= window:
        raise UserError(
            f"--stride {stride:g}: expected {SHORTEST:g} or more and at most --window {window:g}"
        )


def cut_windows(times: FrameTimes, *, window: float, stride: float) -> list[Window]:
    """Returns the windows of a video, as the module's first lines say.

    A frame belongs to a window where its time is from `start` up to, not including, `end`. A
    window between two frames has the one that is on the screen then.

    Args:
        times: When the frames are shown.
        window: Length in seconds.
        stride: From one window's start to the next, in seconds; not more than `window`.
    """
    check_window(window, stride)
    starts = [0.0]
    while len(starts) * stride + window <= times.duration + EDGE:
        starts.append(len(starts) * stride)
    if starts[-1] + window <= float(times.seconds[-1]) + EDGE:
        starts.append(times.duration - window)
    windows = []
    for number, start in enumerate(starts):
        end = start + window
        first = int(np.searchsorted(times.seconds, start - EDGE))
        last = int(np.searchsorted(times.seconds, end - EDGE))
        if number == len(starts) - 1:
            end, last = times.duration, len(times)
        first = min(first, last - 1) if first >= last else first
        windows.append(Window(start, end, first, max(last, first + 1)))
    return windows


def score_windows(
    recognizer: Recognizer, video: str | Path, *, window: float, stride: float
) -> WindowScores:
    """Scores each window of a video; the next ones are decoded while the device computes.

    Raises:
        UserError: the video cannot be read, or the protocol's pipeline takes no video.
    """
    times = ask_frame_times(video)
    windows = cut_windows(times, window=window, stride=stride)
    views = WindowViews(video, times, windows, recognizer.steps)
    reader = GuardedReader(
        views, video_seconds=VIDEO_SECONDS + 10 * window, calls_a_process=len(windows)
    )

    def read(number: int) -> Any:
        try:
            return reader(dict(number=number))
        except UserError as error:
            return error

    try:
        samples = ReadAhead(read, range(len(windows)))
        scored = recognizer.score_samples(samples)
        scores = list(track(scored, "windows", len(windows), unit="windows"))
    finally:
        reader.close()
    return WindowScores(times.duration, windows, scores)


class WindowViews:
    """Called with `dict(number=i)` for each window in order, returns its views, packed.

    Between two calls it keeps the decoder open, and of the frames those that later windows
    sample too.

    Args:
        video: The file.
        times: When its frames are shown.
        windows: What `cut_windows` made of it.
        steps: The protocol's pipeline.
    """

    def __init__(
        self, video: str | Path, times: FrameTimes, windows: Sequence[Window], steps: Sequence[Any]
    ) -> None:
        start, end = find_sampler(steps, "test")
        self._sampler: Callable[[dict], dict] = TRANSFORMS.build(steps[start])
        self._transforms = Compose(steps[end:])
        self._video = video
        self._times = times
        self._samples = [self._sample(window) for window in windows]
        taken = {int(i) for sample in self._samples for i in sample["frame_inds"]}
        self._pts = {times.pts[i]: i for i in taken} if times.pts else {}
        self._taken = taken
        # the first frame that this window or a later one takes
        firsts = [int(min(sample["frame_inds"])) for sample in self._samples]
        self._oldest = np.minimum.accumulate(firsts[::-1])[::-1]
        self._decoded: Any = None
        self._frames: dict[int, av.VideoFrame] = {}
        self._position = -1
        self._next = 0

    def _sample(self, window: Window) -> dict[str, Any]:
        """Returns what the sampler makes of a video that has only the window's frames."""
        start = dict(
            sample_of(self._video),
            total_frames=window.last - window.first,
            avg_fps=self._times.fps,
        )
        sample = self._sampler(start)
        local = np.atleast_1d(np.squeeze(sample["frame_inds"]))  # as stock's DecordDecode
        sample["frame_inds"] = local + window.first
        return sample

    def __call__(self, request: dict[str, int]) -> dict[str, Any]:
        number = request["number"]
        if number != self._next:  # a new process has taken over from one that was lost
            raise UserError("not read: the decoder was lost at an earlier window")
        self._next += 1
        self._frames = {i: f for i, f in self._frames.items() if i >= self._oldest[number]}
        sample = dict(self._samples[number])
        self._decode_to(int(max(sample["frame_inds"])))
        missing = {int(i) for i in sample["frame_inds"]} - self._frames.keys()
        if missing:
            raise UserError(f"{len(missing)} of its frames cannot be decoded")
        images: dict[int, np.ndarray] = {}
        for i in map(int, sample["frame_inds"]):
            if i not in images:
                images[i] = upright(self._frames[i])
        sample["imgs"] = [images[int(i)] for i in sample["frame_inds"]]
        sample["original_shape"] = sample["img_shape"] = sample["imgs"][0].shape[:2]
        return self._transforms(sample)

    def _decode_to(self, last: int) -> None:
        """Decodes on until frame `last` is there or passed, keeping the frames that are taken."""
        if self._decoded is None:
            self._decoded = decode(self._video, set(self._pts) or None)
        while self._position < last:
            pts, frame = next(self._decoded, (None, None))
            if frame is None:
                return
            if self._times.pts:
                if pts not in self._pts:
                    continue
                index = self._pts[pts]
                self._position = index
            else:
                self._position += 1
                index = self._position
            if index in self._taken:
                self._frames[index] = frame
