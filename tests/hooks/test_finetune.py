"""Parts of a model that are not trained, rates by depth, adapters: one real step of each family."""

import copy
import logging
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from families import FAMILIES, build_family, family_views
from torch import nn

from mmact_tiny.compat import MODELS, build_optim_wrapper
from mmact_tiny.errors import UserError
from mmact_tiny.hooks.finetune import (
    FreezeHook,
    LoraHook,
    add_adapters,
    merge_adapters,
    place_of,
    split_adapters,
)

ATTENDING = ("Swin", "MViT", "TimeSformer", "VideoMAE", "UniFormer")
BLENDING = dict(
    type="RandomBatchAugment",
    augments=[dict(type=f"{kind}Blending", num_classes=7) for kind in ("Mixup", "Cutmix")],
)
SGD = dict(type="SGD", lr=0.1, weight_decay=0.1)
# The first layers of each kind of backbone whose stages are known here, and the one behind them.
STAGES = {
    "C3D": ("conv1a.conv.weight", "conv2a.conv.weight"),
    "MViT": ("blocks.0.attn.qkv.weight", "blocks.1.attn.qkv.weight"),
    "TimeSformer, divST": (
        "transformer_layers.layers.0.attentions.1.attn.in_proj_weight",
        "transformer_layers.layers.1.attentions.1.attn.in_proj_weight",
    ),
    "VideoMAE": ("blocks.0.attn.qkv.weight", "blocks.1.attn.qkv.weight"),
    "UniFormer": ("blocks1.0.attn.weight", "patch_embed2.proj.weight"),
    "UniFormerV2, K710 classes": (
        "transformer.resblocks.0.attn.in_proj_weight",
        "transformer.resblocks.1.attn.in_proj_weight",
    ),
}


def runner_of(model: nn.Module) -> Any:
    return SimpleNamespace(model=model, logger=logging.getLogger("test"))


def step(name: str, model: Any, optim: dict[str, Any], *hooks: FreezeHook) -> Any:
    """Trains one step as the Runner does, blended and smoothed; returns the optimizer wrapper."""
    wrapper = build_optim_wrapper(model, optim)
    for hook in hooks:
        hook.before_train(runner_of(model))
    model.train()
    for hook in hooks:
        hook.before_train_iter(runner_of(model), 0)
    torch.manual_seed(0)
    views = family_views(name, num_videos=2, num_views=1)
    for label, sample in enumerate(views["data_samples"]):
        sample.set_gt_label(label)
    model.data_preprocessor.blending = MODELS.build(BLENDING)
    model.cls_head.label_smooth_eps = 0.1
    data = model.data_preprocessor(views, training=True)
    loss, _ = model.parse_losses(model(**data, mode="loss"))
    wrapper.update_params(loss)
    return wrapper


def changed(model: nn.Module, before: dict[str, torch.Tensor]) -> set[str]:
    now = model.state_dict()
    return {key for key in before if not torch.equal(before[key], now[key])}


def copied(model: nn.Module) -> dict[str, torch.Tensor]:
    return {key: value.clone() for key, value in model.state_dict().items()}


# The head of TPN with TSM trains on 224 pixels alone; its backbone is that of TSM.
@pytest.mark.parametrize("name", [name for name in FAMILIES if name != "TPN, TSM"])
def test_a_frozen_backbone_stays_as_it_is(name: str) -> None:
    """To the bit: weights in spite of weight decay, and the statistics of BatchNorm."""
    model = build_family(name)
    before = copied(model)
    step(name, model, dict(optimizer=SGD), FreezeHook())
    found = changed(model, before)
    assert not [key for key in found if key.startswith("backbone.")]
    assert [key for key in found if key.startswith("cls_head.")]


@pytest.mark.parametrize("name", STAGES)
def test_frozen_stages_stay_as_they_are(name: str) -> None:
    model = build_family(name)
    before = copied(model)
    step(name, model, dict(optimizer=SGD), FreezeHook(stages=1))
    found = changed(model, before)
    last, first = (f"backbone.{key}" for key in STAGES[name])
    assert last not in found and first in found
    stem = [f"backbone.{key}" for key in dict(model.backbone.named_parameters())]
    assert not found & {key for key in stem if place_of(key.removeprefix("backbone."))[0] < 2}
    with pytest.raises(UserError, match=r"freeze 99: the backbone has the stages 0 to \d"):
        FreezeHook(stages=99).before_train(runner_of(model))


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("cls_token", (0, 0)),
        ("patch_embed.proj.weight", (0, 0)),
        ("conv1.weight", (0, 0)),  # UniFormerV2's stem
        ("blocks.11.norm1.bias", (12, -1)),
        ("layers.2.blocks.5.attn.qkv.weight", (3, 5)),
        ("layers.2.downsample.norm.bias", (3, float("inf"))),
        ("blocks3.4.norm1.weight", (3, 4)),
        ("patch_embed3.proj.weight", (3, -1)),
        ("transformer.resblocks.0.ln_1.bias", (1, -1)),
        ("transformer.dec.0.ln_1.bias", (float("inf"), 0)),
        ("fc7.weight", (7, -1)),
        ("fc_norm.weight", (float("inf"), 0)),
    ],
)
def test_the_place_of_a_parameter(name: str, place: tuple[float, float]) -> None:
    assert place_of(name) == place


RATES = {  # of a rate of 0.1: what a parameter has, by family and settings
    "VideoMAE": (
        dict(decay=0.5, backbone=0.2),
        {
            "backbone.patch_embed.projection.weight": 0.1 * 0.2 * 0.125,
            "backbone.blocks.0.attn.qkv.weight": 0.1 * 0.2 * 0.25,
            "backbone.blocks.1.attn.qkv.weight": 0.1 * 0.2 * 0.5,
            "backbone.fc_norm.weight": 0.1 * 0.2,
            "cls_head.fc_cls.weight": 0.1,
        },
    ),
    "UniFormer": (
        dict(decay=0.5),
        {
            "backbone.blocks1.0.norm1.weight": 0.1 * 0.5**7,
            "backbone.patch_embed4.proj.weight": 0.1 * 0.5**2,
            "backbone.blocks4.0.norm1.weight": 0.1 * 0.5,
            "backbone.norm.weight": 0.1,
        },
    ),
    "TSM": (
        dict(
            backbone=0.1,
            constructor="TSMOptimWrapperConstructor",
            paramwise_cfg=dict(fc_lr5=True),
        ),
        {
            "backbone.conv1.conv.weight": 0.1 * 0.1,
            "cls_head.fc_cls.weight": 0.1 * 5,
            "cls_head.fc_cls.bias": 0.1 * 10,
        },
    ),
}


@pytest.mark.parametrize("name", RATES)
def test_rates_by_depth(name: str) -> None:
    settings, expected = RATES[name]
    model = build_family(name)
    optim = dict(optimizer=SGD, constructor="RatesConstructor", paramwise_cfg=settings)
    groups = step(name, model, optim).optimizer.param_groups
    rates = {id(p): group["lr"] for group in groups for p in group["params"]}
    assert len(rates) == len([*model.parameters()])
    named = dict(model.named_parameters())
    assert {key: rates[id(named[key])] for key in expected} == pytest.approx(expected)


def scores(name: str, model: Any) -> torch.Tensor:
    batch = model.data_preprocessor(family_views(name, num_videos=1, num_views=1))
    with torch.no_grad():
        return torch.stack([s.pred_score for s in model.eval()(**batch, mode="predict")])


@pytest.mark.parametrize("name", [name for name in FAMILIES if name.startswith(ATTENDING)])
def test_adapters_are_trained_and_added_to_the_weights(name: str) -> None:
    """Nothing else of the backbone is; the sum is an ordinary recognizer of the same scores."""
    model, plain = build_family(name), build_family(name)
    model.init_weights = lambda: None  # type: ignore[method-assign]  # the family's are wanted
    before, keys = copied(model), [*model.state_dict()]
    settings = dict(lora=dict(rank=2, alpha=4))
    optim = dict(optimizer=SGD, constructor="RatesConstructor", paramwise_cfg=settings)
    for _ in range(2):  # after the first step `a` has a gradient too
        if not hasattr(model.backbone, "adapted"):
            step(name, model, optim, FreezeHook(stages=-1))
            model.backbone.adapted, optim = True, dict(optimizer=SGD)
        step(name, model, optim, FreezeHook(stages=-1))
    assert not [key for key in changed(model, before) if key.startswith("backbone.")]
    state = model.state_dict()
    adapters = [key for key in state if key.startswith("lora.")]
    assert sorted({*state} - {*adapters}) == sorted(keys) and len(adapters) >= 4
    trained = [bool(state[key].any()) for key in adapters if key.endswith(".b")]
    assert all(trained) or name == "MViT, parts of views"  # which leaves out blocks at random
    average = copy.deepcopy(model)  # as EMAHook has it
    assert [*average.state_dict()] == [*state]
    checkpoint: dict[str, Any] = dict(
        state_dict=dict(state), ema_state_dict={f"module.{key}": v for key, v in state.items()}
    )
    LoraHook(scale=2.0).before_save_checkpoint(runner_of(model), checkpoint)
    assert sorted(checkpoint["state_dict"]) == sorted(keys)
    assert sorted(checkpoint["ema_state_dict"]) == sorted(f"module.{key}" for key in keys)
    plain.load_state_dict(checkpoint["state_dict"])
    expected = scores(name, model)
    torch.testing.assert_close(scores(name, plain), expected, atol=1e-5, rtol=0)
    assert (scores(name, build_family(name)) - expected).abs().max() > 1e-4
    split_adapters(checkpoint)  # what a resumed run goes on with
    assert {*checkpoint} == {"state_dict", "ema_state_dict"}
    model.load_state_dict(dict(checkpoint["state_dict"]))
    assert changed(model, state) == set()
    for key in state:
        assert torch.equal(checkpoint["state_dict"][key], state[key])
        assert torch.equal(checkpoint["ema_state_dict"][f"module.{key}"], state[key])


def test_a_rank_above_that_of_the_weights_is_refused() -> None:
    model = build_family("VideoMAE")
    with pytest.raises(UserError, match=r"lora rank=9999: expected at most \d+"):
        add_adapters(model, rank=9999, alpha=16)


def test_no_adapters_no_change() -> None:
    state = {"backbone.w": torch.ones(2)}
    assert merge_adapters(state, 2.0) == {} and [*state] == ["backbone.w"]
