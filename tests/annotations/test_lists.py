"""Lists of videos and of stretches are read, and all that is wrong with them is told at once."""

from pathlib import Path

import pytest

from mmact_tiny import annotations
from mmact_tiny.errors import UserError


def refuse_wrong(ann_file: Path, video_dir: Path) -> None:
    annotations.refuse(annotations.find_problems([annotations.Split(ann_file, video_dir)], 3))


def test_all_problems_are_shown_together_with_their_lines(toy_dataset):
    ann_file = toy_dataset / "train.txt"
    ann_file.write_text("0.mp4 0\ngone.mp4 1\n\n1.mp4 3\n2.mp4 -1\n3.mp4 run\nmy 4.mp4 1\n5.mp4\n")
    with pytest.raises(UserError) as caught:
        refuse_wrong(ann_file, toy_dataset / "train")
    assert str(caught.value).splitlines() == [
        "6 problem(s) in the annotations:",
        f"  {ann_file}:2: no file {toy_dataset / 'train' / 'gone.mp4'}",
        f"  {ann_file}:4: label 3 of '1.mp4' is not in 0 .. 2",
        f"  {ann_file}:5: label -1 of '2.mp4' is not in 0 .. 2",
        f"  {ann_file}:6: label 'run' of '3.mp4' is not a number",
        f"  {ann_file}:7: a space in 'my 4.mp4': MMAction2 splits lines on spaces",
        f"  {ann_file}:8: label '' of '5.mp4' is not a number",
        "  put them right, or let `python tools/prepare_data.py` make a clean dataset",
    ]


def test_shares_look_at_each_line_once(toy_dataset):
    ann_file = toy_dataset / "train.txt"
    ann_file.write_text("".join(f"gone{index}.mp4 0\n" for index in range(5)))
    split = annotations.Split(ann_file, toy_dataset)
    shares = [annotations.find_problems([split], 3, share=(rank, 2)) for rank in range(2)]
    assert [[problem.line for problem in share] for share in shares] == [[2, 4], [1, 3, 5]]
    assert annotations.count_annotations(ann_file) == 5


def test_many_problems_fit_one_screen(toy_dataset):
    ann_file = toy_dataset / "train.txt"
    ann_file.write_text("".join(f"gone{index}.mp4 0\n" for index in range(100)))
    with pytest.raises(UserError) as caught:
        refuse_wrong(ann_file, toy_dataset)
    assert str(caught.value).startswith("100 problem(s)")
    assert "... and 80 more" in str(caught.value)
    assert len(str(caught.value).splitlines()) == 23
    ann_file.write_text("\n")
    with pytest.raises(UserError, match=r"1 problem\(s\) .*\n  .*train\.txt: lists no video"):
        refuse_wrong(ann_file, toy_dataset)


def test_a_csv_lists_stretches(toy_dataset):
    ann_file = toy_dataset / "train.csv"
    ann_file.write_text('path,start,end,label\n"my, 1.mp4",0,2.5,1\n\n1.mp4,12.34567,13,0\n')
    rows = annotations.read_annotations(ann_file)
    assert [(row.line, row.name, row.label) for row in rows] == [
        (2, "my, 1.mp4 [0.0 s to 2.5 s]", "1"),
        (4, "1.mp4 [12.346 s to 13.0 s]", "0"),
    ]
    lines = ["1.mp4,-1,2,0", "1.mp4,2,2,0", "1.mp4,x,2,0", "gone.mp4,0,1,0", "2.mp4,0,inf,9"]
    ann_file.write_text("\n".join(["path,start,end,label", *lines, "2.mp4,0,1,9"]))
    with pytest.raises(UserError) as caught:
        refuse_wrong(ann_file, toy_dataset / "train")
    assert str(caught.value).splitlines()[1:-1] == [
        f"  {ann_file}:2: '-1' to '2' of '1.mp4' are not seconds, as 12 or 15.5",
        f"  {ann_file}:3: the stretch of '1.mp4' ends before it begins: 2 to 2",
        f"  {ann_file}:4: 'x' to '2' of '1.mp4' are not seconds, as 12 or 15.5",
        f"  {ann_file}:5: no file {toy_dataset / 'train' / 'gone.mp4'}",
        f"  {ann_file}:6: '0' to 'inf' of '2.mp4' are not seconds, as 12 or 15.5",
        f"  {ann_file}:7: label 9 of '2.mp4' is not in 0 .. 2",
    ]


NAMED = {  # by lists in the toy dataset's folder, where a name without a slash is from there
    "train.txt": (
        "0.mp4 0\n1.mp4 1 2\ngone.mp4 -1\n",
        ["train/0.mp4", "train/1.mp4", "train/gone.mp4"],
    ),
    "mine.txt": (
        "\ufeffmy 2.mp4\r\n\n/x/y z.MKV 3\ns3://b/z.mp4 0\nclip 3\n4.mp4 typing\n",
        ["my 2.mp4", "/x/y z.MKV", "s3://b/z.mp4", "clip 3", "4.mp4 typing"],
    ),
    "val.CSV": (
        "path,start,end,label\n3.mp4,0,2.5,1\n\n/a.mp4,1,2,\n",
        ["val/3.mp4 [0.0 s to 2.5 s]", "/a.mp4 [1.0 s to 2.0 s]"],
    ),
}


@pytest.mark.parametrize("name", NAMED)
def test_what_a_list_names(name, toy_dataset):
    text, expected = NAMED[name]
    (toy_dataset / name).write_text(text, newline="")
    named = annotations.expand_lists(["a.mp4", toy_dataset / name])
    places = [
        each if each[0] == "/" or "://" in each else f"{toy_dataset}/{each}" for each in expected
    ]
    assert named == ["a.mp4", *places]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.txt", "\n", r"a\.txt: lists no video"),
        ("a.csv", "path,start,end,label\n", r"a\.csv: lists no video"),
        ("a.csv", "video,rank\nb.mp4,1\n", r"a\.csv: expected the columns path,start,end,label"),
        (
            "a.csv",
            "path,start,end,label\nb.mp4,2,1,0\n",
            r"a\.csv:2: .* ends before it begins: 2 to",
        ),
        ("gone.txt", None, r"cannot read list .*gone\.txt: No such file"),
    ],
)
def test_a_list_that_names_nothing(name, text, message, tmp_path):
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(UserError, match=message):
        annotations.expand_lists([tmp_path / name])


@pytest.mark.parametrize("text", ["", "path,label\na.mp4,1\n", "path,start,end,label\na,1,2\n"])
def test_a_csv_of_other_columns_is_refused(tmp_path, text):
    (tmp_path / "train.csv").write_text(text)
    with pytest.raises(UserError, match=r"expected the columns path,start,end,label"):
        annotations.read_annotations(tmp_path / "train.csv")


def test_a_binary_annotation_file_is_refused(tmp_path):
    (tmp_path / "train.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="not UTF-8 text"):
        annotations.read_annotations(tmp_path / "train.txt")
