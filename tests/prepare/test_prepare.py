"""A messy folder, prepared: the report's counts are those that were planted."""

import csv
import json
import shutil
from collections import Counter
from pathlib import Path

import pytest
from messy_folder import lists, make_messy, write_classes
from video_files import encode_again, write_video

from mmact_tiny.annotations import find_problems
from mmact_tiny.dataset import find_dataset
from mmact_tiny.errors import UserError
from mmact_tiny.prepare.prepare import prepare_data
from mmact_tiny.prepare.types import Settings


@pytest.fixture(scope="module")
def messy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("messy")
    make_messy(root / "src")
    return root


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_counts_are_those_planted(messy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = messy / "out"
    summary = prepare_data(messy / "src", out)
    assert summary["listed"] == 11 + 1 + 11 + 9 + 4
    assert summary["quarantined"] == {
        "unreadable": 5,
        "no video stream": 1,
        "truncated": 1,
        "too few frames": 1,
        "variable size": 1,
    }
    assert summary["problem_counts"] == {
        "copy": 3,
        "not read by decord": 2,
        "not listed": 1,
        "list not read": 1,
        "empty folder": 1,
        "rotated": 1,
        "frame count": 1,
    }
    assert summary["left_out"] == {
        "of the system": 1,
        "hidden": 2,
        "not videos by name or content": 3,
        "links in a circle": 1,
        "folders named like videos, searched as folders": 1,
    }
    names = {Path(row["path"]).name: row["reason"] for row in rows(out / "quarantine.csv")}
    assert names == {
        "empty.mp4": "unreadable",
        "text.mp4": "unreadable",
        "audio.mp4": "no video stream",
        "cut.mkv": "truncated",
        "cut.mp4": "unreadable",
        "one.mp4": "too few frames",
        "broken link.mp4": "unreadable",
        "pipe.mp4": "unreadable",
        "sizes.mkv": "variable size",
    }
    assert sum(summary["videos"].values()) == 27
    # Which videos are drawn hangs on the encoders' versions: 2 of 12 contents of each class,
    # and the copies of those.
    assert 4 <= summary["videos"]["val"] <= 6
    codecs = {"h264": 17, "mjpeg": 4, "hevc": 2, "vp9": 2, "av1": 2}
    assert summary["codecs"] == codecs
    printed = capsys.readouterr().out.splitlines()
    assert printed[-1] == f"next: python tools/train.py configs/tsn_tiny.py --data {out}"
    assert json.loads((out / "summary.json").read_text()) == summary
    assert json.loads((out / "dataset.json").read_text())["version"] == 1


def test_stock_dataset_reads_every_line_and_video(messy: Path) -> None:
    from mmact_tiny import compat

    compat.repair()
    decord = pytest.importorskip("decord")
    from mmaction.datasets import VideoDataset

    out = messy / "out"
    prepare_data(messy / "src", out)
    dataset = find_dataset(out)
    assert find_problems(list(dataset.splits.values()), num_classes=2) == []
    count = 0
    for split in ("train", "val"):
        ann_file, video_dir = dataset.splits[split].ann_file, dataset.splits[split].video_dir
        stock = VideoDataset(str(ann_file), [], data_prefix=dict(video=str(video_dir)))
        count += len(stock)
        for index in range(len(stock)):
            info = stock.get_data_info(index)
            reader = decord.VideoReader(info["filename"])
            assert reader.get_batch([0, len(reader) - 1]).shape[3] == 3
    assert count == 27
    assert (out / "label_map.txt").read_text() == "clap hands\nwave\n"


def split_source(root: Path) -> Path:
    """Writes train/ and validation/ class folders of 4 and 2 videos per class."""
    write_classes(root / "train", range(8))
    write_classes(root / "validation", range(10, 14))
    return root


def test_leaks_are_fatal_and_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, out = split_source(tmp_path / "src"), tmp_path / "out"
    assert prepare_data(source, out)["videos"] == {"train": 8, "val": 4, "test": 0}
    val = source / "validation" / "c0"
    shutil.copy(source / "train" / "c0" / "0.mp4", val / "same bytes.mp4")
    encode_again(source / "train" / "c0" / "2.mp4", val / "again.avi")
    before = lists(out)
    with pytest.raises(UserError, match="no dataset written: leak"):
        prepare_data(source, out)
    assert lists(out) == before
    printed = capsys.readouterr().out
    train = source / "train" / "c0"
    same = "in val: the same video as"
    for name, other, how in (
        ("same bytes.mp4", "0.mp4", "byte for byte"),
        ("again.avi", "2.mp4", "encoded differently"),
    ):
        assert f"{val / name} {same} {train / other} ({how}), in train (train/c0)" in printed
    summary = prepare_data(source, out, Settings(keep_leaks=True))
    assert summary["problem_counts"]["leak"] == 2
    assert summary["videos"] == {"train": 8, "val": 6, "test": 0}


@pytest.mark.parametrize("source_name", ["one class", "notes.txt"])
def test_a_source_without_labelled_videos_leaves_the_dataset_as_it_is(
    tmp_path: Path, source_name: str
) -> None:
    out = tmp_path / "out"
    prepare_data(split_source(tmp_path / "src"), out)
    before = lists(out)
    shutil.copytree(tmp_path / "src" / "train" / "c0", tmp_path / "one class")
    (tmp_path / "one class" / "empty").mkdir()  # looks like class folders
    (tmp_path / "notes.txt").write_text("Some text\nthat is no list of videos.\n")
    with pytest.raises(UserError, match=r"no labelled video|:1: 'Some text'"):
        prepare_data(tmp_path / source_name, out)
    assert lists(out) == before and len(before["train"]) == 8


def test_one_class_alone_is_warned_of(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(split_source(tmp_path / "src") / "train" / "c0", tmp_path / "one" / "c0")
    prepare_data(tmp_path / "one", tmp_path / "out")
    assert "\nWARNING: 'c0' is the only class: any model is right" in capsys.readouterr().out


def test_copies_never_part_when_the_split_is_drawn(tmp_path: Path) -> None:
    for index in range(6):
        video = write_video(tmp_path / "src" / "a" / f"{index}.mp4", seed=index)
        encode_again(video, tmp_path / "src" / "a" / f"again{index}.avi")
        write_video(tmp_path / "src" / "b" / f"{index}.mp4", seed=100 + index)
    summary = prepare_data(tmp_path / "src", tmp_path / "out", Settings(val=0.5, batch_size=2))
    assert summary["problem_counts"] == {"copy": 6}
    split = {row["video"]: row["split"] for row in rows(tmp_path / "out" / "videos.csv")}
    for index in range(6):
        assert split[f"videos/a/{index}.mp4"] == split[f"videos/a/again{index}.avi"]


def test_faults_of_a_table_are_reported_by_line(tmp_path: Path) -> None:
    source = tmp_path / "src"
    for index in range(8):
        write_video(source / "clips" / f"v {index}.mp4", seed=index)
    write_video(source / "clips" / "unlisted.mp4", seed=99)
    lines = ["path,label,split"]
    lines += [f'"clips/v {i}.mp4",{1 + i % 2},{"val" if i > 5 else "train"}' for i in range(8)]
    lines += [
        '"clips/v 0.mp4",1,train',  # 10: repeated
        "clips/gone.mp4,1,train",  # 11: missing
        '"clips/v 1.mp4",,train',  # 12: no label
        '"clips/v 2.mp4",1,tset',  # 13: no such split
        '"clips/v 3.mp4",-4,val',  # 14: out of range
    ]
    (source / "all.csv").write_text("\n".join(lines) + "\n")
    summary = prepare_data(source, tmp_path / "out")
    found = {(p["kind"], p["where"].rpartition("/")[2]) for p in summary["problems"]}
    assert found == {
        ("duplicate", "all.csv:10"),
        ("missing file", "all.csv:11"),
        ("no label", "all.csv:12"),
        ("unknown split", "all.csv:13"),
        ("label out of range", "all.csv:14"),
        ("labels from 1", "all.csv:2"),
        ("not listed", "unlisted.mp4"),
        ("smaller than a batch", ""),
    }
    assert lists(tmp_path / "out")["val"] == [
        "videos/clips/v%206.mp4 0",
        "videos/clips/v%207.mp4 1",
    ]


def test_real_videos_with_planted_faults(tmp_path: Path, real_data: Path) -> None:
    data, source = real_data / "exercise_or_typing", tmp_path / "src"
    for split, count in (("train", 3), ("val", 1)):
        (source / split).mkdir(parents=True)
        with (source / f"{split}.txt").open("w") as file:
            for label, name in enumerate(("doing_exercises", "typing")):
                videos = sorted((data / split).glob(f"{name}*"), key=lambda p: p.stat().st_size)
                for video in videos[:count]:
                    (source / split / video.name).symlink_to(video)
                    file.write(f"{video.name} {label}\n")
    victim = sorted((source / "train").iterdir())[0]
    half = victim.read_bytes()[: victim.stat().st_size // 2]
    (source / "train" / "half.mp4").write_bytes(half)
    leak = sorted((source / "val").iterdir())[0]
    encode_again(leak, source / "train" / "leak.avi")
    with (source / "train.txt").open("a") as file:
        file.write("half.mp4 0\nleak.avi 0\ngone.mp4 1\n")
    (source / "label_map.txt").write_text("doing exercises\ntyping\n")
    with pytest.raises(UserError, match="leak"):
        prepare_data(source, tmp_path / "out")
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert sum(summary["quarantined"].values()) == 1
    counts = Counter(summary["problem_counts"])
    assert (counts["leak"], counts["missing file"]) == (1, 1)
    assert summary["videos"] == {"train": 7, "val": 2, "test": 0}
