"""Mixed precision on a CPU, and the weights that a run from scratch begins with."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from mmact_tiny.compat import ResNet
from mmact_tiny.hooks.precision import CpuAmpOptimWrapper, ZeroInitResidualHook, fit_for_autocast


def test_the_cpu_computes_in_bfloat16_within_the_context_alone() -> None:
    model = nn.Linear(2, 2)
    wrapper = CpuAmpOptimWrapper(optimizer=torch.optim.SGD(model.parameters(), lr=0.1))
    with wrapper.optim_context(model):
        assert model(torch.ones(1, 2)).dtype == torch.bfloat16
    assert model(torch.ones(1, 2)).dtype == torch.float32


def test_weights_are_channels_last_and_scores_float32() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv3d(3, 4, 3), nn.Conv1d(3, 4, 3))
    model.cls_head = nn.Linear(2, 2)
    fit_for_autocast(model)
    assert model[0].weight.is_contiguous(memory_format=torch.channels_last)
    assert model[1].weight.is_contiguous(memory_format=torch.channels_last_3d)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert model[0](torch.ones(1, 3, 4, 4)).dtype == torch.bfloat16
        assert model.cls_head(torch.ones(1, 2)).dtype == torch.float32


@pytest.mark.parametrize(("depth", "last"), [(18, "conv2"), (50, "conv3")])
def test_residual_blocks_begin_as_the_identity_unless_weights_were_loaded(
    depth: int, last: str
) -> None:
    one_stage = dict(num_stages=1, strides=(1,), dilations=(1,), out_indices=(0,))
    model = ResNet(depth=depth, pretrained=None, **one_stage)
    weight = getattr(model.layer1[0], last).bn.weight
    for loaded, value in ((True, 1.0), (False, 0.0)):
        runner: Any = SimpleNamespace(model=model, _has_loaded=loaded)
        ZeroInitResidualHook().before_train(runner)
        assert weight.tolist() == [value] * len(weight)
    assert model.conv1.bn.weight.tolist() == [1.0] * 64
