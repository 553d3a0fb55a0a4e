"""What a checkpoint may hold, and what is refused: each hostile file has a canary."""

import io
import os
import pickle
import random
import struct
import tarfile
import zipfile
from collections import Counter, OrderedDict, defaultdict, deque
from pathlib import Path

import numpy as np
import pytest
import torch

from mmact_tiny.checkpoint import (
    checkpoint_classes,
    checkpoint_config,
    load_checkpoint,
    save_checkpoint_atomically,
)
from mmact_tiny.errors import UserError
from mmact_tiny.safetensors_file import export_safetensors

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


def nested_tuples() -> bytes:
    """A dict key that is a tuple of itself, 60 times over: hashing it takes 2**60 steps."""
    doubled = b"".join(b"q%ch%c\x86" % (i, i) for i in range(60))
    return b"\x80\x02})" + doubled + b"K\x01s."


def copied_sets() -> bytes:
    """100,000 copies of one list of 10,000 numbers, made by calls of `set`."""
    numbers = b"]q\x00(" + b"".join(b"M" + struct.pack("<H", i) for i in range(10_000)) + b"e"
    calls = b"c__builtin__\nset\nh\x00\x85R" * 100_000
    return b"\x80\x02](" + numbers + calls + b"e."


def script() -> bytes:
    buffer = io.BytesIO()
    torch.jit.save(torch.jit.script(torch.nn.ReLU()), buffer)
    return buffer.getvalue()


def optimizer_state(evil) -> dict:
    state = {0: {"momentum_buffer": torch.zeros(2), "step": evil}}
    return {"state_dict": {}, "optimizer": {"state": state, "param_groups": []}}


def message_hub(evil) -> dict:
    return {"state_dict": {}, "message_hub": {"runtime_info": OrderedDict(best=evil)}}


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
            return (
                np._core.multiarray._reconstruct,
                args,
                (
                    version,
                    (10**6, 10**6),
                    dtype,
                    order,
                    data,
                ),
            )

    return {"meta": Liar()}


GOOD = saved({"state_dict": {"w": torch.arange(1000.0)}, "meta": {"epoch": 3}})
LEGACY = saved({"state_dict": {"w": torch.arange(1000.0)}}, legacy=True)
SYSTEM = "it names 'posix.system'"

HOSTILE = {
    "system": (saved(Evil()), SYSTEM),
    "system in the optimizer": (saved(optimizer_state(Evil())), SYSTEM),
    "system in the message hub": (saved(message_hub(Evil())), SYSTEM),
    "system in the metadata": (saved(with_metadata(Evil())), SYSTEM),
    "system, older format": (saved(message_hub(Evil()), legacy=True), SYSTEM),
    "eval": (saved(Evil(eval, (f"open('{CANARY}', 'w')",))), "it names 'builtins.eval'"),
    "exec": (saved({"meta": Evil(exec, (f"open('{CANARY}', 'w')",))}), "it names 'builtins.exec'"),
    "getattr of a module": (
        with_pickle(b"\x80\x02c__builtin__\ngetattr\ncposix\nsystem\n\x86R."),
        "it names",
    ),
    "torch.load": (saved(Evil(torch.load, (CANARY,))), "it names 'torch.serialization.load'"),
    "gigabytes of nothing": (saved(Evil(bytearray, (10**12,))), "it names 'builtins.bytearray'"),
    "huge numpy array": (saved(huge_array()), "does not have the bytes for it"),
    "numpy objects": (saved({"a": np.array([Evil(), 1], object)}), SYSTEM),
    "numpy objects, harmless": (saved({"a": np.array([None])}), "numpy array of type 'O8'"),
    "numpy void": (saved({"a": np.zeros(1, "V9")}), "numpy array of type 'V9'"),
    "own class": (saved({"a": random.Random(0)}), "it names 'random.Random'"),
    "a plain pickle": (pickle.dumps(Evil()), "a plain pickle"),
    "legacy tar": (tarred(), "not a PyTorch checkpoint"),
    "TorchScript": (script(), "TorchScript"),
    "zip bomb": (
        rezipped(GOOD, lambda n, b: bytes(10**8), compression=zipfile.ZIP_DEFLATED),
        "is compressed",
    ),
    "declared size": (
        replaced(b"K\x04tq", b"J\xff\xff\xff\x7ftq"),
        "storage '0' has 16 bytes, 8,589,934,588 are declared",
    ),
    "declared size, older": (
        replaced(b"K\x04Ntq", b"J\xff\xff\xff\x7fNtq", legacy=True),
        "its tensors need",
    ),
    "negative size": (replaced(b"K\x04tq", b"J\xff\xff\xff\xfftq"), "contradicting sizes"),
    "size beyond the storage": (
        replaced(b"K\x04\x85q", b"J\xff\xff\xff\x7f\x85q"),
        "a tensor of shape (2147483647,) has only 4 values",
    ),
    "stride 0": (
        saved({"w": torch.zeros(1).expand(10**6, 10**6)}),
        "a tensor of shape (1000000, 1000000) has only 1 values",
    ),
    "size beyond the storage, older": (
        replaced(b"K\x04\x85q", b"J\xff\xff\xff\x7f\x85q", legacy=True),
        "a tensor of shape (2147483647,) has only 4 values",
    ),
    "offset": (replaced(b"QK\x00", b"QK\x09"), "has only 4 values"),
    "negative stride": (replaced(b"K\x01\x85q", b"J\xff\xff\xff\xff\x85q"), "put together"),
    "another dtype": (replaced(b"FloatStorage", b"DoubleStorage"), "32 are declared"),
    "storage elsewhere": (replaced(b"X\x01\x00\x00\x000", b"X\x01\x00\x00\x001"), "is missing"),
    "nested tuples": (with_pickle(nested_tuples()), "blow up"),
    "copied sets": (with_pickle(copied_sets()), "blow up"),
    "pickle instruction": (with_pickle(b"\x80\x02cos\nsystem\n."), "it names 'os.system'"),
    "inst": (with_pickle(b"(S'x'\nios\nsystem\n."), "does not occur"),
    "protocol 4": (with_pickle(pickle.dumps(Evil(), 4)), "pickle protocol 4"),
    "empty stack": (with_pickle(b"\x80\x02tR."), "cannot be read"),
    "item of a tensor": (
        with_pickle(pickle.dumps(OrderedDict(), 2)[:-1] + b"K\x01a."),
        "applied to the wrong kind",
    ),
    "method of the state dict": (
        with_pickle(b"\x80\x02}X\x01\x00\x00\x00ac_codecs\nencode\ns."),
        "where plain data was expected",
    ),
    "not a dict": (saved([torch.zeros(1)]), "holds a list"),
    "cut zip": (GOOD[:-100], "truncated"),
    "cut zip, half": (GOOD[: len(GOOD) // 2], "truncated"),
    "cut older file": (LEGACY[:-100], "cut off"),
    "cut older file, in the pickle": (LEGACY[:150], "cannot be read"),
    "hidden bytes": (b"PK\x03\x04" + bytes(60) + GOOD, "overlapping or hidden"),
    "trailing bytes": (GOOD + b"x", "added behind"),
    "big-endian": (
        rezipped(GOOD, lambda n, b: b"big" if n.endswith("byteorder") else b),
        "big-endian",
    ),
    "any zip": (rezipped(GOOD, rename=lambda name: name.replace("pkl", "txt")), "data.pkl"),
    "two records of one name": (
        rezipped(GOOD, rename=lambda name: name.replace("version", "DATA.pkl")),
        "two records",
    ),
    "wrong magic": (b"\x93NUMPY" + GOOD, "not a PyTorch checkpoint"),
    "text": (b"epoch 1: loss 0.3\n" * 100, "not a PyTorch checkpoint"),
    "web page": (b"<!DOCTYPE html><html>404</html>", "a web page"),
    "git-lfs": (b"version https://git-lfs.github.com/spec/v1\n", "a git-lfs pointer"),
    "gzip": (b"\x1f\x8b\x08" + bytes(50), "a gzip archive"),
    "empty": (b"", "it is empty"),
    "safetensors, cut": ((50).to_bytes(8, "little") + b'{"a":' + bytes(60), "cannot be read"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_file_is_refused(case, tmp_path, monkeypatch):
    data, reason = HOSTILE[case]
    monkeypatch.chdir(tmp_path)
    Path("bad.pth").write_bytes(data)
    with pytest.raises(UserError) as error:
        load_checkpoint("bad.pth")
    message = str(error.value)
    assert reason in message
    assert "bad.pth" in message and "\n" not in message and len(message) < 400
    assert not Path(CANARY).exists()


def test_the_canary_does_fire_where_code_is_run(tmp_path, monkeypatch):
    """Else the table above would prove nothing."""
    monkeypatch.chdir(tmp_path)
    torch.load(io.BytesIO(HOSTILE["system"][0]), weights_only=False)
    assert Path(CANARY).exists()


def test_a_pickled_method_is_dropped(tmp_path, monkeypatch):
    """`getattr` stands in every file of the Runner; its result is None, whatever it is asked."""
    monkeypatch.chdir(tmp_path)
    touch = Evil(getattr, (Path(CANARY), "touch"))
    Path("x.pth").write_bytes(saved({"a": Path(CANARY).touch, "b": touch, "c": 1}))
    assert load_checkpoint("x.pth") == {"a": None, "b": None, "c": 1}
    method = b"c__builtin__\ngetattr\ncpathlib\nPosixPath\nX\x05\x00\x00\x00touch\x86R"
    Path("called.pth").write_bytes(with_pickle(b"\x80\x02" + method + b"N\x85R."))
    with pytest.raises(UserError, match="calls something that is not a named function"):
        load_checkpoint("called.pth")
    assert not Path(CANARY).exists()


def test_names_that_another_library_allowed_are_refused_all_the_same(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with torch.serialization.safe_globals([eval, getattr, os.system, Path]):
        Path("eval.pth").write_bytes(HOSTILE["eval"][0])
        with pytest.raises(UserError, match="it names"):
            load_checkpoint("eval.pth")
    assert not Path(CANARY).exists()


@pytest.mark.parametrize("legacy", [False, True])
def test_mutants_load_or_are_refused(legacy, tmp_path):
    """500 files with bytes flipped at random: no crash, and no other error than ours."""
    chance = random.Random(legacy)
    value = {"state_dict": {"w": torch.arange(6.0)}, "meta": {"a": np.arange(3), "b": [1, ("x",)]}}
    good = saved(value, legacy)
    refused = 0
    for _ in range(500):
        mutant = bytearray(good)
        for _ in range(chance.randint(1, 4)):
            mutant[chance.randrange(len(mutant))] ^= 1 << chance.randrange(8)
        path = tmp_path / "mutant.pth"
        path.write_bytes(mutant)
        try:
            load_checkpoint(path)
        except UserError as error:
            assert "\n" not in str(error)
            refused += 1
    assert refused > 100


def test_what_is_not_a_file_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "fifo.pth")
    for name, reason in (
        ("", "is a folder"),
        ("fifo.pth", "is a pipe or device"),
        ("missing.pth", "no checkpoint at"),
        ("a\nb.pth", r"no checkpoint at '.*a\\nb.pth'"),
        ("null\0byte.pth", "cannot open"),
    ):
        with pytest.raises(UserError, match=reason):
            load_checkpoint(tmp_path / name)
    with pytest.raises(UserError, match="is a pipe or device"):
        load_checkpoint("/dev/zero")


@pytest.mark.parametrize("legacy", [False, True])
def test_plain_data_is_loaded_as_it_was(legacy, tmp_path):
    shared = torch.arange(6.0)
    parameter = torch.nn.Parameter(torch.ones(2, dtype=torch.bfloat16))
    value = {
        "state_dict": OrderedDict(a=shared[:3], b=shared[3:], c=shared.view(2, 3).t(), d=parameter),
        "numbers": [1, -2.5, 1j, True, None, 2**70, (), ("a", b"\x00\xff"), {1, 2}],
        "numpy": [np.float64(2.5), np.int64(-1), np.bool_(True), np.array(["ab", "c"])],
        "array": np.asfortranarray(np.arange(6, dtype=">i4").reshape(2, 3)),
        "others": [deque([1, 2], 5), defaultdict(list, a=[1]), Counter({40: 1}), Path("a/b")],
        "torch": [torch.float16, torch.Size([1, 2]), torch.device("cpu"), torch.__version__],
        "empty": torch.zeros(0, 3),
        "meta": {"config": "model = dict(type='X')"},
    }
    (tmp_path / "good.pth").write_bytes(saved(value, legacy))
    loaded = load_checkpoint(tmp_path / "good.pth")
    weights = loaded["state_dict"]
    assert type(weights) is OrderedDict
    assert all(torch.equal(weights[key], value["state_dict"][key]) for key in "abcd")
    assert weights["a"].untyped_storage().data_ptr() == weights["c"].untyped_storage().data_ptr()
    assert type(weights["d"]) is torch.Tensor and not weights["d"].requires_grad
    assert loaded["numbers"] == value["numbers"]
    assert loaded["numpy"][:3] == value["numpy"][:3]
    assert type(loaded["numpy"][0]) is np.float64
    assert loaded["numpy"][3].tolist() == ["ab", "c"]
    assert loaded["array"].tolist() == [[0, 1, 2], [3, 4, 5]] and loaded["array"].dtype == ">i4"
    assert loaded["others"] == [[1, 2], {"a": [1]}, Counter({40: 1}), "/".join(Path("a/b").parts)]
    assert loaded["torch"] == [torch.float16, (1, 2), torch.device("cpu"), str(torch.__version__)]
    assert loaded["empty"].shape == (0, 3)
    assert loaded["meta"] == {"cfg": "model = dict(type='X')"}


def test_shared_and_recursive_values_stay_so(tmp_path):
    loop: list = [1]
    loop.append(loop)
    save_checkpoint_atomically({"a": loop, "b": loop}, tmp_path / "x.pth")
    loaded = load_checkpoint(tmp_path / "x.pth")
    assert loaded["a"][1] is loaded["a"] is loaded["b"]


def test_a_bare_state_dict_is_loaded(tmp_path):
    torch.save(torch.nn.Linear(2, 3).state_dict(), tmp_path / "resnet.pth")
    assert list(load_checkpoint(tmp_path / "resnet.pth")) == ["weight", "bias"]


def test_safetensors_carry_weights_classes_and_config(tmp_path):
    from mmengine import Config

    config = {"model": {"type": "TSN", "size": (-1, 256), "list": [1, None, {"a": ()}]}}
    weight = torch.arange(6.0).view(2, 3)
    checkpoint = {
        "state_dict": {"module.w": weight.t(), "w2": weight},
        "meta": {"cfg": Config(config).pretty_text, "dataset_meta": {"classes": ["a", "b"]}},
    }
    save_checkpoint_atomically(checkpoint, tmp_path / "x.pth")
    out = export_safetensors(tmp_path / "x.pth", tmp_path / "x.safetensors")
    loaded = load_checkpoint(out)
    assert torch.equal(loaded["state_dict"]["w"], weight.t())
    assert torch.equal(loaded["state_dict"]["w2"], weight)
    assert checkpoint_config(loaded, source="x") == config
    assert checkpoint_classes(loaded) == ["a", "b"]
    assert checkpoint_classes({"meta": {"CLASSES": ("c",)}}) == ["c"]
    with pytest.raises(UserError, match="has no weights"):
        torch.save({"state_dict": {}}, tmp_path / "none.pth")
        export_safetensors(tmp_path / "none.pth", out)
