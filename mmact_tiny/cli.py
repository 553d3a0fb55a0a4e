"""What the tools share: common flags, logging, exit statuses, errors without a traceback.

Imports only the standard library, so that `--help` answers at once.
"""

import argparse
import ast
import functools
import gc
import os
import shlex
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any, NoReturn

from . import compat, hardware, log, progress
from .errors import (
    EXIT_CLOSED_PIPE,
    EXIT_ERROR,
    EXIT_INTERRUPTED,
    EXIT_OK,
    UserError,
    as_typed,
    has_room,
    need_room,
    runs_as_mmact,
)
from .files import near, printable_lines

# Python's own thresholds let the garbage collector walk through PyTorch's modules some 20 times
# while they are imported, a fifth of that time.
GC_THRESHOLD = (10_000, 10, 100)
_command: list[str] = []  # of the tool that runs


class Parser(argparse.ArgumentParser):
    """Says what is wrong with a flag in a line, without the screen of all flags before it."""

    def parse_known_args(self, *args: Any, **settings: Any) -> Any:
        """Answers a shell that asks what can come next: argcomplete, an extra, ends the process."""
        if "_ARGCOMPLETE" in os.environ and type(self) is Parser:  # not argcomplete's own of it
            import argcomplete

            argcomplete.autocomplete(self)
        return super().parse_known_args(*args, **settings)

    def error(self, message: str) -> NoReturn:
        self.exit(EXIT_ERROR, f"error: {printable_lines(message)} (--help lists the flags)\n")


def make_parser(doc: str | None) -> argparse.ArgumentParser:
    """Returns a parser whose help is the tool's docstring, with the flag that all tools have."""
    form = argparse.RawDescriptionHelpFormatter
    parser = Parser(description=as_typed(doc or ""), formatter_class=form)
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return parser


def add_verbose(parser: argparse.ArgumentParser) -> None:
    """Adds `--verbose`."""
    parser.add_argument(
        "--verbose",
        action="store_true",
        help="print MMEngine's whole log and what each override changes, instead of bars",
    )


def add_device(parser: argparse.ArgumentParser) -> None:
    """Adds `--device`."""
    parser.add_argument("--device", default="auto", metavar="auto|cpu|cuda|cuda:N|mps")


def add_engine(parser: argparse.ArgumentParser, *, precision: str, engine: str | None) -> None:
    """Adds `--precision` and `--engine` of inference, with these defaults; None is torch."""
    parser.add_argument(
        "--precision",
        choices=("auto", "fp32", "bf16", "fp16", "int8"),
        default=precision,
        help="fp32 gives stock's scores, auto is the fastest of the device's own, int8 is for "
        f"CPUs, after the tool quantize (default: {precision})",
    )
    parser.add_argument(
        "--engine",
        choices=("auto", "torch", "openvino"),
        default=engine,
        help=f"openvino is an extra, for CPUs (default: {engine or 'torch, openvino for int8'})",
    )


def add_recognizer(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of a trained recognizer, read by `recognizer_settings`."""
    parser.add_argument("--checkpoint", metavar="FILE", help="default: the newest run's best")
    parser.add_argument("--config", help="only for a checkpoint that carries none")
    parser.add_argument("--label-map", metavar="FILE", help="line i names class i")
    parser.add_argument("--protocol", choices=("full", "val"), default="full")
    add_engine(parser, precision="auto", engine="auto")


def recognizer_settings(args: argparse.Namespace) -> dict[str, Any]:
    """Returns the arguments of `Recognizer` that `add_recognizer` added flags for."""
    names = ("checkpoint", "config", "label_map", "protocol", "precision", "engine")
    return {name: getattr(args, name) for name in names}


def add_time_limit(parser: argparse.ArgumentParser) -> None:
    """Adds `--time-limit`, in seconds; None where it is not given."""
    parser.add_argument(
        "--time-limit",
        type=positive_float,
        metavar="SECONDS",
        help="a video that takes longer to read is a row with an error (default: 120)",
    )


def positive_float(text: str) -> float:
    """Returns a finite number above 0, for argparse."""
    value = float(text)
    if not 0 < value < float("inf"):
        raise ValueError(text)
    return value


def add_cfg_options(parser: argparse.ArgumentParser) -> None:
    """Adds `--cfg-options k=v ...`: pairs for a dict."""
    parser.add_argument(
        "--cfg-options",
        nargs="+",
        action="extend",
        type=key_value,
        default=[],
        metavar="K=V",
        help="values by dotted key, set last; a key that is not there is an error, +K=V adds it",
    )


def key_value(item: str) -> tuple[str, Any]:
    """Returns both sides of `k=v`, for argparse; the value is a Python literal, else text.

    Raises:
        UserError: no `=`, or nothing before it.
    """
    key, equals, text = item.partition("=")
    if not equals or not key:
        raise UserError(f"--cfg-options {item!r}: expected key=value")
    try:
        return key, ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return key, {"true": True, "false": False, "none": None}.get(text.lower(), text)


def room_of_jobs(args: argparse.Namespace) -> Any:
    """Returns the room that runs jobs in a folder, None where a flag or `--out` asks for none."""
    own, out = vars(args), args.out or ".json"
    flags = [f"--{name}" for name in ("collect", "part", "parquet", "ray") if own.get(name)]
    flags += ["--launcher"] * (args.launcher != "none")
    if flags:
        need_room("scale", flags[0])
    elif not has_room("scale") or (out.endswith((".json", ".csv", ".jsonl")) and "://" not in out):
        return None
    jobs = import_module("mmact_tiny.scale")
    return jobs if jobs.check_flags(args, flags) else None


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
    if not 1 <= value < float("inf"):
        raise ValueError(text)
    return int(value)


def start(args: argparse.Namespace, *, trains: bool = True) -> None:
    """Selects the device and what the terminal shows; called before torch is imported.

    Args:
        args: The tool's.
        trains: Whether MMEngine is needed whole; without what only training uses it is here
            a second earlier.
    """
    gc.set_threshold(*GC_THRESHOLD)
    device = getattr(args, "device", "auto")
    if trains and device == "mps":
        raise UserError("--device mps: it infers only; train and test with auto, cpu or cuda")
    hardware.select_device(device)
    # A dry run is asked what each override changes.
    verbose = getattr(args, "verbose", False) or getattr(args, "dry_run", False)
    log.set_up(verbose=verbose)
    if not trains and not str(getattr(args, "checkpoint", "")).endswith(".onnx"):
        compat.leave_out_sharding()


def tool(main: Callable[[Sequence[str] | None], int | None]) -> Callable[..., int]:
    """Wraps a tool's `main(argv)`: a `UserError` becomes one message and exit status 2.

    Ctrl-C gives 130 and a closed pipe 141, as the shell expects. `--debug` anywhere in the
    arguments lets the error through with its traceback.
    """

    @functools.wraps(main)
    def run(argv: Sequence[str] | None = None) -> int:
        is_program = main.__module__ == "__main__" or runs_as_mmact()
        if is_program and sys.getfilesystemencoding() == "ascii":
            _start_again_in_utf8()
        script = sys.modules[main.__module__].__file__ or sys.argv[0]
        started = ["python", near(script)]
        started = sys.argv[0].split() if runs_as_mmact() else started
        _command[:] = [*started, *(sys.argv[1:] if argv is None else argv)]
        try:
            return main(argv) or EXIT_OK
        except UserError as error:
            if "--debug" in (sys.argv if argv is None else argv):
                raise
            progress.close()
            print(f"error: {printable_lines(str(error))}", file=sys.stderr)
            return EXIT_ERROR
        except KeyboardInterrupt:
            progress.close()
            print("interrupted", file=sys.stderr)
            return EXIT_INTERRUPTED
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return EXIT_CLOSED_PIPE
        finally:
            progress.close()
            _command.clear()
            log.take_back()
            if is_program:
                # The process ends: to look for cycles in PyTorch's modules would take 1 s more.
                gc.freeze()

    return run


def _start_again_in_utf8() -> None:
    """Runs the tool anew where Python could name no file that is not ASCII, as with LANG=C.

    What the terminal cannot show is still printed as escapes.
    """
    os.environ["PYTHONIOENCODING"] = f"{sys.stdout.encoding}:backslashreplace"
    os.execv(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]])


def command_line() -> str | None:
    """Returns what to type to run the tool again that runs now; None where none does."""
    return shlex.join(_command) or None
