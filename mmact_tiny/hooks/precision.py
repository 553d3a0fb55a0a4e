"""Sets mixed precision, memory format and initial weights, as plug-ins that any config can name."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from ..compat import HOOKS, OPTIM_WRAPPERS, BasicBlock, Bottleneck, Hook, OptimWrapper, Runner
from ..engine.engine import to_channels_last
from ._mmengine import has_loaded, model_of
from .processes import wrap_again


@OPTIM_WRAPPERS.register_module()
class CpuAmpOptimWrapper(OptimWrapper):
    """Autocast on the CPU; MMEngine's `AmpOptimWrapper` asserts a GPU.

    bfloat16 has float32's exponent range, so no loss scaling is needed.
    """

    def __init__(self, dtype: str = "bfloat16", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.cast_dtype = getattr(torch, dtype)

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        with super().optim_context(model), torch.autocast("cpu", dtype=self.cast_dtype):
            yield


@HOOKS.register_module()
class PrecisionHook(Hook):
    """Makes the model fit for autocast before it runs."""

    def before_run(self, runner: Runner) -> None:
        self.wraps = isinstance(runner.model, DistributedDataParallel)
        fit_for_autocast(model_of(runner))

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Has several processes wrap the model as it is now, once.

        DistributedDataParallel notes the layout of every parameter when it is made, and would sum
        the gradients of the first step in one layout and read them in the other: noise, in every
        convolution. It also waits for the gradients of stages that are frozen since.
        """
        if self.wraps:
            self.wraps = False
            wrap_again(runner, data_batch)


@HOOKS.register_module()
class ZeroInitResidualHook(Hook):
    """Starts each residual block of a ResNet as the identity where no weights were loaded.

    Its last BatchNorm weight starts at 0 (Goyal et al. 2017, arXiv 1706.02677, section 5.1).
    """

    def before_train(self, runner: Runner) -> None:
        if has_loaded(runner):
            return
        for module in runner.model.modules():
            if isinstance(module, Bottleneck):
                nn.init.zeros_(module.conv3.bn.weight)
            elif isinstance(module, BasicBlock):
                nn.init.zeros_(module.conv2.bn.weight)


def fit_for_autocast(model: nn.Module) -> None:
    """Makes a model's weights channels_last (3-D kernels: channels_last_3d), its scores float32.

    bf16 convolutions are fast with weights in that layout, and no value changes. Stock's heads
    turn the scores into a numpy array, which has no bfloat16.
    """
    to_channels_last(model)
    cls_head = getattr(model, "cls_head", None)
    if isinstance(cls_head, nn.Module):
        cls_head.register_forward_hook(_to_float32)


def _to_float32(module: nn.Module, inputs: Any, output: Any) -> Any:
    return output.float() if isinstance(output, torch.Tensor) else output
