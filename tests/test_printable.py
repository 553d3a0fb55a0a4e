"""Names of strangers do nothing to a terminal."""

from pathlib import Path

import pytest

from mmact_tiny import cli, progress
from mmact_tiny.files_printable import printable, printable_lines
from tools import infer

ESCAPE = "\x1b[2J\x1b]0;title\x07"


def test_escapes_are_shown_and_all_that_can_be_read_stays() -> None:
    assert printable("sit up \U0001f3cb é\n") == "sit up \U0001f3cb é\\n"
    assert printable(ESCAPE) == "\\x1b[2J\\x1b]0;title\\x07"
    assert printable_lines("a\tb\n\rc") == "a\tb\n\\rc"
    assert printable("bad\udcff.mp4") == "bad\\udcff.mp4"


def test_what_the_tools_say_and_their_errors_hold_none(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    progress.say(f"cannot read {ESCAPE}")
    assert infer.main([str(tmp_path / ESCAPE.replace("/", ""))]) == cli.EXIT_ERROR
    said = capsys.readouterr()
    assert "\x1b" not in said.out + said.err
    assert "\\x1b[2J" in said.out and "\\x1b[2J" in said.err
