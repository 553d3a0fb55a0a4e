"""Folds: stratified, of whole groups, the same for all runs; groups.csv is read strictly."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from mmact_tiny.dataset import find_dataset
from mmact_tiny.errors import UserError
from mmact_tiny.folds.divide import divide, divide_dataset, group_videos, write_lists


def test_folds_are_stratified_and_whole_groups() -> None:
    labels = np.array([0] * 20 + [1] * 10)
    folds = divide(labels, range(30), 5)
    for fold in range(5):
        assert np.bincount(labels[folds == fold]).tolist() == [4, 2]
    assert (folds == divide(labels, range(30), 5)).all()
    groups = [index // 3 for index in range(30)]
    of_group = {*zip(groups, divide(labels, groups, 5).tolist(), strict=True)}
    assert len(of_group) == 10, "a group is in one fold"
    lone = divide([0, 0, 0, 0, 1], range(5), 2)
    assert np.bincount(lone).tolist() in ([3, 2], [2, 3]), "a class with one video"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("path,group\ntrain/0.mp4,a\n./train/1.mp4,a\nval/0.mp4,b\n\n", None),
        ("video,person\n", r"groups.csv:1: expected the columns path,group"),
        ("path,group\ntrain/0.mp4\n", r"groups.csv:2: expected a path and a group, not 'train/0"),
        ("path,group\n0.mp4,a\n", "names none of the videos in the lists: expected paths as train"),
    ],
)
def test_groups_of_a_dataset(toy_dataset: Path, text: str, said: str | None) -> None:
    """The toy's files are all empty, so copies of one; then a person's videos stay together."""
    with pytest.raises(UserError, match="10 videos in 1 groups cannot be divided"):
        divide_dataset(find_dataset(toy_dataset), 2)
    for number, path in enumerate(sorted(toy_dataset.rglob("*.mp4"))):
        path.write_bytes(b"x" * (number // 2))
    (toy_dataset / "groups.csv").write_text(text)
    dataset = find_dataset(toy_dataset)
    if said is not None:
        with pytest.raises(UserError, match=said):
            divide_dataset(dataset, 2)
        return
    videos, groups, folds = divide_dataset(dataset, 2)
    assert [video.path for video in videos][::9] == ["train/0.mp4", "val/3.mp4"]
    assert [*map(groups.count, groups)] == [2, 2, 2, 2, 2, 2, 1, 1, 2, 2]
    assert groups[0] == groups[1] == "group a" and folds[0] == folds[1]
    assert group_videos(toy_dataset, ["train/1.mp4 [0.5 s to 2.0 s]"]) == ["group a"]
    with pytest.raises(UserError, match=r"--folds 5: 10 videos in 6 groups .*\n  expected 2 to 4:"):
        divide_dataset(dataset, 5)
    lines = [f"{path},{'a' if n < 9 else 'b'}\n" for n, (path, _) in enumerate(videos)]
    (toy_dataset / "groups.csv").write_text("path,group\n" + "".join(lines))
    with pytest.raises(UserError, match=r"--folds 5: 10 videos in 2 groups .*\n  expected 2:"):
        divide_dataset(dataset, 5)


def test_the_lists_of_a_fold_are_a_dataset(toy_dataset: Path, tmp_path: Path) -> None:
    dataset = find_dataset(toy_dataset)
    for number, path in enumerate(sorted(toy_dataset.rglob("*.mp4"))):
        path.write_bytes(b"x" * number)
    videos, _, folds = divide_dataset(dataset, 2)
    assert not write_lists(tmp_path / "fold", dataset, videos, folds == 0)
    found = find_dataset(tmp_path / "fold")
    lines = [found.splits[name].ann_file.read_text().splitlines() for name in ("train", "val")]
    assert sorted(map(len, lines)) == [5, 5] and "train/0.mp4 0" in lines[0] + lines[1]
    assert (tmp_path / "fold/label_map.txt").read_text() == "walk\nrun\njump high\n"
    assert not write_lists(tmp_path / "fold", dataset, videos, folds == 0)
    assert write_lists(tmp_path / "fold", dataset, videos, folds == 1), "other lists were there"
    shutil.rmtree(tmp_path / "fold")
