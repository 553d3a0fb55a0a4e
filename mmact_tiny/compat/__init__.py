"""Repairs MMEngine and MMAction2, and is the door to both: hands out their names.

Each repair cites what it waits for, and does nothing where upstream is whole. A name such as
`compat.Config` is imported when it is first asked for: the whole of both packages takes seconds.
"""

import ast
import importlib
import importlib.metadata
import importlib.util
import logging
import os
import sys
import threading
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_loader
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from ..errors import UserError
from ..hardware import MPS

NOT_A_VIDEO = "it is not a video that can be read"
PTV_BINS = 11  # pytorchvideo's magnitudes go from 0 to 10

if TYPE_CHECKING:  # what the door hands out: see `_homes`
    from mmaction.datasets import VideoDataset
    from mmaction.datasets.transforms import DecordDecode, DecordInit, SampleFrames
    from mmaction.models import (
        ActionDataPreprocessor,
        BaseHead,
        Conv2plus1d,
        MobileNetV2,
        Recognizer2D,
        Recognizer3D,
        ResNet,
        TSNHead,
    )
    from mmaction.models.backbones.resnet import BasicBlock, Bottleneck
    from mmaction.models.backbones.resnet_tsm import TemporalShift
    from mmaction.registry import (
        DATASETS,
        HOOKS,
        METRICS,
        MODELS,
        OPTIM_WRAPPERS,
        TRANSFORMS,
        VISBACKENDS,
    )
    from mmaction.utils import register_all_modules
    from mmcv.cnn import ConvModule
    from mmcv.cnn.bricks.wrappers import Conv2d, Conv3d
    from mmcv.transforms import BaseTransform
    from mmengine.config import Config, ConfigDict
    from mmengine.dataset import BaseDataset, ClassBalancedDataset, Compose, DefaultSampler
    from mmengine.dataset.utils import pseudo_collate
    from mmengine.device import get_device
    from mmengine.dist import (
        all_gather_object,
        all_reduce,
        barrier,
        broadcast_object_list,
        get_local_rank,
        get_rank,
        get_world_size,
        is_main_process,
    )
    from mmengine.evaluator import BaseMetric
    from mmengine.fileio import LocalBackend, get, register_backend
    from mmengine.hooks import CheckpointHook, EarlyStoppingHook, EMAHook, Hook
    from mmengine.logging import HistoryBuffer, MessageHub, MMLogger, print_log
    from mmengine.model import is_model_wrapper
    from mmengine.optim import OptimWrapper, build_optim_wrapper
    from mmengine.registry import OPTIM_WRAPPER_CONSTRUCTORS, Registry, init_default_scope
    from mmengine.runner import (
        BaseLoop,
        EpochBasedTrainLoop,
        Runner,
        TestLoop,
        ValLoop,
        find_latest_checkpoint,
    )
    from mmengine.runner.checkpoint import (
        CheckpointLoader,
        get_mmcls_models,
        get_torchvision_models,
    )
    from mmengine.visualization import WandbVisBackend

# What 0.1.0 wrote into `custom_imports`, and where the same classes are registered now.
MOVED = {
    "mmact_tiny.packets": "mmact_tiny.video.frames",
    "mmact_tiny.tracking": "mmact_tiny.overrides.tracking",
    "mmact_tiny.transforms": "mmact_tiny.cache",
}
for _name in (
    *("balance", "checkpoint_hooks", "engine_hook", "guarded_loader", "initialization"),
    *("precision", "progress_hook", "resume", "stopping", "timing_hook"),
):
    MOVED[f"mmact_tiny.{_name}"] = "mmact_tiny.hooks"

_muting = threading.Lock()


@cache
def repair() -> None:
    """Applies every repair; the second call does nothing. A UserError: there is no MMAction2."""
    quiet_imports()
    restore_package_lookup()
    leave_mps_out()
    provide_drn()
    provide_mmcls()
    import_mmpretrain_late()


def quiet_imports() -> None:
    """Hides import-time warnings that a user of recognizers can do nothing about."""
    for message in (
        "Fail to import ``MultiScaleDeformableAttention``",  # mmcv-lite, by design
        "pkg_resources is deprecated",
        ".*invalid escape sequence.*",
    ):
        warnings.filterwarnings("ignore", message=message)
    logging.getLogger("matplotlib").setLevel(logging.WARNING)


def restore_package_lookup() -> None:
    """Looks packages up without `pkg_resources`, which setuptools 82 removed.

    mmengine 0.10.7's `is_installed` and `get_installed_path` import it; every `mmaction::...` goes
    through them. Can go with the first release that has mmengine pull request 1676.
    """
    import mmengine.utils
    from mmengine.config import config
    from mmengine.hub import hub
    from mmengine.utils import package_utils

    for module in (package_utils, mmengine.utils, config, hub):
        for function in (is_installed, get_installed_path):
            if hasattr(module, function.__name__):
                setattr(module, function.__name__, function)


def leave_mps_out() -> None:
    """Has MMEngine 0.10.7 take MPS only where it is asked for: it would train on it too."""
    import mmengine.device.utils as device

    if device.DEVICE == "mps" and MPS not in os.environ:
        device.DEVICE = "cpu"


def is_installed(package: str) -> bool:
    """Returns whether a distribution or an importable module of that name is there."""
    try:
        importlib.metadata.distribution(package)
        return True
    except importlib.metadata.PackageNotFoundError:
        spec = importlib.util.find_spec(package)
        return spec is not None and spec.origin is not None


def get_installed_path(package: str) -> str:
    """Returns the folder of an installed package, given its distribution or module name.

    Raises:
        importlib.metadata.PackageNotFoundError: no such package.
    """
    modules = [package]
    with suppress(importlib.metadata.PackageNotFoundError):
        top_level = importlib.metadata.distribution(package).read_text("top_level.txt")
        modules += (top_level or "").split()
    for module in modules:
        spec = importlib.util.find_spec(module)
        if spec is not None and spec.origin is not None:
            return str(Path(spec.origin).parent)
    raise importlib.metadata.PackageNotFoundError(package)


def provide_drn() -> None:
    """Stands in for `mmaction.models.localizers.drn`, left out of the mmaction2 1.2.0 wheel.

    mmaction2 issue 2714. Can go with the first release that packages the folder.
    """
    name = "mmaction.models.localizers.drn"
    mmaction = importlib.util.find_spec("mmaction")
    if mmaction is None or mmaction.origin is None:
        raise UserError("MMAction2 is not installed: pip install --no-deps mmaction2")
    folder = Path(mmaction.origin).parent / "models" / "localizers" / "drn"
    if folder.exists() or name in sys.modules:
        return

    class DRN:
        def __init__(self, *args: object, **kwargs: object) -> None:
            raise ImportError("DRN is not in the mmaction2 1.2.0 wheel (mmaction2 issue 2714)")

    package, module = ModuleType(name), ModuleType(f"{name}.drn")
    package.__path__ = []
    module.DRN = DRN  # type: ignore[attr-defined]
    sys.modules[name], sys.modules[f"{name}.drn"] = package, module


def provide_mmcls() -> None:
    """Stands in for `mmcls`, MMPretrain's name before 1.0: `mmcls.ResNeXt` is MMPretrain's.

    mmaction2 1.2.0 has it in a TSN config.
    """
    if "mmcls" in sys.modules or importlib.util.find_spec("mmcls") is not None:
        return
    if importlib.util.find_spec("mmpretrain") is None:
        return  # mmaction2 asks for mmcls then, and says so

    def find(name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        importlib.import_module("mmpretrain.models")
        return importlib.import_module("mmpretrain.registry").MODELS.get(name)

    for name in ("mmcls", "mmcls.models"):
        module = ModuleType(name)
        module.__spec__, module.__path__ = ModuleSpec(name, None), []
        module.__getattr__ = find  # type: ignore[method-assign]
        sys.modules[name] = module


def import_mmpretrain_late() -> None:
    """Imports MMPretrain when a config first names `MobileOneTSM`: it takes seconds.

    mmaction2 1.2.0 imports it with its backbones where it is installed, whatever is built.
    """
    home = "mmaction.models.backbones.mobileone_tsm"
    if home in sys.modules or importlib.util.find_spec("mmpretrain") is None:
        return
    from mmaction.registry import MODELS

    def build(pretrained2d: bool = True, **settings: Any) -> Any:  # the class's default
        if sys.modules[home] is None:
            del sys.modules[home], MODELS.module_dict["MobileOneTSM"]  # the class comes in
            importlib.import_module(home)
        return sys.modules[home].MobileOneTSM(pretrained2d=pretrained2d, **settings)

    sys.modules[home] = None  # type: ignore[assignment]  # to import it is an ImportError
    MODELS.register_module(name="MobileOneTSM", module=build)


@cache
def import_transforms() -> None:
    """Imports MMAction2's transforms without `scipy.stats`, a second of every start.

    mmaction2 1.2.0's pose transforms import its `mode` and call it in one, which gets the real one.
    """
    name = "scipy.stats"
    stand_in: Any = ModuleType(name)
    stand_in.mode = lambda *args, **kwargs: importlib.import_module(name).mode(*args, **kwargs)
    with _in_place_of({name: stand_in}):
        importlib.import_module("mmaction.datasets.transforms")
    quiet_decord()
    repair_color_jitter()
    repair_pytorchvideo_wrapper()


def repair_color_jitter() -> None:
    """Shifts the hue of `ColorJitter` in int16, and so by a negative offset.

    mmaction2 1.2.0 adds it to uint8, which NumPy 2 refuses ("Python integer -17 out of bounds").
    """
    import cv2
    import numpy as np
    from mmaction.datasets.transforms import ColorJitter

    def adjust_hue(img: Any, factor: float) -> Any:
        hsv = cv2.cvtColor(np.clip(img, 0, 255).astype(np.uint8), cv2.COLOR_RGB2HSV)
        hsv[..., 0] = (hsv[..., 0].astype(np.int16) + int(factor * 255)) % 180
        return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB).astype(np.float32)

    ColorJitter.adjust_hue = staticmethod(adjust_hue)


def repair_pytorchvideo_wrapper() -> None:
    """Gives `PytorchVideoWrapper` torchvision's RandAugment, where pytorchvideo does not import.

    pytorchvideo 0.1.5 asks for `torchvision.transforms.functional_tensor`, gone since 0.17. As
    its own this one draws `num_layers` operations, each with probability `prob` and a magnitude of
    0 to 10, once for all frames; it does not draw the magnitude around the one given.
    """
    from mmaction.datasets.transforms import PytorchVideoWrapper

    stock = PytorchVideoWrapper.__init__

    def init(self: Any, op: str, **settings: Any) -> None:
        try:
            importlib.import_module("pytorchvideo.transforms")
        except ImportError as error:
            if op != "RandAugment":
                raise ImportError(f"{op} needs pytorchvideo; without it: RandAugment") from error
            self.op, self.trans = op, rand_augment(**settings)
        else:
            stock(self, op, **settings)

    def rand_augment(magnitude: int = 9, num_layers: int = 2, prob: float = 0.5) -> Any:
        from torchvision import transforms  # late: it takes a second

        one = transforms.RandAugment(1, magnitude, num_magnitude_bins=PTV_BINS)
        return transforms.Compose([transforms.RandomApply([one], p=prob)] * num_layers)

    PytorchVideoWrapper.__init__ = init


@cache
def repair_models() -> None:
    """Repairs MMAction2's models, before one is built and before the door hands one out."""
    provide_tin_shift()
    repair_tpn_head()
    repair_trn_head()
    repair_timm_features()


def provide_tin_shift() -> None:
    """Gives TIN its shift of groups of channels in time, where mmcv has no compiled operations.

    `input` is (N, T, C, pixels), `shift` (N, groups) in frames; what is not reached is 0.
    """
    import torch

    mmcv = importlib.util.find_spec("mmcv")
    if mmcv is None or mmcv.origin is None or list(Path(mmcv.origin).parent.glob("_ext.*")):
        return

    def tin_shift(input: torch.Tensor, shift: torch.Tensor) -> torch.Tensor:
        _, length, channels, pixels = input.shape
        shifts = shift.long().repeat_interleave(channels // shift.shape[1], dim=1)
        source = torch.arange(length, device=input.device)[None, :, None] - shifts[:, None]
        inside = ((source >= 0) & (source < length))[..., None]
        index = source.clamp(0, length - 1)[..., None].expand(-1, -1, -1, pixels)
        return input.gather(1, index) * inside

    operations = ModuleType("mmcv.ops")
    operations.__path__ = []
    operations.tin_shift = tin_shift  # type: ignore[attr-defined]
    sys.modules["mmcv.ops"] = operations


def repair_tpn_head() -> None:
    """Has TPN's head score whole clips with its weights of now.

    mmaction2 1.2.0 keeps the copy of the first test (`new_cls`), and has it in checkpoints.
    """
    from mmaction.models import TPNHead

    stock = TPNHead.forward

    def forward(self: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return stock(self, *args, **kwargs)
        finally:
            self.new_cls = None

    TPNHead.forward = forward


def repair_trn_head() -> None:
    """Has TRN relate the same frames in every test; mmaction2 1.2.0 draws them anew for each."""
    import numpy as np
    from mmaction.models.heads.trn_head import RelationModuleMultiScale

    stock = RelationModuleMultiScale.forward

    def forward(self: Any, x: Any) -> Any:
        if self.training:
            return stock(self, x)
        state = np.random.get_state()
        np.random.seed(0)
        try:
            return stock(self, x)
        finally:
            np.random.set_state(state)

    RelationModuleMultiScale.forward = forward


def repair_timm_features() -> None:
    """Says how timm lays features out; mmaction2 1.2.0 takes all of four dimensions for NCHW."""
    from mmaction.models import Recognizer2D

    stock = Recognizer2D.__init__

    def init(self: Any, *args: Any, **kwargs: Any) -> None:
        stock(self, *args, **kwargs)
        if self.backbone_from == "timm" and not self.feature_shape:
            self.feature_shape = getattr(self.backbone, "output_fmt", None)

    Recognizer2D.__init__ = init


def leave_out_sharding() -> None:
    """Imports MMEngine without FSDP and ZeRO, a second of every start of what does not train.

    MMEngine 0.10.7 imports them with its Runner, and most of `torch.distributed` and SymPy with
    them; mmaction2 1.2.0 imports wandb where it is installed. Can go when they import these where
    they use them. For a process that only infers: MMEngine's registries then lack what was left
    out. Does nothing where MMEngine is there already.
    """
    if "mmengine.runner" in sys.modules:
        return
    wrapper = ModuleType("mmengine.model.wrappers.fully_sharded_distributed")
    wrapper.MMFullyShardedDataParallel = object  # type: ignore[attr-defined]
    # None: to import it is an ImportError, without which upstream goes on.
    missing = ("mmengine._strategy.fsdp", "torch.distributed.optim", "wandb")
    with _in_place_of({wrapper.__name__: wrapper, **dict.fromkeys(missing)}):
        repair()
        importlib.import_module("mmaction.visualization")


@contextmanager
def _in_place_of(stand_ins: Mapping[str, ModuleType | None]) -> Iterator[None]:
    """Lets what is imported meanwhile have these modules, but for those that are there already."""
    used = {name: module for name, module in stand_ins.items() if name not in sys.modules}
    sys.modules.update(used)  # type: ignore[arg-type]
    try:
        yield
    finally:
        for name in used:
            del sys.modules[name]


def quiet_decord() -> None:
    """Keeps decord from printing all of a file that is no video.

    decord 0.6.0 logs what it cannot open (`video_reader.cc` line 83): its content, where stock's
    `DecordInit` hands that over. Can go when it does not.
    """
    from mmaction.datasets.transforms import DecordInit

    stock = DecordInit._get_video_reader

    def get_video_reader(self: object, filename: str) -> object:
        try:
            with _muted():
                return stock(self, filename)
        except RuntimeError as error:
            if str(error).startswith("Error reading "):
                raise RuntimeError(NOT_A_VIDEO) from error
            raise

    DecordInit._get_video_reader = get_video_reader


@contextmanager
def _muted() -> Iterator[None]:
    """Drops what is written to standard error below Python; one thread at a time."""
    with _muting, Path(os.devnull).open("wb") as nothing:
        kept = os.dup(2)
        os.dup2(nothing.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)


@cache
def _homes() -> dict[str, str]:
    """Returns the module of each name that this file imports for the type checker alone."""
    tree = ast.parse(Path(__file__).read_text(encoding="utf-8"))
    (block,) = (node for node in tree.body if isinstance(node, ast.If))
    imports = [node for node in block.body if isinstance(node, ast.ImportFrom)]
    return {alias.name: str(node.module) for node in imports for alias in node.names}


def __getattr__(name: str) -> Any:
    if (home := _homes().get(name)) is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    repair()
    if home.startswith("mmaction.datasets"):
        import_transforms()
    if home.startswith("mmaction.models"):
        repair_models()
    value = globals()[name] = getattr(importlib.import_module(home), name)
    return value


class OldNames(MetaPathFinder, Loader):
    """Gives the module of today under its old name; the stock Runner asks for it too."""

    def find_spec(self, fullname: str, *_: Any) -> ModuleSpec | None:
        return spec_from_loader(fullname, self) if fullname in MOVED else None

    def exec_module(self, module: ModuleType) -> None:
        sys.modules[module.__name__] = importlib.import_module(MOVED[module.__name__])


def find_old_names() -> None:
    """Has Python find the old names; once is enough."""
    if not any(isinstance(finder, OldNames) for finder in sys.meta_path):
        sys.meta_path.append(OldNames())
