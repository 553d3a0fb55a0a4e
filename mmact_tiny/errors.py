"""The errors that a user can cause, and the exit statuses of the tools."""

import difflib
import re
import sys
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path

EXIT_OK = 0
EXIT_ERROR = 2  # the user can put it right; argparse uses the same status
EXIT_PARTIAL = 3  # answered in part: some videos could not be read
EXIT_INTERRUPTED = 130  # Ctrl-C, as the shell expects
EXIT_CLOSED_PIPE = 141  # whoever read along has gone, as the shell expects
IS_CHECKOUT = (Path(__file__).parents[1] / "tools" / "render_tiny.py").is_file()


class UserError(Exception):
    """What is wrong, the value, what was expected and the fix, in words.

    Raised for everything that the user can put right: a path, a flag, a config value, a data
    file. The tools print the text and exit with status 2; from Python it is an exception like
    any other. Its commands are `as_typed`.
    """

    def __init__(self, message: object = "") -> None:
        super().__init__(as_typed(str(message)))


def runs_as_mmact() -> bool:
    """Returns whether the command `mmact` was typed, not a script of tools/."""
    return Path(sys.argv[0]).name.split()[:1] == ["mmact"]


def as_typed(text: str) -> str:
    """Returns a text whose `python tools/train.py` is `mmact train` where that is what is there."""
    if IS_CHECKOUT and not runs_as_mmact():
        return text
    text = re.sub(r"(torchrun \S+) tools/", r"\1 --no-python python tools/", text)
    return re.sub(r"python tools/(\w+)\.py( )?(?:configs/(\w+)\.py)?", r"mmact \1\2\3", text)


def suggest(wrong: str, known: Iterable[str]) -> str:
    """Returns `; did you mean 'x'?`, or the known names where none is close."""
    known = sorted(known)
    close = difflib.get_close_matches(str(wrong), known, n=1)
    if close:
        return f"; did you mean {close[0]!r}?"
    return f"; known: {', '.join(known)}" if len(known) <= 20 else ""


def has_room(name: str) -> bool:
    """Returns whether an optional room of the package is there: it may have been deleted."""
    return find_spec(f"mmact_tiny.{name}") is not None


def need_room(name: str, flag: str) -> None:
    """Raises a UserError where an optional room is not there that a flag needs."""
    if not has_room(name):
        raise UserError(f"{flag}: this installation has no mmact_tiny/{name}, which that needs")
