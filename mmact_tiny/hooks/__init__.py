"""Registers every plug-in of this room: a dump names this module in its `custom_imports`."""

# ruff: noqa: F401
from . import (
    checkpoint,
    dataset,
    engine,
    finetune,
    guard,
    precision,
    progress,
    resume,
    stop,
    timing,
)
