"""Registers every plug-in of this room: a dump names this module in its `custom_imports`."""

from . import (
    checkpoint,
    dataset,
    engine,
    guard,
    initialization,
    precision,
    progress,
    resume,
    stop,
    timing,
)

__all__ = [
    "checkpoint",
    "dataset",
    "engine",
    "guard",
    "initialization",
    "precision",
    "progress",
    "resume",
    "stop",
    "timing",
]
