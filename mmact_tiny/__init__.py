"""Train, test and run video action recognizers: a thin framework on MMAction2 and MMEngine."""

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["Recognizer", "UserError", "load_config"]

if TYPE_CHECKING:
    from .config import load_config
    from .errors import UserError
    from .recognizer import Recognizer

_HOMES = {"load_config": "config", "Recognizer": "recognizer", "UserError": "errors"}


def __getattr__(name: str) -> Any:
    """Imports a public name when it is first used: torch and mmengine take seconds."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f".{_HOMES[name]}", __name__), name)
