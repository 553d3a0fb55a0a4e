"""Reads and checks the lists of a dataset: videos or stretches of them, with their labels."""

from .lists import (
    TYPES,
    Annotation,
    Split,
    count_annotations,
    expand_lists,
    find_problems,
    is_list,
    iter_annotations,
    read_annotations,
    refuse,
    video_dir,
    videos_in,
    videos_of,
)

__all__ = [
    "TYPES",
    "Annotation",
    "Split",
    "count_annotations",
    "expand_lists",
    "find_problems",
    "is_list",
    "iter_annotations",
    "read_annotations",
    "refuse",
    "video_dir",
    "videos_in",
    "videos_of",
]
