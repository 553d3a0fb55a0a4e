"""The notebook: its cells have the outputs of a whole run, its commands exist, and it runs."""

import json
import os
import re
import shlex
import shutil
import sys
from importlib import import_module
from pathlib import Path

import pytest
from conftest import ROOT

NOTEBOOK = ROOT / "docs" / "tutorial.ipynb"
CELLS = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
CODE = [cell for cell in CELLS if cell["cell_type"] == "code"]
COMMANDS = re.findall(r"(?m)^ *!?mmact (.*)$", "\n".join("".join(cell["source"]) for cell in CELLS))


def pictures(cells: list) -> int:
    outputs = [output for cell in cells for output in cell["outputs"]]
    return sum("image/png" in output.get("data", ()) for output in outputs)


def test_it_has_the_seven_steps_and_the_outputs_of_a_whole_run():
    text = "\n".join("".join(cell["source"]) for cell in CELLS if cell["cell_type"] == "markdown")
    assert re.findall(r"(?m)^## (\d)\. ", text) == list("1234567")
    assert [cell["execution_count"] for cell in CODE] == list(range(1, len(CODE) + 1))
    outputs = [output for cell in CODE for output in cell["outputs"]]
    assert not [output for output in outputs if output["output_type"] == "error"]
    assert pictures(CODE) == 3, "samples, curves, labelled frames"
    printed = "".join("".join(output.get("text", ())) for output in outputs)
    assert "all well" in printed and "best checkpoint: work_dirs/tsn_tiny/best_" in printed
    assert not re.search(r"/(tmp|root|home|work)/", printed)


@pytest.mark.parametrize("command", COMMANDS)
def test_its_commands_have_such_flags(command, capsys):
    name, *words = shlex.split(command.partition("|")[0])
    with pytest.raises(SystemExit):
        import_module(f"tools.{name}").main(["--help"])
    known = capsys.readouterr().out.split()
    assert {word for word in words if word.startswith("--")} <= {word.strip("[]") for word in known}


@pytest.mark.slow
def test_it_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a folder like docs/ of a checkout; `mmact` is the command of this tree."""
    nbclient = pytest.importorskip("nbclient", reason="pip install 'mmact-tiny[notebook]'")
    nbformat = pytest.importorskip("nbformat")
    shutil.copytree(ROOT / "data/tiny", tmp_path / "data/tiny")
    (tmp_path / "docs").mkdir()
    mmact = tmp_path / "bin" / "mmact"
    mmact.parent.mkdir()
    mmact.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m tools "$@"\n')
    mmact.chmod(0o755)
    monkeypatch.setenv("PATH", f"{mmact.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}:{os.environ.get('PYTHONPATH', '')}")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    where = {"metadata": {"path": str(tmp_path / "docs")}}
    nbclient.NotebookClient(notebook, timeout=500, resources=where).execute()
    assert pictures([cell for cell in notebook.cells if cell.cell_type == "code"]) == 3
    assert (tmp_path / "work_dirs" / "tsn_tiny" / "test" / "results.json").is_file()
