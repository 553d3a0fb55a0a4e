"""One small config of each family of MMAction2's zoo, by its name, through the three tools."""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from conftest import ROOT

from benchmarks import zoo, zoo_job
from mmact_tiny.config import load_config
from mmact_tiny.errors import EXIT_ERROR, EXIT_OK
from tools import infer, test, train

FAMILIES = (
    "c2d_r50-in1k-pre_8xb32-8x8x1-100e_kinetics400-rgb",
    "c3d_sports1m-pretrained_8xb30-16x1x1-45e_ucf101-rgb",
    "i3d_imagenet-pretrained-r50_8xb8-32x2x1-100e_kinetics400-rgb",
    "ircsn_ig65m-pretrained-r50-bnfrozen_8xb12-32x2x1-58e_kinetics400-rgb",
    "mvit-small-p244_k400-pre_16xb16-u16-100e_sthv2-rgb",
    "r2plus1d_r34_8xb8-8x8x1-180e_kinetics400-rgb",
    "slowfast_r50_8xb8-4x16x1-256e_kinetics400-rgb",
    "slowonly_r50_8xb16-4x16x1-256e_kinetics400-rgb",
    "swin-tiny-p244-w877_in1k-pre_8xb8-amp-32x2x1-30e_kinetics400-rgb",
    "tanet_imagenet-pretrained-r50_8xb8-1x1x8-50e_sthv1-rgb",
    "timesformer_spaceOnly_8xb8-8x32x1-15e_kinetics400-rgb",
    "tin_imagenet-pretrained-r50_8xb6-1x1x8-40e_sthv2-rgb",
    "tpn-tsm_imagenet-pretrained-r50_8xb8-1x1x8-150e_sthv1-rgb",
    "trn_imagenet-pretrained-r50_8xb16-1x1x8-50e_sthv2-rgb",
    "tsm_imagenet-pretrained-mobilenetv2_8xb16-1x1x8-100e_kinetics400-rgb",
    "uniformer-small_imagenet1k-pre_16x4x1_kinetics400-rgb",
    "uniformerv2-base-p16-res224_clip_8xb32-u8_kinetics400-rgb",
    "vit-small-p16_videomaev2-vit-g-dist-k710-pre_16x4x1_kinetics-400",
    "x3d_s_13x6x1_facebook-kinetics400-rgb",
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


def small(stem: str, data: str) -> Sequence[str]:
    """Returns the flags that make a config's input small."""
    cfg = load_config(
        f"mmaction::{stem}",
        changes={"dataset_paths": {"data_root": data}, "pretrained": {"weights": "none"}},
    )
    values, _ = zoo_job.smaller_input(zoo_job.stock_config(stem), cfg)
    return [f"{key}={value!r}" for key, value in values.items()]


@pytest.mark.parametrize("stem", FAMILIES)
def test_a_family_trains_tests_and_infers_by_its_name(stem: str, data: str, tmp_path: Path) -> None:
    run, cpu = ["--work-dir", str(tmp_path / "run")], ["--device", "cpu"]
    flags = ["--data", data, "--pretrained", "none", "--epochs", "1", "--batch-size", "1"]
    flags += [*run, *cpu, "--precision", "fp32", "--cfg-options", *small(stem, data)]
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
