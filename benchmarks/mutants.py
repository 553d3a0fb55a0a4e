"""Puts small mistakes into the code, one at a time, and lists those that no short test notices.

python benchmarks/mutants.py --sample 600 --seed 0
python benchmarks/mutants.py --all --only mmact_tiny/metrics.py

First each test file is run without a mistake, to note which tests run which lines. Then each
mutant is run in a copy of the project with the tests that run its line, those named like its file
first. It is noticed when a test fails or they take too long. A run over all files writes its
results to docs/mutants.md, where the reasons why a mutant may live are kept by hand.
"""

import argparse
import ast
import itertools
import json
import mmap
import os
import platform
import random
import re
import shutil
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # run as a script, too

from benchmarks.mutations import Mutant, find_mutants  # noqa: E402

SOURCES = (
    "mmact_tiny/*.py",
    *(f"mmact_tiny/{room}/*.py" for room in ("annotations", "download", "multi_label")),
    "mmact_tiny/overrides/*.py",
    "mmact_tiny/engine/*.py",
    "mmact_tiny/hooks/resume.py",
)
TESTS = (
    "tests/test_*.py",
    *(f"tests/{room}/test_*.py" for room in ("annotations", "download", "multi_label")),
    "tests/overrides/test_*.py",
    "tests/engine/test_*.py",
    "tests/hooks/test_*.py",
    "tests/checkpoints/test_*.py",
    "tests/e2e/test_broken_video_jobs.py",
    "tests/e2e/test_end_to_end.py",
    "tests/e2e/test_wrong_flags.py",
)
LINKED = ("data", "checkpoints")  # not copied
NOT_COPIED = shutil.ignore_patterns(".*", "__pycache__", "*.egg-info", "work_dirs")
MOST_SECONDS = 60.0  # of tests for one mutant, by what they took without one
START_SECONDS, SLOWER = 60.0, 5.0  # a mutant may take this, and so many times what its tests took
PASSED = (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED)
TIMED_OUT = -signal.SIGALRM
BROKEN = 70
_times = itertools.count(1_000_000_000)
RESULTS = re.compile(r"(?<=<!-- results -->\n).*(?=<!-- end of results -->)", re.DOTALL)
REASON = re.compile(r"^- `(\S+)` `` (.*) `` -> `` (.*) ``: (.+)$", re.MULTILINE)


@dataclass
class Task:
    """What a child does in its copy of the project: runs tests, with a mutant or without."""

    files: Sequence[str]
    tests: Sequence[str] = ()
    mutant: Mutant | None = None
    seconds: float = 1800.0


@dataclass
class Baseline:
    """Of each test that passes without a mutant: its seconds, and the lines that it ran."""

    seconds: dict[str, float] = field(default_factory=dict)
    lines: dict[str, set[tuple[str, int]]] = field(default_factory=dict)
    failed: list[str] = field(default_factory=list)

    def tests_of(self, mutant: Mutant) -> list[str]:
        """Returns the tests that run the line of a mutant, in the order to run them.

        For a line that runs at import, such as a constant, those that run any line of its file.
        """
        span = {(mutant.file, line) for line in lines_around(mutant.source, mutant.line)}
        found = [test for test in self.seconds if span & self.lines[test]]
        costs: dict[str, float] = {}
        for test in found:
            file = test.partition("::")[0]
            costs[file] = costs.get(file, 0) + self.seconds[test]
        stem = Path(mutant.file).stem
        order = sorted(costs, key=lambda file: (stem not in Path(file).name, costs[file]))
        found.sort(key=lambda test: order.index(test.partition("::")[0]))
        sums = itertools.accumulate((self.seconds[test] for test in found), initial=0.0)
        return [test for test, before in zip(found, sums, strict=False) if before < MOST_SECONDS]


class Selected:
    """Has pytest run the tests of a mutant, in their order."""

    def __init__(self, tests: Sequence[str]) -> None:
        self.place = {name: index for index, name in enumerate(tests)}

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        items[:] = [item for item in items if item.nodeid in self.place]
        items.sort(key=lambda item: self.place[item.nodeid])


class Recorder:
    """Notes what each test takes and which lines it runs, in processes that it forks too."""

    def __init__(self, files: Sequence[str], out: Path) -> None:
        self.out = out
        self.failed: list[str] = []
        self.seconds: dict[str, float] = {}
        self.run: dict[str, set[int]] = {}
        self.shared: set[int] = set()  # run by fixtures of a whole file, so for all of its tests
        self.places = [(f, n) for f in files for n in range(Path(f).read_text().count("\n") + 2)]
        self.starts = {str(Path(file).resolve()): self.places.index((file, 0)) for file in files}
        self.hits = mmap.mmap(-1, len(self.places))  # shared with forked processes

    def trace(self, frame: Any, event: str, argument: object) -> Any:
        start = self.starts.get(frame.f_code.co_filename)
        if start is None or frame.f_code.co_name == "<module>":
            return None
        self.hits[start + frame.f_lineno] = 1
        return self.trace

    @contextmanager
    def recording(self, into: set[int]) -> Iterator[None]:
        before, self.hits[:] = self.hits[:], bytes(len(self.hits))
        try:
            yield
        finally:
            into |= {place for place, hit in enumerate(self.hits[:]) if hit}
            self.hits[:] = before

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef: pytest.FixtureDef) -> Iterator[None]:
        if fixturedef.scope == "function":
            return (yield)
        with self.recording(self.shared):
            return (yield)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        began = time.perf_counter()
        threading.settrace(self.trace)
        sys.settrace(self.trace)
        try:
            with self.recording(self.run.setdefault(item.nodeid, set())):
                return (yield)
        finally:
            sys.settrace(None)
            self.seconds[item.nodeid] = time.perf_counter() - began

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self.failed.append(report.nodeid)

    def pytest_sessionfinish(self) -> None:
        run = {
            test: [self.places[place] for place in places | self.shared]
            for test, places in self.run.items()
        }
        self.out.write_text(json.dumps([self.seconds, run, self.failed]))


def lines_around(source: str, line: int) -> set[int]:
    """Returns the lines of the statement at a line; all lines for what runs at import."""
    span, within = (1, len(source.splitlines())), False
    for node in ast.walk(ast.parse(source)):  # outer ones first
        body = getattr(node, "body", None)
        if not isinstance(node, ast.stmt | ast.ExceptHandler) or not (
            node.lineno <= line <= (node.end_lineno or node.lineno)
        ):
            continue
        if isinstance(node, ast.FunctionDef):
            within, span = True, (node.lineno, node.end_lineno or node.lineno)
        elif within:
            compound = isinstance(body, list) and line < body[0].lineno
            last = body[0].lineno - 1 if compound and body else node.end_lineno
            span = (node.lineno, max(node.lineno, last or 0))
    return set(range(span[0], span[1] + 1))


def run_task(task: Task, folder: Path, sources: Sequence[str]) -> int:
    """Runs a task in this process, and returns pytest's status."""
    os.setsid()
    output = os.open(folder / "output.txt", os.O_CREAT | os.O_TRUNC | os.O_WRONLY)
    os.dup2(output, 1)
    os.dup2(output, 2)
    tree = folder / "tree"
    os.chdir(tree)
    sys.path.insert(0, str(tree))
    os.environ["PYTHONPATH"] = str(tree)
    options = ["-q", "-p", "no:cacheprovider", f"--rootdir={tree}"]
    options += [f"--basetemp={folder / 'tmp'}", *task.files]
    if task.mutant is None:
        return int(pytest.main(options, [Recorder(sources, folder / "lines.json")]))
    return int(pytest.main(["-x", *options], [Selected(task.tests)]))


def write(file: Path, code: str) -> None:
    """Writes a file with a time of its own, so that what was compiled before is not used."""
    file.write_text(code)
    os.utime(file, (next(_times),) * 2)


def run_tasks(
    tasks: Iterable[Task], folders: Sequence[Path], sources: Sequence[str] = ()
) -> Iterator[tuple[Task, int, Path]]:
    """Runs tasks in forked children, one for each copy of the project; yields them as they end.

    The status is pytest's, or below 0 that of the signal that ended the child.

    Raises:
        RuntimeError: a child could not start its tests.
    """
    waiting, free = iter(tasks), list(folders)
    running: dict[int, tuple[Task, Path, float]] = {}
    task = next(waiting, None)
    while running or task:
        if free and task:
            folder = free.pop()
            if task.mutant:
                write(folder / "tree" / task.mutant.file, task.mutant.code or "")
            pid = os.fork()
            if pid == 0:
                try:
                    os._exit(run_task(task, folder, sources))
                except BaseException:
                    traceback.print_exc()
                    os._exit(BROKEN)
            running[pid] = task, folder, time.monotonic() + task.seconds
            task = next(waiting, None)
            continue
        time.sleep(0.02)
        for pid, (done, folder, deadline) in list(running.items()):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if not ended and time.monotonic() < deadline:
                continue
            with suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL)  # with the processes that it left behind
            if not ended:
                os.waitpid(pid, 0)
            if done.mutant:
                write(folder / "tree" / done.mutant.file, done.mutant.source)
            del running[pid]
            code = os.waitstatus_to_exitcode(status) if ended else TIMED_OUT
            if code == BROKEN:
                raise RuntimeError((folder / "output.txt").read_text()[-3000:])
            yield done, code, folder
            free.append(folder)


def copy_project(root: Path, folder: Path) -> Path:
    """Makes a copy of the project for one child at a time."""
    for path in root.iterdir():
        target = folder / "tree" / path.name
        target.parent.mkdir(parents=True, exist_ok=True)
        if path.name in LINKED:
            target.symlink_to(path)
        elif path.is_file():
            shutil.copy(path, target)
        elif path.name not in NOT_COPIED(str(root), [path.name]):
            shutil.copytree(path, target, ignore=NOT_COPIED)
    return folder


def record(sources: Sequence[str], tests: Sequence[str], folders: Sequence[Path]) -> Baseline:
    """Runs the tests without a mutant.

    Raises:
        RuntimeError: a test file did not come to its end.
    """
    baseline = Baseline()
    for task, status, folder in run_tasks((Task([file]) for file in tests), folders, sources):
        if status not in (*PASSED, pytest.ExitCode.TESTS_FAILED):
            raise RuntimeError(f"{task.files}: {(folder / 'output.txt').read_text()[-3000:]}")
        seconds, run, failed = json.loads((folder / "lines.json").read_text())
        baseline.failed += failed
        baseline.seconds |= {test: took for test, took in seconds.items() if test not in failed}
        for test in seconds.keys() - failed:
            baseline.lines[test] = {(file, line) for file, line in run[test]}
        print(f"{task.files[0]}: {len(seconds)} tests, {len(failed)} failed", flush=True)
    return baseline


def try_mutants(
    mutants: Sequence[Mutant], baseline: Baseline, folders: Sequence[Path]
) -> dict[Mutant, int]:
    """Returns the status of each mutant's tests; 0 where no test runs its line."""
    statuses, tasks = {}, []
    for mutant in mutants:
        tests = baseline.tests_of(mutant)
        seconds = START_SECONDS + SLOWER * sum(baseline.seconds[test] for test in tests)
        files = list(dict.fromkeys(test.partition("::")[0] for test in tests))
        statuses[mutant] = 0
        if tests:
            tasks.append(Task(files, tests, mutant, seconds))
    for count, (task, status, _) in enumerate(run_tasks(tasks, folders), 1):
        assert task.mutant is not None
        statuses[task.mutant] = status
        if status in PASSED or status == TIMED_OUT:
            word = "took too long" if status == TIMED_OUT else "lives"
            print(f"{count}/{len(tasks)} {word}: {describe(task.mutant)}", flush=True)
    return statuses


def describe(mutant: Mutant) -> str:
    before, after = mutant.change
    return f"`{mutant.file}:{mutant.line}` `` {before} `` -> `` {after} ``"


def as_markdown(statuses: dict[Mutant, int], baseline: Baseline, reasons: dict) -> str:
    """Returns the table by file, and the list of survivors with the reasons kept for them."""
    living = [mutant for mutant, status in statuses.items() if status in PASSED]
    lines = ["| file | mutants | noticed | of these too slow | share |", "| --- |" + " --- |" * 4]
    for name in [*sorted({mutant.file for mutant in statuses}), "all"]:
        found = {m: status for m, status in statuses.items() if name in (m.file, "all")}
        noticed = [status for status in found.values() if status not in PASSED]
        share = f"{len(noticed) / len(found):.0%}"
        slow = noticed.count(TIMED_OUT)
        lines.append(f"| {name} | {len(found)} | {len(noticed)} | {slow} | {share} |")
    if baseline.failed:
        lines += ["", f"Left out, they failed without a mutant: {', '.join(baseline.failed)}"]
    lines += ["", "Survivors, by file and line:", ""]
    for mutant in sorted(living, key=lambda mutant: (mutant.file, mutant.line)):
        reason = reasons.get((mutant.file, *mutant.change), "**no reason yet**")
        no_test = "" if baseline.tests_of(mutant) else " (no test here runs it)"
        lines.append(f"- {describe(mutant)}{no_test}: {reason}")
    return "\n".join(lines) + "\n"


def preload(tree: Path) -> None:
    """Imports what all children need, but nothing that is mutated: they import that anew."""
    sys.path.insert(0, str(tree))
    door = import_module("mmact_tiny.compat")
    for name in door._homes():
        getattr(door, name)
    for name in ("av", "cv2", "matplotlib"):
        import_module(name)
    sys.path.remove(str(tree))
    for name in [name for name in sys.modules if name.partition(".")[0] == "mmact_tiny"]:
        del sys.modules[name]


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--sample", type=int, default=600, metavar="N", help="number of mutants")
    parser.add_argument("--seed", type=int, default=0, help="of the sample")
    parser.add_argument("--all", action="store_true", help="every mutant: hours")
    parser.add_argument("--only", nargs="+", default=[], metavar="FILE", help="of these files")
    parser.add_argument("--tests", nargs="+", default=TESTS, help="patterns of test files")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="mutants at a time")
    args = parser.parse_args(argv)
    sources = [str(path.relative_to(ROOT)) for glob in SOURCES for path in sorted(ROOT.glob(glob))]
    tests = [str(path.relative_to(ROOT)) for glob in args.tests for path in sorted(ROOT.glob(glob))]
    os.environ.setdefault("MMACT_TINY_DATA", str(ROOT.parent / "shared" / "data"))
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="mutants-") as temporary:
        folders = [copy_project(ROOT, Path(temporary) / str(job)) for job in range(args.jobs)]
        preload(folders[0] / "tree")
        baseline = record(sources, tests, folders)
        found = [
            mutant
            for file in args.only or sources
            for mutant in find_mutants(file, (folders[0] / "tree" / file).read_text())
        ]
        random.Random(args.seed).shuffle(found)
        chosen = (mutant for mutant in found if mutant.code is not None)
        mutants = list(itertools.islice(chosen, None if args.all else args.sample))
        statuses = try_mutants(mutants, baseline, folders)
    document = ROOT / "docs" / "mutants.md"
    text = document.read_text() if document.exists() else ""
    reasons = {(file, before, after): why for file, before, after, why in REASON.findall(text)}
    options = "--all" if args.all else f"--sample {args.sample} --seed {args.seed}"
    minutes = (time.monotonic() - began) / 60
    machine = f"{os.cpu_count()} cores ({platform.machine()}), Python {platform.python_version()}"
    results = (
        f"`python benchmarks/mutants.py {options}`: {len(mutants)} of {len(found)} mutants, "
        f"{minutes:.0f} minutes on {machine}.\n\n{as_markdown(statuses, baseline, reasons)}"
    )
    print(results)
    if not args.only and RESULTS.search(text):
        document.write_text(RESULTS.sub(lambda _: results, text))


if __name__ == "__main__":
    main()
