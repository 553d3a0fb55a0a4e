"""Measures recognizers of several labels a video: average precision, thresholds by class."""

from .precision import average_precisions, choose_thresholds, summarize_labels

__all__ = ["average_precisions", "choose_thresholds", "summarize_labels"]
