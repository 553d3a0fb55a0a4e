"""Reads and checks the lists of a dataset: videos or stretches of them, with their labels."""

from .lists import TYPES, Annotation, Split, check_annotations, read_annotations

__all__ = ["TYPES", "Annotation", "Split", "check_annotations", "read_annotations"]
