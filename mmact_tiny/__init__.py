"""Train, test and run video action recognizers: a thin framework on MMAction2 and MMEngine."""

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

from . import compat

__version__ = "0.2.0"
__all__ = ["OVERRIDES", "Recognizer", "UserError", "load_config", "test", "train"]

if TYPE_CHECKING:
    from .config import load_config
    from .errors import UserError
    from .evaluate import test
    from .overrides.registry import OVERRIDES
    from .recognizer import Recognizer
    from .train import train

_HOMES = {
    "load_config": "config",
    "OVERRIDES": "overrides.registry",
    "Recognizer": "recognizer",
    "test": "evaluate",
    "train": "train",
    "UserError": "errors",
}


def __getattr__(name: str) -> Any:
    """Imports a public name when it is first used: torch and mmengine take seconds."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f".{_HOMES[name]}", __name__), name)
    return value


class _Package(ModuleType):
    """Keeps `mmact_tiny.train` the function when its module, of the same name, is imported."""

    def __setattr__(self, name: str, value: Any) -> None:
        if name not in _HOMES or not isinstance(value, ModuleType):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
compat.find_old_names()
