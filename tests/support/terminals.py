"""Runs a function or a command in a process whose standard streams are a terminal."""

import fcntl
import gc
import os
import pty
import re
import select
import struct
import sys
import termios
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import warm

ERASED = re.compile(
    r"[^\n]*(\n\r\x1b\[1A|\r)\x1b\[2K"
)  # what a line said before it was drawn again
COLORS = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")
HIDE_CURSOR = "\x1b[?25l"


def on_terminal(
    call: Callable[[], int | None] | Sequence[str],
    *,
    columns: int = 100,
    environ: Mapping[str, str] | None = None,
    keys: Mapping[str, bytes] | None = None,
    hang_up_at: str | None = None,
    output: Path | None = None,
) -> tuple[str, int]:
    """Returns all that was written and the exit status.

    Args:
        call: A command of Python, as `jobs.command` returns; or a function, which runs in a fork
            of this process and returns the status. PyTorch is for commands: a fork has not the
            threads that it has started, and a fork of a process that has run much of it may crash
            before it executes anything.
        columns: Width of the terminal.
        environ: Variables to set, TERM=xterm besides.
        keys: What is typed when a text appears.
        hang_up_at: A text at which the terminal is closed.
        output: A file in which a command writes, in the place of the terminal.
    """
    environ = {"TERM": "xterm", **(environ or {})}
    slave = None
    if callable(call):
        poll, master = _fork(call, columns, environ)
    else:
        poll, master, slave = _start(call, columns, environ, output)
    keys, written = dict(keys or {}), ""
    status = None
    while hang_up_at is None or hang_up_at not in written:
        if select.select([master], [], [], 0.05)[0]:
            try:
                written += os.read(master, 4096).decode("utf-8", "replace")
            except OSError:  # nobody has the terminal any more
                break
        elif status is not None:  # loader workers may outlive the child by seconds
            break
        else:
            status = poll()
        for text in [text for text in keys if text in written]:
            os.write(master, keys.pop(text))
    os.close(master)
    while status is None:
        status = poll()
        time.sleep(0.01)
    if slave is not None:
        os.close(slave)
    return written.replace("\r\n", "\n"), status


def _start(
    command: Sequence[str], columns: int, environ: Mapping[str, str], output: Path | None
) -> tuple[Callable[[], int | None], int, int]:
    """Starts a command whose session the terminal controls, so that Ctrl-C reaches it."""
    master, slave = pty.openpty()
    _set_width(slave, columns)
    terminal, place = os.ttyname(slave), command.index(sys.executable)
    named = dict(word.split("=", 1) for word in command[:place] if "=" in word)
    program = warm.start(
        command[place + 1 :],
        stdin=terminal,
        stdout=output or terminal,
        env=_environ({**environ, **named}),
    )
    return program.poll, master, slave  # open until the program has it, and ends


def _fork(
    call: Callable[[], int | None], columns: int, environ: Mapping[str, str]
) -> tuple[Callable[[], int | None], int]:
    """Calls a function in a fork of this process."""
    pid, master = pty.fork()
    if pid == 0:
        gc.freeze()  # see `forks`
        status = 1
        try:
            _set_width(0, columns)
            os.environ.clear()
            os.environ.update(_environ(environ))
            encoding = environ.get("PYTHONIOENCODING", "utf-8")
            sys.stdout = os.fdopen(1, "w", buffering=1, encoding=encoding)
            sys.stderr = os.fdopen(2, "w", buffering=1, encoding=encoding)
            status = call() or 0
        except SystemExit as error:
            status = error.code if isinstance(error.code, int) else 1
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)

    def poll() -> int | None:
        ended, code = os.waitpid(pid, os.WNOHANG)
        return os.waitstatus_to_exitcode(code) if ended else None

    return poll, master


def _set_width(terminal: int, columns: int) -> None:
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))


def _environ(changes: Mapping[str, str]) -> dict[str, str]:
    """Returns this process's variables, without those that say what a terminal is like."""
    ours = ("COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR")
    return {**{k: v for k, v in os.environ.items() if k not in ours}, **changes}


def left_to_see(written: str) -> list[str]:
    """Returns the lines that are not erased again, without colors and blank ones."""
    text = COLORS.sub("", ERASED.sub("", written))
    return [line.rstrip() for line in text.split("\n") if line.strip()]
