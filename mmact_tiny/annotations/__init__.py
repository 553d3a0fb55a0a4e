"""Reads and checks the lists of a dataset: videos or stretches of them, with their labels."""

from .lists import (
    TYPES,
    Annotation,
    Split,
    count_annotations,
    find_problems,
    iter_annotations,
    read_annotations,
    refuse,
)

__all__ = [
    "TYPES",
    "Annotation",
    "Split",
    "count_annotations",
    "find_problems",
    "iter_annotations",
    "read_annotations",
    "refuse",
]
