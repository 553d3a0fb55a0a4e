"""One small recognizer of random weights for each family of MMAction2's recognition configs."""

import copy
import functools
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from mmaction.registry import MODELS
from mmaction.structures import ActionDataSample
from mmengine.config import Config
from mmengine.registry import init_default_scope
from models import images
from torch.nn.modules.batchnorm import _BatchNorm

from mmact_tiny.checkpoints.config_text import stock_configs

R18 = dict(depth=18)
TWO_STAGES = dict(num_stages=2, strides=(1, 2), dilations=(1, 1), out_indices=(1,))
R18_3D = dict(depth=18, base_channels=16)
NARROW_PATHWAYS = {"slow_pathway.base_channels": 16, "channel_ratio": 2}  # the fast one has 8
TPN = dict(
    in_channels=(256, 512),
    out_channels=64,
    spatial_modulation_cfg=dict(in_channels=(256, 512), out_channels=512),
    temporal_modulation_cfg=dict(downsample_scales=(2, 2)),
    level_fusion_cfg=dict(
        in_channels=(64, 64),
        mid_channels=(64, 64),
        out_channels=64,
        downsample_scales=((1, 1, 1), (1, 1, 1)),
    ),
    aux_head_cfg=None,
)


class Family(NamedTuple):
    """A stock config, by the beginning of its stem, what makes its model small, and its views."""

    stem: str
    backbone: dict[str, Any]
    channels: int  # of the features
    frames: int = 4  # of a clip, or images of one group
    size: int = 32  # pixels of a side
    neck: dict[str, Any] | None = None

    @property
    def config(self) -> Path:
        """The stock config; of several that begin so, the first."""
        return sorted((stock_configs() / "recognition").rglob(f"{self.stem}*.py"))[0]


FAMILIES = {
    "TSN": Family("tsn_imagenet-pretrained-r50_8xb32-1x1x3-100e", R18, 512),
    "TSN, DenseNet": Family(
        "tsn_imagenet-pretrained-dense161", dict(type="torchvision.densenet121"), 1024
    ),
    "TRN": Family("trn_imagenet-pretrained-r50_8xb16-1x1x8-50e_sthv1", R18, 512, frames=8),
    "TSM": Family("tsm_imagenet-pretrained-r50_8xb16-1x1x8-50e_kinetics400", R18, 512, frames=8),
    "TSM, non-local": Family(
        "tsm_imagenet-pretrained-r50-nl-gaussian_8xb16-1x1x8", dict(depth=50), 2048, frames=8
    ),
    "TSM, MobileNetV2": Family(
        "tsm_imagenet-pretrained-mobilenetv2", dict(widen_factor=0.5), 1280, frames=8
    ),
    "TIN": Family("tin_imagenet-pretrained-r50_8xb6-1x1x8-40e_sthv1", R18, 512, frames=8),
    "TANet": Family("tanet_imagenet-pretrained-r50_8xb8-1x1x8", TWO_STAGES, 512, frames=8),
    "TPN, TSM": Family("tpn-tsm", R18, 2048, frames=8, size=64, neck=TPN),
    "TPN, SlowOnly": Family("tpn-slowonly_r50", dict(depth=18), 2048, size=64, neck=TPN),
    "C2D": Family("c2d_r50-in1k-pre_8xb32-8x8x1", R18, 512, size=64),
    "C3D": Family("c3d_sports1m", dict(out_dim=2048), 4096, frames=16),
    "I3D": Family(
        "i3d_imagenet-pretrained-r50_8xb8-32x2x1", dict(base_channels=8), 256, frames=8, size=64
    ),
    "I3D, non-local": Family(
        "i3d_imagenet-pretrained-r50-nl-embedded", dict(base_channels=8), 256, frames=8, size=64
    ),
    "SlowOnly": Family("slowonly_r50_8xb16-4x16x1", R18_3D, 128),
    "SlowFast": Family("slowfast_r50_8xb8-4x16x1", NARROW_PATHWAYS, 768, frames=16),
    "R(2+1)D": Family("r2plus1d_r34_8xb8-8x8x1", R18_3D, 128, frames=8),
    "CSN, ir": Family(
        "ircsn_ig65m-pretrained-r50-bnfrozen", dict(base_channels=8), 256, frames=8, size=64
    ),
    "CSN, ip": Family("ipcsn_r152", dict(depth=50, base_channels=8), 256, frames=8, size=64),
    "X3D": Family("x3d_s", dict(gamma_d=1.0), 432, frames=8),
    "Swin": Family(
        "swin-tiny",
        dict(
            arch=dict(embed_dims=24, depths=[2, 2, 2, 2], num_heads=[1, 2, 4, 8]),
            window_size=(2, 4, 4),
        ),
        192,
        size=64,
    ),
    "MViT": Family(
        "mvit-small-p244_32xb16",
        dict(
            arch=dict(embed_dims=24, num_layers=4, num_heads=1, downscale_indices=[1, 3]),
            spatial_size=64,
            temporal_size=4,
        ),
        96,
        size=64,
    ),
    "MViT, parts of views": Family(
        "mvit-large-p244_u40",
        dict(
            arch=dict(embed_dims=24, num_layers=4, num_heads=1, downscale_indices=[1, 3]),
            spatial_size=64,
            temporal_size=4,
        ),
        96,
        size=64,
    ),
    **{
        f"TimeSformer, {kind}": Family(
            f"timesformer_{kind}",
            dict(num_frames=4, img_size=32, embed_dims=48, num_heads=4, num_transformer_layers=2),
            48,
        )
        for kind in ("divST", "jointST", "spaceOnly")
    },
    "VideoMAE": Family(
        "vit-small-p16",
        dict(img_size=32, embed_dims=48, depth=2, num_heads=4, num_frames=4),
        48,
    ),
    "UniFormer": Family(
        "uniformer-small",
        dict(depth=[1, 1, 1, 1], embed_dim=[16, 32, 48, 64], head_dim=16),
        64,
        frames=8,
        size=64,
    ),
    **{
        f"UniFormerV2, {kind}": Family(
            stem,
            dict(
                input_resolution=32,
                width=48,
                layers=4,
                heads=4,
                t_size=4,
                return_list=[2, 3],
                n_layers=2,
                n_dim=48,
                n_head=4,
                mlp_dropout=[0.5, 0.5],
                clip_pretrained=False,
            ),
            48,
        )
        for kind, stem in {
            "K710 classes": "uniformerv2-base-p16-res224_clip-kinetics710-pre_8xb32-u8_kinetics400",
            "Moments in Time": "uniformerv2-base-p16-res224_clip-kinetics710-kinetics-k400-pre",
        }.items()
    },
}


def build_family(name: str) -> Any:
    """Returns a family's small recognizer of 7 classes, always the same, in evaluation mode.

    Its scores vary with what it sees: BatchNorm's statistics are those of its inputs; the last
    layer takes away what the scores of all inputs have in common, and gives the rest a spread.
    """
    return copy.deepcopy(_built(name))


@functools.lru_cache(1)  # a test needs the same one several times, and some have 200 MB
def _built(name: str) -> Any:
    family = FAMILIES[name]
    node = Config.fromfile(family.config).model
    node.pop("init_cfg", None)
    node.backbone.pop("init_cfg", None)
    if "pretrained" in node.backbone:
        node.backbone.pretrained = None
    for key, value in family.backbone.items():
        *path, last = key.split(".")
        functools.reduce(dict.__getitem__, path, node.backbone)[last] = value
    node.cls_head.update(num_classes=7, in_channels=family.channels)
    if family.neck:
        node.neck.update(family.neck)
    init_default_scope("mmaction")
    torch.manual_seed(0)
    np.random.seed(0)  # TRN draws some sets of frames, in testing too
    model = MODELS.build(node)
    for parameter in model.parameters():
        if parameter.ndim > 1 and not parameter.any():  # a branch that begins as nothing
            torch.nn.init.normal_(parameter, std=0.1)
    for layer in model.cls_head.modules():
        if isinstance(layer, torch.nn.Linear):
            torch.nn.init.kaiming_normal_(layer.weight)
    for block in model.modules():  # deep networks of random weights amplify rounding else
        last = getattr(block, "conv3", None) or getattr(block, "conv2", None)
        if isinstance(getattr(block, "conv", None), torch.nn.Sequential):  # of MobileNetV2
            last = block.conv[-1]
        if hasattr(last, "bn"):
            torch.nn.init.constant_(last.bn.weight, 0.2)
    calibrate(model, family_views(name, num_videos=12, num_views=1)["inputs"])
    return model.eval()


def calibrate(model: Any, inputs: list[torch.Tensor]) -> None:
    """Makes a model answer differently to different inputs, each of one view."""
    norms = [module for module in model.modules() if isinstance(module, _BatchNorm)]
    last: list[Any] = [m for m in model.cls_head.modules() if getattr(m, "out_features", 0) == 7]

    def scores() -> torch.Tensor:
        batch = model.data_preprocessor(dict(inputs=inputs, data_samples=[]))["inputs"]
        if batch.ndim == 6:  # clips: as the views of one video, which `max_testing_views` wants
            batch = batch.transpose(0, 1)
        features, settings = model.extract_feat(batch, test_mode=True)
        model.cls_head.new_cls = None  # what TPN's head makes of `fc_cls`
        return model.cls_head(features, **settings)

    model.eval()
    with torch.no_grad():
        for norm in norms:
            norm.train()
            norm.momentum = 1.0  # the statistics of one batch
        scores()
        for norm in norms:
            norm.eval()
            norm.momentum = 0.1  # the default
        spread = scores().std(0).mean()
        for layer in last:  # TRN has several, whose scores it adds
            layer.weight *= 1.5 / spread
        last[0].bias -= scores().mean(0)
        model.cls_head.new_cls = None


def family_views(name: str, num_videos: int, num_views: int) -> dict[str, Any]:
    """Returns what a data loader gives a family of videos, each with an image of its own.

    Args:
        name: Of the family.
        num_videos: In the batch.
        num_views: Clips or groups of images of a video.
    """
    family = FAMILIES[name]
    images_of = ("TSN", "TRN", "TSM", "TIN", "TANet", "TPN, TSM")
    clips = not name.startswith(images_of)
    inputs = []
    for video in range(num_videos):
        own, each = (
            images(n, size=family.size, seed=100 * video + n)
            for n in (1, num_views * family.frames)
        )
        frames = own // 3 * 2 + each // 3
        clip = frames.unflatten(0, (num_views, family.frames)).transpose(1, 2)
        inputs.append(clip if clips else frames)
    return dict(inputs=inputs, data_samples=[ActionDataSample() for _ in inputs])
