"""What every tool shares: exit statuses, and errors without a traceback.

Imports only the standard library, so that `--help` answers at once.
"""

import argparse
import functools
import os
import sys
from collections.abc import Callable, Sequence

from .errors import UserError

EXIT_OK = 0
EXIT_ERROR = 2  # the user can put it right; argparse uses the same status
EXIT_PARTIAL = 3  # answered in part: some videos could not be read


def make_parser(doc: str | None) -> argparse.ArgumentParser:
    """Returns a parser whose help is the tool's docstring, with the flag that all tools have."""
    parser = argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return parser


def tool(main: Callable[[Sequence[str] | None], int | None]) -> Callable[..., int]:
    """Wraps a tool's `main(argv)`: a `UserError` becomes one message and exit status 2.

    Ctrl-C gives 130 and a closed pipe 141, as the shell expects. `--debug` anywhere in the
    arguments lets the error through with its traceback.
    """

    @functools.wraps(main)
    def run(argv: Sequence[str] | None = None) -> int:
        try:
            return main(argv) or EXIT_OK
        except UserError as error:
            if "--debug" in (sys.argv if argv is None else argv):
                raise
            print(f"error: {error}", file=sys.stderr)
            return EXIT_ERROR
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
            return 130
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 141

    return run
