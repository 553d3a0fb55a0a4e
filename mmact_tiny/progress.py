"""What is shown while something long runs: a live bar on a terminal, a line now and then elsewhere.

Bars and those lines go to standard error, what a tool has to say to standard output, above the
bar. Imports only the standard library, so that the tools answer at once: the first bar imports
rich. No thread redraws a bar: the loaders fork their workers, and a lock that a thread holds at
that moment stays locked in the worker for ever. Nor is the cursor hidden, for a process that is
killed cannot show it again.
"""

import atexit
import contextlib
import os
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol, TypeVar

from .files import printable_lines

SECONDS_BETWEEN_LINES = 30.0
SECONDS_BETWEEN_FRAMES = 0.1
Item = TypeVar("Item")
NARROWEST_BAR, WIDEST_BAR = 6, 40

_bar: "Bar | None" = None  # the one that is shown
_spoken = time.monotonic()  # when a line was last printed


def say(text: str) -> None:
    """Prints a line on standard output, above the bar where one is drawn."""
    global _spoken
    text = printable_lines(text)
    _spoken = time.monotonic()
    if _bar is not None and _bar.live is not None and sys.stdout.isatty():
        plain = dict(markup=False, highlight=False, emoji=False)
        _bar.live.console.print(text, soft_wrap=True, **plain)
    else:
        print(text, flush=True)


def close() -> None:
    """Takes the bar away, if one is shown; before the message of an error, and at the end."""
    if _bar is not None:
        _bar.close()


def on_terminal() -> bool:
    """Returns whether standard error is a terminal that a line can be drawn over on."""
    return sys.stderr.isatty() and os.environ.get("TERM", "").lower() not in ("dumb", "unknown")


def clock(seconds: float) -> str:
    """Returns seconds as `1:05` or `2:01:05`."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def per_second(rate: float, unit: str = "videos") -> str:
    """Returns `0.52 videos/s`, `5.2 videos/s` or `52 videos/s`."""
    digits = 2 if rate < 1 else 1 if rate < 10 else 0
    return f"{rate:.{digits}f} {unit}/s"


class Bar:
    """How far something is: `what`, a bar, `3/40`, the time left, and the facts that fit.

    Only one is shown: a new one takes the place of the old. On a terminal that has gone it goes
    on without drawing.

    Args:
        what: What is being done.
        total: Steps in all.
        keep: Whether the last state stays to be seen, as where no other line says what was done.
    """

    def __init__(self, what: str, total: int, *, keep: bool = False) -> None:
        global _bar
        close()
        self.what, self.total, self.keep = what, total, keep
        self.done = 0
        self.words = [f"0/{total}"]
        self.started = time.monotonic()
        self.live: Any = None
        self._drawn = 0.0
        if on_terminal():
            self.live = _start_live(transient=not keep)
        _bar = self
        self._draw()

    def update(
        self, done: int, *, facts: Sequence[str] = (), seconds_left: float | None = None
    ) -> None:
        """Shows how far it is.

        Args:
            done: Steps done so far.
            facts: Short texts, the most important first: a narrow terminal shows only the first.
            seconds_left: Time left, by default at the speed so far.
        """
        self.done = done
        now = time.monotonic()
        if seconds_left is None:
            seconds_left = (now - self.started) / max(done, 1) * max(self.total - done, 0)
        self.words = [f"{done}/{self.total}", f"{clock(seconds_left)} left", *facts]
        ended = done >= self.total
        if self.live is not None:
            if ended or now - self._drawn >= SECONDS_BETWEEN_FRAMES:
                self._drawn = now
                self._draw()
        elif (ended and self.keep) or now - _spoken >= SECONDS_BETWEEN_LINES:
            self._print()

    def _print(self) -> None:
        global _spoken
        _spoken = time.monotonic()
        with contextlib.suppress(OSError):
            print(f"{self.what}: {', '.join(self.words)}", file=sys.stderr, flush=True)

    def _draw(self) -> None:
        if self.live is None:
            return
        try:
            # The last column stays free: what is written there wraps on some terminals.
            self.live.update(self.line(self.live.console.width - 1), refresh=True)
        except OSError:  # the terminal was closed, and what runs goes on
            with contextlib.suppress(OSError):
                self.live.stop()
            self.live = None

    def line(self, width: int) -> Any:
        """Returns what is drawn on a terminal of that width, in one line."""
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        room = width - len(self.what) - NARROWEST_BAR - 3
        text = ""
        for word in self.words:
            longer = f"{text}  {word}" if text else word
            if len(longer) > room:
                break
            text = longer
        bar_width = min(WIDEST_BAR, width - len(self.what) - len(text) - 3)
        grid = Table.grid(padding=(0, 1))
        for _ in range(3):
            grid.add_column(no_wrap=True, overflow="crop")
        bar = ProgressBar(self.total or 1, self.done, width=max(bar_width, 1))
        grid.add_row(Text(self.what), bar, Text(text))
        return grid

    def close(self) -> None:
        """Takes it away, or with `keep` leaves it as it was last drawn."""
        global _bar
        if _bar is self:
            _bar = None
        if self.live is not None:
            with contextlib.suppress(OSError):
                self.live.stop()
            self.live = None


def track(items: Iterable[Item], what: str, total: int, *, unit: str = "videos") -> Iterator[Item]:
    """Yields each of `total` items, with a bar where there are several and no bar is shown yet."""
    bar = Bar(what, total) if total > 1 and _bar is None else None
    try:
        for done, item in enumerate(items, start=1):
            yield item
            if bar is not None:
                rate = done / (time.monotonic() - bar.started)
                bar.update(done, facts=[per_second(rate, unit)])
    finally:
        if bar is not None:
            bar.close()


def _start_live(*, transient: bool) -> Any:
    """Returns rich's live display on standard error, drawn only when it is told to."""
    from rich.console import Console
    from rich.live import Live

    console = Console(stderr=True)
    console.show_cursor = lambda show=True: False  # type: ignore[method-assign]
    live = Live(
        console=console,
        auto_refresh=False,
        transient=transient,
        redirect_stdout=sys.stdout.isatty(),  # a file gets what is printed as it is
    )
    live.start()
    return live


def _forget_in_child() -> None:
    """Gives a forked worker the streams themselves: the bar belongs to its parent."""
    global _bar
    _bar = None
    sys.stdout = getattr(sys.stdout, "rich_proxied_file", sys.stdout)
    sys.stderr = getattr(sys.stderr, "rich_proxied_file", sys.stderr)


atexit.register(close)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_in_child)


class Advance(Protocol):
    def __call__(self) -> None: ...


@contextmanager
def show_progress(
    what: str, total: int, *, already: int = 0, unit: str = "videos", keep: bool = True
) -> Iterator[Advance]:
    """Shows a bar, and yields what is called after each step.

    Args:
        what: What is being done.
        total: Steps in all.
        already: How many more were done before.
        unit: What a step does one of.
        keep: Whether its end stays to be seen.
    """
    bar = Bar(f"{what} ({already} known)" if already else what, total, keep=keep)

    def advance() -> None:
        rate = (bar.done + 1) / max(time.monotonic() - bar.started, 1e-9)
        bar.update(bar.done + 1, facts=[per_second(rate, unit)])

    try:
        yield advance
    finally:
        bar.close()
