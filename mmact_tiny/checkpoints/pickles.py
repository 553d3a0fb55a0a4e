"""Reads a checkpoint's pickles without calling anything that they name.

`torch.load(weights_only=True)` builds the tensors. `check_pickles` goes before it, because torch's
restricted unpickler takes whatever name any library of the process allowed, and before 2.10 it
corrupts memory where a file declares wrong sizes (CVE-2026-24747). What Runners pickle beside
tensors is read as inert parts (`STAND_INS`), from which `plain_data` makes values.
"""

import io
import math
import pickle
import re
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from collections import Counter, OrderedDict
from typing import IO, Any

from .. import compat

# torch.save before 1.6 (and the official files of 2020) starts with this number, pickled.
LEGACY_MAGIC = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
LEGACY_PICKLES = 5  # the magic number, the protocol, the system, the object, its storages' keys
ZIP_MAGIC = b"PK\x03\x04"
# numpy would take "V9999999999" or a nested record; numbers, bools and text are all we need.
DTYPE = re.compile(r"[<>|=]?([biufcSU])(\d{1,5})")


class Refusal(Exception):
    """Why a file is not loaded; the text ends up in the one-line error."""


class Inert:
    """Keeps the arguments and the state that a pickle gives it."""

    __slots__ = ("args", "state")
    args: tuple
    state: Any

    def __new__(cls, *args: Any) -> Any:
        self = object.__new__(cls)
        self.args, self.state = args, None
        return self

    def __setstate__(self, state: Any) -> None:
        self.state = state


class Array(Inert):
    """numpy's `_reconstruct`: the state holds version, shape, dtype, order and the bytes."""


class Scalar(Inert):
    """numpy's `scalar`: a dtype and the bytes of the value."""


class Dtype(Inert):
    """numpy's `dtype`: its name, and the byte order in the state."""


class Buffer(Inert):
    """MMEngine's `HistoryBuffer`, which 0.1.0 and stock MMEngine pickle."""


class Nothing(Inert):
    """The `getattr` of a pickled method, never looked up; a class that is only mentioned."""


class Text(Inert):
    """A path or a version: its parts are joined to a str."""


class Dict(dict):
    """A dict subclass, read as a dict."""

    def __new__(cls, *args: Any) -> Any:
        return dict(next((arg for arg in args if isinstance(arg, dict)), {}))


class List(list):
    """A list-like, read as a list."""

    def __new__(cls, *args: Any) -> Any:
        return list(args[0]) if args and isinstance(args[0], list | tuple) else []


STAND_INS: dict[str, type] = {
    "builtins.getattr": Nothing,  # in every file of stock's Runner
    "mmengine.logging.history_buffer.HistoryBuffer": Buffer,
    "numpy.core.multiarray._reconstruct": Array,
    "numpy._core.multiarray._reconstruct": Array,
    "numpy.core.multiarray.scalar": Scalar,
    "numpy._core.multiarray.scalar": Scalar,
    "numpy.dtype": Dtype,
    "numpy.ndarray": Nothing,
    **dict.fromkeys((f"builtins.{name}" for name in ("dict", "list", "int", "float")), Nothing),
    "collections.defaultdict": Dict,
    "collections.deque": List,
    "mmengine.config.config.ConfigDict": Dict,
    "mmcv.utils.config.ConfigDict": Dict,
    "addict.addict.Dict": Dict,
    "pathlib.PosixPath": Text,
    "pathlib._local.PosixPath": Text,  # Python 3.13
    "torch.torch_version.TorchVersion": Text,
}


class Opaque:
    """Stands for what torch builds, while a pickle is checked."""

    item_bytes = 0  # of a storage's values

    def __init__(self, *args: Any) -> None:
        pass


def _latin1(text: str, encoding: str) -> bytes:
    """Is `_codecs.encode` as pickle protocol 2 calls it for bytes."""
    if encoding != "latin1":
        raise Refusal(f"it encodes bytes as {encoding!r:.40}")
    return text.encode(encoding)


ITEM_BYTES = dict(Byte=1, Char=1, Bool=1, Half=2, BFloat16=2, Short=2, Float=4, Int=4, Double=8)
ITEM_BYTES |= dict(Long=8, ComplexFloat=8, ComplexDouble=16)
STORAGES = {
    f"torch.{name}Storage": type(name, (Opaque,), {"item_bytes": num_bytes})
    for name, num_bytes in ITEM_BYTES.items()
}
STORAGES["torch.storage.UntypedStorage"] = STORAGES["torch.ByteStorage"]
DTYPES = "bool uint8 int8 int16 int32 int64 float16 bfloat16 float32 float64"
FUNCTIONS = ("_rebuild_tensor", "_rebuild_tensor_v2", "_rebuild_parameter")
# All that a checkpoint may name. What torch makes of its own builds tensors and plain values.
NAMES: dict[str, Any] = {
    **STAND_INS,
    **STORAGES,
    **dict.fromkeys((f"torch.{name}" for name in ("Size", "device", *DTYPES.split())), Opaque),
    **dict.fromkeys((f"torch._utils.{name}" for name in FUNCTIONS), Opaque),
    "_codecs.encode": _latin1,
    "builtins.complex": complex,
    "builtins.set": set,
    "collections.Counter": Counter,  # the milestones of a MultiStepLR
    "collections.OrderedDict": OrderedDict,
}


class _Outline(pickle._Unpickler):  # C's believes the size that a file declares for its memo
    """Builds the containers of a pickle around inert parts; notes the storages it declares."""

    def __init__(self, file: IO[bytes]) -> None:
        super().__init__(file)
        self.storages: dict[str, int] = {}

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in NAME_MAPPING:  # Python 2's names, as in pickle protocol 2
            module, name = NAME_MAPPING[module, name]
        full = f"{IMPORT_MAPPING.get(module, module)}.{name}"
        if full not in NAMES:
            raise Refusal(f"it names {full!r:.120}, which is neither a tensor nor plain data")
        return NAMES[full]

    def persistent_load(self, pid: Any) -> Any:
        match pid:
            case ("storage", type() as kind, str(key), str(), int(count), *_) if (
                issubclass(kind, Opaque) and kind.item_bytes and count >= 0
            ):
                num_bytes = count * kind.item_bytes
                if self.storages.setdefault(key, num_bytes) == num_bytes:
                    return Opaque()
                raise Refusal(f"tensor storage {key!r:.80} is declared with contradicting sizes")
        raise Refusal("it refers to a tensor in a way that torch.save does not write")

    def load_build(self) -> None:
        """Sets the state of values only: our classes stay as they are."""
        if not isinstance(self.stack[-2], Inert | OrderedDict):  # type: ignore[attr-defined]
            raise Refusal("it sets the state of what has none")
        super().load_build()  # type: ignore[misc]

    dispatch = pickle._Unpickler.dispatch | {pickle.BUILD[0]: load_build}  # type: ignore


def check_pickles(file: IO[bytes], *, only: bool = False) -> Any:
    """Checks a file of torch.save, of either format, and returns what it holds without tensors.

    Args:
        file: At its start.
        only: Leave out the sizes of the tensors, which are not going to be loaded.

    Returns:
        Containers with inert parts in them: see `plain_data`.

    Raises:
        Refusal: what is wrong with it.
    """
    if file.read(len(ZIP_MAGIC)) != ZIP_MAGIC:
        file.seek(0)
        return [_Outline(file).load() for _ in range(LEGACY_PICKLES)][3]
    import torch

    file.seek(0)
    try:
        archive: Any = torch._C.PyTorchFileReader(file)  # as torch.load: both see the same records
    except (RuntimeError, OSError, ValueError):
        raise Refusal("the zip archive in it is truncated or damaged: fetch it again") from None
    if archive.has_record("constants.pkl"):
        raise Refusal("it is a TorchScript program: it holds code, not only weights")
    if not archive.has_record("data.pkl"):
        raise Refusal("it is a zip archive without data.pkl, not a PyTorch checkpoint")
    outline = _Outline(io.BytesIO(archive.get_record("data.pkl")))
    values = outline.load()
    for key, num_bytes in () if only else outline.storages.items():
        name = f"data/{key}"
        found = len(archive.get_record(name)) if archive.has_record(name) else None
        if found != num_bytes:
            there = "is missing" if found is None else f"has {found:,} bytes"
            raise Refusal(f"tensor storage {key!r:.80} {there}, {num_bytes:,} are declared")
    return values


def plain_data(value: Any) -> Any:
    """Returns plain data: containers, numbers, text, tensors, numpy arrays and HistoryBuffers.

    Tensors come back without gradients or hooks.

    Raises:
        ValueError: a value of another type, or one whose parts do not fit together.
    """
    import torch

    kind = type(value)
    if value is None or kind in (bool, int, float, complex, str, bytes):
        return value
    if kind in (torch.dtype, torch.device, torch.Size):
        return value
    if isinstance(value, torch.Tensor):
        return value.detach()
    if isinstance(value, Inert):
        return _value_of(value)
    if kind in (list, tuple, set):
        return kind(plain_data(item) for item in value)
    if kind not in (dict, OrderedDict, Counter):
        raise ValueError(f"a value of type {kind.__name__} where plain data was expected")
    result: Any = kind({plain_data(key): plain_data(item) for key, item in value.items()})
    metadata = getattr(value, "_metadata", None)  # of a state dict: the versions of its modules
    if isinstance(metadata, dict):
        result._metadata = plain_data(metadata)
    return result


def _value_of(value: Inert) -> Any:
    if isinstance(value, Nothing):
        return None
    if isinstance(value, Text):
        return "/".join(str(part) for part in value.args if isinstance(part, str))
    if isinstance(value, Dtype):
        return _dtype(value)
    if isinstance(value, Scalar):
        dtype, data = value.args
        return _values(data, (), dtype)[()]
    if isinstance(value, Buffer):
        state = value.state if isinstance(value.state, dict) else {}
        log, counts = (plain_data(state.get(f"_{k}_history")) for k in ("log", "count"))
        return history_buffer(log, counts, state.get("max_length"))
    if not isinstance(value.state, tuple) or len(value.state) != 5:
        raise ValueError("a numpy array without its contents")
    _, shape, dtype, is_fortran, data = value.state
    if not isinstance(shape, tuple) or not all(type(size) is int and size >= 0 for size in shape):
        raise ValueError("a numpy array of no shape")
    return _values(data, shape, dtype, order="F" if is_fortran else "C")


def _dtype(value: Any) -> Any:
    import numpy as np

    name = value.args[0] if isinstance(value, Dtype) and value.args else None
    if not isinstance(name, str) or not DTYPE.fullmatch(name):
        raise ValueError(f"a numpy array of type {name!r:.40}, expected numbers, bools or text")
    order: Any = value.state[1] if value.state and value.state[1] in ("<", ">") else "="
    return np.dtype(name).newbyteorder(order)


def _values(data: Any, shape: tuple[int, ...], dtype: Any, order: Any = "C") -> Any:
    """Returns an array of its own memory; the bytes must be exactly those of the shape."""
    import numpy as np

    dtype = _dtype(dtype)
    if not isinstance(data, bytes) or len(data) != math.prod(shape) * dtype.itemsize:
        raise ValueError(f"a numpy array of shape {shape} does not have the bytes for it")
    return np.frombuffer(data, dtype).reshape(shape, order=order).copy(order="K")


def history_buffer(log: Any, counts: Any, max_length: Any) -> Any:
    """Returns MMEngine's own buffer of two arrays, so that `MessageHub` takes up the log.

    Raises:
        ValueError: they are no log of numbers.
    """
    if getattr(log, "ndim", 0) != 1 or getattr(counts, "shape", None) != log.shape:
        raise ValueError("a HistoryBuffer without a log")
    is_text = {log.dtype.kind, counts.dtype.kind} & {*"SU"}
    if type(max_length) is not int or max_length < len(log) or is_text:
        raise ValueError("a HistoryBuffer that holds no numbers")
    return compat.HistoryBuffer(log, counts, max_length)
