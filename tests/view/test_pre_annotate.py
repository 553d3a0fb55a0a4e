"""Answers become pre-annotations that the tools' own exports are read like: a round trip."""

import json
import shutil
from pathlib import Path

import pytest
from conftest import ROOT
from exports import check_cvat, check_label_studio
from pattern_videos import make_video

from mmact_tiny.errors import UserError
from mmact_tiny.prepare.sources import find_source
from mmact_tiny.prepare.types import Settings
from mmact_tiny.view.pre_annotate import TOOLS, write_cvat
from tools import infer

SEGMENTS = [
    dict(start=0.0, end=1.0, label="run", score=0.9),
    dict(start=1.0, end=1.52, label="sit", score=0.5),
]


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("videos")
    return [make_video(folder / f"{name}.mp4", size=(96, 64), num_frames=50) for name in "ab"]


def read_again(export: Path, videos: list[Path]) -> list[tuple]:
    found = find_source(export, settings=Settings(videos=videos[0].parent)).listed
    return [
        (one.name, one.written, *((one.times.start, one.times.end) if one.times else ()))
        for one in found
    ]


def test_label_studio(tmp_path, videos):
    rows = [
        dict(video=str(videos[0]), segments=SEGMENTS),
        dict(video="gone.mp4", error="no such file"),
        dict(video=f"{videos[1]} [1.0 s to 2.0 s]", predictions=SEGMENTS[:1]),
    ]
    TOOLS["label-studio"].write(tmp_path / "x.json", rows)
    tasks = json.loads((tmp_path / "x.json").read_text())
    assert [task["data"]["fps"] for task in tasks] == [25, 25]
    check_label_studio(json.dumps(tasks))
    (first,) = tasks[0]["predictions"]
    assert first["result"][1] == {
        "id": "answer0.1",
        "from_name": "actions",
        "to_name": "video",
        "type": "timelinelabels",
        "value": {"ranges": [{"start": 26, "end": 38}], "timelinelabels": ["sit"]},
        "score": 0.5,
    }
    for number, task in enumerate(tasks):  # somebody accepts them all
        task |= {
            "id": number,
            "annotations": [dict(was_cancelled=False, **task.pop("predictions")[0])],
        }
    (tmp_path / "y.json").write_text(json.dumps(tasks))
    again = read_again(tmp_path / "y.json", videos)
    expected = [("a.mp4", "run", "0", "25"), ("a.mp4", "sit", "25", "38")]
    assert again == [*expected, ("b.mp4", "run", "25", "50")]


def test_cvat(tmp_path, videos):
    TOOLS["cvat"].write(tmp_path / "x.xml", [dict(video=str(videos[0]), segments=SEGMENTS)])
    again = read_again(tmp_path / "x.xml", videos)
    assert again == [("a.mp4", "run", "0", "25"), ("a.mp4", "sit", "25", "38")]
    whole = [dict(label="run", score=0.9)]
    several = [dict(video=str(video), predictions=whole) for video in videos]
    said = TOOLS["cvat"].write(tmp_path / "y.xml", several)
    assert said == f"{tmp_path}/y-VIDEO.xml for each of 2 videos"
    assert sorted(path.name for path in tmp_path.glob("y*")) == ["y-a.xml", "y-b.xml"]
    check_cvat((tmp_path / "y-a.xml").read_text())
    assert read_again(tmp_path / "y-b.xml", videos) == [("b.mp4", "run", "0", "50")]


def test_fiftyone(tmp_path, videos):
    rows = [dict(video=str(videos[0]), predictions=[dict(label="run", score=1.0)])]
    rows.append(dict(video=str(videos[1]), predictions=[]))
    rows.append(dict(video="gone.mp4", error="no such file"))  # counted as an error by `infer`
    TOOLS["fiftyone"].write(tmp_path / "tree", rows)
    found = find_source(tmp_path / "tree")
    assert [(one.name, one.written) for one in found.listed] == [("run/a.mp4", "run")]
    assert [one.message for one in found.problems] == ["without a label: left out"]
    twice = [dict(rows[0], video=f"{folder}/a.mp4") for folder in "xy"]
    with pytest.raises(UserError, match=r"x/a\.mp4 and y/a\.mp4 would both be"):
        TOOLS["fiftyone"].write(tmp_path / "twice", twice)
    assert not (tmp_path / "twice").exists()
    with pytest.raises(UserError, match="cannot link"):
        TOOLS["fiftyone"].write(tmp_path / "tree", rows)
    with pytest.raises(UserError, match="leave --window out"):
        TOOLS["fiftyone"].write(tmp_path / "other", [dict(video="a.mp4", segments=SEGMENTS)])


def test_the_tool(tmp_path, videos, tiny_checkpoint, capsys):
    words = [str(videos[0].parent), "--checkpoint", str(tiny_checkpoint), "--protocol", "val"]
    words += ["--device", "cpu", "--for", "label-studio"]
    assert infer.main([*words, "--window", "1", "--out", str(tmp_path / "x.json")]) == 0
    tasks = json.loads((tmp_path / "x.json").read_text())
    assert {one["type"] for task in tasks for one in task["predictions"][0]["result"]} == {
        "timelinelabels"
    }
    assert infer.main([*words, "--out", str(tmp_path / "y.json")]) == 0
    tasks = json.loads((tmp_path / "y.json").read_text())
    assert [len(task["predictions"][0]["result"]) for task in tasks] == [1, 1]
    for more in ([], ["--out", "x.csv"]):
        assert infer.main([*words, *more]) == 2
    said = capsys.readouterr().err
    assert "--for label-studio: expected --out too" in said and "ends in .json" in said


def test_two_videos_of_one_name_are_two_files_of_one_name(tmp_path):
    rows = [dict(video=str(tmp_path / folder / "x.mp4"), predictions=[]) for folder in "ab"]
    for row in rows:
        Path(row["video"]).parent.mkdir()
        shutil.copy(ROOT / "data/tiny/val/falling_rain1.mp4", row["video"])
    with pytest.raises(UserError, match="two videos of one name would be one file"):
        write_cvat(tmp_path / "out.xml", rows)
    assert not [*tmp_path.glob("*.xml")]
