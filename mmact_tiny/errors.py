"""The errors that a user can cause, and the exit statuses of the tools."""

import difflib
from collections.abc import Iterable

EXIT_OK = 0
EXIT_ERROR = 2  # the user can put it right; argparse uses the same status
EXIT_PARTIAL = 3  # answered in part: some videos could not be read
EXIT_INTERRUPTED = 130  # Ctrl-C, as the shell expects
EXIT_CLOSED_PIPE = 141  # whoever read along has gone, as the shell expects


class UserError(Exception):
    """What is wrong, the value, what was expected and the fix, in words.

    Raised for everything that the user can put right: a path, a flag, a config value, a data
    file. The tools print the text and exit with status 2; from Python it is an exception like
    any other.
    """


def suggest(wrong: str, known: Iterable[str]) -> str:
    """Returns `; did you mean 'x'?`, or the known names where none is close."""
    known = sorted(known)
    close = difflib.get_close_matches(str(wrong), known, n=1)
    if close:
        return f"; did you mean {close[0]!r}?"
    return f"; known: {', '.join(known)}" if len(known) <= 20 else ""
