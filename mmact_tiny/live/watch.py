"""Scores the newest window of a live source, one after the other, and tells what happens."""

import gc
import logging
import math
import os
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Generator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import numpy as np

from ..errors import EXIT_INTERRUPTED, UserError
from ..files import printable
from ..progress import say
from ..recognizer import Recognizer
from ..video.packets import EDGE
from ..video.window import WindowPipeline, find_sampler
from . import THRESHOLD, Settings
from .events import Event, Events, Lines, Smoothing
from .frames import Frame, Frames, resize_of
from .source import Reader, without_password

TOP_K = 5
REPORT_SECONDS = 60.0  # between two words on the rate that is kept
logger = logging.getLogger("mmact_tiny")


class Answer(NamedTuple):
    """The best labels of a window, from `start` to `end` seconds of the stream, best first.

    `delay` is from when its newest frame came to the answer, in seconds.
    """

    start: float
    end: float
    predictions: list[tuple[str, float]]
    delay: float


class Watch:
    """Watches a source: iterating gives an answer for each window, until the source ends.

    A window is the newest that ends at or after the next multiple of `stride`. Where scoring takes
    longer than that, those in between are left out, and the delay stays as it is.

    Args:
        reader: Of the source.
        recognizer: Made with the protocol that is wanted.
        settings: How.

    Raises:
        UserError: a background that is no class, a pipeline that takes no video, or a file that
            cannot be written.
    """

    def __init__(self, reader: Reader, recognizer: Recognizer, settings: Settings) -> None:
        self.reader, self.recognizer = reader, recognizer
        self.tell: Callable[[str], None] = say  # takes a line for each event's begin and end
        self.window, self.stride = settings.window, settings.stride
        own = recognizer.thresholds
        self.events = Events(
            recognizer.labels,
            settings.threshold or (THRESHOLD if own is None else own),
            one_at_a_time=own is None,
            background=settings.background,
        )
        steps, end = recognizer.steps, find_sampler(recognizer.steps, "test")[1]
        rest = end + (steps[end]["type"] == "Resize")  # which is done once, when a frame comes
        self._pipeline = WindowPipeline([*steps[:end], *steps[rest:]], recognizer.compose)
        self._smoothing = Smoothing(settings.smooth)
        self._lines = None if settings.out is None else Lines(settings.out)
        self.answer: Answer | None = None
        self.has_ended, self.error = False, ""
        self.delays: Counter[int] = Counter()  # windows, by their delay in hundredths of a second
        self._scoring = 0.0  # seconds
        self._zero = time.monotonic()  # when the stream's time was 0
        self._first = self._said = np.array([self._zero, reader.num_read, 0, 0, 0])
        self._next_report = self._zero + 10
        self._thread: threading.Thread | None = None
        resize = resize_of(steps[end:rest], recognizer.compose)
        self._frames = Frames(reader, resize, window=self.window, late_seconds=self.stride)

    def __iter__(self) -> Generator[Answer, None, None]:
        due, last = 0.0, -1.0
        try:
            while True:
                frames = self._frames.newest(due, self.window + self.stride)
                self._write_losses()
                if frames and frames[-1].time > last:
                    last = frames[-1].time
                    due = (math.floor(last / self.stride + EDGE) + 1) * self.stride
                    self.answer = self._answer(frames)
                    yield self.answer
                    self._say_rate()
                elif self._frames.has_ended:
                    break
                else:  # nothing comes, or less than a window
                    self._end(self.events.close())
                    self._smoothing.clear()
        finally:
            self.reader.close()
            self._end(self.events.close())
            self._write_losses()
            if self._lines is not None:
                self._lines.close()
            self._say_end()

    def start(self) -> None:
        """Watches in a thread, until `close`; `state` tells what is seen, and nothing else."""
        self.tell = logger.debug

        def run() -> None:
            try:
                for _ in self:
                    pass
            except Exception as error:
                logger.error("watching ended", exc_info=error)
                self.error = str(error) or type(error).__name__
            self.has_ended = True

        self._thread = threading.Thread(target=run, daemon=True)
        self._thread.start()

    def close(self) -> bool:
        """Ends what `start` began, and reading; returns whether all has ended."""
        has_ended = self.reader.close()
        if self._thread is not None:
            self._thread.join(2.0)
            has_ended = has_ended and not self._thread.is_alive()
        return has_ended

    def state(self) -> dict[str, Any]:
        """Returns what is seen now, as JSON has it."""
        answer = self.answer or Answer(0.0, 0.0, [], 0.0)
        best = [dict(label=label, score=score) for label, score in answer.predictions]
        return dict(
            source=without_password(self.reader.source),
            seconds=round(answer.end, 3),
            predictions=best,
            events=[self.recognizer.labels[index] for index in [*self.events.going]],
            delay=round(answer.delay, 3),
            lost=self.reader.lost,
            has_ended=self.has_ended,
            error=self.error,
        )

    def picture(self) -> np.ndarray | None:
        """Returns the newest frame, uint8 RGB (height, width, 3), if there is one yet."""
        frame = self._frames.last()
        return None if frame is None else frame.image

    def _answer(self, frames: list[Frame]) -> Answer:
        """Scores a window; ends and begins events."""
        began = time.monotonic()
        scores = self._score(frames)
        end, newest = frames[-1].time, frames[-1].arrival
        start, going = max(0.0, end - self.window), {*self.events.going}
        middle, mean = self._smoothing.add((start + end) / 2, scores)
        self._zero = newest - end
        self._end(self.events.add(start, end, middle, mean))
        for index in self.events.going.keys() - going:
            label, event = self.recognizer.labels[index], self.events.going[index]
            self.tell(f"{event.start:7.1f} -     ... s  {printable(label)}: {mean[index]:.4f}")
        self._scoring += time.monotonic() - began
        delay = time.monotonic() - newest
        self.delays[math.ceil(100 * min(delay, 60))] += 1
        return Answer(start, end, self.recognizer.top_k(mean, TOP_K), delay)

    def _score(self, frames: list[Frame]) -> np.ndarray:
        seconds = frames[-1].time - frames[0].time
        fps = (len(frames) - 1) / seconds if seconds else 1.0
        video = dict(filename=self.reader.source, label=-1, start_index=0, modality="RGB")
        sample = self._pipeline.sample(video, num_frames=len(frames), fps=fps)
        images = [frames[index].image.copy() for index in sample["frame_inds"].tolist()]
        (scores,) = self.recognizer.score_samples([self._pipeline.pack(sample, images)])
        if isinstance(scores, UserError):
            raise scores
        return scores

    def _end(self, events: list[Event]) -> None:
        for event in events:
            start, end, label = event["start"], event["end"], printable(event["label"])
            self.tell(f"{start:7.1f} - {end:7.1f} s  {label}: {event['score']:.4f}")
            self._write(start, dict(event))

    def _write_losses(self) -> None:
        while self.reader.losses:
            loss = self.reader.losses.popleft()
            start, end = (round(moment - self._zero, 3) for moment in (loss.start, loss.end))
            self._write(start, dict(lost=loss.reason, start=start, end=end))

    def _write(self, start: float, row: dict[str, Any]) -> None:
        if self._lines is not None:
            ago = timedelta(seconds=time.monotonic() - self._zero - start)
            clock = (datetime.now(UTC) - ago).isoformat(timespec="milliseconds")
            self._lines.add(row | {"clock": clock})

    def _counts(self) -> np.ndarray:
        """Returns the time, frames read and kept, seconds of scoring, and windows, up to now."""
        read, kept, windows = self.reader.num_read, self._frames.num_kept, self.delays.total()
        return np.array([time.monotonic(), read, kept, self._scoring, windows])

    def _say_rate(self) -> None:
        """Says now and then, where not all can be kept, what is."""
        if time.monotonic() < self._next_report:
            return
        self._next_report = time.monotonic() + REPORT_SECONDS
        seconds, read, kept, scoring, windows = self._counts() - self._said
        self._said = self._counts()
        words = []
        if kept < 0.95 * read:
            words.append(f"{kept / seconds:.1f} of {read / seconds:.1f} frames a second are kept")
        if scoring > windows * self.stride:
            each = scoring / windows
            words.append(f"a window is scored each {each:.2f} s, not each {self.stride:g} s")
            words.append("--protocol val has fewer views")
        if words:
            logger.warning("this machine is too slow: %s", "; ".join(words))

    def _say_end(self) -> None:
        seconds, read, kept, _, windows = self._counts() - self._first
        if windows:
            delays = sorted(self.delays)
            reached = np.cumsum([self.delays[delay] for delay in delays]) / windows
            half, most = (delays[np.searchsorted(reached, share)] / 100 for share in (0.5, 0.95))
            logger.info(
                "%.0f s watched, %d of %d frames kept, %d windows scored; delay: half within "
                "%.2f s, 95%% within %.2f s, all within %.2f s",
                *(seconds, kept, read, windows, half, most, delays[-1] / 100),
            )


def open_watch(reader: Reader, recognizer: dict[str, Any], settings: Settings) -> Watch:
    """Opens a recognizer to watch a source.

    Args:
        reader: Of the source; the caller closes it.
        recognizer: Arguments of `Recognizer`; the precision is `auto` by default.
        settings: How.

    Raises:
        UserError: a value or recognizer that cannot be used.
    """
    opened = Recognizer(**{"precision": "auto", **recognizer})
    for name in ("checkpoint", "protocol", "engine"):
        logger.info("%s: %s", name, getattr(opened, name))
    gc.freeze()  # to walk through PyTorch's modules stops all for 0.2 s
    return Watch(reader, opened, settings)


def watch_stream(reader: Reader, recognizer: dict[str, Any], settings: Settings) -> None:
    """Watches a source until it ends, or Ctrl-C or SIGTERM does; takes what `open_watch` takes.

    Raises:
        UserError: a value, source or recognizer that cannot be used.
        KeyboardInterrupt: after the last event was written.
    """
    watch = open_watch(reader, recognizer, settings)
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with closing(iter(watch)) as answers:
            for _ in answers:
                pass
    except KeyboardInterrupt:
        if not watch.close():  # to end Python around a read that hangs may crash
            print("interrupted", file=sys.stderr, flush=True)
            os._exit(EXIT_INTERRUPTED)
        raise
    finally:
        signal.signal(signal.SIGTERM, before)
