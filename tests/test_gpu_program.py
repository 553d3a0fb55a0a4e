"""The program of the GPU day, on a CPU: a part that fails or hangs ends nothing but itself."""

import argparse
import json
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT

from benchmarks import gpu

FACTS = dict(
    cpu="AMD", cores=2, device="H100 (79 GiB)", python="3.12.3", versions={"torch": "2.11"}
)
XML = (
    '<testsuites><testsuite><testcase name="a"/><testcase name="b"><failure/></testcase>'
    '<testcase name="c"><skipped/></testcase></testsuite></testsuites>'
)


def part(name: str, code: str, seconds: float = 60, result: Path | None = None) -> gpu.Part:
    return gpu.Part(name, ["-c", code], seconds, result)


def test_a_part_that_fails_or_hangs_is_noted_and_the_next_one_runs(tmp_path: Path) -> None:
    left, cut, tests = tmp_path / "left.json", tmp_path / "cut.json", tmp_path / "tests.xml"
    parts = [
        part("fails", "print('at it'); raise SystemExit(4)"),
        part("hangs", f"open({str(left)!r}, 'w').write('[1]'); import time; time.sleep(99)",
             4, left),
        part("cut off", f"open({str(cut)!r}, 'w').write('[1')", result=cut),
        part("tests", f"open({str(tests)!r}, 'w').write({XML!r})", result=tests),
    ]  # fmt: skip
    records = gpu.run_day(parts, 3600, tmp_path, FACTS)
    found = {r["name"]: (r["status"], r.get("result")) for r in records}
    assert found == {
        "fails": ("failed", None),
        "hangs": ("failed", [1]),
        "cut off": ("passed", None),
        "tests": ("passed", {"passed": ["a"], "failed": ["b"], "skipped": ["c"]}),
    }
    assert [r["why"] for r in records[1:2]] == ["took more than 4 s"]
    assert "exit status 4" in records[0]["why"] and records[0]["output"] == "at it\n"
    assert records[2]["why"].startswith("cut.json: Expecting")
    assert json.loads((tmp_path / "gpu.json").read_text()) == {"machine": FACTS, "parts": records}
    text = (tmp_path / "gpu.md").read_text()
    assert text.startswith("H100 (79 GiB), AMD, 2 cores, Python 3.12.3, torch 2.11.\n")
    assert text.endswith("| 1 passed; 1 failed; 1 skipped; failed: b |\n")
    (record,) = gpu.run_day([part("late", "raise SystemExit(4)")], 1, tmp_path, FACTS)
    assert (record["status"], record["why"]) == ("not run", "no time left")


def test_the_rows_of_the_benchmarks() -> None:
    rows: list[dict[str, Any]] = [
        dict(name="train_epoch", unit="videos/s", stock=2.0, ours=34.0, ratio=17.0, note="1 run"),
        dict(name="peak_memory train_epoch", unit="MiB", stock=3000.4, ours=2e3, ratio=2, note=""),
        dict(name="train_ceiling", unit="videos/s", stock=None, ours=40, ratio=None, note="1 run"),
    ]
    assert gpu.speed_rows(rows) == [
        "| `train_epoch` | videos/s | 2 | 34 | 17x | 15x | 3,000, 2,000 | "
        "1 run; 85% of train_ceiling (goal 85%) |",
        "| `train_ceiling` | videos/s |  | 40 |  |  |  | 1 run |",
    ]


def test_the_day_is_made_of_commands_that_exist(tmp_path: Path) -> None:
    args = argparse.Namespace(data="data/tiny", batch_size=8, jobs=4)
    parts = gpu.parts_of(args, tmp_path)
    assert [p.name for p in parts] == ["tests", "speed", "profile", "zoo"]
    assert sum(p.seconds for p in parts[:3]) < 25 * 60, "the zoo takes what is left"
    scripts = [ROOT / p.command[0] for p in parts[1:]]
    assert all(script.is_file() for script in scripts)


def test_without_a_gpu_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit, match="needs a CUDA device"):
        gpu.main(["--out", str(tmp_path)])


def test_a_profile_of_an_epoch(tmp_path: Path) -> None:
    """Of the small job, on a CPU: the same code with CUPTI on a GPU."""
    from our_job import profile

    from benchmarks import small_job as job
    from mmact_tiny.config import load_config

    cfg = load_config(job.write_job(tmp_path))
    found = profile(cfg, argparse.Namespace(work_dir=str(tmp_path)))
    assert json.loads(Path(found["trace"]).read_text())["traceEvents"]
    assert len(found["longest"]) == 5 and found["longest"][0].endswith(" ms")
