"""Measures the delay and the memory of a live stream, from a clock in its frames.

python benchmarks/live.py --seconds 3600 --out FILE.json

A server in a process of its own films the clock over RTSP: MPEG-TS, H.264, 25 frames a second.
Windows of 1 s, each 0.25 s, of 25 views, are scored by a small network. Every five minutes, and at
the end, it prints the histogram of the delays from when a window's newest frame was made to the
answer, the memory of the process, and the machine's load; a delay above a stride, the window's own
forward pass and the two frames that MPEG-TS and H.264 hold back is late. Linux tells how long the
threads of both processes could run and had no CPU; where that is as much, the machine was late.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import psutil

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests"), str(ROOT / "tests/support")]  # as a script, too

from live_watch import PIPELINE, ClockReader, watch  # noqa: E402
from small_recognizer import small_recognizer  # noqa: E402

QUANTILES = (0.5, 0.95, 0.99, 0.999, 1)


class Waiting(ClockReader):
    """Notes with each answer how long threads could run and had no CPU, in seconds so far."""

    pids: tuple[int, ...] = ()

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.waits: list[float] = []
        self._of_each: dict[Path, float] = {}  # thread, also of those that have ended

    def score_samples(self, samples: Any) -> Any:
        yield from super().score_samples(samples)
        for pid in self.pids:
            for task in Path(f"/proc/{pid}/task").iterdir():
                with suppress(OSError):  # it has ended
                    waited = (task / "schedstat").read_text().split()[1]
                    self._of_each[task] = int(waited) / 1e9
        self.waits.append(sum(self._of_each.values()))


class Minutes:
    """What is printed every five minutes: all since the beginning, and the machine now."""

    def __init__(self, recognizer: Waiting) -> None:
        self.recognizer, self.process, self.start = recognizer, psutil.Process(), time.monotonic()
        self.rows: list[dict[str, float]] = []

    def __call__(self) -> None:
        row = dict(
            minutes=(time.monotonic() - self.start) / 60,
            windows=len(self.recognizer.ages),
            most=max(self.recognizer.ages),
            late=int((self.recognizer.lateness() > 0).sum()),
            mb=self.process.memory_info().rss / 1e6,
            load=os.getloadavg()[1],
        )
        self.rows.append({name: round(value, 3) for name, value in row.items()})
        print(self.rows[-1], flush=True)


def report(watched: Any, answers: list[Any], recognizer: Waiting) -> dict[str, Any]:
    """Returns what was measured; of each late answer by how much, its age, the part of that until
    its newest frame came, its pass, and how long threads waited for a CPU meanwhile."""
    of = (recognizer.ages, recognizer.passes, recognizer.times, recognizer.waits)
    ages, passes, times, waits = map(np.array, of)
    came = ages - [answer.delay for answer in answers]
    before = np.maximum(np.searchsorted(times, times - ages) - 1, 0)  # the frame was made
    waited, lateness = waits - waits[before], recognizer.lateness()
    counts, edges = np.histogram(ages, [0, *np.arange(0.1, 0.6, 0.02), max(1, ages.max())])
    rows = np.stack([lateness, ages, came, passes, waited], axis=1)
    return dict(
        frames=[watched.reader.num_read, watched._frames.num_kept],
        windows=len(ages),
        ages={str(q): round(float(np.quantile(ages, q)), 3) for q in QUANTILES},
        passes={str(q): round(float(np.quantile(passes, q)), 3) for q in QUANTILES},
        waited={str(q): round(float(np.quantile(waited, q)), 3) for q in QUANTILES},
        histogram={f"{e:.2f}": int(n) for e, n in zip(edges, counts, strict=False) if n},
        late=rows[lateness > 0].round(3).tolist(),
        late_but_for_waits=int((lateness - waited > 0).sum()),
    )


def main() -> None:
    """Watches, and prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--out", type=Path, required=True, metavar="FILE.json")
    args = parser.parse_args()
    recognizer = Waiting(recognizer=small_recognizer(PIPELINE, "MobileNet"))
    minutes, pipes = Minutes(recognizer), dict(stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    server = [sys.executable, str(ROOT / "tests/support/live_servers.py"), "rtsp"]
    with subprocess.Popen(server, text=True, **pipes) as serving:
        recognizer.pids = os.getpid(), serving.pid
        source = serving.stdout.readline().strip()
        steps = [minutes] * (int(args.seconds // 300) - 1)
        watched, answers = watch(source, recognizer, seconds=args.seconds, then=steps)
        minutes()
        serving.stdin.close()
        found = report(watched, answers, recognizer)
    args.out.write_text(json.dumps(found | dict(minutes=minutes.rows), indent=1))
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
