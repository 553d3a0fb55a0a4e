"""Lets configs and checkpoints that version 0.1.0 wrote import its modules by their old names."""

import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_loader
from types import ModuleType

# What 0.1.0 wrote into `custom_imports`, and where the same classes are registered now.
MOVED = {
    "mmact_tiny.balance": "mmact_tiny.hooks",
    "mmact_tiny.checkpoint_hooks": "mmact_tiny.hooks",
    "mmact_tiny.engine_hook": "mmact_tiny.hooks",
    "mmact_tiny.guarded_loader": "mmact_tiny.hooks",
    "mmact_tiny.initialization": "mmact_tiny.hooks",
    "mmact_tiny.packets": "mmact_tiny.video.frames",
    "mmact_tiny.precision": "mmact_tiny.hooks",
    "mmact_tiny.progress_hook": "mmact_tiny.hooks",
    "mmact_tiny.resume": "mmact_tiny.hooks",
    "mmact_tiny.stopping": "mmact_tiny.hooks",
    "mmact_tiny.timing_hook": "mmact_tiny.hooks",
    "mmact_tiny.tracking": "mmact_tiny.overrides.tracking",
    "mmact_tiny.transforms": "mmact_tiny.cache",
}


class OldNames(MetaPathFinder, Loader):
    """Gives the module of today under its old name; the stock Runner asks for it too."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        return spec_from_loader(fullname, self) if fullname in MOVED else None

    def exec_module(self, module: ModuleType) -> None:
        sys.modules[module.__name__] = import_module(MOVED[module.__name__])


def install() -> None:
    """Has Python find the old names; once is enough."""
    if not any(isinstance(finder, OldNames) for finder in sys.meta_path):
        sys.meta_path.append(OldNames())
