"""What the tools print on the terminal, and what only the log file of a run gets.

MMEngine's whole log, what each override changed, and the warnings of installed packages go to the
file; the terminal shows what this package says and every error. `--verbose` shows all of it.
"""

import logging
import os
import sys
import sysconfig
import warnings
from pathlib import Path
from typing import Any, TextIO

from . import hardware, progress

SHOWN = {"shown": True}  # `runner.logger.info(..., extra=SHOWN)`: on the terminal too
UPSTREAM = "mmact_tiny.upstream"
# Variables of trackers that print tables and the making of their database, as their users set them.
QUIET = {"MLFLOW_LOGGING_LEVEL": "WARNING", "WANDB_QUIET": "true"}
FILE_ONLY = ("mmact_tiny.overrides", UPSTREAM)


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
        if getattr(stream, "errors", None) == "strict" and hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    shown = TerminalHandler(verbose=verbose)
    if not verbose:
        shown.addFilter(lambda record: record.name not in FILE_ONLY)
        warnings.showwarning = _log_warning
    logger = logging.getLogger("mmact_tiny")
    # What is said before a run has its log file waits for it.
    logger.handlers = [shown, MemoryHandler(10_000, flushLevel=logging.CRITICAL + 1)]
    logger.propagate = False
    logger.setLevel(logging.INFO if hardware.rank() == 0 else logging.ERROR)


def _quiet_terminal() -> TerminalHandler | None:
    """Returns the handler of a tool that runs without `--verbose`.

    A program that only imports this package has none, and gets MMEngine's own stream.
    """
    handlers = logging.getLogger("mmact_tiny").handlers
    return next((h for h in handlers if isinstance(h, TerminalHandler) and not h.verbose), None)


def _log_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """Shows a warning of the user's own code, and keeps one of installed code for the file."""
    folders = {Path(sysconfig.get_path(name)) for name in ("stdlib", "purelib", "platlib")}
    theirs = filename.startswith("<") or any(f in Path(filename).parents for f in folders)
    text = warnings.formatwarning(message, category, filename, lineno, line)
    logging.getLogger(UPSTREAM if theirs else "mmact_tiny").warning(text.rstrip())


def build_runner(cfg: Any) -> Any:
    """Returns `Runner.from_cfg(cfg)`, which in a tool shows bars and logs to its file only."""
    from .compat.mm import Runner

    if _quiet_terminal() is None:
        return Runner.from_cfg(cfg)
    from mmengine.runner import checkpoint

    from .hooks.progress import ProgressHook

    keep_stock_log_off()
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    checkpoint.print_log = _print_to_current
    runner = Runner.from_cfg(cfg)
    if runner.rank == 0:
        runner.register_hook(ProgressHook())
        _log_to_file_of(runner)
    return runner


def _print_to_current(msg: Any, logger: Any = None, level: int = logging.INFO) -> None:
    """Logs what MMEngine prints where it loads a file for a Runner, which has a logger."""
    from .compat.mm import print_log

    print_log(msg, "current" if logger is None else logger, level)


def keep_stock_log_off() -> None:
    """Has MMEngine's loggers print, in a tool, only errors and what is marked as `SHOWN`.

    The Runner logs a thousand lines while it is built, before any hook could lift a handler's
    level, and names its logger by the second: so it is done for the class.
    """
    from .compat.mm import MMLogger

    stock = MMLogger.callHandlers

    def call_handlers(self: MMLogger, record: logging.LogRecord) -> None:
        terminal = _quiet_terminal()
        if terminal is None:
            return stock(self, record)
        for handler in self.handlers:
            if record.levelno < handler.level:
                continue
            if type(handler) is not logging.StreamHandler:
                handler.handle(record)
            elif record.levelno >= logging.ERROR or getattr(record, "shown", False):
                terminal.handle(record)
        return None

    if stock.__module__ != __name__:
        MMLogger.callHandlers = call_handlers


def _log_to_file_of(runner: Any) -> None:
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
    logger.info("log: %s", stock.baseFilename)
