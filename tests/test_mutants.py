"""The mutation tool on a package of one function."""

import pytest
from conftest import ROOT
from jobs import run_python

SOURCE = '''"""Doc 1."""
import logging

logger = logging.getLogger("toy")


def scaled(rate: int | float, videos: int, limit: int = 8) -> float:
    """Returns 2 of 3."""
    logger.info("%d", 3)
    return rate * min(videos, limit)
'''
TEST = "from toy.rate import scaled\n\n\ndef test_it():\n    assert scaled(0.5, 4) == 2.0\n"
# What `mutants.main` runs, on another project than this one and with nothing to import before.
RUN = """
import sys
from pathlib import Path
from benchmarks import mutants

mutants.ROOT, mutants.SOURCES, mutants.TESTS = Path.cwd(), ("toy/*.py",), ("tests/test_*.py",)
mutants.preload = lambda tree: None
mutants.main(["--all", "--jobs", "2"])
"""
DEFAULT = "def scaled(rate: int | float, videos: int, limit: int = {}) -> float:"
CHANGE = f"`` {DEFAULT.format(8)} `` -> `` {DEFAULT.format('{}')} ``"


def test_a_mistake_is_noticed_and_a_survivor_keeps_its_reason(tmp_path):
    pytest.importorskip("cosmic_ray")
    document = tmp_path / "docs/mutants.md"
    for name, text in (
        ("toy/rate.py", SOURCE),
        ("tests/test_rate.py", TEST),
        (
            "docs/mutants.md",
            f"Before.\n<!-- results -->\nold\n<!-- end of results -->\n"
            f"- `toy/rate.py` {CHANGE.format(9)}: no folder is as large\n",
        ),
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    run_python("-c", RUN, cwd=tmp_path, env={"PYTHONPATH": str(ROOT)})
    results = document.read_text()
    assert results.startswith("Before.\n<!-- results -->\n`python benchmarks/mutants.py --all`: ")
    assert "| toy/rate.py | 4 | 2 | 0 | 50% |" in results
    assert f"- `toy/rate.py:7` {CHANGE.format(9)}: no folder is as large" in results
    assert f"- `toy/rate.py:7` {CHANGE.format(7)}: **no reason yet**" in results
    assert (tmp_path / "toy/rate.py").read_text() == SOURCE
