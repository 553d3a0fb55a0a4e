"""Sums up what was found: `summary.json`, and tables on the terminal."""

import shlex
import sys
from pathlib import Path
from typing import Any

import numpy as np

from ..files import printable
from .types import SPLITS, Findings, Problem, Settings, count_kinds, length_of

_MAX_CLASSES = 30  # rows of the table; summary.json has all
_MAX_PROBLEMS = 50  # of one kind


def summarize(findings: Findings, settings: Settings) -> dict[str, Any]:
    """Returns the counts, ranges and problems, as `summary.json` holds them."""
    videos = findings.videos
    per_class: list[dict[str, Any]] = [
        {"class": name, "train": 0, "val": 0, "test": 0, "quarantined": 0}
        for name in findings.classes
    ]
    for video in videos:
        per_class[video.label][video.split or "train"] += 1
    for _, label, _ in findings.quarantine:
        per_class[label]["quarantined"] += 1
    records = [video.record for video in videos]
    return {
        "layout": findings.source.layout,
        "listed": len(findings.source.videos),
        "read_now": findings.num_read,
        "videos": {split: sum(v.split == split for v in videos) for split in SPLITS},
        "quarantined": count_kinds(fault.kind for _, _, fault in findings.quarantine),
        "problem_counts": count_kinds(problem.kind for problem in findings.problems),
        "classes": per_class,
        "imbalance": _imbalance([row["train"] for row in per_class]),
        "batch_size": settings.batch_size,
        "seconds": _range([length_of(record) for record in records]),
        "frames": _range([record["frames"] for record in records]),
        "fps": _range([record["fps"] for record in records]),
        "shorter_side": _range([min(record["width"], record["height"]) for record in records]),
        "keyframe_spacing": _range([record["keyframe_spacing"] for record in records]),
        "sizes": count_kinds(f"{record['width']}x{record['height']}" for record in records),
        "codecs": count_kinds(record["codec"] for record in records),
        "problems": [
            {"kind": p.kind, "where": p.where, "message": p.message, "fatal": p.is_fatal}
            for p in findings.problems
        ],
    }


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
            low, middle, high = (summary[name][key] for key in ("min", "median", "max"))
            console.print(f"{name.replace('_', ' ')}: {low:g} to {high:g}, median {middle:g}")
    codecs = ", ".join(f"{codec} {count}" for codec, count in summary["codecs"].items())
    console.print(f"codecs: {codecs or 'none'}")
    kept = " + ".join(f"{summary['videos'][split]} {split}" for split in SPLITS)
    console.print(
        f"{summary['listed']} videos listed ({summary['layout']}), {summary['read_now']} read now: "
        f"{kept}, {len(findings.quarantine)} in quarantine"
    )
    if not findings.fatal:
        command = f"python tools/train.py configs/tsn_tiny.py --data {shlex.quote(str(out))}"
        console.print(printable(f"next: {command}"))


def _problem_lines(findings: Findings) -> list[str]:
    lines = []
    quarantine = [
        Problem(f"quarantine: {fault.kind}", listed.path, fault.detail or fault.kind)
        for listed, _, fault in findings.quarantine
    ]
    by_kind: dict[str, list[Problem]] = {}
    for problem in [*quarantine, *findings.problems]:
        by_kind.setdefault(problem.kind, []).append(problem)
    for kind, problems in by_kind.items():
        severity = "error" if problems[0].is_fatal else "note"
        lines.append(f"{severity}: {kind} ({len(problems)})")
        lines += [f"  {problem}" for problem in problems[:_MAX_PROBLEMS]]
        if len(problems) > _MAX_PROBLEMS:
            lines.append(f"  and {len(problems) - _MAX_PROBLEMS} more: see summary.json")
    return lines


def _class_table(rows: list[dict[str, Any]]) -> Any:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE)
    table.add_column("class")
    for column in (*SPLITS, "quarantined"):
        table.add_column(column, justify="right")
    for row in rows[:_MAX_CLASSES]:
        table.add_row(printable(row["class"]), *(str(row[c]) for c in (*SPLITS, "quarantined")))
    if len(rows) > _MAX_CLASSES:
        table.add_row(f"and {len(rows) - _MAX_CLASSES} more classes: see summary.json")
    table.add_section()
    totals = (str(sum(row[c] for row in rows)) for c in (*SPLITS, "quarantined"))
    table.add_row("all", *totals)
    return table


def _imbalance(train: list[int]) -> float | None:
    """Returns how many times the smallest class's training videos the largest has."""
    return round(max(train) / min(train), 3) if train and min(train) > 0 else None


def _range(values: list[float]) -> dict[str, float] | None:
    if not values:
        return None
    return {
        "min": round(float(min(values)), 3),
        "median": round(float(np.median(values)), 3),
        "max": round(float(max(values)), 3),
    }
