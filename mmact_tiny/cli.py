"""What the tools share: common flags, logging, exit statuses, errors without a traceback.

Imports only the standard library, so that `--help` answers at once.
"""

import argparse
import ast
import functools
import logging
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

from . import hardware
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


def add_device(parser: argparse.ArgumentParser) -> None:
    """Adds `--device`."""
    parser.add_argument("--device", default="auto", metavar="auto|cpu|cuda|cuda:N")


def add_engine(parser: argparse.ArgumentParser, *, precision: str, engine: str) -> None:
    """Adds `--precision` and `--engine` of inference, with these defaults."""
    parser.add_argument(
        "--precision",
        choices=("auto", "fp32", "bf16", "fp16"),
        default=precision,
        help=f"fp32 gives stock's scores, auto is the fastest (default: {precision})",
    )
    parser.add_argument(
        "--engine",
        choices=("auto", "torch", "openvino"),
        default=engine,
        help=f"openvino is an extra, for CPUs (default: {engine})",
    )


def add_cfg_options(parser: argparse.ArgumentParser) -> None:
    """Adds `--cfg-options k=v ...`, read by `parse_cfg_options`."""
    parser.add_argument(
        "--cfg-options",
        nargs="+",
        default=[],
        metavar="K=V",
        help="values by dotted key, set last; a key that is not there is an error, +K=V adds it",
    )


def parse_cfg_options(args: argparse.Namespace) -> dict[str, Any]:
    """Returns `{key: value}`; a value is a Python literal, else text.

    Raises:
        UserError: an item without `=`.
    """
    options: dict[str, Any] = {}
    for item in args.cfg_options:
        key, equals, text = item.partition("=")
        if not equals or not key:
            raise UserError(f"--cfg-options {item!r}: expected key=value")
        try:
            options[key] = ast.literal_eval(text)
        except (ValueError, SyntaxError):
            options[key] = {"true": True, "false": False, "none": None}.get(text.lower(), text)
    return options


def int_or_auto(text: str) -> int | str:
    """Returns a whole number, or `auto`, for argparse."""
    return text if text == "auto" else int(text)


def add_cache(parser: argparse.ArgumentParser, what: str) -> None:
    """Adds `--cache [small|fast]` and `--cache-size`."""
    parser.add_argument(
        "--cache",
        nargs="?",
        const="small",
        choices=("small", "fast"),
        help=f"{what}; small: about the bytes of the videos, fast: twice that",
    )
    parser.add_argument(
        "--cache-size", type=num_bytes, metavar="SIZE", help="bound on the cache, as 20G"
    )


def num_bytes(text: str) -> int:
    """Returns the bytes of `500M`, `20G` or a plain number, for argparse."""
    units = {"K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
    unit = units.get(text[-1:].upper(), 1)
    value = float(text[:-1] if unit > 1 else text) * unit
    if not value >= 1:
        raise ValueError(text)
    return int(value)


def start(args: argparse.Namespace) -> None:
    """Selects the device and lets rank 0 alone speak; called before torch is imported."""
    hardware.select_device(getattr(args, "device", "auto"))
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(logging.Formatter("%(message)s"))
    logger = logging.getLogger("mmact_tiny")
    logger.handlers = [handler]
    logger.propagate = False
    logger.setLevel(logging.INFO if hardware.rank() == 0 else logging.ERROR)


def without_none(values: dict[str, Any]) -> dict[str, Any]:
    """Returns the flags that were given."""
    return {key: value for key, value in values.items() if value is not None}


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
