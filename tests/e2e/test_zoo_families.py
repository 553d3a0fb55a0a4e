"""One small config of each family of MMAction2's zoo, by its name, through the three tools."""

import argparse
import json
from pathlib import Path

import pytest
from conftest import ROOT
from families import FAMILIES

from benchmarks import zoo, zoo_job
from mmact_tiny.compat import MODELS
from mmact_tiny.config import load_config
from mmact_tiny.errors import EXIT_ERROR, EXIT_OK
from tools import infer, test, train

NAMES = (
    *("C2D", "C3D", "I3D", "CSN, ir", "MViT", "R(2+1)D", "SlowFast", "SlowOnly", "Swin", "TANet"),
    *("TimeSformer, spaceOnly", "TIN", "TPN, TSM", "TRN", "TSM, MobileNetV2", "UniFormer"),
    *("UniFormerV2, K710 classes", "VideoMAE", "X3D"),
)
REFUSED = (
    "slowonly_r50_8xb16-8x8x1-256e_imagenet-kinetics400-rgb",
    "slowonly_r50_8xb16-16x4x1-256e_kinetics400-flow",
    "tsn_imagenet-pretrained-r50_8xb32_5x1x3-110e_kinetics400-flow",
)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Two training clips and one validation clip of the bundled ones."""
    folder = tmp_path_factory.mktemp("data")
    zoo.subset(ROOT / "data/tiny", folder, argparse.Namespace(num_train=2, num_val=1))
    return str(folder)


def small(name: str, data: str, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Returns the flags that make a config's input and its model small.

    An architecture that the config has by its name is made small under that name.
    """
    family = FAMILIES[name]
    cfg = load_config(
        f"mmaction::{family.config.stem}",
        changes={"dataset_paths": {"data_root": data}, "pretrained": {"weights": "none"}},
    )
    node = cfg.model.backbone
    values = {
        f"{'' if key in node else '+'}model.backbone.{key}": value
        for key, value in family.backbone.items()
        if key not in (*zoo_job.SIDE_KEYS, *zoo_job.FRAME_KEYS, "arch")
    }
    if "arch" in family.backbone:
        known = MODELS.get(node.type).arch_zoo
        monkeypatch.setitem(known, node.arch, family.backbone["arch"])
    values["model.cls_head.in_channels"] = family.channels
    for key in ("in_channels", "out_channels", "spatial_modulation_cfg", "level_fusion_cfg"):
        if family.neck:
            values[f"model.neck.{key}"] = family.neck[key]
    values |= zoo_job.smaller_input(zoo_job.stock_config(family.config.stem), cfg)[0]
    if name == "C3D":  # its connected layer fits frames of one size, which is its own there
        values |= zoo_job._scaled_steps(cfg, dict(side=family.size / 112, frames=1))
    return [f"{key}={value!r}" for key, value in values.items()]


@pytest.mark.parametrize("name", NAMES)
def test_a_family_trains_tests_and_infers_by_its_name(
    name: str, data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stem = FAMILIES[name].config.stem
    run, cpu = ["--work-dir", str(tmp_path / "run")], ["--device", "cpu"]
    flags = ["--data", data, "--pretrained", "none", "--epochs", "1", "--batch-size", "1"]
    flags += [*run, *cpu, "--precision", "fp32", "--cfg-options", *small(name, data, monkeypatch)]
    assert train.main([f"mmaction::{stem}", *flags]) == EXIT_OK
    (checkpoint,) = (tmp_path / "run").glob("epoch_1.pth")
    assert test.main([*run, *cpu, "--protocol", "val"]) == EXIT_OK
    (row,) = json.loads((tmp_path / "run" / "test" / "results.json").read_text())["videos"]
    out = tmp_path / "answers.json"
    flags = ["--checkpoint", str(checkpoint), "--protocol", "val", "--out", str(out), *cpu]
    assert infer.main([row["video"], *flags, "--precision", "fp32", "--engine", "torch"]) == EXIT_OK
    (answer,) = json.loads(out.read_text())
    found = sorted(each["score"] for each in answer["predictions"])
    assert found == pytest.approx(sorted(row["scores"]), abs=1e-5)
    assert sum(row["scores"]) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("stem", REFUSED)
def test_what_is_refused_is_refused_in_a_line(
    stem: str, data: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train.main([f"mmaction::{stem}", "--data", data, "--device", "cpu"]) == EXIT_ERROR
    assert len(capsys.readouterr().err.splitlines()) == 1


@pytest.mark.slow
@pytest.mark.timeout(5 * 3600)
def test_every_config(tmp_path: Path) -> None:
    """What docs/zoo.md is made of; two hours."""
    assert zoo.main(["--out", str(tmp_path / "zoo.json"), "--docs", str(tmp_path / "zoo.md")]) == 0
    text = (tmp_path / "zoo.md").read_text()
    assert "\n**122 of 122 work, 3 of 3 are refused in words, 0 failed.**\n" in text
