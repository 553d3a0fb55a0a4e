"""The rows of against_stock.py, and the machine that they belong to."""

import importlib.metadata
import os
import platform
import statistics

from measured import Measured

from mmact_tiny.doctor.diagnosis import CPU_FLAGS
from mmact_tiny.hardware import cpu_flags, describe_machine

PACKAGES = (
    "torch",
    "mmaction2",
    "mmengine",
    "mmcv-lite",
    "decord",
    "av",
    "openvino",
    "nncf",
    "onnxruntime",
    "numpy",
)
Side = tuple[float, Measured, list]  # the figure, what the run took, its scores if any


def summarize(name: str, unit: str, pairs: list[tuple[Side | None, Side]]) -> list[dict]:
    """Returns the row of the figure and the row of the memory, over all repeats.

    Stock's side is None for what only ours has, such as a ceiling.
    """
    ours = [pair[1][0] for pair in pairs]
    compared = [(stock, our) for stock, our in pairs if stock is not None]
    if not compared:
        note = f"{len(pairs)} runs"
        figure = statistics.median(ours)
        return [dict(name=name, unit=unit, stock=None, ours=figure, ratio=None, note=note)]
    return _compare(name, unit, compared)


def _compare(name: str, unit: str, pairs: list[tuple[Side, Side]]) -> list[dict]:
    stock, ours = ([pair[i][0] for pair in pairs] for i in (0, 1))
    faster = [s / o if unit == "s" else o / s for s, o in zip(stock, ours, strict=True)]
    cpu = [s[1].cpu_seconds / o[1].cpu_seconds for s, o in pairs]
    notes = [f"{len(pairs)} runs", f"CPU seconds: {statistics.median(cpu):.2f}x"]
    scores = pairs[0][0][2], pairs[0][1][2]
    if scores[0]:
        both = list(zip(*scores, strict=True))
        difference = max(abs(a - b) for x, y in both for a, b in zip(x, y, strict=True))
        same = sum(x.index(max(x)) == y.index(max(y)) for x, y in both)
        notes.append(f"largest score difference {difference:.1e}")
        notes.append(f"same top-1 on {same} of {len(both)}")
    row = dict(name=name, unit=unit, note="; ".join(notes))
    row |= dict(
        zip(("stock", "ours", "ratio"), map(statistics.median, (stock, ours, faster)), strict=True)
    )
    memory = [statistics.median(p[i][1].peak_bytes / 2**20 for p in pairs) for i in (0, 1)]
    peak = dict(name=f"peak_memory {name}", unit="MiB", stock=memory[0], ours=memory[1])
    return [row, {**peak, "ratio": memory[0] / max(memory[1], 1), "note": "process tree, PSS"}]


def machine(device: str) -> dict:
    """Returns what the figures belong to."""
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = None
    facts = describe_machine()
    return dict(
        cpu=facts["cpu"],
        cpu_flags=[flag for flag in CPU_FLAGS if flag in cpu_flags()],
        cores=facts["usable_cores"],
        device=device,
        load=os.getloadavg()[0],
        python=platform.python_version(),
        versions=versions,
    )


def as_text(row: dict) -> str:
    """Returns a row as a line of the printed table."""
    figures = ["" if row[key] is None else f"{row[key]:.2f}" for key in ("stock", "ours", "ratio")]
    ratio = f"{figures[2]}x" if figures[2] else ""
    start = f"{row['name']:28} {row['unit']:9} {figures[0]:>9} {figures[1]:>9} {ratio:>8}"
    return f"{start}  {row['note']}"
