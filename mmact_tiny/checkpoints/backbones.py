"""Takes weights of a backbone alone, of other libraries too, for a recognizer's backbone."""

from collections.abc import Mapping
from itertools import zip_longest
from typing import Any

from ..errors import UserError

BACKBONE = "backbone."
HEAD = "cls_head."
WRAPPERS = ("state_dict", "model", "module", "model_state", "state_dict_ema", "model_ema")
PREFIXES = ("model.", "_orig_mod.", "encoder.")
COUNTER = "num_batches_tracked"  # came with PyTorch 0.4.1; files without it are complete


def weights_of(checkpoint: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the tensors of a checkpoint by name, wherever a library puts them.

    The prefix of a model that was saved within another is left out.
    """
    import torch

    for key in WRAPPERS:
        inner = checkpoint.get(key)
        if isinstance(inner, Mapping) and inner:
            return weights_of(inner)
    tensors = {
        str(key).removeprefix("module."): value  # of data parallel
        for key, value in checkpoint.items()
        if isinstance(value, torch.Tensor)
    }
    prefix = next((p for p in PREFIXES if all(key.startswith(p) for key in tensors)), None)
    if prefix is None or not tensors:
        return tensors
    return weights_of({key.removeprefix(prefix): value for key, value in tensors.items()})


def as_recognizer(
    theirs: Mapping[str, Any], own: Mapping[str, Any], path: Any
) -> Mapping[str, Any]:
    """Returns tensors by a recognizer's names; those of a recognizer's file as they are.

    A backbone's file may have the model's names, as where the backbone is a timm model itself, or
    others. Then its tensors have to be the model's one for one, in the order of the layers, alike
    in shape and in the last part of their names (`weight`, `running_mean`): so they are in the
    ResNets and MobileNetV2 of torchvision, timm and MMPretrain. What follows, a classifier, is
    left out.

    Args:
        theirs: Tensors by name, as the file has them.
        own: The model's.
        path: The file, for the error.

    Raises:
        UserError: they do not fit; names the first keys of both sides.
    """
    mine = [key for key in own if key.startswith(BACKBONE)]
    named = {key: value for key, value in theirs.items() if key.startswith(BACKBONE)}
    if not mine or any(key.startswith(HEAD) or key in own for key in theirs):
        return theirs
    names = {key.removeprefix(BACKBONE): value for key, value in (named or theirs).items()}
    renamed = {key: names[name] for key in mine if (name := key.removeprefix(BACKBONE)) in names}
    if all(key in renamed or key.endswith(COUNTER) for key in mine):
        return renamed
    if not any(key.endswith(COUNTER) for key in names):
        mine = [key for key in mine if not key.endswith(COUNTER)]
    for key, name in zip_longest(mine, list(names)[: len(mine)]):
        if name is None or _kind(key, own) != _kind(name, names):
            found = f"{name} {tuple(names[name].shape)}" if name else "nothing"
            raise UserError(
                f"checkpoint {path} is of another architecture: where the model has "
                f"{key} {tuple(own[key].shape)}, it has {found}\n"
                f"  its {len(names)} tensors begin with {', '.join([*names][:3]) or 'none'}\n"
                f"  the backbone's {len(mine)} with {', '.join(mine[:3])}\n"
                "  use weights of this backbone, or change the config"
            )
    return dict(zip(mine, names.values(), strict=False))


def _kind(key: str, tensors: Mapping[str, Any]) -> tuple[str, tuple[int, ...]]:
    return key.rpartition(".")[2], tuple(tensors[key].shape)
