"""Hostile checkpoint files: each with the reason it is refused for, most with a canary."""

import io
import json
import os
import pickle
import random
import struct
import tarfile
import zipfile
from collections import OrderedDict

import numpy as np
import torch

CANARY = "canary"


class Evil:
    """Touches the canary, if anything calls what it is pickled as."""

    def __init__(self, function=os.system, arguments=(f"touch {CANARY}",)):
        self.reduced = function, arguments

    def __reduce__(self):
        return self.reduced


def saved(value, legacy=False) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer, _use_new_zipfile_serialization=not legacy)
    return buffer.getvalue()


def rezipped(data: bytes, edit=lambda name, content: content, rename=str, **options) -> bytes:
    """Writes the records of a torch file again, changed by `edit(name, content)`."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(buffer, "w", **options) as new:
        for info in old.infolist():
            new.writestr(rename(info.filename), edit(info.filename, old.read(info)))
    return buffer.getvalue()


def with_pickle(pickled: bytes) -> bytes:
    """Returns a torch file whose data.pkl is `pickled`."""
    good = saved({"state_dict": {"w": torch.zeros(4)}})
    return rezipped(good, lambda name, old: pickled if name.endswith("data.pkl") else old)


def replaced(old: bytes, new: bytes, value=None, legacy=False) -> bytes:
    """Returns a torch file of a tensor of 4 numbers with some bytes of its pickle replaced."""
    data = saved(value or {"w": torch.zeros(4)}, legacy)
    if legacy:
        assert old in data
        return data.replace(old, new)
    changed = rezipped(data, lambda name, b: b.replace(old, new) if name.endswith("pkl") else b)
    assert changed != rezipped(data)
    return changed


def tarred() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name in ("storages", "tensors", "pickle"):
            data = pickle.dumps(Evil())
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def tensors_file(tensors: dict, body: bytes = bytes(4), **metadata: str) -> bytes:
    """Returns a safetensors file of this header: name -> (dtype, shape, offsets)."""
    keys = ("dtype", "shape", "data_offsets")
    header: dict = {name: dict(zip(keys, row, strict=True)) for name, row in tensors.items()}
    text = json.dumps({**header, "__metadata__": metadata}).encode()
    return struct.pack("<Q", len(text)) + text + body


def script() -> bytes:
    buffer = io.BytesIO()
    torch.jit.save(torch.jit.script(torch.nn.ReLU()), buffer)
    return buffer.getvalue()


def optimizer_state(evil) -> dict:
    state = {0: {"momentum_buffer": torch.zeros(2), "step": evil}}
    return {"state_dict": {}, "optimizer": {"state": state, "param_groups": []}}


def message_hub(evil) -> dict:
    return {"state_dict": {}, "message_hub": {"runtime_info": OrderedDict(best=evil)}}


def long_log() -> dict:
    """A log of two values that may have one."""
    log = {"log": torch.zeros(2), "counts": torch.ones(2), "max_length": 1}
    return {"state_dict": {}, "message_hub": {"log_scalars": {"loss": log}}}


def with_metadata(evil) -> dict:
    state_dict = OrderedDict(w=torch.zeros(2))
    state_dict._metadata = {"": {"version": evil}}
    return {"state_dict": state_dict}


def huge_array() -> dict:
    """An array of 10**12 numbers that has the bytes of one."""
    array = np.zeros(1)
    _, args, (version, _, dtype, order, data) = array.__reduce__()

    class Liar:
        def __reduce__(self):
            state = (version, (10**6, 10**6), dtype, order, data)
            return np._core.multiarray._reconstruct, args, state

    return {"meta": Liar()}


GOOD = saved({"state_dict": {"w": torch.arange(1000.0)}, "meta": {"epoch": 3}})
LEGACY = saved({"state_dict": {"w": torch.arange(1000.0)}}, legacy=True)
GETATTR = b"\x80\x02c__builtin__\ngetattr\ncposix\nsystem\n\x86R."
DEEP_LIST = b"\x80\x02}X\x01\x00\x00\x00a" + b"]" * 9999 + b"a" * 9998 + b"s."
MUCH, MINUS = b"J\xff\xff\xff\x7f", b"J\xff\xff\xff\xff"  # 2**31 - 1 and -1, pickled
SYSTEM = "it names 'posix.system'"

HOSTILE = {
    "system": (saved(Evil()), SYSTEM),
    "system in the optimizer": (saved(optimizer_state(Evil())), SYSTEM),
    "system in the message hub": (saved(message_hub(Evil())), SYSTEM),
    "system in the metadata": (saved(with_metadata(Evil())), SYSTEM),
    "system, older format": (saved(message_hub(Evil()), legacy=True), SYSTEM),
    "eval": (saved(Evil(eval, (f"open('{CANARY}', 'w')",))), "it names 'builtins.eval'"),
    "exec": (saved({"meta": Evil(exec, (f"open('{CANARY}', 'w')",))}), "it names 'builtins.exec'"),
    "getattr of a module": (with_pickle(GETATTR), "it names"),
    "torch.load": (saved(Evil(torch.load, (CANARY,))), "it names 'torch.serialization.load'"),
    "gigabytes of nothing": (saved(Evil(bytearray, (10**12,))), "it names 'builtins.bytearray'"),
    "huge numpy array": (saved(huge_array()), "does not have the bytes for it"),
    "log longer than it may be": (saved(long_log()), "a HistoryBuffer"),
    "numpy objects": (saved({"a": np.array([Evil(), 1], object)}), SYSTEM),
    "numpy objects, harmless": (saved({"a": np.array([None])}), "numpy array of type 'O8'"),
    "numpy void": (saved({"a": np.zeros(1, "V9")}), "numpy array of type 'V9'"),
    "own class": (saved({"a": random.Random(0)}), "it names 'random.Random'"),
    "a plain pickle": (pickle.dumps(Evil()), "a plain pickle"),
    "legacy tar": (tarred(), "not a PyTorch checkpoint"),
    "TorchScript": (script(), "TorchScript"),
    "zip bomb": (
        rezipped(
            GOOD, lambda n, b: bytes(10**8), compression=zipfile.ZIP_DEFLATED, compresslevel=1
        ),
        "truncated or damaged",
    ),
    "declared size": (
        replaced(b"K\x04tq", MUCH + b"tq"),
        "storage '0' has 16 bytes, 8,589,934,588 are declared",
    ),
    "declared size, older": (replaced(b"K\x04Ntq", MUCH + b"Ntq", legacy=True), "cannot be read"),
    "negative size": (
        replaced(b"K\x04tq", MINUS + b"tq"),
        "in a way that torch.save does not write",
    ),
    "size beyond the storage": (replaced(b"K\x04\x85q", MUCH + b"\x85q"), "cannot be read"),
    "size beyond, older": (replaced(b"K\x04\x85q", MUCH + b"\x85q", legacy=True), "cannot be read"),
    "offset": (replaced(b"QK\x00", b"QK\x09"), "cannot be read"),
    "negative stride": (replaced(b"K\x01\x85q", MINUS + b"\x85q"), "cannot be read"),
    "another dtype": (replaced(b"FloatStorage", b"DoubleStorage"), "32 are declared"),
    "storage elsewhere": (replaced(b"X\x01\x00\x00\x000", b"X\x01\x00\x00\x001"), "is missing"),
    "deep list": (with_pickle(DEEP_LIST), "recursion"),
    "list for weights": (saved({"state_dict": [1, 2]}), "has a list as state_dict"),
    "no weights": (saved({"state_dict": None}), "has a NoneType as state_dict"),
    "list for meta": (saved({"state_dict": {}, "meta": [1]}), "has a list as meta"),
    "pickle instruction": (with_pickle(b"\x80\x02cos\nsystem\n."), "it names 'os.system'"),
    "state of a class": (
        with_pickle(b"\x80\x02ccollections\nCounter\nN}X\x06\x00\x00\x00updateK\x01s\x86b."),
        "it sets the state of what has none",
    ),
    "other codec": (
        with_pickle(b"\x80\x02c_codecs\nencode\nX\x01\x00\x00\x00aX\x03\x00\x00\x00zip\x86R."),
        "it encodes bytes as 'zip'",
    ),
    "inst": (with_pickle(b"(S'x'\nios\nsystem\n."), "it names 'os.system'"),
    "protocol 4": (with_pickle(pickle.dumps(Evil(), 4)), SYSTEM),
    "empty stack": (with_pickle(b"\x80\x02tR."), "cannot be read"),
    "item of a tensor": (
        with_pickle(pickle.dumps(OrderedDict(), 2)[:-1] + b"K\x01a."),
        "cannot be read",
    ),
    "method of the state dict": (
        with_pickle(b"\x80\x02}X\x01\x00\x00\x00ac_codecs\nencode\ns."),
        "where plain data was expected",
    ),
    "not a dict": (saved([torch.zeros(1)]), "holds a list"),
    "cut zip": (GOOD[:-100], "truncated"),
    "cut zip, half": (GOOD[: len(GOOD) // 2], "truncated"),
    "cut older file": (LEGACY[:-100], "cannot be read"),
    "cut older file, in the pickle": (LEGACY[:150], "cannot be read"),
    "hidden bytes": (b"PK\x03\x04" + bytes(60) + GOOD, "truncated or damaged"),
    "any zip": (rezipped(GOOD, rename=lambda name: name.replace("pkl", "txt")), "data.pkl"),
    "two records of one name": (
        rezipped(GOOD, rename=lambda name: name.replace("version", "DATA.pkl")),
        "truncated or damaged",
    ),
    "wrong magic": (b"\x93NUMPY" + GOOD, "not a PyTorch checkpoint"),
    "text": (b"epoch 1: loss 0.3\n" * 100, "not a PyTorch checkpoint"),
    "web page": (b"<!DOCTYPE html><html>404</html>", "a web page"),
    "git-lfs": (b"version https://git-lfs.github.com/spec/v1\n", "a git-lfs pointer"),
    "gzip": (b"\x1f\x8b\x08" + bytes(50), "a gzip archive"),
    "empty": (b"", "it is empty"),
    "safetensors, huge": (tensors_file({"w": ("F32", [10**12], [0, 4])}), "invalid shape"),
    "safetensors, shape overflows": (tensors_file({"w": ("F32", [2**62, 4], [0, 4])}), "overflow"),
    "safetensors, one storage for two": (
        tensors_file({"a": ("F32", [1], [0, 4]), "b": ("F32", [1], [0, 4])}),
        "invalid offset",
    ),
    "safetensors, hidden bytes": (
        tensors_file({"w": ("F32", [1], [0, 4])}, bytes(99)),
        "not fully covered",
    ),
    "safetensors, config too deep": (
        tensors_file({"w": ("F32", [1], [0, 4])}, config="[" * 100_000),
        "recursion",
    ),
    "safetensors, cut": ((50).to_bytes(8, "little") + b'{"a":' + bytes(60), "cannot be read"),
}
