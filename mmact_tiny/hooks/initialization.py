"""Random initial weights that a short run can learn from."""

from typing import Any

from torch import nn

from ..compat.mm import HOOKS, BasicBlock, Bottleneck, Hook


@HOOKS.register_module()
class ZeroInitResidualHook(Hook):
    """Starts each residual block of a ResNet as the identity, in a run from random weights.

    The last BatchNorm weight of a block starts at 0 (Goyal et al. 2017, arXiv 1706.02677, section
    5.1). Does nothing where weights were loaded.
    """

    def before_train(self, runner: Any) -> None:
        if runner._has_loaded:
            return
        for module in runner.model.modules():
            if isinstance(module, Bottleneck):
                nn.init.zeros_(module.conv3.bn.weight)
            elif isinstance(module, BasicBlock):
                nn.init.zeros_(module.conv2.bn.weight)
