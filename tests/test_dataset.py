import re

import pytest

from mmact_tiny import annotations
from mmact_tiny import dataset as datasets
from mmact_tiny.errors import UserError


def test_finds_the_splits_and_the_folders_that_hold_them(toy_dataset):
    dataset = datasets.find_dataset(toy_dataset)
    assert dataset.splits == {
        "train": annotations.Split(toy_dataset / "train.txt", toy_dataset / "train"),
        "val": annotations.Split(toy_dataset / "val.txt", toy_dataset / "val"),
    }
    assert datasets.class_names(dataset) == ["walk", "run", "jump high"]


def test_paths_relative_to_the_root_are_found_too(toy_dataset):
    (toy_dataset / "train.txt").write_text("train/0.mp4 0\n")
    assert datasets.find_dataset(toy_dataset).splits["train"].video_dir == toy_dataset


def test_takes_the_names_of_the_tutorial_archive(toy_dataset):
    (toy_dataset / "train.txt").rename(toy_dataset / "kinetics_tiny_train_video.txt")
    split = datasets.find_dataset(toy_dataset).splits["train"]
    assert split.ann_file.name == "kinetics_tiny_train_video.txt"


def test_names_classes_after_their_labels_without_a_label_map(toy_dataset):
    (toy_dataset / "label_map.txt").unlink()
    names = datasets.class_names(datasets.find_dataset(toy_dataset))
    assert names == ["class 0", "class 1", "class 2"]


@pytest.mark.parametrize(
    ("folder", "command"),
    [
        ("data/kinetics400_tiny_", "tools/prepare_data.py"),
        ("elsewhere/kinetics400_tiny", "tools/download.py kinetics400_tiny"),
        ("elsewhere/data/tiny", "tools/render_tiny.py"),
    ],
)
def test_a_missing_folder_names_the_command_that_makes_it(folder, command):
    with pytest.raises(UserError, match=command):
        datasets.find_dataset(folder)


def test_a_folder_of_videos_is_to_be_prepared_into_another(tmp_path):
    folder = tmp_path / "my clips"
    (folder / "walk").mkdir(parents=True)
    (folder / "walk" / "1.mp4").touch()
    command = re.escape(f"prepare_data.py '{folder}' --out 'data/my clips_prepared'")
    with pytest.raises(UserError, match=command):
        datasets.find_dataset(folder)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("", "is empty"),
        ("a\n\nb\n", ":2: no class name"),
        ("a\nb\na\n", ":3: 'a' already names line 1"),
    ],
)
def test_a_wrong_label_map_is_named_with_its_line(tmp_path, content, expected):
    label_map = tmp_path / "label_map.txt"
    label_map.write_text(content)
    with pytest.raises(UserError, match=expected):
        datasets.read_label_map(label_map)


def test_empty_lines_at_the_end_of_a_label_map_name_nothing(tmp_path):
    (tmp_path / "label_map.txt").write_text("\ufeffa\n b c \n\n \n", encoding="utf-8")
    assert datasets.read_label_map(tmp_path / "label_map.txt") == ["a", "b c"]
