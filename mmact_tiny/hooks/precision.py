"""Mixed precision and memory format, as MMEngine plug-ins that any config can name."""

from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from torch.nn.parallel import DistributedDataParallel

from ..compat.mm import HOOKS, OPTIM_WRAPPERS, Hook, OptimWrapper, is_model_wrapper


@OPTIM_WRAPPERS.register_module()
class CpuAmpOptimWrapper(OptimWrapper):
    """Autocast on the CPU; MMEngine's `AmpOptimWrapper` asserts a GPU.

    bfloat16 has float32's exponent range, so no loss scaling is needed.

    Args:
        dtype: The low precision, `bfloat16`.
    """

    def __init__(self, dtype: str = "bfloat16", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.cast_dtype = getattr(torch, dtype)

    @contextmanager
    def optim_context(self, model: torch.nn.Module) -> Any:
        autocast: AbstractContextManager = torch.autocast("cpu", dtype=self.cast_dtype)
        with super().optim_context(model), autocast:
            yield


@HOOKS.register_module()
class PrecisionHook(Hook):
    """Makes the model fit for autocast before it runs."""

    def before_run(self, runner: Any) -> None:
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        fit_for_autocast(model)
        if isinstance(runner.model, DistributedDataParallel):
            # It has noted the layout of every parameter, and would sum the gradients of the first
            # step in one layout and read them in the other: noise, in every convolution.
            runner.model = runner.wrap_model(runner.cfg.get("model_wrapper_cfg"), model)


def fit_for_autocast(model: torch.nn.Module) -> None:
    """Makes a model's weights channels_last, and its class scores float32.

    bf16 convolutions are fast in channels_last, and a convolution whose weights are in that
    layout brings its input there; no value changes. Stock's heads turn the scores into a numpy
    array, which has no bfloat16.
    """
    model.to(memory_format=torch.channels_last)
    cls_head = getattr(model, "cls_head", None)
    if isinstance(cls_head, torch.nn.Module):
        cls_head.register_forward_hook(_to_float32)


def _to_float32(module: torch.nn.Module, inputs: Any, output: Any) -> Any:
    return output.float() if isinstance(output, torch.Tensor) else output
