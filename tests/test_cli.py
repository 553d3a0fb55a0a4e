"""What a flag's text means, the command that a tool notes, and tools in other locales."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

from mmact_tiny import cli
from mmact_tiny.cli import num_bytes
from mmact_tiny.errors import UserError
from mmact_tiny.runs import run_facts
from tools import train


@pytest.mark.parametrize(
    ("text", "expected"),
    [("1", 1), ("60K", 60_000), ("500M", 5 * 10**8), ("1.5g", 15 * 10**8), ("2T", 2 * 10**12)],
)
def test_a_size(text, expected):
    assert num_bytes(text) == expected


@pytest.mark.parametrize("text", ["0", "0.9", "-1", "inf", "nan", "G", ""])
def test_no_size(text):
    with pytest.raises(ValueError):
        num_bytes(text)


def test_names_and_numbers():
    assert train.names(" a, ,b") == ["a", "", "b"]  # no name either, which is told
    assert [train.int_or_auto("auto"), train.int_or_auto("12")] == ["auto", 12]


def test_config_options():
    """The flag may be there several times."""
    parser = cli.make_parser("")
    cli.add_cfg_options(parser)
    items = ["a.b=1", "c='x'", "d=x=y", "e=True", "f=false", "g=none", "h=[1, 2]", "i="]
    expected = {"a.b": 1, "c": "x", "d": "x=y", "e": True, "f": False, "g": None, "h": [1, 2]}
    args = parser.parse_args(["--cfg-options", *items[:5], "--cfg-options", *items[5:]])
    assert dict(args.cfg_options) == {**expected, "i": ""}
    for wrong in ("a", "=1"):
        with pytest.raises(UserError, match="expected key=value"):
            parser.parse_args(["--cfg-options", wrong])


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
        "python tests/test_cli.py configs/a.py --data 'my videos'"
    ]
    assert cli.command_line() is None, "no tool runs any more"


@pytest.mark.parametrize(
    ("text", "typed"),
    [
        ("train: python tools/train.py CONFIG", "train: mmact train CONFIG"),
        ("python tools/train.py configs/a.py --data x", "mmact train a --data x"),
        ("`python tools/test.py`\nmore", "`mmact test`\nmore"),
        ("no config configs/a.py, tools/a.py", "no config configs/a.py, tools/a.py"),
        ("torchrun --n=2 tools/probe.py --launcher x", "torchrun --n=2 --no-python mmact probe "),
    ],
)
def test_the_command_is_the_one_that_was_typed(monkeypatch, text, typed):
    assert str(UserError(text)) == text
    monkeypatch.setattr(sys, "argv", ["/usr/bin/mmact", "report"])
    assert str(UserError(text)).startswith(typed)
    assert cli.make_parser(text).description.startswith(typed)


def test_a_tool_of_mmact_notes_it(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["mmact train", "x"])
    assert seen_by(["tsn_tiny"]) == ["mmact train tsn_tiny"]
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    assert seen_by(["a"]) == ["torchrun --nproc_per_node=2 --no-python mmact train a"]


def test_the_command_under_torchrun(monkeypatch):
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    assert seen_by(["--launcher", "pytorch"]) == [
        "torchrun --nproc_per_node=2 tests/test_cli.py --launcher pytorch"
    ]


def test_names_that_an_ascii_locale_lacks_are_read_right_and_printed_as_escapes(
    tmp_path: Path, tiny_checkpoint: Path
) -> None:
    for name in ("雨", "旗"):
        (tmp_path / "videos" / name).mkdir(parents=True)
    clips = sorted((ROOT / "data/tiny/train").glob("*.mp4"))
    for index in range(6):
        shutil.copy(clips[index], tmp_path / "videos" / ("雨", "旗")[index % 2])
    out = tmp_path / "out"
    ascii_locale = {"LANG": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    environ = {**ascii_locale, "PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)}

    def run(*words: str | Path) -> str:
        command = [sys.executable, *map(str, words)]
        return subprocess.run(
            command, cwd=ROOT, env=environ, stdout=subprocess.PIPE, check=True
        ).stdout.decode("ascii")

    assert "\\u96e8" in run("tools/prepare_data.py", tmp_path / "videos", "--out", out)
    label_map = out / "label_map.txt"
    assert sorted(label_map.read_text(encoding="utf-8").split()) == ["旗", "雨"]
    label_map.write_text("雨\n旗\nc\nd\n", encoding="utf-8")
    words = ("--checkpoint", tiny_checkpoint, "--protocol", "val", "--label-map", label_map)
    assert "\\u96e8: 0." in run("tools/infer.py", clips[0], *words)
