"""Builds the Runner or the model of a config; says in a line what cannot be built."""

import contextlib
import importlib
import logging
import os
import re
from collections.abc import Iterator
from types import FrameType
from typing import TYPE_CHECKING, Any

from . import compat, log
from .errors import UserError, suggest
from .files import FULL

if TYPE_CHECKING:
    from torch import nn

    from .compat import Config, Hook, Runner

ZOO_PACKAGE = re.compile("Please install (timm|mmcls|mmpretrain)")  # MMAction2's words
# Quiet the trackers' own tables and messages; a variable that the user has set stays.
QUIET_TRACKERS = {"MLFLOW_LOGGING_LEVEL": "WARNING", "WANDB_QUIET": "true"}


def build_runner(cfg: "Config", *hooks: "Hook") -> "Runner":
    """Returns `Runner.from_cfg(cfg)`, which in a tool logs to its file only.

    Args:
        cfg: A resolved config.
        hooks: For what the terminal of a tool shows, on rank 0.

    Raises:
        UserError: a part of the config that cannot be built.
    """
    with explained():
        if log.quiet_terminal() is None:
            return compat.Runner.from_cfg(cfg)
        log.keep_stock_log_off()
        for name, value in QUIET_TRACKERS.items():
            os.environ.setdefault(name, value)
        checkpoint = importlib.import_module("mmengine.runner.checkpoint")
        log.replace(checkpoint, "print_log", _print_to_current)
        runner = compat.Runner.from_cfg(cfg)
    if runner.rank == 0:
        for hook in hooks:
            runner.register_hook(hook)
        log.log_to_file_of(runner)
    return runner


def build_model(cfg: "Config") -> "nn.Module":
    """Returns the model of a config, without its weights.

    Raises:
        UserError: a part of the config that cannot be built.
    """
    compat.init_default_scope("mmaction")
    compat.repair_models()
    with explained():
        return compat.MODELS.build(cfg.model)


def _print_to_current(msg: Any, logger: Any = None, level: int = logging.INFO) -> None:
    """Logs what MMEngine prints where it loads a file for a Runner, which has a logger."""
    compat.print_log(msg, "current" if logger is None else logger, level)


@contextlib.contextmanager
def explained() -> Iterator[None]:
    """Says in a line what MMEngine could not build of the config; other errors pass.

    Raises:
        UserError: the part, as the config names it, and the reason.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # a part that the config names may raise anything
        if isinstance(error, OSError) and error.errno in FULL:  # of stock's logs, or its dump
            where = f" to write {error.filename}" if error.filename else " for the logs"
            raise UserError(
                f"no space{where}: {error.strerror}; the checkpoints are unharmed. Free some "
                "space and go on with --resume"
            ) from error
        part = _part_under_way(error)
        if part is None:
            raise
        reason = _reason(error, part)
        if part == "resume":
            raise UserError(f"cannot resume: the checkpoint does not fit: {reason}") from error
        raise UserError(f"the config's {part} cannot be built: {reason}") from error


def _part_under_way(error: BaseException) -> str | None:
    """Returns the innermost part that was being built when the error came; None for no part."""
    part = None
    trace = error.__traceback__
    while trace is not None:
        part = _named(trace.tb_frame) or part
        trace = trace.tb_next
    return part


def _named(frame: FrameType) -> str | None:
    """Returns what a function of MMEngine's that builds is at: a registered type, or a key."""
    name = frame.f_code.co_name
    if not frame.f_globals.get("__name__", "").startswith("mmengine."):
        return None
    if frame.f_locals.get("optimizer_cls", frame) is None:  # looked up, and not found
        return str(frame.f_locals["self"].optimizer_cfg["type"])
    if name == "build_from_cfg":
        cfg = frame.f_locals.get("cfg")
        kind = cfg.get("type") if isinstance(cfg, dict) else None
        return getattr(kind, "__name__", None) or str(kind)
    others = ("build_dataloader", "build_optim_wrapper", "resume")
    return name.removeprefix("build_") if name in others else None


def _reason(error: Exception, part: str) -> str:
    """Returns an error in a line; for an unknown type the one that was perhaps meant."""
    text = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
    line = (text.strip() or type(error).__name__).splitlines()[0]
    if part == "MobileOneTSM" or ZOO_PACKAGE.match(line):
        return "it is of timm or mmpretrain: pip install 'mmact-tiny[zoo]'"
    if line == "None is not a callable object":
        return "there is no such optimizer" + suggest(part, _types_like(error))
    if isinstance(error, KeyError) and " is not in the " in line:
        return line.partition(". ")[0] + suggest(part, _types_like(error))
    return line[:300]


def _types_like(error: BaseException) -> list[str]:
    """Returns the types that the registry which raised the error has, and its parents'."""
    trace: Any = error.__traceback__
    registry = None
    while trace is not None:
        registry = trace.tb_frame.f_locals.get("registry", registry)
        trace = trace.tb_next
    names: list[str] = []
    while registry is not None:
        names += registry.module_dict
        registry = registry.parent
    return names
