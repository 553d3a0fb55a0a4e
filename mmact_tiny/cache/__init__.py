"""Registers the cache's transforms: a dump names this module in its `custom_imports`."""

from . import transforms

__all__ = ["transforms"]
