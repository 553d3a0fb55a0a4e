"""Labels of a tool become a recognizer, and its answers pre-annotations that the tool imports."""

import json
from pathlib import Path

import pytest
from exports import check_cvat, check_label_studio, cvat, label_studio
from video_files import write_video

from benchmarks import small_job
from tools import infer, prepare_data, test, train

ROWS = [
    (f"{name}.mp4", start, start + 1, label)
    for name in "abcd"
    for start, label in ((0.0, "run"), (1.0, "sit"))
]


def accept(tasks: Path) -> None:
    """Makes annotations of the predictions, as somebody does who accepts them all."""
    found = json.loads(tasks.read_text())
    for number, task in enumerate(found):
        (prediction,) = task.pop("predictions")
        task |= {"id": number, "annotations": [{"was_cancelled": False, **prediction}]}
    tasks.write_text(json.dumps(found))


@pytest.mark.parametrize(
    ("tool", "write", "check", "suffix"),
    [
        ("label-studio", label_studio, check_label_studio, ".json"),
        pytest.param("cvat", cvat, check_cvat, ".xml", marks=pytest.mark.slow),
    ],
)
def test_labels_go_in_and_come_out_again(tmp_path, tool, write, check, suffix, capsys):
    """Prepared, trained for an epoch, tested, asked, and prepared again of what was answered."""
    for seed, name in enumerate("abcd"):
        write_video(tmp_path / "videos" / f"{name}.mp4", seed=seed)
    (tmp_path / f"x{suffix}").write_text(write(ROWS))
    videos, data = ("--videos", str(tmp_path / "videos")), str(tmp_path / "data")
    source = str(tmp_path / f"x{suffix}")
    prepare_data.main([source, *videos, "--out", data, "--workers", "1", "--val", "0.34"])
    assert "8 stretches listed" in capsys.readouterr().out
    config = tmp_path / "job.py"
    config.write_text(small_job.CONFIG.replace("DATA", repr(data)))
    run = [str(config), "--work-dir", str(tmp_path / "run"), "--device", "cpu"]
    one_view = ["--protocol", "val"]
    assert train.main([*run, "--epochs", "1"]) in (None, 0)
    scores = tmp_path / "scores.json"
    assert test.main([*run, *one_view, "--out", str(scores)]) in (None, 0)
    rows = json.loads(scores.read_text())["videos"]
    assert len(rows) == 2 and all(row["video"].endswith(" s]") for row in rows)

    checkpoint = str(next((tmp_path / "run").glob("best*.pth")))
    out = tmp_path / "answers" / f"p{suffix}"
    asked = [f"{videos[1]}/{name}.mp4" for name in "ab"]
    words = [*asked, "--checkpoint", checkpoint, "--window", "1", "--for", tool, *one_view]
    assert infer.main([*words, "--out", str(out), "--device", "cpu", "--engine", "torch"]) == 0
    said = capsys.readouterr().out
    files = sorted(out.parent.iterdir())
    assert len(files) == (1 if tool == "label-studio" else 2)
    for file in files:
        check(file.read_text())
    if tool == "label-studio":
        accept(out)
    else:
        assert f"written: {out.parent}/p-VIDEO.xml for each of 2 videos" in said
    again = str(tmp_path / "again")
    prepare_data.main([str(out.parent), *videos, "--out", again, "--workers", "1"])
    lists = [Path(again, f"{split}.csv").read_text() for split in ("train", "val")]
    names = {line.split(",")[0] for text in lists for line in text.splitlines()[1:]}
    assert names == {f"videos/{name}.mp4" for name in "ab"}
