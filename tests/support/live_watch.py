"""Watches live sources with a recognizer that reads the clock in their frames."""

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from live_servers import FPS, read_clock
from torch import Tensor

from mmact_tiny.compat import Compose, init_default_scope
from mmact_tiny.live import Settings
from mmact_tiny.live.source import Reader
from mmact_tiny.live.watch import Answer, Watch
from mmact_tiny.recognizer import Recognizer

WINDOW, STRIDE = 1.0, 0.25
HELD = 2 / FPS  # seconds: the frames that MPEG-TS and H.264 hold back until the next comes
PIPELINE = [
    dict(type="PacketInit"),
    dict(type="SampleFrames", clip_len=1, frame_interval=1, num_clips=25, test_mode=True),
    dict(type="PacketDecode"),
    dict(type="Resize", scale=(-1, 64)),
    dict(type="FormatShape", input_format="NCHW"),
    dict(type="PackActionInputs"),
]


class ClockReader:
    """A recognizer that reads the clock of the newest frame, then scores, or only takes its time.

    Of each answer `times` has when it came (`time.monotonic`), `ages` the seconds from when that
    frame was made, `passes` those of scoring, and `sizes` the pictures' height and width.

    Args:
        seconds: That scoring takes.
        recognizer: Of `PIPELINE`, which scores.
    """

    steps, labels, thresholds = PIPELINE, ["nothing", "running"], None
    top_k, compose = Recognizer.top_k, Compose

    def __init__(self, seconds: float = 0.0, recognizer: Recognizer | None = None) -> None:
        init_default_scope("mmaction")
        self.seconds, self.recognizer = seconds, recognizer
        self.times: list[float] = []
        self.ages: list[float] = []
        self.passes: list[float] = []
        self.sizes: list[tuple[int, ...]] = []

    def score_samples(self, samples: Sequence[dict[str, Any]]) -> Iterator[np.ndarray]:
        views: Tensor = samples[0]["inputs"]
        made = read_clock(views[-1].permute(1, 2, 0).numpy())
        self.sizes.append(tuple(views.shape[2:]))
        began = time.monotonic()
        time.sleep(self.seconds)
        if self.recognizer is not None:
            [*_] = self.recognizer.score_samples(samples)
        self.times.append(time.monotonic())
        self.passes.append(self.times[-1] - began)
        self.ages.append(self.times[-1] - made / 1000)
        yield np.array([0.1, 0.9], np.float32)

    def lateness(self) -> np.ndarray:
        """Returns by how many seconds each answer is later than a stride and its own pass."""
        return np.array(self.ages) - np.array(self.passes) - STRIDE - HELD


def watch(
    source: str, recognizer: Any, *, seconds: float, then: Sequence[Callable] = (), **settings: Any
) -> tuple[Watch, list[Answer]]:
    """Watches for some seconds of answers; calls `then`, each after an equal part of them."""
    reader = Reader(source, first_pause=0.2, silent_seconds=settings.pop("silent_seconds", 5.0))
    own = dict(window=WINDOW, stride=STRIDE)
    watch = Watch(reader, recognizer, Settings(**(own | settings)))
    answers, start, steps = [], time.monotonic(), [*then]
    part = seconds / (len(steps) + 1)
    for answer in watch:
        answers.append(answer)
        if steps and time.monotonic() - start > part * (len(then) - len(steps) + 1):
            steps.pop(0)()
        if time.monotonic() - start > seconds:
            break
    watch.reader.close()
    return watch, answers


def side_by_side(call: Callable[..., Any], cases: Mapping[str, Sequence[Any]]) -> dict[str, Any]:
    """Returns what the call gives for each case; they wait for their streams at the same time."""
    with ThreadPoolExecutor(len(cases)) as pool:
        return dict(zip(cases, pool.map(lambda case: call(*case), cases.values()), strict=True))


# Says when it woke up, and how late, where that is more than 10 ms.
SLEEPER = """
import time
while True:
    due = time.monotonic() + 0.01
    time.sleep(0.01)
    if (late := time.monotonic() - due) > 0.01:
        print(due, late, flush=True)
"""


@contextmanager
def sleeper() -> Iterator[Callable[[], np.ndarray]]:
    """Runs a process that only sleeps: how late it wakes up is the machine's doing.

    What it gives returns the times when it was due, and by how many seconds it was late: (2, n).
    """
    with tempfile.NamedTemporaryFile() as file:
        process = subprocess.Popen([sys.executable, "-c", SLEEPER], stdout=file)

        def found() -> np.ndarray:
            whole = Path(file.name).read_text().rpartition("\n")[0]
            return np.array(whole.split(), float).reshape(-1, 2).T

        try:
            yield found
        finally:
            process.kill()
            process.wait()
