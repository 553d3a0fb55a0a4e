"""Loads checkpoints as data, so that no file can run code, and puts weights into models."""

import json
import logging
import os
import stat
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import zip_longest
from pathlib import Path
from typing import IO, Any

from .. import compat
from ..errors import UserError, as_typed
from ..files import NAMES_SUFFIX, read_label_map
from .config_text import (
    config_from_json,
    config_from_text,
    published_config,
    read_config,
    vet_config,
    without_downloads,
)
from .pickles import (
    LEGACY_MAGIC,
    STAND_INS,
    ZIP_MAGIC,
    Refusal,
    check_pickles,
    history_buffer,
    plain_data,
)

MAPPINGS = ("state_dict", "meta", "message_hub", "progress")  # of what the Runner writes
CONFIG_KEY = "cfg_json"  # of `meta`; stock's `cfg` beside it is Python source
OTHER_KINDS = {
    b"\x80": "a plain pickle, not written by torch.save: its content cannot be loaded safely",
    b"\x1f\x8b": "a gzip archive: unpack it first",
    b"version https://git-lfs": "a git-lfs pointer: fetch the file itself with `git lfs pull`",
    b'<?xml version="1.0"?>\n<net ': (
        "OpenVINO's file, which its own runtime runs: expected the checkpoint that it was made "
        "of, or what `python tools/export.py --format onnx` makes of that"
    ),
    b"<": "a web page, perhaps of a failed download: fetch it again",
    **dict.fromkeys(
        (bytes([8, version]) for version in range(1, 20)),  # its first field, the IR's version
        "an ONNX file, it seems, for inference alone, where its name ends in .onnx: expected the "
        "checkpoint that it was made of",
    ),
    b"\x89HDF": "an HDF5 file, not a PyTorch checkpoint",
}
BACKBONE = "backbone."
HEAD = "cls_head."
ADAPTER = "lora."  # of `hooks.finetune`
WRAPPERS = ("state_dict", "model", "module", "model_state", "state_dict_ema", "model_ema")
PREFIXES = ("model.", "_orig_mod.", "encoder.")
COUNTER = "num_batches_tracked"  # came with PyTorch 0.4.1; files without it are complete
logger = logging.getLogger("mmact_tiny")


def load_checkpoint(path: str | Path, map_location: Any = "cpu") -> dict:
    """Loads a checkpoint; all loading here and in MMEngine goes through this function.

    Files of the Runner, the official OpenMMLab `.pth` files (zip and the older format) and
    `.safetensors` are understood. Tensors, plain containers, numpy values and MMEngine's
    HistoryBuffers are rebuilt; anything else in the file is refused before it is built.

    Args:
        path: a local file.
        map_location: the device, as for `torch.load`; None is the CPU.

    Returns:
        What was saved: usually `state_dict`, `meta` and what the Runner needs to resume, or the
        bare state dict. `meta['config']`, which MMEngine would execute, is renamed to `cfg`.

    Raises:
        UserError: one line that names the file and why it is not loaded.
    """
    path = Path(path).expanduser()
    map_location = "cpu" if map_location is None else map_location
    with _reading(path) as file:
        if _is_safetensors(file):
            return read_safetensors(path, map_location)
        check_pickles(file)
        file.seek(0)
        return _as_mapping(plain_data(_torch_load(file, map_location)))


def read_meta(path: str | Path) -> dict:
    """Returns a checkpoint's `meta` ({} if it has none), and leaves its tensors on the disk.

    Raises:
        UserError: as `load_checkpoint`; a file of torch.save that is cut off, too.
    """
    path = Path(path).expanduser()
    with _reading(path) as file:
        if _is_safetensors(file):
            return load_checkpoint(path)["meta"]
        values = check_pickles(file, only=True)
        if isinstance(values, dict):
            values = {"meta": plain_data(values["meta"])} if "meta" in values else {}
        return _as_mapping(values).get("meta", {})


@contextmanager
def _reading(path: Path) -> Iterator[IO[bytes]]:
    """Gives the file, of a kind that may be a checkpoint; says in a line what is wrong with it."""
    with open_regular(path) as file:
        try:
            start = file.read(32)
            file.seek(0)
            if not start:
                raise Refusal("it is empty")
            if not start.startswith((ZIP_MAGIC, LEGACY_MAGIC)) and not _is_safetensors(file):
                kinds = (kind for magic, kind in OTHER_KINDS.items() if start.startswith(magic))
                raise Refusal(f"it is {next(kinds, 'not a PyTorch checkpoint')}")
            yield file
        except UserError:
            raise
        except Refusal as refusal:
            raise UserError(f"checkpoint {shown(path)} is refused: {refusal}") from None
        except Exception as error:  # a forged file can make the parsers raise anything
            text = str(error).rpartition("WeightsUnpickler error: ")[2].strip()
            reason = (text or type(error).__name__).splitlines()[0][:200]
            raise UserError(f"checkpoint {shown(path)} cannot be read: {reason}") from error


def open_regular(path: Path) -> IO[bytes]:
    """Opens a file for reading; a folder, a FIFO or a device is refused, and nothing waits.

    Raises:
        UserError: not there, not a regular file, or not readable.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    except FileNotFoundError:
        raise UserError(f"no checkpoint at {shown(path)}: check the path") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"cannot open checkpoint {shown(path)}: {reason}") from None
    mode = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(mode):
        os.close(descriptor)
        kind = "a folder" if stat.S_ISDIR(mode) else "a pipe or device"
        raise UserError(f"checkpoint {shown(path)} is {kind}, expected a file")
    return os.fdopen(descriptor, "rb")


def shown(path: Path) -> str:
    """Returns the path as one line, quoted if it holds control characters."""
    return str(path) if str(path).isprintable() else repr(str(path))


def _is_safetensors(file: IO[bytes]) -> bool:
    """Returns whether the file starts as a safetensors file: a length, then a JSON object."""
    start = file.read(9)
    file.seek(0)
    size = os.fstat(file.fileno()).st_size
    return start[8:] == b"{" and int.from_bytes(start[:8], "little") < size


def _torch_load(file: IO[bytes], map_location: Any) -> Any:
    """Runs torch's restricted unpickler, with inert stand-ins for the names it does not know."""
    import torch

    stand_ins = [(kind, name) for name, kind in STAND_INS.items()]
    of_others = torch.serialization.get_safe_globals()  # may have other classes for our names
    torch.serialization.clear_safe_globals()
    try:
        with torch.serialization.safe_globals(stand_ins):  # type: ignore[arg-type]
            return torch.load(file, map_location=map_location, weights_only=True)
    finally:
        torch.serialization.add_safe_globals(of_others)


def _as_mapping(checkpoint: Any) -> dict:
    """Checks the parts that the Runner takes up, and gives them the form that it expects."""
    if not isinstance(checkpoint, dict):
        raise Refusal(f"it holds a {type(checkpoint).__name__}, expected a dict of weights")
    for key in MAPPINGS:
        if key in checkpoint and not isinstance(checkpoint[key], dict):
            raise Refusal(f"it has a {type(checkpoint[key]).__name__} as {key}, expected a dict")
    meta = checkpoint.get("meta", {})
    if "config" in meta:
        # Runner.resume executes `meta['config']`, a key of mmcv's time, as Python.
        meta.setdefault("cfg", meta.pop("config"))
    log = checkpoint.get("message_hub", {}).get("log_scalars")
    for name, value in log.items() if isinstance(log, dict) else ():
        match value:
            case {"log": values, "counts": counts, "max_length": max_length}:
                log[name] = history_buffer(
                    values.numpy(force=True), counts.numpy(force=True), max_length
                )
    return checkpoint


def without_classes(value: Any) -> Any:
    """Returns a value of the Runner without classes of MMEngine and numpy, which torch refuses.

    A HistoryBuffer becomes a dict of tensors, from which `load_checkpoint` makes it again.
    """
    import numpy as np
    import torch

    if isinstance(value, compat.HistoryBuffer):
        log, counts = (torch.from_numpy(array.copy()) for array in value.data)
        return {"log": log, "counts": counts, "max_length": value.max_length}
    if type(value) in (list, tuple):
        return type(value)(without_classes(item) for item in value)
    if isinstance(value, dict):
        return {key: without_classes(item) for key, item in value.items()}
    return value.item() if isinstance(value, np.generic) else value


def checkpoint_config(checkpoint: dict, *, source: str) -> dict | None:
    """Returns the config that a checkpoint carries, as plain data; None if it has none.

    It is not vetted: before anything of it is built, pass it through `vet_config`.

    Raises:
        UserError: it is not plain data.
    """
    meta = checkpoint.get("meta", {})
    if CONFIG_KEY in meta:
        return config_from_json(meta[CONFIG_KEY], source=source)
    config = meta.get("cfg")
    return config_from_text(config, source=source) if isinstance(config, str) else config


def config_of(
    loaded: dict[str, Any], checkpoint: Path, config: str | Path | None
) -> "compat.Config":
    """Returns the config: the one given, the stock one that the file is named for, its own."""
    config = config or published_config(checkpoint)
    if config is not None:
        cfg = read_config(config)
        cfg.model = without_downloads(cfg.model)
    else:
        own = checkpoint_config(loaded, source=str(checkpoint))
        if own is None:
            raise UserError(f"{checkpoint} carries no config: name one with --config")
        cfg = compat.Config(vet_config(own, source=str(checkpoint)))
    return cfg


def checkpoint_classes(checkpoint: dict) -> list[str]:
    """Returns the names of the classes that a checkpoint carries, in order; [] if it has none."""
    meta = checkpoint.get("meta", {})
    dataset_meta = meta.get("dataset_meta")
    classes = dataset_meta.get("classes") if isinstance(dataset_meta, dict) else None
    classes = classes or meta.get("CLASSES") or []  # the latter in mmcv's time
    return [str(name) for name in classes] if isinstance(classes, list | tuple) else []


def checkpoint_thresholds(checkpoint: dict) -> list[float] | None:
    """Returns the scores from which on each label counts; None of a checkpoint of single labels."""
    found = (checkpoint.get("message_hub") or {}).get("runtime_info", {}).get("thresholds")
    good = isinstance(found, list) and all(isinstance(one, float) for one in found)
    return found if good else None


def labels_of(
    loaded: dict[str, Any], checkpoint: Path, label_map: str | Path | None, num_classes: int
) -> list[str]:
    """Returns the class names: of the file given, of the checkpoint, beside it, or Kinetics-400's.

    Without any of them the classes have numbers, which a line in the log says.

    Raises:
        UserError: a label map that cannot be read, or is of another length.
    """
    labels, beside = checkpoint_classes(loaded), checkpoint.with_suffix(NAMES_SUFFIX)
    if label_map is None and len(labels) == num_classes:
        return labels
    if label_map is not None or beside.is_file():
        labels = read_label_map(label_map or beside)
        if len(labels) != num_classes:
            raise UserError(
                f"label map {label_map or beside} has {len(labels)} lines; "
                f"the model has {num_classes} classes"
            )
        return labels
    if num_classes == 400:
        return k400_labels()
    how = "--label-map FILE names them, `python tools/download.py` those of published weights"
    logger.warning("class numbers, %s has no names of its classes: %s", checkpoint, as_typed(how))
    return [f"class {index}" for index in range(num_classes)]


def k400_labels() -> list[str]:
    """Returns the 400 names of Kinetics-400, in the order of MMAction2's label map.

    MMAction2's wheel leaves its label maps out; torchvision carries the same list.
    """
    from torchvision.models.video import R3D_18_Weights

    return list(R3D_18_Weights.KINETICS400_V1.meta["categories"])


def read_safetensors(path: Path, device: Any) -> dict:
    """Returns `state_dict`, and `meta` with `cfg` (a dict) and `dataset_meta['classes']`."""
    from safetensors import safe_open

    with safe_open(path, "pt", device=str(device) if not callable(device) else "cpu") as file:
        metadata = file.metadata() or {}
        state_dict = OrderedDict((key, file.get_tensor(key)) for key in file.keys())  # noqa: SIM118
    meta: dict[str, Any] = {}
    if "config" in metadata:
        meta["cfg"] = config_from_json(metadata["config"], source=str(path))
    if "classes" in metadata:
        meta["dataset_meta"] = {"classes": json.loads(metadata["classes"])}
    found = {"state_dict": state_dict, "meta": meta}
    if "thresholds" in metadata:
        thresholds = json.loads(metadata["thresholds"])
        found["message_hub"] = {"runtime_info": {"thresholds": thresholds}}
    return found


def load_weights(model: Any, checkpoint: dict, *, path: Any, new_head: bool = False) -> str:
    """Loads a checkpoint's weights into a model that is not trained by a Runner.

    Args:
        model: a recognizer.
        checkpoint: what `load_checkpoint` returned.
        path: its file, for the messages.
        new_head: keep the model's own head where the checkpoint's does not fit.

    Returns:
        What was loaded, e.g. `318 of 320 tensors loaded from x.pth; ...`.

    Raises:
        UserError: the backbone does not fit, or the head does not and `new_head` is not set.
    """
    state_dict, message = match_weights(model, checkpoint, path=path, new_head=new_head)
    model.load_state_dict(state_dict)
    return message


def match_weights(
    model: Any, checkpoint: dict, *, path: Any, new_head: bool
) -> tuple[OrderedDict, str]:
    """Returns a state dict with exactly the model's keys and shapes, and the message about it.

    Where the checkpoint has nothing that fits, the model's own tensor is in its place. Arguments
    and errors are those of `load_weights`.
    """
    own = model.state_dict()
    theirs = as_recognizer(weights_of(checkpoint), own, path)
    fits = {key for key in own if key in theirs and theirs[key].shape == own[key].shape}
    # Counters of batches came with PyTorch 0.4.1, adapters with a run; files without are complete.
    missing = [key for key in own if key not in fits and not key.endswith(COUNTER)]
    wrong = [key for key in missing if not key.startswith(ADAPTER)]
    unused = [key for key in theirs if key not in own]
    body = [key for key in wrong if not key.startswith(HEAD)]
    body += [key for key in unused if key.startswith(BACKBONE)]
    if body:
        raise UserError(_explain_body(body, own, theirs, path))
    message = f"{len(fits)} of {len(own)} tensors loaded from {path}"
    if wrong:
        difference = _describe_head(wrong, own, theirs)
        if not new_head:
            raise UserError(f"checkpoint {path} does not fit the model: {difference}")
        message += f"; {difference}: the head is re-initialised"
    elif unused:
        message += f"; {len(unused)} tensors of it are not used, e.g. {unused[0]}"
    state_dict = OrderedDict((key, theirs[key] if key in fits else own[key]) for key in own)
    return state_dict, message


def _explain_body(body: list[str], own: dict, theirs: Mapping, path: Any) -> str:
    """Names the first few keys that differ and how."""
    described = []
    for key in body[:3]:
        if key not in theirs:
            described.append(f"{key} is missing")
        elif key not in own:
            described.append(f"{key} is not in the model")
        else:
            shapes = tuple(theirs[key].shape), tuple(own[key].shape)
            described.append(f"{key} is {shapes[0]}, the model's {shapes[1]}")
    more = ", ..." if len(body) > 3 else ""
    return (
        f"checkpoint {path} is of another architecture: {len(body)} tensors outside the head do "
        f"not fit the model's {len(own)} ({', '.join(described)}{more}). Use a checkpoint that "
        "was trained with this config, or change the config"
    )


def _describe_head(wrong: list[str], own: dict, theirs: Mapping) -> str:
    if not any(key.startswith(HEAD) for key in theirs):
        return "it has no head"
    for key in wrong:
        if key in theirs and theirs[key].shape[1:] == own[key].shape[1:]:
            return f"checkpoint has {len(theirs[key])} classes, the config {len(own[key])}"
    return f"checkpoint has another head ({wrong[0]} does not fit)"


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
