"""Runs Python programs as forks of a process that has the packages imported, seconds of a start.

That process imports none of ours and has one thread: a fork of it is what `python` starts, later.
Tests of what is imported, or of how long that takes, start Python itself.
"""

import atexit
import fcntl
import functools
import importlib
import json
import os
import runpy
import select
import signal
import subprocess
import sys
import tempfile
import termios
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
OTHERS = (  # that are imported late
    *("av", "jinja2", "matplotlib.backends.backend_agg", "matplotlib.figure", "pebble"),
    *("torch._dynamo", "torchvision", "benchmarks.told_once"),
)


_started: "list[Program]" = []  # the last one


class Program:
    """A program that runs; one at a time."""

    def __init__(self, parent: subprocess.Popen[bytes], job: dict[str, Any]) -> None:
        assert parent.stdin and parent.stdout
        parent.stdin.write(json.dumps(job).encode() + b"\n")
        self.answers = parent.stdout
        self.pid = int(self.answers.readline())
        self.status: int | None = None

    def poll(self, seconds: float = 0) -> int | None:
        """Returns the exit status once there is one, as `subprocess.Popen.returncode`."""
        if self.status is None and select.select([self.answers], [], [], seconds)[0]:
            self.status = int(self.answers.readline())
        return self.status

    def wait(self, seconds: float = 500) -> int:
        """Returns the exit status; kills what takes longer."""
        if self.poll(seconds) is None:
            os.kill(self.pid, 9)
        status = self.poll(60)
        assert status is not None
        return status


def start(
    words: Sequence[object],
    *,
    stdin: str | Path = os.devnull,
    stdout: str | Path = os.devnull,
    stderr: str | Path | None = None,
    cwd: Path = ROOT,
    env: Mapping[str, str] | None = None,
) -> Program:
    """Starts a program, in a session of its own.

    Args:
        words: What would follow `python`: a script, `-m` and a module, or `-c` and code.
        stdin: What it reads; a terminal becomes the one that controls it.
        stdout: Where it writes, a file or the terminal.
        stderr: The same, by default as stdout.
        cwd: The folder that it runs in.
        env: Its variables, by default this process's.
    """
    streams = [str(stdin), str(stdout), str(stderr or stdout)]
    environ = dict(os.environ if env is None else env)
    job = dict(words=list(map(str, words)), streams=streams, cwd=str(cwd), environ=environ)
    while _started:
        _started.pop().wait(0)  # a test that failed may have left it
    _started.append(Program(_parent(), job))
    return _started[0]


def run(*words: object, status: int = 0, **settings: Any) -> str:
    """Runs a program to its end, and checks its exit status; returns what it printed.

    Args:
        words: See `start`.
        status: The one expected.
        **settings: Others of `start`.
    """
    with tempfile.NamedTemporaryFile() as file:
        found = start(words, stdout=file.name, **settings).wait()
        printed = Path(file.name).read_text()
    assert found == status, f"{found}: {printed[-3000:]}"
    return printed


@functools.cache
def _parent() -> "subprocess.Popen[bytes]":
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    parent = subprocess.Popen(
        [sys.executable, __file__],
        bufsize=0,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environ | {"OMP_NUM_THREADS": "1"},
        start_new_session=True,
    )
    atexit.register(parent.communicate)  # it ends when nothing more can come
    return parent


def serve() -> dict[str, Any] | None:
    """Forks a process for each line of stdin; returns its job there, and None at the end."""
    for line in sys.stdin:
        if not (pid := os.fork()):
            return json.loads(line)
        print(pid, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
    return None


def import_packages() -> None:
    """Imports what the tools do, and forgets our own modules and folders."""
    sys.path[0] = str(ROOT)
    from mmact_tiny import compat

    for name in compat._homes():
        getattr(compat, name)
    for name in OTHERS:
        importlib.import_module(name)
    del sys.path[0]
    for name in [name for name in sys.modules if name.split(".")[0] == "mmact_tiny"]:
        del sys.modules[name]


def become(words: list[str], streams: list[str], cwd: str, environ: dict[str, str]) -> None:
    """Runs a program in this process, as `python WORDS` does."""
    os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
    for number, name in enumerate(streams):
        flags = os.O_RDWR if number == 0 else os.O_RDWR | os.O_CREAT | os.O_APPEND
        file = os.open(name, flags, 0o644)
        os.dup2(file, number)
        os.close(file)
    if os.isatty(0):
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        buffering = 1 if number == 2 or os.isatty(number) else -1
        errors = "backslashreplace" if number == 2 else "strict"
        file = open(number, "wr"[not number], buffering, errors=errors, closefd=False)  # noqa: SIM115
        setattr(sys, name, file)
        setattr(sys, f"__{name}__", file)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environ)
    added = [path for path in environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    script, sys.orig_argv = words[0], [sys.executable, *words]
    first = "" if script in ("-c", "-m") else str(Path(script).resolve().parent)
    sys.path[:0] = [first, *added]
    if script == "-m":
        sys.argv = words[1:]
        runpy.run_module(words[1], run_name="__main__", alter_sys=True)
    elif script == "-c":
        sys.argv = ["-c", *words[2:]]
        main = sys.modules["__main__"] = ModuleType("__main__")
        exec(compile(words[1], "<string>", "exec"), vars(main))
    else:
        sys.argv = words
        runpy.run_path(script, run_name="__main__")


if __name__ == "__main__":
    import_packages()
    if (found := serve()) is not None:
        become(**found)
