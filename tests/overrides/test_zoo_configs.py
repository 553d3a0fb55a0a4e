"""Every recognition config of MMAction2 reads a folder of videos, or is refused in words."""

from pathlib import Path
from typing import Any

import pytest
from config_changes import leaves

from mmact_tiny.checkpoints.config_text import read_config, resolve_path, stock_bases, stock_configs
from mmact_tiny.compat import Compose, Config, init_default_scope
from mmact_tiny.config import load_config
from mmact_tiny.errors import UserError
from mmact_tiny.overrides.data import SIDE_KEYS
from mmact_tiny.pipeline import split_datasets, with_decoder

STEMS = sorted(path.stem for path in (stock_configs() / "recognition").rglob("*.py"))
MVIT = "mvit-small-p244_32xb16-16x4x1-200e_kinetics400-rgb"
REFUSED = {
    "slowonly_r50_8xb16-16x4x1-256e_kinetics400-flow": "optical flow",
    "tsn_imagenet-pretrained-r50_8xb32_5x1x3-110e_kinetics400-flow": "optical flow",
    "slowonly_r50_8xb16-8x8x1-256e_imagenet-kinetics400-rgb": "OmniSource",
}
# What the names of configs without an `auto_scale_lr` say: GPUs x videos.
NAMED_BASES = {
    "slowfast_r101-r50_32xb8-4x16x1-256e_kinetics400-rgb": 256,
    "slowfast_r50_8xb8-4x16x1-256e_kinetics400-rgb": 64,
    "tin_imagenet-pretrained-r50_8xb6-1x1x8-40e_sthv1-rgb": 48,
    "tin_kinetics400-pretrained-tsm-r50_1x1x8-50e_kinetics400-rgb": 256,  # says nothing
    "trn_imagenet-pretrained-r50_8xb16-1x1x8-50e_sthv2-rgb": 128,
}


def load(stem: str, data_root: Path, **overrides: dict[str, Any]) -> Config:
    paths = {"dataset_paths": {"data_root": str(data_root)}, "pretrained": {"weights": "none"}}
    return load_config(f"mmaction::{stem}", changes={**paths, **overrides})


def test_there_are_125_and_each_is_found_by_its_name() -> None:
    assert len(STEMS) == len(set(STEMS)) == 125
    assert all(resolve_path(f"mmaction::{stem}").stem == stem for stem in STEMS)
    long = "mmaction::recognition/x3d/x3d_s_13x6x1_facebook-kinetics400-rgb.py"
    for name in (
        "x3d_s_13x6x1_facebook-kinetics400-rgb",
        "x3d_s_13x6x1_facebook-kinetics400-rgb.py",
    ):
        assert stock_bases(f"mmaction::{name}") == stock_bases(long) == [long]
    with pytest.raises(UserError, match="part of x3d_s_13x6x1_facebook-kinetics400-rgb"):
        resolve_path("mmaction::x3d_s_13x6x1_facebook-kinetics400")


@pytest.mark.parametrize("stem", STEMS)
def test_every_config_reads_a_folder_of_videos(stem: str, toy_dataset: Path) -> None:
    if stem in REFUSED:
        with pytest.raises(UserError, match=REFUSED[stem]):
            load(stem, toy_dataset)
        return
    stock, cfg = read_config(f"mmaction::{stem}"), load(stem, toy_dataset)
    flat = leaves(cfg.to_dict())
    assert cfg.model.cls_head.num_classes == 3
    counts = [value for key, value in flat.items() if key.endswith(".num_classes")]
    assert set(counts) == {3} and flat.get("model.neck.aux_head_cfg.out_channels", 3) == 3
    assert not [key for key in flat if "pipeline" in key and "flip_label_map" in key]
    init_default_scope("mmaction")
    splits = dict(split_datasets(cfg))
    assert list(splits) == ["train", "val", "test"]
    for split, dataset in splits.items():
        repeats = split == "train" and stem.startswith("mvit") and "kinetics400" in stem
        assert dataset.type == ("RepeatedVideos" if repeats else "VideoDataset")
        assert dataset.ann_file == str(toy_dataset / f"{'val' if split == 'test' else split}.txt")
        Compose(with_decoder(dataset.pipeline, "packets"))  # each step takes its arguments
        assert not {"pipeline", "test_mode"} & set(cfg[f"{split}_dataloader"])
        steps = [step["type"] for step in dataset.pipeline]
        opened = "PacketInit" if split != "test" else "DecordInit"
        assert steps[0] == opened and steps[2] == opened.replace("Init", "Decode")
        assert "RawFrameDecode" not in steps and steps[-1] == "PackActionInputs"
    if cfg.model.get("test_cfg") and "max_testing_views" in cfg.model.test_cfg:
        assert cfg.val_dataloader.batch_size == cfg.test_dataloader.batch_size == 1
    if "train_dataloader" in stock:
        scale = stock.get("auto_scale_lr") or {}
        base = scale.get("base_batch_size") or NAMED_BASES.get(
            stem, cfg.auto_scale_lr.base_batch_size
        )
        assert cfg.auto_scale_lr == dict(enable=True, base_batch_size=base)
        assert cfg.optim_wrapper.optimizer == stock.optim_wrapper.optimizer


def test_frames_become_videos_and_the_sampling_stays(toy_dataset: Path) -> None:
    stem = "tpn-tsm_imagenet-pretrained-r50_8xb8-1x1x8-150e_sthv1-rgb"
    stock, cfg = (
        read_config(f"mmaction::{stem}"),
        load(stem, toy_dataset, decoder={"name": "decord"}),
    )
    for split, dataset in split_datasets(cfg):
        before = stock[f"{split}_dataloader"].dataset.pipeline
        assert dict(dataset.pipeline[1]) == dict(before[0])
        assert [step["type"] for step in dataset.pipeline[3:]] == [s["type"] for s in before[2:]]
        assert "filename_tmpl" not in dataset and dataset.data_prefix == dict(
            video=str(toy_dataset / ("train" if split == "train" else "val"))
        )
    assert cfg.train_pipeline == cfg.train_dataloader.dataset.pipeline


def test_repeats_and_the_stock_classes_stay(toy_dataset: Path) -> None:
    stock, cfg = read_config(f"mmaction::{MVIT}"), load(MVIT, toy_dataset)
    before, after = (c.train_dataloader.dataset for c in (stock, cfg))
    kept = set(before) - {"ann_file", "data_prefix", "type", "pipeline"}
    assert after.type == "RepeatedVideos" and with_decoder(before.pipeline, "packets") == [
        *after.pipeline
    ]
    assert {key: before[key] for key in kept} == {key: after[key] for key in kept}
    assert after.num_repeats == 2
    names = [f"class {index}" for index in range(174)]
    own = load(
        "tsm_imagenet-pretrained-r50_8xb16-1x1x8-50e_sthv2-rgb",
        toy_dataset,
        classes={"names": names},
    )
    flip = next(s for s in own.train_dataloader.dataset.pipeline if s["type"] == "Flip")
    assert flip.flip_label_map[86] == 87  # as many classes as the stock config's: they are these


def test_a_cosine_ends_at_its_part_of_the_scaled_rate(toy_dataset: Path) -> None:
    cosine = load(MVIT, toy_dataset).param_scheduler[1]
    assert "eta_min" not in cosine and cosine.eta_min_ratio == pytest.approx(0.01)


def test_the_cache_says_which_pipelines_it_cannot_serve(toy_dataset: Path) -> None:
    with pytest.raises(UserError, match="a RepeatAugDataset opens its videos itself"):
        load(
            "mvit-small-p244_32xb16-16x4x1-200e_kinetics400-rgb",
            toy_dataset,
            clip_cache={"format": "small"},
        )
    cfg = load("mvit-base-p244_u32_sthv2-rgb", toy_dataset, clip_cache={"format": "small"})
    assert cfg.train_dataloader.dataset.pipeline[0]["type"] == "CachedVideo"


@pytest.mark.parametrize(
    ("stem", "key"),
    [
        (MVIT, "spatial_size"),
        ("timesformer_divST_8xb8-8x32x1-15e_kinetics400-rgb", "img_size"),
        ("uniformer-small_imagenet1k-pre_16x4x1_kinetics400-rgb", "img_size"),
        ("uniformerv2-base-p16-res224_clip_8xb32-u8_kinetics400-rgb", "input_resolution"),
        ("vit-base-p16_videomae-k400-pre_16x4x1_kinetics-400", "img_size"),
        ("slowfast_r50_8xb8-4x16x1-256e_kinetics400-rgb", None),
    ],
)
def test_a_smaller_input_makes_a_smaller_transformer(
    stem: str, key: str | None, toy_dataset: Path
) -> None:
    cfg = load(stem, toy_dataset, input_size={"crop": 112})
    assert {cfg.model.backbone.get(name) for name in SIDE_KEYS.values()} - {None} == (
        {112} if key else set()
    )
    assert cfg.model.backbone.get(key) == (112 if key else None)
    sizes = [step.get("crop_size") for step in cfg.val_dataloader.dataset.pipeline]
    assert sorted(filter(None, sizes)) == [112]


def test_c3d_takes_one_size(toy_dataset: Path) -> None:
    with pytest.raises(UserError, match="crop=64: C3D is made for 112 pixels alone"):
        load(
            "c3d_sports1m-pretrained_8xb30-16x1x1-45e_ucf101-rgb",
            toy_dataset,
            input_size={"crop": 64},
        )
