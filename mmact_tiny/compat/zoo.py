"""Repairs what stock recognition configs name and today's packages lack."""

import importlib
import importlib.util
import sys
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

import numpy as np

PTV_BINS = 11  # pytorchvideo's magnitudes go from 0 to 10


def provide_mmcls() -> None:
    """Stands in for `mmcls`, MMPretrain's name before 1.0: `mmcls.ResNeXt` is MMPretrain's.

    mmaction2 1.2.0 has it in a TSN config; mmcls itself does not go with mmengine.
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


def repair_color_jitter() -> None:
    """Shifts the hue of `ColorJitter` in int16, and so by a negative offset.

    mmaction2 1.2.0 adds it to uint8, which NumPy 2 refuses ("Python integer -17 out of bounds").
    """
    import cv2
    from mmaction.datasets.transforms import ColorJitter

    def adjust_hue(img: np.ndarray, factor: float) -> np.ndarray:
        hsv = cv2.cvtColor(np.clip(img, 0, 255).astype(np.uint8), cv2.COLOR_RGB2HSV)
        hsv[..., 0] = (hsv[..., 0].astype(np.int16) + int(factor * 255)) % 180
        return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB).astype(np.float32)

    ColorJitter.adjust_hue = staticmethod(adjust_hue)


def repair_pytorchvideo_wrapper() -> None:
    """Gives `PytorchVideoWrapper` torchvision's RandAugment, where pytorchvideo does not import.

    pytorchvideo 0.1.5 asks for `torchvision.transforms.functional_tensor`, gone since 0.17. Its
    RandAugment draws `num_layers` operations, applies each with probability `prob`, and has
    magnitudes from 0 to 10; so does this one, with torchvision's operations, one draw for all
    frames. It does not draw the magnitude from a Gaussian around the one given.
    """
    import torchvision.transforms as torchvision_transforms
    from mmaction.datasets.transforms import PytorchVideoWrapper

    try:
        importlib.import_module("pytorchvideo.transforms")
        return
    except ImportError:
        pass

    def init(
        self: Any, op: str, magnitude: int = 9, num_layers: int = 2, prob: float = 0.5
    ) -> None:
        if op != "RandAugment":
            raise ImportError(f"{op} needs pytorchvideo; without it there is RandAugment")
        one = torchvision_transforms.RandAugment(1, magnitude, num_magnitude_bins=PTV_BINS)
        layers = [torchvision_transforms.RandomApply([one], p=prob)] * num_layers
        self.op, self.trans = op, torchvision_transforms.Compose(layers)

    PytorchVideoWrapper.__init__ = init
