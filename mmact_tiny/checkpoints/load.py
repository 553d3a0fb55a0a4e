"""Checkpoints are data: the one function that reads them cannot execute code from a file."""

from pathlib import Path
from typing import Any

from ..errors import UserError
from ..files import write_atomically
from .config_text import config_from_text
from .format import check_torch_file, is_safetensors, open_regular, shown
from .pickle_scan import Refusal
from .stand_ins import STAND_INS, thaw

MAPPINGS = ("state_dict", "meta", "message_hub", "progress")  # of what the Runner writes


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
    with open_regular(path) as file:
        try:
            if is_safetensors(file):
                from .safetensors import read_safetensors

                return read_safetensors(path, map_location)
            check_torch_file(file)
            file.seek(0)
            checkpoint = thaw(_torch_load(file, map_location))
        except UserError:
            raise
        except Refusal as refusal:
            raise UserError(f"checkpoint {shown(path)} is refused: {refusal}") from None
        except Exception as error:  # a forged file can make the parsers raise anything
            reason = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
            raise UserError(f"checkpoint {shown(path)} cannot be read: {reason}") from error
    return _as_mapping(checkpoint, path)


def _torch_load(file: Any, map_location: Any) -> Any:
    """Runs torch's restricted unpickler, with inert stand-ins for the names it does not know."""
    import torch

    stand_ins = [(kind, name) for name, kind in STAND_INS.items()]
    with torch.serialization.safe_globals(stand_ins):  # type: ignore[arg-type]
        return torch.load(file, map_location=map_location, weights_only=True)


def _as_mapping(checkpoint: Any, path: Path) -> dict:
    if not isinstance(checkpoint, dict):
        kind = type(checkpoint).__name__
        raise UserError(f"checkpoint {shown(path)} holds a {kind}, expected a dict of weights")
    for key in MAPPINGS:
        value = checkpoint.get(key)
        if key in checkpoint and not isinstance(value, dict):
            kind = type(value).__name__
            raise UserError(f"checkpoint {shown(path)} has a {kind} as {key}, expected a dict")
    meta = checkpoint.get("meta")
    if isinstance(meta, dict) and "config" in meta:
        # Runner.resume executes `meta['config']`, a key of mmcv's time, as Python.
        meta.setdefault("cfg", meta.pop("config"))
    return checkpoint


def checkpoint_config(checkpoint: dict, *, source: str) -> dict | None:
    """Returns the config that a checkpoint carries, as plain data; None if it has none.

    It is not vetted: before anything of it is built, pass it through `vet_config`.

    Raises:
        UserError: it is not plain data.
    """
    meta = checkpoint.get("meta")
    config = meta.get("cfg") if isinstance(meta, dict) else None
    return config_from_text(config, source=source) if isinstance(config, str) else config


def checkpoint_classes(checkpoint: dict) -> list[str]:
    """Returns the names of the classes that a checkpoint carries, in order; [] if it has none."""
    meta = checkpoint.get("meta")
    meta = meta if isinstance(meta, dict) else {}
    dataset_meta = meta.get("dataset_meta")
    classes = dataset_meta.get("classes") if isinstance(dataset_meta, dict) else None
    classes = classes or meta.get("CLASSES") or []  # the latter in mmcv's time
    return [str(name) for name in classes] if isinstance(classes, list | tuple) else []


def save_checkpoint_atomically(checkpoint: dict, path: str | Path) -> None:
    """Writes what `load_checkpoint` reads back; the file that was there stays until it is whole.

    Raises:
        UserError: the disk is full, or the file cannot be written.
    """
    import io

    import torch

    with io.BytesIO() as buffer:
        torch.save(checkpoint, buffer)
        write_atomically(buffer.getvalue(), path)
