"""Train, test and run every recognition config of the installed MMAction2, and write docs/zoo.md.

python benchmarks/zoo.py
python benchmarks/zoo.py --only slowfast --only tsm_imagenet
python benchmarks/zoo.py --device cuda --jobs 4 --out zoo_cuda.json --docs zoo_cuda.md

Each config has processes of its own, with a limit of time and of memory: two training steps, a
checkpoint, a test of two videos, one `infer`, and stock's own test of the same checkpoint. --out
is written after each config; a run that was interrupted goes on from it and tries again what
failed. --docs is written once no config is missing. The logs of failures lie beside --out.
"""

import argparse
import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))  # also where a test imports this file

from against_stock import subset
from measured import ROOT, end_processes_of, environment, measure
from report import machine
from zoo_job import LEAST_SPREAD

from mmact_tiny.checkpoints.config_text import stock_configs
from mmact_tiny.files import write_json
from mmact_tiny.hardware import describe_machine

TOLERANCE = 1e-5  # of a score, between our test in fp32 and stock's
MEMORY_SHARE = 0.9
HEADER = """# Recognition configs of MMAction2 1.2.0, trained, tested and run by their names

Written by `python benchmarks/zoo.py`, which runs all of it again.
"""
WHAT_WAS_RUN = """
Each config ran in processes of its own: `train.py mmaction::CONFIG` on two of the bundled clips,
two steps of one video from random weights, fp32 on a CPU; `test.py` on two clips; `infer.py` on
one. Then stock's own `Runner.test`, with the stock config and the same checkpoint. "Input" is what
the frames were reduced to, where the model allows another size (the same layers, with fewer
positions); "views" are clips x crops of the test, of clips of several frames at most two. "From
stock" is the largest difference of a score between the two tests, in fp32; "between videos" that
between the scores of the two videos in one test, beside which it has to be read. Seconds and peak
memory (of the process tree, what is shared counted once) are those of all of it. TRN draws
relations at random in tests too; here it draws the same each time. BatchNorm takes its statistics
from the two steps, so that random weights keep videos apart; where their scores came out nearer to
each other than 1e-4 all the same, each layer was scaled to outputs of deviation 1 before the tests
that are compared, which the note says.
"""
RATES = """
## Learning rates

What a stock config says, and what one process with a batch of 8 gets of it: the rule is `lr * batch
* processes / base batch`. A config without a training part gets one from the override `recipe`,
which says where its numbers are from.

| config | stock: optimizer | rate | base batch | ours, batch 8 |
| --- | --- | --- | --- | --- |
"""
COLUMNS = (
    *("config", "result", "parameters, M", "input", "views", "s", "peak, MiB"),
    *("from stock", "between videos", "note"),
)


@dataclass
class Row:
    """What became of a config."""

    config: str
    result: str  # works, refused or failed
    why: str = ""
    seconds: float = 0.0
    peak_mib: float = 0.0
    difference: float | None = None  # from stock, of a score
    spread: float | None = None  # between the two videos, of a score
    facts: dict[str, Any] = field(default_factory=dict)  # of zoo_job.py


@dataclass(frozen=True)
class Settings:
    """What all configs are run with."""

    data: Path
    device: str
    full_input: bool
    seconds: float  # for one config
    max_bytes: int
    logs: Path

    def job(self, job: str, config: Path, folder: Path, *flags: str) -> tuple[dict, float, float]:
        """Runs a job of zoo_job.py; returns what it wrote, its seconds and its peak in MiB."""
        command = [sys.executable, "benchmarks/zoo_job.py", job, config.stem, "--data"]
        command += [str(self.data), "--folder", str(folder), "--device", self.device, *flags]
        if self.full_input:
            command.append("--full-input")
        started, peak, failed = time.monotonic(), 0, ""
        try:
            measured = measure(
                command,
                cwd=ROOT,
                env=environment(),
                log=folder / f"{job}.txt",
                seconds=self.seconds,
                max_bytes=self.max_bytes,
            )
            peak = measured.peak_bytes
        except RuntimeError as error:
            failed = str(error).partition(", see ")[0]
        written = folder / f"{job}.json"
        facts = json.loads(written.read_text()) if written.exists() else {}
        if failed and "error" not in facts:
            facts["error"] = failed
        return facts, time.monotonic() - started, peak / 2**20


def is_refused(config: Path) -> bool:
    """Returns whether a config wants what class videos are not: optical flow, images as well."""
    return config.stem.endswith("-flow") or config.parent.name == "omnisource"


def run_config(config: Path, settings: Settings) -> Row:
    """Runs one config and returns what became of it; the log of a failure stays."""
    with tempfile.TemporaryDirectory(prefix="zoo_") as temporary:
        folder = Path(temporary)
        name = f"mmaction::{config.stem}"
        facts, seconds, peak = settings.job("ours", config, folder, "--name", name)
        row = Row(config.stem, "works", seconds=seconds, peak_mib=peak, facts=facts)
        if "error" in facts:
            judge_error(row, is_refused(config))
        elif is_refused(config):
            row.result, row.why = "failed", "was to be refused in words"
        else:
            flags = ("--checkpoint", facts["checkpoint"])
            stock, seconds, peak = settings.job("stock", config, folder, *flags)
            row.seconds += seconds
            row.peak_mib = max(row.peak_mib, peak)
            judge_scores(row, stock)
            if row.result == "failed" and row.difference is not None:
                shaken, *_ = settings.job("stock", config, folder, *flags, "--shake")
                judge_scores(row, stock, shaken)
        if row.result == "failed":
            settings.logs.mkdir(parents=True, exist_ok=True)
            logs = [path.read_text(errors="replace") for path in sorted(folder.glob("*.txt"))]
            (settings.logs / f"{config.stem}.txt").write_text("\n".join(logs))
    return row


def judge_error(row: Row, refused: bool) -> None:
    """Sets the result of a config that did not come through: a refusal is an error in words."""
    step = row.facts.get("step", "start")
    error = str(row.facts["error"])
    in_words = row.facts.get("user_error", False) and step == "resolve"
    row.result = "refused" if refused and in_words else "failed"
    lines = [line.strip() for line in error.splitlines() if line.strip()] or ["no message"]
    words = "; ".join(lines)[:300].removeprefix("UserError: ")
    row.why = words if row.result == "refused" else f"{step}: {words}"


def judge_scores(
    row: Row, stock: Mapping[str, Any], shaken: Mapping[str, Any] | None = None
) -> None:
    """Sets the differences of the scores, and the result of a config that came through.

    Weights after two steps may amplify rounding. `shaken` is stock's test of the same videos with
    its input changed by one part in 100,000: ours may differ by as much as stock from itself.
    """
    scores = row.facts["scores"]
    row.spread = largest_difference(scores[:1], scores[1:2])
    if "error" in stock:
        row.result, row.why = "failed", f"stock's test: {stock['error']}"[:300]
        return
    row.difference = largest_difference(scores, stock["scores"])
    row.result, row.why, allowed = "works", "", TOLERANCE
    if shaken and "scores" in shaken:
        own = largest_difference(shaken["scores"], stock["scores"])
        row.why = f"stock's own scores move by {own:.0e} where its input changes by 1e-5"
        allowed = max(allowed, own)
    problems = [
        f"{what} differs by {difference:.1e}"
        for what, difference in {
            "stock's test": row.difference,
            "infer": row.facts["infer_difference"],
        }.items()
        if not difference <= allowed
    ]
    if problems:
        row.result, row.why = "failed", "; ".join(problems)


def largest_difference(some: Sequence, others: Sequence) -> float:
    """Returns the largest difference of two lists of scores by video and class."""
    pairs = [zip(one, other, strict=True) for one, other in zip(some, others, strict=True)]
    return max(abs(a - b) for pair in pairs for a, b in pair)


def as_cells(row: Row) -> list[str]:
    """Returns the cells of a row of the table."""
    facts = row.facts
    missing = facts.get("without_gradient", [])
    notes = [row.why] if row.why else []
    if missing:
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        notes.append(f"no gradient: {', '.join(missing[:3])}{more}")
    if facts.get("is_scaled"):
        notes.append("layers scaled")
    if row.spread is not None and row.spread < LEAST_SPREAD:
        notes.append("both videos have the same scores, which show little")
    if "gpu_mib" in facts:
        notes.append(f"GPU memory {facts['gpu_mib']:,.0f} MiB")
    numbers = ["" if n is None else f"{n:.0e}" if n else "0" for n in (row.difference, row.spread)]
    size = f"{facts['parameters'] / 1e6:.1f}" if "parameters" in facts else ""
    cells = [row.config, row.result, size, facts.get("input", ""), facts.get("views", "")]
    cells += [f"{row.seconds:.0f}", f"{row.peak_mib:,.0f}" if row.peak_mib else "", *numbers]
    return [cell.replace("|", "\\|") for cell in [*cells, "; ".join(notes)]]


def summary(rows: Sequence[Row], num_refused: int) -> str:
    """Returns the counts in words."""
    count = {result: 0 for result in ("works", "refused", "failed")}
    for row in rows:
        count[row.result] += 1
    words = f"{count['works']} of {len(rows) - num_refused} work, {count['refused']} of "
    return f"{words}{num_refused} are refused in words, {count['failed']} failed"


def as_markdown(record: Mapping[str, Any], rows: Sequence[Row], num_refused: int) -> str:
    """Returns docs/zoo.md: the counts, the table of all configs, and that of the rates."""
    facts = record["machine"]
    packages = ", ".join(f"{k} {v}" for k, v in facts["versions"].items() if v)
    minutes = sum(row.seconds for row in rows) / 60
    lines = [HEADER, f"**{summary(rows, num_refused)}.**", WHAT_WAS_RUN]
    lines += [
        f"Machine: {facts['cpu']}, {facts['cores']} cores, {facts['device']}; Python "
        f"{facts['python']}, {packages}. {minutes:.0f} minutes in all.\n",
        f"| {' | '.join(COLUMNS)} |\n|{' --- |' * len(COLUMNS)}",
        *(f"| {' | '.join(as_cells(row))} |" for row in rows),
    ]
    rates = [
        f"| {row.config} | {stock['optimizer'] or 'none'} | {stock['lr'] or ''} | "
        f"{stock['base'] or ''} | {ours['optimizer']}, {ours['rate']} |"
        for row in rows
        if (ours := row.facts.get("our_rate")) and (stock := row.facts["stock_rate"])
    ]
    return "\n".join(lines) + "\n" + RATES + "\n".join(rates) + "\n"


def kept_rows(out: Path, settings: Mapping[str, Any]) -> dict[str, Row]:
    """Returns what an earlier run with the same settings has of those that did not fail."""
    record = json.loads(out.read_text()) if out.exists() else {"settings": None, "rows": []}
    rows = [Row(**row) for row in record["rows"] if record["settings"] == settings]
    return {row.config: row for row in rows if row.result != "failed"}


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--only", action="append", metavar="WORD", help="of a config's path; again")
    parser.add_argument("--out", type=Path, default=Path("work_dirs/zoo.json"), metavar="FILE.json")
    parser.add_argument("--docs", type=Path, default=ROOT / "docs/zoo.md", metavar="FILE.md")
    parser.add_argument("--jobs", type=int, default=1, help="configs at a time")
    parser.add_argument("--full-input", action="store_true", help="the configs' own input size")
    parser.add_argument("--seconds", type=float, default=600, help="for one process")
    parser.add_argument("--memory", type=float, metavar="GIB", help="for one config")
    args = parser.parse_args(argv)
    folder = stock_configs() / "recognition"
    configs = sorted(folder.rglob("*.py"))
    words = args.only or [""]
    chosen = [c for c in configs if any(word in str(c.relative_to(folder)) for word in words)]
    if not chosen:
        parser.error(f"--only {' '.join(words)}: no config has it in its name")
    memory = args.memory or describe_machine()["memory_gib"] * MEMORY_SHARE / args.jobs
    same = {"device": args.device, "full_input": args.full_input}
    rows = kept_rows(args.out, same)
    waiting = [c for c in chosen if args.only or c.stem not in rows]
    args.out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="zoo_data_") as data:
        subset(ROOT / "data/tiny", Path(data), argparse.Namespace(num_train=2, num_val=2))
        logs = args.out.with_suffix("")
        settings = Settings(Path(data), logs=logs, seconds=args.seconds, **same,
                            max_bytes=int(memory * 2**30))  # fmt: skip
        run_all(waiting, settings, rows, configs, args)
    found = [rows[config.stem] for config in configs if config.stem in rows]
    num_refused = sum(is_refused(c) for c in configs if c.stem in rows)
    print(summary(found, num_refused))
    if len(found) == len(configs):
        args.docs.write_text(as_markdown(json.loads(args.out.read_text()), found, num_refused))
        print(f"written: {args.docs}")
    return int(any(row.result == "failed" for row in found))


def run_all(
    waiting: Sequence[Path],
    settings: Settings,
    rows: dict[str, Row],
    configs: Sequence[Path],
    args: argparse.Namespace,
) -> None:
    """Runs configs, prints a line for each, and writes all rows after each."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    facts = machine(settings.device)
    with ThreadPoolExecutor(args.jobs) as pool:
        try:
            running = [pool.submit(run_config, config, settings) for config in waiting]
            for count, done in enumerate(as_completed(running), 1):
                row = done.result()
                rows[row.config] = row
                print(
                    f"{count}/{len(waiting)} {'  '.join(filter(None, as_cells(row)))}", flush=True
                )
                ordered = [asdict(rows[c.stem]) for c in configs if c.stem in rows]
                same = {"device": settings.device, "full_input": settings.full_input}
                write_json(args.out, {"machine": facts, "settings": same, "rows": ordered})
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            end_processes_of(os.getpid())
            raise


if __name__ == "__main__":
    raise SystemExit(main())
