"""The command of a tool, as it can be typed again, and the facts that a run notes."""

import json
from types import SimpleNamespace

import pytest

from mmact_tiny import cli
from mmact_tiny.runs import record_run, run_facts


def seen_by(argv: list[str]) -> list[str | None]:
    """Returns the command as a tool sees it that is called with these arguments."""
    seen = []

    @cli.tool
    def main(argv: object = None) -> None:
        seen.append(run_facts(cli.command_line())["command"])

    main(argv)
    return seen


def test_the_command_can_be_typed_again():
    assert seen_by(["configs/a.py", "--data", "my videos"]) == [
        "python tests/test_run_facts.py configs/a.py --data 'my videos'"
    ]
    assert cli.command_line() is None, "no tool runs any more"


def test_the_command_under_torchrun(monkeypatch):
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    assert seen_by(["--launcher", "pytorch"]) == [
        "torchrun --nproc_per_node=2 tests/test_run_facts.py --launcher pytorch"
    ]


def test_the_facts_name_what_the_figures_belong_to():
    import numpy
    import torch

    facts = run_facts()
    assert facts["command"] is None
    assert facts["num_processes"] == 1
    assert facts["packages"]["numpy"] == numpy.__version__
    assert facts["packages"]["torch"] == torch.__version__.partition("+")[0]
    assert facts["machine"]["cores"] >= 1


@pytest.mark.parametrize(("rank", "written"), [(0, ["run.json"]), (1, [])])
def test_the_first_process_writes_the_facts(rank, written, tmp_path):
    record_run(SimpleNamespace(rank=rank, log_dir=tmp_path, seed=5), "python x.py")
    assert [path.name for path in tmp_path.iterdir()] == written
    if written:
        facts = json.loads((tmp_path / written[0]).read_text())
        assert (facts["command"], facts["seed"]) == ("python x.py", 5)
