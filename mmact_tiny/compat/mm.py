"""Stub until the architect's is merged."""

from . import repair

repair()

from mmaction.models.backbones.resnet import BasicBlock, Bottleneck  # noqa: E402, F401
from mmaction.registry import DATASETS, HOOKS, OPTIM_WRAPPERS  # noqa: E402, F401
from mmengine.config import Config, ConfigDict  # noqa: E402, F401
