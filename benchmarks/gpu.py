"""Run all that this project claims of CUDA, on one GPU machine: tests, speed, profile, zoo.

python benchmarks/gpu.py --out DIR
python benchmarks/gpu.py --out DIR --minutes 9 --parts tests speed

The parts run in the order of worth, each in processes of its own and with a limit of time; one
that fails or hangs is noted, and the next one runs. DIR/gpu.json and DIR/gpu.md, the rows of
docs/benchmarks.md, are written after each part, and so hold what there is if the machine goes.
"""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

sys.path.insert(0, str(Path(__file__).parent))  # also where a test imports this file

from measured import ROOT, environment, measure
from report import machine

from mmact_tiny.files import write_json

LEAST_SECONDS = 20  # with less time left a part is not started
TESTS = ("tests/gpu", "tests/overrides/test_training_overrides.py")  # they need no extra
TAIL = 2000  # characters of a part's output that are kept
GOALS = {"train_epoch": 15, "tiny_job": 5, "test_full": 8, "infer_many": 8}  # times stock
CEILING_GOAL = 0.85  # of train_ceiling, what train_epoch is to reach
COLUMNS = "| row | unit | stock | ours | ratio | goal | peak memory, MiB: stock, ours | note |"


@dataclass(frozen=True)
class Part:
    """A command of the day: how long it may take, and the file in which it leaves its results."""

    name: str
    command: Sequence[str]
    seconds: float
    result: Path | None = None


def parts_of(args: argparse.Namespace, out: Path) -> list[Part]:
    """Returns the parts in the order of worth; their limits are shares of 25 minutes."""
    tests = ["-m", "pytest", "-m", "gpu", "-v", "--timeout", "120", "--junitxml"]
    tests += [str(out / "tests.xml"), *TESTS]
    speed = ["benchmarks/against_stock.py", "--data", args.data, "--device", "cuda", "--repeats"]
    rows = ["train_epoch", "train_ceiling", "test_full", "infer_many", "tiny_job", "test_full_fp32"]
    batch = ["--batch-size", str(args.batch_size)]
    profile = ["benchmarks/our_job.py", "profile", "--data", args.data, "--work-dir", str(out)]
    zoo = ["benchmarks/zoo.py", "--device", "cuda", "--jobs", str(args.jobs), "--seconds", "120"]
    return [
        Part("tests", tests, 360, out / "tests.xml"),
        Part("speed", [*speed, "1", *batch, "--out", str(out / "speed.json"), "--rows", *rows],
             480, out / "speed.json"),
        Part("profile", [*profile, *batch, "--out", str(out / "profile.json")],
             120, out / "profile.json"),
        Part("zoo", [*zoo, "--out", str(out / "zoo.json"), "--docs", str(out / "zoo.md")],
             900, out / "zoo.json"),
    ]  # fmt: skip


def run_part(part: Part, seconds: float, out: Path) -> dict[str, Any]:
    """Runs a part and returns what became of it; nothing that it does ends the day."""
    log = out / f"{part.name}.txt"
    record: dict[str, Any] = dict(name=part.name, command=list(part.command), why="", result=None)
    started = time.monotonic()
    try:
        command = [sys.executable, *part.command]
        limit = min(part.seconds, seconds)
        measure(command, cwd=ROOT, env=environment(), log=log, seconds=limit)
        record["status"] = "passed"
    except Exception as error:  # whatever it is, the next part gets its turn
        record |= dict(status="failed", why=str(error).partition(", see ")[0])
    record["seconds"] = round(time.monotonic() - started, 1)
    record["output"] = log.read_text(errors="replace")[-TAIL:] if log.exists() else ""
    if part.result is not None and part.result.exists():
        try:
            record["result"] = read_result(part.result)
        except Exception as error:  # a file that was cut off
            unread = f"{part.result.name}: {error}"
            record["why"] = f"{record['why']}; {unread}" if record["why"] else unread
    return record


def read_result(path: Path) -> Any:
    """Returns the JSON of a file, or of pytest's XML how many tests passed, and which did not."""
    if path.suffix != ".xml":
        return json.loads(path.read_text())
    outcomes: dict[str, list[str]] = {"passed": [], "failed": [], "skipped": []}
    for case in ElementTree.parse(path).iter("testcase"):
        kind = next((child.tag for child in case if child.tag != "properties"), "passed")
        kind = {"failure": "failed", "error": "failed"}.get(kind, kind)
        outcomes.setdefault(kind, []).append(case.get("name", ""))
    return outcomes


def run_day(
    parts: Sequence[Part], seconds: float, out: Path, facts: dict[str, Any]
) -> list[dict[str, Any]]:
    """Runs the parts while there is time, and writes gpu.json and gpu.md after each."""
    deadline = time.monotonic() + seconds
    records: list[dict[str, Any]] = []
    for part in parts:
        left = deadline - time.monotonic()
        if left < min(LEAST_SECONDS, part.seconds):
            records.append(dict(name=part.name, status="not run", seconds=0, why="no time left"))
        else:
            records.append(run_part(part, left, out))
        print("{name}: {status} in {seconds} s {why}".format(**records[-1]), flush=True)
        write_json(out / "gpu.json", {"machine": facts, "parts": records})
        (out / "gpu.md").write_text(as_markdown(records, facts))
    return records


def as_markdown(records: Sequence[dict[str, Any]], facts: dict[str, Any]) -> str:
    """Returns the parts, and the rows of docs/benchmarks.md, as tables."""
    versions = ", ".join(f"{name} {value}" for name, value in facts["versions"].items() if value)
    lines = [f"{facts['device']}, {facts['cpu']}, {facts['cores']} cores, Python "]
    lines[0] += f"{facts['python']}, {versions}.\n"
    lines += ["| part | result | s | note |", "| --- | --- | --- | --- |"]
    for record in records:
        cells = [record["name"], record["status"], str(record["seconds"]), note_of(record)]
        lines.append(f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |")
    speed = next((r for r in records if r["name"] == "speed"), {}).get("result") or {}
    if speed.get("rows"):
        lines += ["", COLUMNS, "| --- " * COLUMNS.count(" |") + "|"]
        lines += speed_rows(speed["rows"])
    return "\n".join(lines) + "\n"


def note_of(record: dict[str, Any]) -> str:
    """Returns what a part found, in words."""
    result, notes = record.get("result") or {}, [record["why"]] if record["why"] else []
    if record["name"] == "tests" and result:
        notes += [f"{len(names)} {kind}" for kind, names in result.items() if names]
        notes += [f"failed: {', '.join(result['failed'])}"] if result["failed"] else []
    if record["name"] == "zoo" and result:
        found = [row["result"] for row in result["rows"]]
        notes += [f"{found.count(kind)} {kind}" for kind in ("works", "refused", "failed")]
    if record["name"] == "profile" and result:
        notes.append("the step's longest: " + ", ".join(result["longest"]))
    return "; ".join(notes)


def speed_rows(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Returns the rows of against_stock.py as docs/benchmarks.md has them."""
    by_name = {row["name"]: row for row in rows}
    ceiling = by_name.get("train_ceiling", {}).get("ours")
    lines = []
    for name, row in by_name.items():
        if name.startswith("peak_memory "):
            continue
        note = row["note"]
        if name == "train_epoch" and ceiling:
            note += f"; {row['ours'] / ceiling:.0%} of train_ceiling (goal {CEILING_GOAL:.0%})"
        peak = by_name.get(f"peak_memory {name}")
        memory = f"{peak['stock']:,.0f}, {peak['ours']:,.0f}" if peak else ""
        figures = [f"{row[key]:.3g}" if row[key] else "" for key in ("stock", "ours")]
        ratio = f"{row['ratio']:.3g}x" if row["ratio"] else ""
        goal = f"{GOALS[name]}x" if name in GOALS else ""
        cells = [f"`{name}`", row["unit"], *figures, ratio, goal, memory, note]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def gpu_facts() -> dict[str, Any]:
    """Returns what the figures belong to: the machine and its first GPU."""
    import torch

    if not torch.cuda.is_available():
        raise SystemExit("benchmarks/gpu.py needs a CUDA device; torch sees none")
    memory = torch.cuda.get_device_properties(0).total_memory / 2**30
    return machine(f"{torch.cuda.get_device_name(0)} ({memory:.0f} GiB)")


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("work_dirs/gpu"), metavar="DIR")
    parser.add_argument("--minutes", type=float, default=25, help="for all parts")
    parser.add_argument("--parts", nargs="+", metavar="PART", help="tests, speed, profile, zoo")
    parser.add_argument("--data", default="data/tiny", metavar="DIR", help="of speed and profile")
    parser.add_argument("--batch-size", type=int, default=8, help="of speed and profile")
    parser.add_argument("--jobs", type=int, default=4, help="of zoo: configs at a time")
    args = parser.parse_args(argv)
    out = args.out.resolve()
    parts = parts_of(args, out)
    unknown = set(args.parts or ()) - {part.name for part in parts}
    if unknown:
        parser.error(f"--parts {' '.join(sorted(unknown))}: expected tests, speed, profile, zoo")
    chosen = [part for part in parts if args.parts is None or part.name in args.parts]
    out.mkdir(parents=True, exist_ok=True)
    records = run_day(chosen, args.minutes * 60, out, gpu_facts())
    print((out / "gpu.md").read_text())
    return int(any(record["status"] != "passed" for record in records))


if __name__ == "__main__":
    raise SystemExit(main())
