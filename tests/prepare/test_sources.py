from pathlib import Path

import pytest

from mmact_tiny.errors import UserError
from mmact_tiny.prepare.labels import assign_labels
from mmact_tiny.prepare.sources import find_source
from mmact_tiny.prepare.types import Findings
from mmact_tiny.prepare.write import encode_name


def make(root: Path, files: dict[str, str]) -> Path:
    """Writes text files; what looks like a video is not opened here."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return root


def found_in(src: Path) -> Findings:
    findings = find_source(src)
    assign_labels(findings)
    return findings


def listed(findings: Findings) -> list[tuple[str, int, str | None]]:
    return [(video.name, video.label, video.split) for video in findings.listed]


LAYOUTS = {
    "class folders": (
        {"run/a.mp4": "", "run/deep/b.MKV": "", "jump high/a.mp4": "", "run/notes.txt": ""},
        ["jump high", "run"],
        [("jump high/a.mp4", 0, None), ("run/a.mp4", 1, None), ("run/deep/b.MKV", 1, None)],
    ),
    "split class folders": (
        {"Train/run/a.mp4": "", "Train/sit/a.mp4": "", "valid/run/a.mp4": "", "test/sit/b.mp4": ""},
        ["run", "sit"],
        [
            ("Train/run/a.mp4", 0, "train"),
            ("Train/sit/a.mp4", 1, "train"),
            ("test/sit/b.mp4", 1, "test"),
            ("valid/run/a.mp4", 0, "val"),
        ],
    ),
    "lists": (
        {
            "kinetics_tiny_train_video.txt": "a b.mp4 0\nc.mp4 1\n",
            "kinetics_tiny_val_video.txt": "d.mp4 1\n",
            "label_map.txt": "run\nsit\n",
            "train/a b.mp4": "",
            "train/c.mp4": "",
            "val/d.mp4": "",
        },
        ["run", "sit"],
        [("train/a b.mp4", 0, "train"), ("train/c.mp4", 1, "train"), ("val/d.mp4", 1, "val")],
    ),
    "table": (
        {
            "mine.csv": 'label;path;split\n"sit";"a;c.mp4";validation\n',
            "a;c.mp4": "",
        },
        ["sit"],
        [("a;c.mp4", 0, "val")],
    ),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts(tmp_path: Path, layout: str) -> None:
    files, classes, videos = LAYOUTS[layout]
    findings = found_in(make(tmp_path, files))
    assert (findings.layout, findings.classes, listed(findings)) == (layout, classes, videos)


@pytest.mark.parametrize(
    "name, text",
    [
        ("a.csv", "video,class\nx y.mp4,run\n"),
        ("a.csv", "x y.mp4,run\n"),
        ("a.csv", '"x y.mp4" , "run"\n'),
        ("a.csv", "\ufefffile;label\r\nx y.mp4;run\r\n"),
        ("a.tsv", "id\tpath\tlabel\n7\tx y.mp4\trun\n"),
        ("train.txt", "x y.mp4 run\n"),
        ("train.txt", "'x y.mp4' run\n"),
        ("train.txt", "x y.mp4,run\n"),
        ("train.txt", "# a comment\n\nx y.mp4\trun\n"),
    ],
)
def test_ways_to_write_a_line(tmp_path: Path, name: str, text: str) -> None:
    findings = found_in(make(tmp_path, {name: text, "x y.mp4": ""}))
    assert findings.classes == ["run"]
    assert listed(findings) == [("x y.mp4", 0, "train" if "txt" in name else None)]


@pytest.mark.parametrize(
    "written, label_map, classes, labels, kinds",
    [
        ("0 1 1", None, ["0", "1"], [0, 1, 1], []),
        ("1 2 2", None, ["1", "2"], [0, 1, 1], ["labels from 1"]),
        ("0 3 10", None, ["0", "3", "10"], [0, 1, 2], ["gap in labels"]),
        ("1 2 3", "a\nb\nc", ["a", "b", "c"], [0, 1, 2], ["labels from 1"]),
        ("1 2 2", "a\nb\nc", ["a", "b", "c"], [1, 2, 2], []),
        ("0 1 2", "a\nb", ["a", "b"], [0, 1, -1], ["label out of range"]),
        ("0 1 -1", None, ["0", "1"], [0, 1, -1], ["label out of range"]),
        ("0.0 1.0 1", None, ["0", "1"], [0, 1, 1], []),
        ("b a b", "b\na", ["b", "a"], [0, 1, 0], []),
        ("Jump_High a a", "a\njump high", ["a", "jump high"], [1, 0, 0], []),
        ("b a c", "b\na", ["b", "a"], [0, 1, -1], ["unknown label"]),
        ("Run run sit", None, ["Run", "run", "sit"], [0, 1, 2], ["classes alike"]),
        ("a b a|b", None, ["a", "a|b", "b"], [0, 2, 1], ["several labels in one"]),
        ("caf\u00e9 a a", "cafe\u0301\na", ["cafe\u0301", "a"], [0, 1, 1], []),
        ("b 1 b", "b\na", ["b", "a"], [0, 1, 0], []),
        ("b a 1", None, [], [-1, -1, -1], ["mixed labels"]),
        ("1 2 1", "1 a\n2 b", ["a", "b"], [0, 1, 0], ["labels from 1"]),
    ],
)
def test_labels(
    tmp_path: Path,
    written: str,
    label_map: str | None,
    classes: list[str],
    labels: list[int],
    kinds: list[str],
) -> None:
    files = {f"{index}.mp4": "" for index in range(3)}
    lines = [f"{index}.mp4,{label}\n" for index, label in enumerate(written.split())]
    files["a.csv"] = "".join(lines)
    if label_map:
        files["label_map.txt"] = label_map
    findings = found_in(make(tmp_path, files))
    assert findings.classes == classes
    assert [video.label for video in findings.listed] == labels
    assert [problem.kind for problem in findings.problems] == kinds


def test_numbered_folders_are_ordered_by_value(tmp_path: Path) -> None:
    findings = found_in(make(tmp_path, {f"{name}/a.mp4": "" for name in ("10", "9", "1")}))
    assert (findings.classes, findings.problems) == (["1", "9", "10"], [])


def test_paths_outside_the_source_do_not_collide(tmp_path: Path) -> None:
    make(tmp_path, {"x/a.mp4": "", "y/a.mp4": "", "src/a.csv": "../x/a.mp4,run\n../y/a.mp4,sit\n"})
    names = [video.name for video in find_source(tmp_path / "src").listed]
    assert len(set(names)) == 2 and all(name.startswith("outside/") for name in names)


def test_links_in_a_circle_end(tmp_path: Path) -> None:
    make(tmp_path, {"run/a.mp4": "", "sit/a.mp4": ""})
    (tmp_path / "run" / "again").symlink_to(tmp_path)
    assert ("run/a.mp4", 0, None) in listed(found_in(tmp_path))


@pytest.mark.parametrize(
    "files, message",
    [
        ({"a.csv": "x.mp4,run\n", "b.csv": "x.mp4,run\n"}, "cannot tell which"),
        ({"train.txt": "x.mp4 0\n", "my_train.txt": "x.mp4 0\n"}, "cannot tell which"),
        ({"notes.txt": "hello\n"}, "no videos in"),
        ({"run/a.mp4": "", "labels.txt": "run", "classes.txt": "run"}, "several label maps"),
    ],
)
def test_what_cannot_be_told_is_an_error(
    tmp_path: Path, files: dict[str, str], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        find_source(make(tmp_path, files))


@pytest.mark.parametrize(
    "name, encoded",
    [
        ("run/a.mp4", "run/a.mp4"),
        ("two words/a  b.mp4", "two%20words/a%20%20b.mp4"),
        ('it\'s "q".mp4', "it%27s%20%22q%22.mp4"),
        ("100%.mp4", "100%25.mp4"),
        ("тест 动作.mp4", "тест%20动作.mp4"),
        ("a\nb\u2028\u00a0.mp4", "a%0Ab%E2%80%A8%C2%A0.mp4"),
        ("bad\udcff.mp4", "bad%FF.mp4"),
    ],
)
def test_names_have_no_spaces_or_quotes(name: str, encoded: str) -> None:
    assert encode_name(name) == encoded


def test_long_names_stay_different_and_short_enough() -> None:
    names = [encode_name("ж" * 100 + " " * 20 + str(index) + ".mp4") for index in range(3)]
    assert len(set(names)) == 3
    assert all(len(name.encode()) <= 255 and name.endswith(".mp4") for name in names)
