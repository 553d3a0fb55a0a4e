"""Shows how far something long is: a bar on a terminal, elsewhere a line now and then.

Both go to standard error, what a tool has to say to standard output, above the bar. The first bar
imports rich, so that the tools answer at once. No thread redraws a bar: the loaders fork workers,
in which a lock that a thread held stays locked. A killed process could not show a hidden cursor.
"""

import atexit
import os
import re
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, suppress
from datetime import timedelta
from typing import TYPE_CHECKING, TypeVar

from .files import printable_lines

if TYPE_CHECKING:
    import rich.progress

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


class Bar(AbstractContextManager["Bar"]):
    """How far something is: `what`, a bar, `3/40`, the time left, and facts as far as they fit.

    Only one is shown: a new one takes the place of the old. Where the terminal has gone, what runs
    goes on. With `keep` the last state stays to be seen, as where no other line tells what was
    done. `unit` is what a step does one of.
    """

    def __init__(self, what: str, total: int, *, unit: str = "videos", keep: bool = False) -> None:
        global _bar
        close()
        self.what, self.total, self.unit, self.keep, self.done = what, total, unit, keep, 0
        self.drawn: rich.progress.Progress | None = None
        self.started, self._last_drawn = time.monotonic(), 0.0
        if sys.stderr.isatty() and os.environ.get("TERM", "").lower() not in ("dumb", "unknown"):
            from rich.console import Console
            from rich.progress import BarColumn, Progress

            console = Console(stderr=True, markup=False, emoji=False, highlight=False)
            console.show_cursor = lambda show=True: False  # type: ignore[method-assign]
            self.drawn = Progress(
                *(BarColumn(), "{task.description}"),  # a narrow terminal cuts the end off
                console=console,
                auto_refresh=False,
                transient=not keep,
                redirect_stdout=sys.stdout.isatty(),  # a file gets what is printed as it is
            )
            self.drawn.add_task(f"{what}  0/{total}", total=total)
            with suppress(OSError):
                self.drawn.start()
        _bar = self

    def advance(self) -> None:
        """Shows that one step more is done, and how many there are in a second."""
        rate = (self.done + 1) / max(time.monotonic() - self.started, 1e-9)
        self.update(self.done + 1, facts=[per_second(rate, self.unit)])

    def update(
        self, done: int, *, facts: Sequence[str] = (), seconds_left: float | None = None
    ) -> None:
        """Shows how many steps are done, the time left, and short facts, the most important first.

        The time left is by default that at the speed so far.
        """
        global _spoken
        self.done, now = done, time.monotonic()
        if seconds_left is None:
            seconds_left = (now - self.started) / max(done, 1) * max(self.total - done, 0)
        left = re.sub("^0:0?", "", str(timedelta(seconds=int(seconds_left))))
        words = [f"{done}/{self.total}", f"{left} left", *facts]
        ended = done >= self.total
        with suppress(OSError):
            if self.drawn is None:
                if (ended and self.keep) or now - _spoken >= SECONDS_BETWEEN_LINES:
                    _spoken = now
                    print(f"{self.what}: {', '.join(words)}", file=sys.stderr, flush=True)
            elif ended or now - self._last_drawn >= SECONDS_BETWEEN_FRAMES:
                self._last_drawn, text = now, "  ".join([self.what, *words])
                task = self.drawn.task_ids[0]
                self.drawn.update(task, description=text, completed=done, refresh=True)

    def close(self) -> None:
        """Takes it away, or with `keep` leaves it as it was last drawn."""
        global _bar
        _bar = None if _bar is self else _bar
        drawn, self.drawn = self.drawn, None
        if drawn is not None:
            with suppress(OSError):
                drawn.stop()

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
    return f"{rate:.{2 if rate < 1 else 1 if rate < 10 else 0}f} {unit}/s"


def _forget_in_child() -> None:
    """Gives a forked worker the streams themselves: the bar belongs to its parent."""
    global _bar
    _bar = None
    sys.stdout = getattr(sys.stdout, "rich_proxied_file", sys.stdout)
    sys.stderr = getattr(sys.stderr, "rich_proxied_file", sys.stderr)


atexit.register(close)
os.register_at_fork(after_in_child=_forget_in_child)
