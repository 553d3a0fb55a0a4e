"""The door to MMEngine and MMAction2: repairs them, then hands out their names.

A name is imported when it is first asked for, because the whole of both takes seconds.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from . import import_transforms, repair

if TYPE_CHECKING:
    from mmaction.datasets.transforms import DecordDecode as DecordDecode
    from mmaction.datasets.transforms import DecordInit as DecordInit
    from mmaction.datasets.transforms import SampleFrames as SampleFrames
    from mmaction.models import ActionDataPreprocessor as ActionDataPreprocessor
    from mmaction.models import MobileNetV2 as MobileNetV2
    from mmaction.models import Recognizer2D as Recognizer2D
    from mmaction.models import ResNet as ResNet
    from mmaction.models.backbones.resnet import BasicBlock as BasicBlock
    from mmaction.models.backbones.resnet import Bottleneck as Bottleneck
    from mmaction.registry import DATASETS as DATASETS
    from mmaction.registry import HOOKS as HOOKS
    from mmaction.registry import METRICS as METRICS
    from mmaction.registry import MODELS as MODELS
    from mmaction.registry import OPTIM_WRAPPERS as OPTIM_WRAPPERS
    from mmaction.registry import TRANSFORMS as TRANSFORMS
    from mmaction.registry import VISBACKENDS as VISBACKENDS
    from mmaction.utils import register_all_modules as register_all_modules
    from mmcv.cnn import ConvModule as ConvModule
    from mmcv.cnn.bricks.wrappers import Conv2d as Conv2d
    from mmcv.transforms import BaseTransform as BaseTransform
    from mmengine.config import Config as Config
    from mmengine.config import ConfigDict as ConfigDict
    from mmengine.dataset import BaseDataset as BaseDataset
    from mmengine.dataset import ClassBalancedDataset as ClassBalancedDataset
    from mmengine.dataset import Compose as Compose
    from mmengine.dataset import pseudo_collate as pseudo_collate
    from mmengine.device import get_device as get_device
    from mmengine.dist import all_gather_object as all_gather_object
    from mmengine.dist import all_reduce as all_reduce
    from mmengine.dist import barrier as barrier
    from mmengine.dist import broadcast_object_list as broadcast_object_list
    from mmengine.dist import get_local_rank as get_local_rank
    from mmengine.dist import get_rank as get_rank
    from mmengine.dist import get_world_size as get_world_size
    from mmengine.dist import is_main_process as is_main_process
    from mmengine.evaluator import BaseMetric as BaseMetric
    from mmengine.fileio import LocalBackend as LocalBackend
    from mmengine.fileio import get as get
    from mmengine.fileio import register_backend as register_backend
    from mmengine.hooks import CheckpointHook as CheckpointHook
    from mmengine.hooks import EarlyStoppingHook as EarlyStoppingHook
    from mmengine.hooks import EMAHook as EMAHook
    from mmengine.hooks import Hook as Hook
    from mmengine.logging import HistoryBuffer as HistoryBuffer
    from mmengine.logging import MMLogger as MMLogger
    from mmengine.logging import print_log as print_log
    from mmengine.model import is_model_wrapper as is_model_wrapper
    from mmengine.optim import OptimWrapper as OptimWrapper
    from mmengine.registry import Registry as Registry
    from mmengine.registry import init_default_scope as init_default_scope
    from mmengine.runner import BaseLoop as BaseLoop
    from mmengine.runner import EpochBasedTrainLoop as EpochBasedTrainLoop
    from mmengine.runner import Runner as Runner
    from mmengine.runner import TestLoop as TestLoop
    from mmengine.runner import ValLoop as ValLoop
    from mmengine.runner import find_latest_checkpoint as find_latest_checkpoint
    from mmengine.runner.checkpoint import CheckpointLoader as CheckpointLoader
    from mmengine.runner.checkpoint import get_torchvision_models as get_torchvision_models
    from mmengine.utils import import_modules_from_strings as import_modules_from_strings
    from mmengine.visualization import WandbVisBackend as WandbVisBackend

_NAMES = {
    "mmaction.datasets.transforms": "DecordDecode DecordInit SampleFrames",
    "mmaction.models": "ActionDataPreprocessor MobileNetV2 Recognizer2D ResNet",
    "mmaction.models.backbones.resnet": "BasicBlock Bottleneck",
    "mmaction.registry": "DATASETS HOOKS METRICS MODELS OPTIM_WRAPPERS TRANSFORMS VISBACKENDS",
    "mmaction.utils": "register_all_modules",
    "mmcv.cnn": "ConvModule",
    "mmcv.cnn.bricks.wrappers": "Conv2d",
    "mmcv.transforms": "BaseTransform",
    "mmengine.config": "Config ConfigDict",
    "mmengine.dataset": "BaseDataset ClassBalancedDataset Compose pseudo_collate",
    "mmengine.device": "get_device",
    "mmengine.dist": "all_gather_object all_reduce barrier broadcast_object_list "
    "get_local_rank get_rank get_world_size is_main_process",
    "mmengine.evaluator": "BaseMetric",
    "mmengine.fileio": "LocalBackend get register_backend",
    "mmengine.hooks": "CheckpointHook EMAHook EarlyStoppingHook Hook",
    "mmengine.logging": "HistoryBuffer MMLogger print_log",
    "mmengine.model": "is_model_wrapper",
    "mmengine.optim": "OptimWrapper",
    "mmengine.registry": "Registry init_default_scope",
    "mmengine.runner": "BaseLoop EpochBasedTrainLoop Runner "
    "TestLoop ValLoop find_latest_checkpoint",
    "mmengine.runner.checkpoint": "CheckpointLoader get_torchvision_models",
    "mmengine.utils": "import_modules_from_strings",
    "mmengine.visualization": "WandbVisBackend",
}
_HOMES = {name: home for home, names in _NAMES.items() for name in names.split()}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    repair()
    if _HOMES[name] == "mmaction.datasets.transforms":
        import_transforms()
    value = globals()[name] = getattr(import_module(_HOMES[name]), name)
    return value
