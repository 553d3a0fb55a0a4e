"""What the tools print on the terminal, and what only the log file of a run gets.

MMEngine's whole log, what each override changed, and the warnings of installed packages go to the
file; the terminal shows what this package says and every error. `--verbose` shows all of it.
"""

import logging
import sys
import sysconfig
import warnings
from contextlib import ExitStack
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import hardware, progress
from .files import near

if TYPE_CHECKING:
    from .compat import Runner

SHOWN = {"shown": True}  # `runner.logger.info(..., extra=SHOWN)`: on the terminal too
UPSTREAM = "mmact_tiny.upstream"
FILE_ONLY = ("mmact_tiny.overrides", UPSTREAM)
_undo = ExitStack()


class TerminalHandler(logging.Handler):
    """Prints the messages alone, above the bar where one is drawn."""

    def __init__(self, *, verbose: bool) -> None:
        super().__init__()
        self.verbose = verbose

    def emit(self, record: logging.LogRecord) -> None:
        try:
            progress.say(self.format(record))
        except BrokenPipeError:
            pass  # whoever read along has gone, and what runs goes on
        except Exception:
            self.handleError(record)


def set_up(*, verbose: bool) -> None:
    """Lets rank 0 alone speak, and without `verbose` only of what matters."""
    from logging.handlers import MemoryHandler

    for stream in (sys.stdout, sys.stderr):
        # The name of a video may have what the terminal has not.
        if isinstance(stream, TextIOWrapper) and stream.errors in ("strict", "surrogateescape"):
            stream.reconfigure(errors="backslashreplace")
    shown = TerminalHandler(verbose=verbose)
    if not verbose:
        shown.addFilter(lambda record: record.name not in FILE_ONLY)
        replace(warnings, "showwarning", _log_warning)
    logger = logging.getLogger("mmact_tiny")
    for name in ("handlers", "propagate", "level"):
        _undo.callback(setattr, logger, name, getattr(logger, name))
    # What is said before a run has its log file waits for it.
    logger.handlers = [shown, MemoryHandler(10_000, flushLevel=logging.CRITICAL + 1)]
    logger.propagate = False
    logger.setLevel(logging.INFO if hardware.rank() == 0 else logging.ERROR)


def replace(owner: Any, name: str, value: Any) -> None:
    """Sets an attribute of another package's until `take_back`."""
    _undo.callback(setattr, owner, name, getattr(owner, name))
    setattr(owner, name, value)


def take_back() -> None:
    """Undoes what `set_up` and `replace` did to this process, when a tool has ended."""
    _undo.close()


def quiet_terminal() -> TerminalHandler | None:
    """Returns the handler of a tool that runs without `--verbose`.

    A program that only imports this package has none, and gets MMEngine's own stream.
    """
    handlers = logging.getLogger("mmact_tiny").handlers
    return next((h for h in handlers if isinstance(h, TerminalHandler) and not h.verbose), None)


def _log_warning(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, *rest: Any
) -> None:
    """Shows a warning of the user's own code, and keeps one of installed code for the file."""
    folders = {Path(sysconfig.get_path(name)) for name in ("stdlib", "purelib", "platlib")}
    theirs = filename.startswith("<") or any(f in Path(filename).parents for f in folders)
    text = warnings.formatwarning(message, category, filename, lineno)
    logging.getLogger(UPSTREAM if theirs else "mmact_tiny").warning(text.rstrip())


def keep_stock_log_off() -> None:
    """Has MMEngine's loggers print, in a tool, only errors and what is marked as `SHOWN`.

    The Runner logs a thousand lines while it is built, before any hook could lift a handler's
    level, and names its logger by the second: so it is done for the class.
    """
    from .compat import MMLogger

    terminal = quiet_terminal()
    if terminal is None:
        return

    def call_handlers(self: MMLogger, record: logging.LogRecord) -> None:
        for handler in self.handlers:
            if record.levelno < handler.level:
                continue
            if type(handler) is not logging.StreamHandler:
                handler.handle(record)
            elif record.levelno >= logging.ERROR or getattr(record, "shown", False):
                terminal.handle(record)

    replace(MMLogger, "callHandlers", call_handlers)


def log_to_file_of(runner: "Runner") -> None:
    """Writes what this package logs to the run's file too, beginning with what waits for it."""
    logger = logging.getLogger("mmact_tiny")
    stock = next((h for h in runner.logger.handlers if isinstance(h, logging.FileHandler)), None)
    if stock is None:
        return
    # A handler of our own: stock's drops a warning whose template it has seen before.
    file = logging.FileHandler(stock.baseFilename, delay=True)
    file.setFormatter(stock.formatter)
    shown, *before = logger.handlers
    for handler in before:
        if hasattr(handler, "setTarget"):
            handler.setTarget(file)
        handler.close()  # flushes it
    logger.handlers = [shown, file]
    logger.info("log: %s", near(stock.baseFilename))
