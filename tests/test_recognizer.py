from pathlib import Path

import pytest

from mmact_tiny.errors import UserError
from mmact_tiny.recognizer import default_checkpoint, k400_labels


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
