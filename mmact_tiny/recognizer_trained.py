"""What a trained recognizer brings with it: its checkpoint, its config, its class names."""

import re
from pathlib import Path
from typing import Any

from . import dataset as datasets
from . import runs
from .checkpoints.config_text import vet_config
from .checkpoints.load import checkpoint_classes, checkpoint_config
from .compat.mm import Config
from .config import resolve_path, stock_configs
from .errors import UserError

K400_WEIGHTS = "tsn_imagenet-pretrained-r50_8xb32-1x1x3-100e_kinetics400-rgb_*.pth"


def default_checkpoint() -> Path:
    """Returns the best checkpoint of the newest run, else the K400 weights in checkpoints/.

    Raises:
        UserError: there is neither; names the commands that make one.
    """
    run = runs.newest_run()
    if run is not None:
        return run.checkpoint
    found = sorted(Path("checkpoints").glob(K400_WEIGHTS))
    if found:
        return found[-1]
    raise UserError(
        "no trained run in work_dirs/ and no weights in checkpoints/\n"
        "  train: python tools/train.py configs/tsn_tiny.py\n"
        "  or get the Kinetics-400 weights: python tools/download.py tsn_r50_k400"
    )


def config_of(loaded: dict[str, Any], checkpoint: Path, config: str | Path | None) -> Config:
    """Returns the config: the one given, the stock one that the file is named for, its own."""
    published = re.fullmatch(r"(.+)_\d{8}-[0-9a-f]{8}", checkpoint.stem)
    if config is None and published:
        config = next(stock_configs().rglob(f"{published[1]}.py"), None)
    if config is not None:
        cfg = Config.fromfile(resolve_path(config))
    else:
        own = checkpoint_config(loaded, source=str(checkpoint))
        if own is None:
            raise UserError(f"{checkpoint} carries no config: name one with --config")
        cfg = Config(vet_config(own, source=str(checkpoint)))
    if cfg.model.get("backbone", {}).get("pretrained"):
        cfg.model.backbone.pretrained = None
    return cfg


def labels_of(loaded: dict[str, Any], label_map: str | Path | None, num_classes: int) -> list[str]:
    """Returns the class names: of the file given, of the checkpoint, or those of K400."""
    if label_map is not None:
        labels = datasets.read_label_map(label_map)
        if len(labels) != num_classes:
            raise UserError(
                f"label map {label_map} has {len(labels)} lines; "
                f"the model has {num_classes} classes"
            )
        return labels
    labels = checkpoint_classes(loaded)
    if len(labels) == num_classes:
        return labels
    if num_classes == 400:
        return k400_labels()
    return [f"class {index}" for index in range(num_classes)]


def k400_labels() -> list[str]:
    """Returns the 400 names of Kinetics-400, in the order of MMAction2's label map.

    MMAction2's wheel leaves its label maps out; torchvision carries the same list.
    """
    from torchvision.models.video import R3D_18_Weights

    return list(R3D_18_Weights.KINETICS400_V1.meta["categories"])
