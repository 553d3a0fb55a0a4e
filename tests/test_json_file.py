from pathlib import Path

import pytest

from mmact_tiny.errors import UserError
from mmact_tiny.files_json import finite, read_json, read_json_lines, write_json


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ([float("nan"), float("inf"), -float("inf"), 1.5], "[\n null,\n null,\n null,\n 1.5\n]\n"),
        ({"打字": (True, None)}, '{\n "打字": [\n  true,\n  null\n ]\n}\n'),
        ("\udcff.mp4", '"\\udcff.mp4"\n'),  # a file name that is no UTF-8
        (Path("a") / "b", '"a/b"\n'),
    ],
)
def test_what_is_written_is_json(tmp_path: Path, value: object, text: str) -> None:
    path = tmp_path / "new" / "file.json"
    write_json(value, path)
    assert path.read_text("utf-8") == text
    assert read_json(path) == finite(value)


def test_what_cannot_be_read(tmp_path: Path) -> None:
    assert read_json(tmp_path / "absent.json") is None
    assert read_json_lines(tmp_path / "absent.json") == []
    (tmp_path / "half.json").write_text('{"a": 1')
    with pytest.raises(UserError, match=r"cannot read .*half\.json"):
        read_json(tmp_path / "half.json")


def test_lines_that_are_no_objects_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "log.json"
    path.write_bytes(b'{"a": NaN}\n[1]\n\n\xff\xfe\n{"b": 2}\n{"c":')
    assert read_json_lines(path) == [{"a": None}, {"b": 2}]
