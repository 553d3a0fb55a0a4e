"""Decodes the packets of a live source in a thread, and keeps the frames of the newest window."""

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import av
import numpy as np

from ..video.files import upright
from ..video.packets import EDGE
from ..video.window import Compose
from .source import Opened, Reader

JUMP_SECONDS = 1.0  # that a time stamp may be ahead of the clock's way since the last
STEP_SECONDS = 1e-3  # between frames whose time stamps do not tell them apart
MAX_BYTES = 512 << 20  # of the frames of a window


class Frame(NamedTuple):
    """A picture, uint8 RGB (height, width, 3), its seconds in the stream, and when it came."""

    image: np.ndarray
    time: float
    arrival: float  # by `time.monotonic`


class StreamClock:
    """Gives the seconds from the first frame to each, always growing.

    They follow the time stamps as long as these go on. Where a stamp is missing, goes back or
    jumps ahead, as after a camera's own clock was set, they follow when the frame came. What
    comes faster than it was filmed, as the first second of a stream often does, is not ahead of
    that either.
    """

    def __init__(self) -> None:
        self.time = -STEP_SECONDS
        self._first = self._arrival = 0.0
        self._stamp: float | None = None

    def restart(self) -> None:
        """Begins with new time stamps: the source was opened again."""
        self._stamp = None

    def time_of(self, stamp: float | None, arrival: float, *, is_paced: bool = False) -> float:
        """Returns the seconds of the next frame.

        Args:
            stamp: Its time stamp in seconds, if it has one.
            arrival: When it came, by a clock.
            is_paced: Whether the source is read at its own speed.
        """
        if self.time < 0:
            self._first = arrival
        since = arrival - self._first
        step = -1.0 if stamp is None or self._stamp is None else stamp - self._stamp
        if 0 < step <= arrival - self._arrival + JUMP_SECONDS:
            since = self.time + step if is_paced else min(self.time + step, since)
        self.time = max(self.time + STEP_SECONDS, since)
        self._stamp, self._arrival = stamp, arrival
        return self.time


class Frames:
    """The frames of the newest window of a source, decoded and resized in a thread.

    What has waited for longer than `late_seconds` when it is its turn is decoded, where others
    need it, but not kept: the decoder catches up.

    Args:
        reader: Of the source.
        resize: Makes a frame of its picture as it is shown.
        window: Seconds.
        late_seconds: That a packet may wait.
    """

    def __init__(
        self,
        reader: Reader,
        resize: Callable[[np.ndarray], np.ndarray],
        *,
        window: float,
        late_seconds: float,
    ) -> None:
        self.window, self.late_seconds = window, late_seconds
        self.num_kept = 0
        self.has_ended = False
        self._reader, self._resize = reader, resize
        self._clock = StreamClock()
        self._frames: deque[Frame] = deque()
        self._start = 0.0  # time of the first frame without a loss since
        self._shape: tuple[int, ...] = ()
        self._error: BaseException | None = None
        self._changed = threading.Condition()
        reader.start()
        threading.Thread(target=self._run, daemon=True).start()

    def newest(self, after: float, seconds: float) -> list[Frame]:
        """Waits for a whole window that ends `after` this time or later; returns its frames.

        They are fewer than a window when the source has ended, and none after `seconds` in vain.
        """

        def is_there() -> bool:
            due = max(after, self._start + self.window) - EDGE
            return self.has_ended or (bool(self._frames) and self._frames[-1].time >= due)

        with self._changed:
            found = self._changed.wait_for(is_there, seconds)
            if self._error is not None:
                raise self._error
            return list(self._frames) if found else []

    def last(self) -> Frame | None:
        """Returns the newest frame, if there is one yet."""
        with self._changed:
            return self._frames[-1] if self._frames else None

    def _run(self) -> None:
        try:
            self._decode()
        except BaseException as error:
            self._error = error
        with self._changed:
            self.has_ended = True
            self._changed.notify_all()

    def _decode(self) -> None:
        opened: Opened | None = None
        while waiting := self._reader.take():
            if waiting.opened is not opened:
                opened = waiting.opened
                self._clock.restart()
                self._shape = ()
            is_late = time.monotonic() - waiting.arrival > self.late_seconds
            opened.context.skip_frame = "NONREF" if is_late else "DEFAULT"
            self._keep(opened, waiting.packet, waiting.arrival, is_late)
        if opened is not None:
            self._keep(opened, None, time.monotonic(), False)

    def _keep(
        self, opened: Opened, packet: av.Packet | None, arrival: float, is_late: bool
    ) -> None:
        try:
            frames = opened.context.decode(packet)
        except av.FFmpegError:  # a damaged packet
            return
        for frame in frames:
            known = opened.has_times and frame.pts is not None
            stamp = float(frame.pts * opened.time_base) if known else None
            seconds = self._clock.time_of(stamp, arrival, is_paced=opened.is_paced)
            if not is_late and not frame.is_corrupt:
                self._add(Frame(self._resize(upright(frame)), seconds, arrival))

    def _add(self, new: Frame) -> None:
        shape, frames = new.image.shape, self._frames
        with self._changed:
            if shape != self._shape:  # another picture, or the source is back
                frames.clear()
                self._shape, self._start = shape, new.time
            elif new.time - frames[-1].time < self.window * new.image.nbytes / MAX_BYTES:
                return
            frames.append(new)
            while frames[0].time <= new.time - self.window + EDGE:
                frames.popleft()
            self.num_kept += 1
            self._changed.notify_all()


def resize_of(steps: Sequence[Any], compose: Compose) -> Callable[[np.ndarray], np.ndarray]:
    """Returns what does the work of a pipeline's `Resize` steps for one picture."""
    transforms = compose(steps)

    def resize(image: np.ndarray) -> np.ndarray:
        sample = dict(imgs=[image], img_shape=image.shape[:2], modality="RGB")
        return transforms(sample)["imgs"][0]

    return resize
