from pathlib import Path

import pytest
import torch

from mmact_tiny.checkpoints.load import k400_labels, labels_of
from mmact_tiny.errors import UserError
from mmact_tiny.recognizer import Recognizer, default_checkpoint


def test_the_400_labels_are_those_of_the_tutorial(real_data):
    """MMAction2's wheel leaves its label map out; torchvision's list has to be the same."""
    assert k400_labels() == (real_data / "label_map_k400.txt").read_text().splitlines()


def test_the_400_labels_without_that_file():
    labels = k400_labels()
    assert (len(labels), labels[0], labels[6], labels[399]) == (
        400,
        "abseiling",
        "arm wrestling",
        "zumba",
    )


def test_k400_weights_serve_where_no_run_is(tmp_path, monkeypatch):
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


NAMED = {"meta": {"dataset_meta": {"classes": ["jump", "run"]}}}
# What the checkpoint carries, lines of the label map beside it, of the one given; the first name.
LABELS = {
    "carried": (NAMED, ["a", "b"], None, "jump"),
    "given": (NAMED, ["a", "b"], ["c", "d"], "c"),
    "beside": ({}, ["a", "b"], None, "a"),
    "carried for other classes": ({"meta": {"CLASSES": ("x", "y", "z")}}, ["a", "b"], None, "a"),
    "none": ({}, None, None, "class 0"),
    "beside, too short": ({}, ["a"], None, "{beside} has 1 lines; the model has 2 classes"),
}


@pytest.mark.parametrize("case", LABELS)
def test_names_of_the_classes(case: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    carried, beside, given, expected = LABELS[case]
    files = {tmp_path / "w_1-2.label_map.txt": beside, tmp_path / "mine.txt": given}
    for path, lines in files.items():
        if lines is not None:
            path.write_text("\n".join(lines))
    label_map = tmp_path / "mine.txt" if given else None
    try:
        labels = labels_of(carried, tmp_path / "w_1-2.pth", label_map, 2)
    except UserError as error:
        labels = [str(error)]
    assert labels[0].endswith(expected.format(beside=tmp_path / "w_1-2.label_map.txt"))
    said = [message for message in caplog.messages if "has no names of its classes" in message]
    assert len(said) == (case == "none")


@pytest.mark.parametrize(
    ("name", "backbone", "label"),
    [
        (
            "slowfast_r50_8xb8-4x16x1-256e_kinetics400-rgb_20220901-701b0f6f",
            "ResNet3dSlowFast",
            "abseiling",
        ),
        (
            "vmz_ircsn_from_scratch_r152_32x2x1_180e_kinetics400_rgb_20210617-5c933ae1",
            "ResNet3dCSN",
            "abseiling",
        ),
        (
            "tsm_imagenet-pretrained-r50_8xb16-1x1x8-50e_sthv2-rgb_20230317-be0fc26e",
            "ResNetTSM",
            "class 0",
        ),
    ],
)
def test_a_published_file_needs_no_config(
    name: str, backbone: str, label: str, tmp_path: Path
) -> None:
    torch.save({"state_dict": {}, "meta": {}}, tmp_path / f"{name}.pth")
    recognizer = Recognizer(tmp_path / f"{name}.pth", protocol="val")
    assert recognizer.cfg.model.backbone.type == backbone
    assert recognizer.labels[0] == label
