"""Reads a checkpoint's pickle without building anything, to decide whether torch may load it.

`torch.load(weights_only=True)` runs no code from a file, but it believes the sizes that a file
declares, allocates what `bytearray(10**12)` asks for, and its list of names is open to every
library in the process. The scan follows the pickle's stack symbolically: names must be on our
own list, containers are filled only as `torch.save` fills them, work that repeats itself is
weighed, and the size of every storage is reported for comparison with the bytes that are there.
"""

import math
import pickletools
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from dataclasses import dataclass
from typing import IO, Any

from .stand_ins import STAND_INS

MAX_OPCODES = 5_000_000  # a ResNet-50 with optimizer state has 17,000; each costs ~100 bytes
# Values that calls and dict keys may go through in all: a small pickle can name one long list a
# million times and copy each, or hash a tuple that holds itself 60 times over.
BASE_WORK, WORK_PER_BYTE = 50_000_000, 4
# Keys other than text and small numbers can be chosen to collide: n of them take n * n / 2 steps.
ODD_KEY_WORK = 5_000
SMALL = 1 << 60
MAX_EXPANDED = 1 << 20  # values of a tensor that repeats what its storage has once

ITEM_BYTES = {
    **dict.fromkeys(("ByteStorage", "CharStorage", "BoolStorage", "UntypedStorage"), 1),
    **dict.fromkeys(("HalfStorage", "BFloat16Storage", "ShortStorage"), 2),
    **dict.fromkeys(("FloatStorage", "IntStorage"), 4),
    **dict.fromkeys(("DoubleStorage", "LongStorage", "ComplexFloatStorage"), 8),
    "ComplexDoubleStorage": 16,
}
STORAGES = {f"torch.{name}": size for name, size in ITEM_BYTES.items()}
STORAGES["torch.storage.UntypedStorage"] = STORAGES.pop("torch.UntypedStorage")

# What torch itself resolves these names to builds tensors and plain values, nothing else.
TORCH_NAMES = {
    *STORAGES,
    *(f"torch.{name}" for name in ("Size", "device", "bool", "uint8", "int8", "int16", "int32")),
    *(f"torch.{name}" for name in ("int64", "float16", "bfloat16", "float32", "float64")),
    "torch._utils._rebuild_tensor",
    "torch._utils._rebuild_tensor_v2",
    "torch._utils._rebuild_parameter",
    "_codecs.encode",  # bytes, as pickle protocol 2 writes them
    "builtins.complex",
    "builtins.set",
    "collections.Counter",  # the milestones of a MultiStepLR
    "collections.OrderedDict",
}
DICTS = {name for name, kind in STAND_INS.items() if issubclass(kind, dict)}
DICTS |= {"collections.OrderedDict", "collections.Counter"}
TENSORS = {"torch._utils._rebuild_tensor", "torch._utils._rebuild_tensor_v2"}
HASHED = {*DICTS, "builtins.set"}  # calls that hash the items of what they are given
LISTS = {name for name, kind in STAND_INS.items() if issubclass(kind, list)}

CONSTANTS = {"BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE", "SHORT_BINSTRING"}
EMPTY = {"EMPTY_DICT": "dict", "EMPTY_LIST": "list", "EMPTY_SET": "other"}
EMPTY |= {"NEWTRUE": "other", "NEWFALSE": "other", "MARK": "mark"}
TUPLE_LENGTHS = {"EMPTY_TUPLE": 0, "TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3, "TUPLE": None}
# instruction -> the kinds of value it fills, and how many values it pops (None: to the mark)
FILLS: dict[str, tuple[tuple[str, ...], int | None]] = {
    "SETITEM": (("dict",), 2),
    "SETITEMS": (("dict",), None),
    "APPEND": (("list",), 1),
    "APPENDS": (("list",), None),
    "BUILD": (("dict", "other"), 1),
}


class Refusal(Exception):
    """Why a file is not loaded; the text ends up in the one-line error."""


@dataclass(eq=False, slots=True)
class Symbol:
    """Stands for a value that is not built; `weight` is the work of copying or hashing it."""

    kind: str
    weight: int = 1
    items: tuple = ()
    name: str = ""


def scan_pickle(file: IO[bytes]) -> dict[str, int]:
    """Returns the storages that the next pickle in `file` declares: key -> number of bytes.

    Leaves the file's position behind the pickle.

    Raises:
        Refusal: an unknown global, or a construction that `torch.save` does not write.
    """
    machine = _Machine()
    for num_opcodes, (opcode, argument, position) in enumerate(pickletools.genops(file)):
        machine.step(opcode.name, argument)
        if num_opcodes > MAX_OPCODES:
            raise Refusal(f"its structure is larger than {MAX_OPCODES:,} pickle instructions")
        if machine.work > BASE_WORK + WORK_PER_BYTE * (position or 0):
            raise Refusal("its values are nested or repeated to blow up")
    return machine.storages


class _Machine:
    """The pickle machine's stack, with symbols in the place of the values it would build."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        self.storages: dict[str, int] = {}
        self.work = 0

    def step(self, opcode: str, argument: Any) -> None:
        """Follows one instruction."""
        if opcode in CONSTANTS or opcode == "NONE":
            self.stack.append(argument)
        elif opcode in EMPTY:
            self.stack.append(Symbol(EMPTY[opcode]))
        elif opcode in ("BINPUT", "LONG_BINPUT"):
            self.memo[argument] = self.stack[-1]
        elif opcode in ("BINGET", "LONG_BINGET"):
            self.stack.append(self.memo[argument])
        elif opcode == "GLOBAL":
            self.stack.append(_known(argument))
        elif opcode in TUPLE_LENGTHS:
            items = self._pop(TUPLE_LENGTHS[opcode])
            self.stack.append(Symbol("tuple", 1 + sum(map(_weight, items)), tuple(items)))
        elif opcode in FILLS:
            self._fill(opcode, *FILLS[opcode])
        elif opcode in ("REDUCE", "NEWOBJ"):
            self._call(*self._pop(2))
        elif opcode == "BINPERSID":
            self._declare(self.stack.pop())
        elif opcode == "PROTO" and argument != 2:
            raise Refusal(f"pickle protocol {argument}, torch.save writes 2")
        elif opcode not in ("PROTO", "STOP"):
            raise Refusal(f"pickle instruction {opcode} does not occur in what torch.save writes")

    def _pop(self, count: int | None) -> list:
        """Pops `count` values, or those above the last mark and the mark."""
        to_mark = count is None
        if count is None:
            count = 0
            while _kind(self.stack[-1 - count]) != "mark":
                count += 1
        start = len(self.stack) - count
        if start < 0:
            raise Refusal("its pickle takes more values than it holds")
        items = self.stack[start:]
        del self.stack[start - to_mark :]
        return items

    def _fill(self, opcode: str, kinds: tuple[str, ...], count: int | None) -> None:
        """Pops what is put into the container that then lies on top."""
        items = self._pop(count)
        target = self.stack[-1]
        if _kind(target) not in kinds:
            raise Refusal(f"pickle instruction {opcode} is applied to the wrong kind of value")
        target.weight += sum(map(_weight, items))
        if opcode == "BUILD":
            self.work += _weight(items[0])
        elif opcode != "APPEND" and opcode != "APPENDS":
            self.work += sum(map(_key_weight, items[::2]))

    def _call(self, function: Any, arguments: Any) -> None:
        """Pushes a symbol of the result."""
        if _kind(function) != "name" or _kind(arguments) != "tuple":
            raise Refusal("it calls something that is not a named function")
        weight = 1 + sum(map(_weight, arguments.items))
        hashes = function.name in HASHED and any(_kind(a) != "dict" for a in arguments.items)
        self.work += weight * (ODD_KEY_WORK if hashes else 1)
        kind = "dict" if function.name in DICTS else "list" if function.name in LISTS else "other"
        if function.name in TENSORS:
            _check_tensor(arguments.items)
            kind = "tensor"
        self.stack.append(Symbol(kind, weight))

    def _declare(self, pid: Any) -> None:
        """Notes the storage that a persistent id describes."""
        match pid:
            case Symbol(
                items=("storage", Symbol(name=storage), str(key), str(_), int(count), *view)
            ):
                num_bytes = count * STORAGES.get(storage, -1)
            case _:
                raise Refusal("it refers to a tensor in a way that torch.save does not write")
        if num_bytes < 0 or self.storages.setdefault(key, num_bytes) != num_bytes:
            raise Refusal(f"tensor storage {key!r:.80} is declared with contradicting sizes")
        if view not in ([], [None]) and not _is_view(view, count):
            raise Refusal(f"a view of tensor storage {key!r:.80} lies outside of it")
        num_items = view[0].items[2] if view and view[0] else count
        self.stack.append(Symbol("storage", items=(num_items,)))


def _kind(value: Any) -> str:
    return value.kind if isinstance(value, Symbol) else "constant"


def _weight(value: Any) -> int:
    """Returns the work of a value; capped, for the weight of nested tuples doubles with each."""
    if isinstance(value, Symbol):
        return min(value.weight, 1 << 40)
    return len(value) if isinstance(value, str) else 1


def _key_weight(key: Any) -> int:
    """Returns the work of hashing a key and comparing it with those that it may collide with."""
    is_plain = isinstance(key, str) or (isinstance(key, int) and abs(key) < SMALL)
    return _weight(key) * (1 if is_plain else ODD_KEY_WORK)


def _is_view(view: list, count: int) -> bool:
    """Returns whether a legacy file's (key, offset, size) of a shared storage is within it."""
    match view:
        case [Symbol(items=(str(_), int(offset), int(size)))]:
            return min(offset, size) >= 0 and offset + size <= count
    return False


def _check_tensor(arguments: tuple) -> None:
    """Checks that a tensor lies within its storage; torch would enlarge the storage instead.

    With a stride of 0, 4 bytes are as many values as one likes, until the first copy.
    """
    match arguments:
        case (
            Symbol(kind="storage", items=(num_items,)),
            int(offset),
            Symbol(kind="tuple", items=size),
            Symbol(kind="tuple", items=stride),
            *_,
        ) if len(size) == len(stride) and all(type(n) is int and n >= 0 for n in (*size, *stride)):
            last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
            if 0 in size:
                return
            few = math.prod(size) <= max(num_items, MAX_EXPANDED)
            if few and offset >= 0 and last < num_items:
                return
            raise Refusal(f"a tensor of shape {size!s:.80} has only {num_items:,} values")
    raise Refusal("a tensor is put together in a way that torch.save does not write")


def _known(argument: str) -> Symbol:
    """Returns the symbol of a global; the names that Python 2 had are translated."""
    module, _, name = argument.partition(" ")
    if (module, name) in NAME_MAPPING:
        module, name = NAME_MAPPING[module, name]
    full = f"{IMPORT_MAPPING.get(module, module)}.{name}"
    if full not in TORCH_NAMES and full not in STAND_INS:
        raise Refusal(f"it names {full!r:.120}, which is neither a tensor nor plain data")
    return Symbol("name", name=full)
