"""Shows how far something long is: a bar on a terminal, elsewhere a line now and then.

Bars and those lines go to standard error, what a tool has to say to standard output, above the
bar. The first bar imports rich, so that the tools answer at once. No thread redraws a bar: the
loaders fork their workers, and a lock that a thread holds at that moment stays locked in the
worker for ever. Nor is the cursor hidden, for a process that is killed cannot show it again.
"""

import atexit
import contextlib
import os
import re
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, TypeVar

from .files import printable_lines

if TYPE_CHECKING:
    from rich.progress import Progress

SECONDS_BETWEEN_LINES = 30.0
SECONDS_BETWEEN_FRAMES = 0.1
Item = TypeVar("Item")
_bar: "Bar | None" = None  # the one that is shown
_spoken = time.monotonic()  # when a line was last printed


def say(text: str) -> None:
    """Prints a line on standard output, above the bar where one is drawn."""
    global _spoken
    _spoken, text = time.monotonic(), printable_lines(text)
    if _bar is not None and _bar.drawn is not None and sys.stdout.isatty():
        _bar.drawn.console.out(text, highlight=False)
    else:
        print(text, flush=True)


def close() -> None:
    """Takes the bar away, if one is shown; before the message of an error, and at the end."""
    if _bar is not None:
        _bar.close()


class Bar:
    """How far something is: `what`, a bar, `3/40`, the time left, and facts as far as they fit.

    Only one is shown: a new one takes the place of the old. On a terminal that has gone it goes
    on without drawing. A `with` block closes it.

    Args:
        what: What is being done.
        total: Steps in all.
        unit: What a step does one of.
        keep: Whether the last state stays to be seen, as where no other line says what was done.
    """

    def __init__(self, what: str, total: int, *, unit: str = "videos", keep: bool = False) -> None:
        global _bar
        close()
        self.what, self.total, self.unit, self.keep = what, total, unit, keep
        self.done = 0
        self.drawn: Progress | None = None
        self.started = time.monotonic()
        self._last_drawn = 0.0
        if sys.stderr.isatty() and os.environ.get("TERM", "").lower() not in ("dumb", "unknown"):
            self._start_drawing()
        _bar = self

    def _start_drawing(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress

        console = Console(stderr=True, markup=False, emoji=False, highlight=False)
        console.show_cursor = lambda show=True: False  # type: ignore[method-assign]
        self.drawn = Progress(
            *(BarColumn(), "{task.description}"),  # a narrow terminal cuts the end off
            console=console,
            auto_refresh=False,
            transient=not self.keep,
            redirect_stdout=sys.stdout.isatty(),  # a file gets what is printed as it is
        )
        self.drawn.add_task(f"{self.what}  0/{self.total}", total=self.total)
        with contextlib.suppress(OSError):
            self.drawn.start()

    def advance(self) -> None:
        """Shows that one step more is done, and how many there are in a second."""
        rate = (self.done + 1) / max(time.monotonic() - self.started, 1e-9)
        self.update(self.done + 1, facts=[per_second(rate, self.unit)])

    def update(
        self, done: int, *, facts: Sequence[str] = (), seconds_left: float | None = None
    ) -> None:
        """Shows how far it is.

        Args:
            done: Steps done so far.
            facts: Short texts, the most important first: a narrow terminal cuts the last off.
            seconds_left: Time left, by default at the speed so far.
        """
        global _spoken
        self.done, now = done, time.monotonic()
        if seconds_left is None:
            seconds_left = (now - self.started) / max(done, 1) * max(self.total - done, 0)
        left = re.sub("^0:0?", "", str(timedelta(seconds=int(seconds_left))))
        words = [f"{done}/{self.total}", f"{left} left", *facts]
        ended = done >= self.total
        with contextlib.suppress(OSError):  # the terminal has gone, and what runs goes on
            if self.drawn is None:
                if (ended and self.keep) or now - _spoken >= SECONDS_BETWEEN_LINES:
                    _spoken = now
                    print(f"{self.what}: {', '.join(words)}", file=sys.stderr, flush=True)
            elif ended or now - self._last_drawn >= SECONDS_BETWEEN_FRAMES:
                (task,), self._last_drawn = self.drawn.task_ids, now
                text = "  ".join([self.what, *words])
                self.drawn.update(task, description=text, completed=done, refresh=True)

    def close(self) -> None:
        """Takes it away, or with `keep` leaves it as it was last drawn."""
        global _bar
        _bar = None if _bar is self else _bar
        drawn, self.drawn = self.drawn, None
        if drawn is not None:
            with contextlib.suppress(OSError):
                drawn.stop()

    def __enter__(self) -> "Bar":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def track(items: Iterable[Item], what: str, total: int, *, unit: str = "videos") -> Iterator[Item]:
    """Yields each of `total` items, with a bar where there are several and no bar is shown yet."""
    if total <= 1 or _bar is not None:
        yield from items
        return
    with Bar(what, total, unit=unit) as bar:
        for item in items:
            yield item
            bar.advance()


def per_second(rate: float, unit: str = "videos") -> str:
    """Returns `0.52 videos/s`, `5.2 videos/s` or `52 videos/s`."""
    digits = 2 if rate < 1 else 1 if rate < 10 else 0
    return f"{rate:.{digits}f} {unit}/s"


def _forget_in_child() -> None:
    """Gives a forked worker the streams themselves: the bar belongs to its parent."""
    global _bar
    _bar = None
    sys.stdout = getattr(sys.stdout, "rich_proxied_file", sys.stdout)
    sys.stderr = getattr(sys.stderr, "rich_proxied_file", sys.stderr)


atexit.register(close)
os.register_at_fork(after_in_child=_forget_in_child)
