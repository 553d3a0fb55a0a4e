"""Answers are written whole, with names as the disk has them, in three formats."""

import json
import os
from pathlib import Path

import pytest

from mmact_tiny.errors import UserError
from mmact_tiny.files_printable import printable
from mmact_tiny.infer import write_rows

NAME = os.fsdecode(b"bad\xff.mp4")
ROWS = [
    dict(video=NAME, predictions=[dict(label="walk", score=0.75), dict(label="跑", score=0.25)]),
    dict(video="broken.mp4", error="cannot read video broken.mp4: no frames"),
]


def test_a_table_has_a_line_for_each_label_and_each_error(tmp_path: Path) -> None:
    write_rows(tmp_path / "a.csv", ROWS)
    assert (tmp_path / "a.csv").read_bytes() == (
        b"video,rank,label,score,error\r\n"
        b"bad\xff.mp4,1,walk,0.75,\r\n"
        b"bad\xff.mp4,2,\xe8\xb7\x91,0.25,\r\n"
        b"broken.mp4,,,,cannot read video broken.mp4: no frames\r\n"
    )


def test_json_and_json_lines(tmp_path: Path) -> None:
    for name in ("a.json", "a.jsonl"):
        write_rows(tmp_path / name, ROWS)
    text = (tmp_path / "a.json").read_bytes().decode("utf-8", "surrogateescape")
    assert json.loads(text) == ROWS
    lines = (tmp_path / "a.jsonl").read_bytes().decode("utf-8", "surrogateescape").splitlines()
    assert [json.loads(line) for line in lines] == ROWS


def test_what_cannot_be_written_leaves_the_answers_before(tmp_path: Path) -> None:
    write_rows(tmp_path / "a.csv", ROWS)
    with pytest.raises(UserError, match="cannot write"):
        write_rows(tmp_path / "a.csv" / "b.csv", ROWS)
    assert (tmp_path / "a.csv").read_text(errors="surrogateescape").count("\n") == 4


def test_a_name_does_nothing_to_the_terminal() -> None:
    assert printable("a\x1b[31mred\n.mp4 跑") == "a\\x1b[31mred\\n.mp4 跑"
