"""Runs a tool by its name: `mmact train` is `python tools/train.py`.

mmact COMMAND --help
eval "$(register-python-argcomplete mmact)"     for a shell that completes (extra: completion)
"""

import argparse
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

import mmact_tiny
from mmact_tiny.cli import Parser
from mmact_tiny.errors import EXIT_OK, suggest


def summaries() -> dict[str, str]:
    """Returns the first line of each tool's docstring, by the tool's name; imports none."""
    files = sorted(Path(__file__).parent.glob("[!_]*.py"))
    return {
        file.stem: file.read_text(encoding="utf-8").partition("\n")[0].strip('"') for file in files
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the tool that the first word names; without one, lists them."""
    tools = summaries()
    words = list(sys.argv[1:] if argv is None else argv)
    if "_ARGCOMPLETE" in os.environ:
        words = _to_complete()
    name, *rest = words or [""]
    if name in tools:
        sys.argv = [f"mmact {name}", *rest]
        return import_module(f"{__package__}.{name}").main()
    form = argparse.RawDescriptionHelpFormatter
    parser = Parser(prog="mmact", description=__doc__, formatter_class=form)
    parser.add_argument("--version", action="version", version=mmact_tiny.__version__)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")
    for tool, summary in tools.items():
        commands.add_parser(tool, help=summary.replace("%", "%%"), add_help=False)
    if name and not name.startswith("-"):
        parser.error(f"no command {name!r}{suggest(name, tools)}")
    parser.parse_args(words)
    parser.print_help()
    return EXIT_OK


def _to_complete() -> list[str]:
    """Returns the command of the line that the shell asks about, once it is typed to its end.

    argcomplete then leaves two words out, as for `python tools/train.py`.
    """
    line = os.environ["COMP_LINE"][: int(os.environ["COMP_POINT"])]
    words = line.split()[1:2]
    if not words or line.endswith(words[0]):
        return []
    os.environ["_ARGCOMPLETE"] = "2"
    return words


if __name__ == "__main__":
    raise SystemExit(main())
