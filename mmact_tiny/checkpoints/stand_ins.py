"""Inert values under the names that checkpoints pickle beside their tensors, and back again.

MMEngine's Runner pickles `HistoryBuffer` objects (with `getattr` for their methods), numpy arrays
and scalars. While a file is read, those names stand for the classes below, which only keep what
they are given; `thaw` then rebuilds real arrays and buffers from the parts that it understands.
"""

import math
import re
from collections import Counter, OrderedDict
from typing import Any

# numpy would take "V9999999999" or a nested record; numbers, bools and text are all we need.
DTYPE = re.compile(r"[<>|=]?([biufcSU])(\d{1,5})")


class Inert:
    """Keeps its arguments and its state; `pieces` holds them as they were in the file."""

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
    """MMEngine's `HistoryBuffer`."""


class Attribute(Inert):
    """The `getattr` of a pickled method: never looked up, dropped with what holds it."""


class Type(Inert):
    """A class that is only mentioned, as `numpy.ndarray` is in every pickled array."""


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
    "builtins.getattr": Attribute,
    "mmengine.logging.history_buffer.HistoryBuffer": Buffer,
    "numpy.core.multiarray._reconstruct": Array,
    "numpy._core.multiarray._reconstruct": Array,
    "numpy.core.multiarray.scalar": Scalar,
    "numpy._core.multiarray.scalar": Scalar,
    "numpy.dtype": Dtype,
    "numpy.ndarray": Type,
    "builtins.dict": Type,  # the factory of a defaultdict
    "builtins.list": Type,
    "builtins.int": Type,
    "builtins.float": Type,
    "collections.defaultdict": Dict,
    "collections.deque": List,
    "mmengine.config.config.ConfigDict": Dict,
    "mmcv.utils.config.ConfigDict": Dict,
    "addict.addict.Dict": Dict,
    "pathlib.PosixPath": Text,
    "pathlib._local.PosixPath": Text,  # Python 3.13
    "torch.torch_version.TorchVersion": Text,
}


def thaw(value: Any, memo: dict[int, Any] | None = None) -> Any:
    """Returns plain data: containers, numbers, text, tensors, numpy arrays and HistoryBuffers.

    What the file shares stays shared. Tensors come back without gradients or hooks.

    Raises:
        ValueError: a value of another type, or one whose parts do not fit together.
    """
    import torch

    memo = {} if memo is None else memo
    if value is None or type(value) in (bool, int, float, complex, str, bytes):
        return value
    if type(value) in (torch.dtype, torch.device, torch.Size):
        return value
    if id(value) in memo:
        return memo[id(value)]
    if isinstance(value, torch.Tensor):
        result = value.detach()  # no gradient, no hooks
    elif isinstance(value, Inert):
        result = _thaw_inert(value, memo)
    else:
        return _thaw_container(value, memo)
    memo[id(value)] = result
    return result


def _thaw_container(value: Any, memo: dict[int, Any]) -> Any:
    kind = type(value)
    result: Any
    if kind is list:
        result = memo[id(value)] = []
        result.extend(thaw(item, memo) for item in value)
    elif kind in (dict, OrderedDict, Counter):
        result = memo[id(value)] = kind()
        for key, item in value.items():
            result[thaw(key, memo)] = thaw(item, memo)
        if isinstance(metadata := vars(value).get("_metadata") if kind is OrderedDict else 0, dict):
            result._metadata = thaw(metadata, memo)
    elif kind in (tuple, set):
        result = memo[id(value)] = kind(thaw(item, memo) for item in value)
    else:
        raise ValueError(f"a value of type {kind.__name__} where plain data was expected")
    return result


def _thaw_inert(value: Inert, memo: dict[int, Any]) -> Any:
    if isinstance(value, Attribute | Type):
        return None
    if isinstance(value, Text):
        return "/".join(str(part) for part in value.args if isinstance(part, str))
    if isinstance(value, Dtype):
        return _dtype(value)
    if isinstance(value, Array):
        return _array(value)
    if isinstance(value, Scalar):
        dtype, data = value.args
        return _values(data, (), dtype)[()]
    return _history_buffer(value, memo)


def _dtype(value: Any) -> Any:
    import numpy as np

    name = value.args[0] if isinstance(value, Dtype) and value.args else None
    if not isinstance(name, str) or not DTYPE.fullmatch(name):
        raise ValueError(f"a numpy array of type {name!r:.40}, expected numbers, bools or text")
    order: Any = value.state[1] if value.state and value.state[1] in ("<", ">") else "="
    return np.dtype(name).newbyteorder(order)


def _array(value: Array) -> Any:
    if not isinstance(value.state, tuple) or len(value.state) != 5:
        raise ValueError("a numpy array without its contents")
    _, shape, dtype, is_fortran, data = value.state
    if not isinstance(shape, tuple) or not all(type(size) is int and size >= 0 for size in shape):
        raise ValueError("a numpy array of no shape")
    return _values(data, shape, dtype, order="F" if is_fortran else "C")


def _values(data: Any, shape: tuple[int, ...], dtype: Any, order: Any = "C") -> Any:
    """Returns an array of its own memory; the bytes must be exactly those of the shape."""
    import numpy as np

    dtype = _dtype(dtype)
    if not isinstance(data, bytes) or len(data) != math.prod(shape) * dtype.itemsize:
        raise ValueError(f"a numpy array of shape {shape} does not have the bytes for it")
    return np.frombuffer(data, dtype).reshape(shape, order=order).copy(order="K")


def _history_buffer(value: Inert, memo: dict[int, Any]) -> Any:
    """Returns MMEngine's own buffer, so that `MessageHub.load_state_dict` takes up the log.

    The pickled table of statistics methods is left out: the class has its own.
    """
    from ..compat.mm import HistoryBuffer

    state = value.state if isinstance(value.state, dict) else {}
    log, counts = (thaw(state.get(key), memo) for key in ("_log_history", "_count_history"))
    length = state.get("max_length")
    if getattr(log, "ndim", 0) != 1 or getattr(counts, "shape", None) != log.shape:
        raise ValueError("a HistoryBuffer without a log")
    if (
        type(length) is not int
        or length < len(log)
        or {log.dtype.kind, counts.dtype.kind} & {*"SU"}
    ):
        raise ValueError("a HistoryBuffer that holds no numbers")
    return HistoryBuffer(log, counts, length)
