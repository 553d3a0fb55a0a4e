from pathlib import Path

import pytest

from mmact_tiny.errors import UserError
from mmact_tiny.recognizer import default_checkpoint, find_videos, k400_labels


def test_the_400_labels_are_those_of_the_tutorial(real_data: Path) -> None:
    """MMAction2's wheel leaves its label map out; torchvision's list has to be the same."""
    assert k400_labels() == (real_data / "label_map_k400.txt").read_text().splitlines()


def test_the_400_labels_without_that_file() -> None:
    labels = k400_labels()
    assert (len(labels), labels[0], labels[6], labels[399]) == (
        400,
        "abseiling",
        "arm wrestling",
        "zumba",
    )


def test_k400_weights_serve_where_no_run_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"tools/download.py tsn_r50_k400"):
        default_checkpoint()
    weights = Path(
        "checkpoints/"
        "tsn_imagenet-pretrained-r50_8xb32-1x1x3-100e_kinetics400-rgb_20220906-cd10898e.pth"
    )
    weights.parent.mkdir()
    weights.touch()
    assert default_checkpoint() == weights


def test_videos_of_files_and_folders(tmp_path: Path) -> None:
    for name in ("b.mp4", "a.MKV", "notes.txt", "sub/c.webm"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert [path.name for path in find_videos([tmp_path])] == ["a.MKV", "b.mp4", "c.webm"]
    assert len(find_videos([tmp_path, tmp_path / "b.mp4"])) == 3  # each once
    assert find_videos([tmp_path / "notes.txt"]) == [tmp_path / "notes.txt"]
    with pytest.raises(UserError, match="no video file"):
        find_videos([tmp_path / "gone.mp4"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="no video in"):
        find_videos([tmp_path / "empty"])
