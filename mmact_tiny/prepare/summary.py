"""Sums up what was found: `summary.json`, and tables on the terminal."""

import shlex
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import as_typed
from ..files import printable
from .types import SPLITS, Findings, Problem, Settings

_MAX_CLASSES = 30  # rows of the table; summary.json has all
_MAX_PROBLEMS = 50  # of one kind
_COLUMNS = (*SPLITS, "quarantined")


def summarize(findings: Findings, settings: Settings) -> dict[str, Any]:
    """Returns the counts, ranges and problems, as `summary.json` holds them."""
    videos = findings.videos
    per_class: list[dict[str, Any]] = [
        {"class": name, **dict.fromkeys(_COLUMNS, 0)} for name in findings.classes
    ]
    for video in videos:
        for label in video.labels:
            per_class[label][video.split or "train"] += 1
    for video, _ in findings.quarantine:
        per_class[video.label]["quarantined"] += 1
    records = [video.record for video in videos]
    sides = [(record["width"], record["height"]) for record in records]
    train = [row["train"] for row in per_class]
    return {
        "layout": findings.layout,
        "listed": len(findings.listed),
        "read_now": findings.num_read,
        "videos": {split: sum(v.split == split for v in videos) for split in SPLITS},
        "quarantined": _count(kind for _, (kind, _) in findings.quarantine),
        "left_out": dict(findings.left_out),
        "problem_counts": _count(problem.kind for problem in findings.problems),
        "classes": per_class,
        # how many times the smallest class's training videos the largest has
        "imbalance": round(max(train) / min(train), 3) if train and min(train) else None,
        "batch_size": settings.batch_size,
        "stretches": sum(video.end is not None for video in videos),
        "seconds": _range([video.seconds for video in videos]),
        "frames": _range([record["frames"] for record in records]),
        "fps": _range([record["fps"] for record in records]),
        "shorter_side": _range([min(sides_of_one) for sides_of_one in sides]),
        "keyframe_spacing": _range([record["keyframe_spacing"] for record in records]),
        "sizes": _count(f"{width}x{height}" for width, height in sides),
        "codecs": _count(record["codec"] for record in records),
        "problems": [asdict(problem) for problem in findings.problems],
    }


def _count(kinds: Iterable[str]) -> dict[str, int]:
    """Returns how many there are of each kind, most first."""
    return dict(Counter(kinds).most_common())


def _range(values: list[float]) -> dict[str, float] | None:
    if not values:
        return None
    figures = {"min": min(values), "median": np.median(values), "max": max(values)}
    return {name: round(float(figure), 3) for name, figure in figures.items()}


def show_summary(findings: Findings, summary: dict[str, Any], out: Path) -> None:
    """Prints the report; its last line is the command that comes next."""
    from rich.console import Console

    # Plain text: names may hold what rich takes for markup, or bytes that are not UTF-8.
    width = None if sys.stdout.isatty() else 100
    console = Console(markup=False, emoji=False, highlight=False, soft_wrap=True, width=width)
    for text in _problem_lines(findings):
        console.print(printable(text))
    console.print(_class_table(summary["classes"]))
    for name in ("seconds", "frames", "fps", "shorter_side", "keyframe_spacing"):
        if summary[name]:
            low, middle, high = summary[name].values()
            console.print(f"{name.replace('_', ' ')}: {low:g} to {high:g}, median {middle:g}")
    codecs = ", ".join(f"{codec} {count}" for codec, count in summary["codecs"].items())
    console.print(f"codecs: {codecs or 'none'}")
    if findings.left_out_told:
        console.print(printable(f"left out: {findings.left_out_told}"))
    kept = " + ".join(f"{summary['videos'][split]} {split}" for split in SPLITS)
    what = "stretches" if summary["stretches"] else "videos"
    console.print(
        f"{summary['listed']} {what} listed ({summary['layout']}), {summary['read_now']} read now: "
        f"{kept}, {len(findings.quarantine)} in quarantine"
    )
    for problem in findings.problems:
        if problem.kind == "one class":
            console.print(printable(f"WARNING: {problem}"))
    if not findings.fatal:
        command = f"python tools/train.py configs/tsn_tiny.py --data {shlex.quote(str(out))}"
        console.print(printable(f"next: {as_typed(command)}"))


def _problem_lines(findings: Findings) -> list[str]:
    by_kind: dict[str, list[Problem]] = defaultdict(list)
    for video, (kind, detail) in findings.quarantine:
        by_kind[f"quarantine: {kind}"].append(Problem(kind, video.path, detail or kind))
    for problem in findings.problems:
        by_kind[problem.kind].append(problem)
    lines = []
    for kind, problems in by_kind.items():
        lines.append(f"{'error' if problems[0].fatal else 'note'}: {kind} ({len(problems)})")
        lines += [f"  {problem}" for problem in problems[:_MAX_PROBLEMS]]
        if len(problems) > _MAX_PROBLEMS:
            lines.append(f"  and {len(problems) - _MAX_PROBLEMS} more: see summary.json")
    return lines


def _class_table(rows: list[dict[str, Any]]) -> Any:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE)
    table.add_column("class")
    for column in _COLUMNS:
        table.add_column(column, justify="right")
    for row in rows[:_MAX_CLASSES]:
        table.add_row(printable(row["class"]), *(str(row[column]) for column in _COLUMNS))
    if len(rows) > _MAX_CLASSES:
        table.add_row(f"and {len(rows) - _MAX_CLASSES} more classes: see summary.json")
    table.add_section()
    table.add_row("all", *(str(sum(row[column] for row in rows)) for column in _COLUMNS))
    return table
