"""What a checkpoint may hold, what is refused (each with a canary), and which weights fit."""

import io
import os
import random
from collections import Counter, OrderedDict, defaultdict, deque
from pathlib import Path

import numpy as np
import pytest
import torch
from hostile_checkpoints import CANARY, HOSTILE, Evil, replaced, saved, with_pickle
from mmengine.logging import HistoryBuffer
from toy import Toy

from mmact_tiny.checkpoints.config_text import config_to_json
from mmact_tiny.checkpoints.load import (
    checkpoint_classes,
    checkpoint_config,
    load_checkpoint,
    load_weights,
    match_weights,
    read_meta,
    without_classes,
)
from mmact_tiny.errors import UserError
from mmact_tiny.export.safetensors import export_safetensors


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
    assert Counter("aa").update is not None and Counter("aa") == {"a": 2}  # no class was changed


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
    with pytest.raises(UserError, match="not callable"):
        load_checkpoint("called.pth")
    assert not Path(CANARY).exists()


def test_names_that_another_library_allowed_are_refused_all_the_same(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    log = HistoryBuffer([0.5], [1])
    with torch.serialization.safe_globals([eval, getattr, os.system, Path, HistoryBuffer]):
        Path("eval.pth").write_bytes(HOSTILE["eval"][0])
        with pytest.raises(UserError, match="it names"):
            load_checkpoint("eval.pth")
        Path("log.pth").write_bytes(saved({"log": log}))
        assert load_checkpoint("log.pth")["log"].data[0].tolist() == [0.5]
        assert eval in torch.serialization.get_safe_globals()
    assert not Path(CANARY).exists()


@pytest.mark.parametrize("convert", [lambda value: value, without_classes])
def test_a_log_comes_back_bit_for_bit(convert, tmp_path):
    """As MMEngine and 0.1.0 pickle it, and as it is saved now."""
    values, counts = np.array([0.1, 1 / 3, np.nan, -0.0]), np.array([1, 2, 3, 4])
    info = {"best_score": np.float32(0.1), "epoch": 3, "ids": [np.int64(7)]}
    hub = {"log_scalars": {"loss": HistoryBuffer(values, counts, 9)}, "runtime_info": info}
    (tmp_path / "x.pth").write_bytes(saved({"message_hub": convert(hub)}))
    if convert is without_classes:  # torch alone takes it
        stock = torch.load(tmp_path / "x.pth", weights_only=True)["message_hub"]
        assert stock["runtime_info"] == {"best_score": 0.10000000149011612, "epoch": 3, "ids": [7]}
    loaded = load_checkpoint(tmp_path / "x.pth")["message_hub"]
    log = loaded["log_scalars"]["loss"]
    assert type(log) is HistoryBuffer and log.max_length == 9
    assert log.data[0].tobytes() == values.tobytes() and log.data[0].dtype == np.float64
    assert log.data[1].tolist() == [1, 2, 3, 4] and log.data[1].dtype == np.int64
    assert log.mean(2) == pytest.approx(float("nan"), nan_ok=True) and log.current() == 0
    assert loaded["runtime_info"] == info


def test_the_meta_is_read_without_the_tensors(tmp_path):
    """In this file the tensors cannot be loaded."""
    value = {"meta": {"epoch": 3, "score": np.float64(0.5)}, "state_dict": {"w": torch.zeros(4)}}
    path = tmp_path / "x.pth"
    path.write_bytes(replaced(b"FloatStorage", b"DoubleStorage", value))
    assert read_meta(path) == {"epoch": 3, "score": 0.5}
    with pytest.raises(UserError, match="16 bytes, 32 are declared"):
        load_checkpoint(path)
    path.write_bytes(saved({"w": torch.zeros(4)}))
    assert read_meta(path) == {}
    path.write_bytes(saved({"meta": {"config": "a = 1"}}, legacy=True))
    assert read_meta(path) == {"cfg": "a = 1"}
    path.write_bytes(saved({"meta": {"epoch": 3}})[:-50])
    with pytest.raises(UserError, match="truncated"):
        read_meta(path)


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
    value["state_dict"]._metadata = {"": {"version": 2}}
    (tmp_path / "good.pth").write_bytes(saved(value, legacy))
    loaded = load_checkpoint(tmp_path / "good.pth")
    weights = loaded["state_dict"]
    assert type(weights) is OrderedDict and weights._metadata == {"": {"version": 2}}
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


def test_a_bare_state_dict_is_loaded(tmp_path):
    torch.save(torch.nn.Linear(2, 3).state_dict(), tmp_path / "resnet.pth")
    assert list(load_checkpoint(tmp_path / "resnet.pth")) == ["weight", "bias"]


def test_safetensors_carry_weights_classes_and_config(tmp_path):
    from mmengine import Config

    config = {"model": {"type": "TSN", "size": (-1, 256), "list": [1, None, {"a": ()}]}, "n": {1}}
    weight = torch.arange(6.0).view(2, 3)
    checkpoint = {
        "state_dict": {"module.w": weight.t(), "w2": weight},
        "meta": {"cfg": Config(config).pretty_text, "dataset_meta": {"classes": ["a", "b"]}},
    }
    torch.save(checkpoint, tmp_path / "x.pth")
    out = export_safetensors(tmp_path / "x.pth", tmp_path / "x.safetensors").path
    loaded = load_checkpoint(out)
    assert torch.equal(loaded["state_dict"]["w"], weight.t())
    assert torch.equal(loaded["state_dict"]["w2"], weight)
    assert checkpoint_config(loaded, source="x") == config
    assert checkpoint_classes(loaded) == ["a", "b"]
    assert read_meta(out)["cfg"] == config
    assert checkpoint_classes({"meta": {"CLASSES": ("c",)}}) == ["c"]
    with pytest.raises(UserError, match="has no weights"):
        torch.save({"state_dict": {}}, tmp_path / "none.pth")
        export_safetensors(tmp_path / "none.pth", out)


def test_the_json_of_the_config_is_read_and_not_its_text():
    meta = {"cfg": "import os", "cfg_json": config_to_json({"a": (1, 2)})}
    assert checkpoint_config({"meta": meta}, source="x.pth") == {"a": (1, 2)}
    for text, reason in (("[1]", "is not a dict"), ("{", "cannot be read"), (3, "cannot be read")):
        with pytest.raises(UserError, match=rf"the config in x\.pth {reason}"):
            checkpoint_config({"meta": {"cfg_json": text}}, source="x.pth")


def test_weights_are_matched_and_counted():
    model, path = Toy(2), "x.pth"
    own = {key: value.clone() for key, value in model.state_dict().items()}
    good = {f"module.{key}": value + 1 for key, value in own.items()}
    message = load_weights(model, {"state_dict": good}, path=path)
    assert message == "9 of 9 tensors loaded from x.pth"
    assert torch.equal(model.state_dict()["backbone.0.weight"], own["backbone.0.weight"] + 1)

    other_head = {"state_dict": Toy(400).state_dict()}
    state_dict, message = match_weights(model, other_head, path=path, new_head=True)
    assert message == (
        "7 of 9 tensors loaded from x.pth; checkpoint has 400 classes, the config 2: "
        "the head is re-initialised"
    )
    assert state_dict["cls_head.fc_cls.weight"].shape == (2, 3)
    with pytest.raises(UserError, match="does not fit the model: checkpoint has 400 classes, the"):
        load_weights(model, other_head, path=path)

    no_head = {k: v for k, v in own.items() if k.startswith("backbone")}
    with pytest.raises(UserError, match="it has no head"):
        load_weights(model, no_head, path=path)

    old = {k: v for k, v in own.items() if not k.endswith("num_batches_tracked")}
    assert load_weights(model, old, path=path) == "8 of 9 tensors loaded from x.pth"

    with pytest.raises(UserError) as error:
        load_weights(model, Toy(2, width=5).state_dict(), path=path)
    assert "6 tensors outside the head do not fit the model's 9" in str(error.value)
    assert "backbone.0.weight is (5, 4), the model's (3, 4)" in str(error.value)
    with pytest.raises(UserError, match=r"backbone.7.weight is not in the model"):
        load_weights(model, {**own, "backbone.7.weight": torch.zeros(1)}, path=path)


def test_a_layer_that_the_model_lacks_outside_the_backbone_is_told():
    """Another head's extra tensors are no reason to refuse; of a backbone they are."""
    model = Toy(2)
    more = {
        **model.state_dict(),
        "cls_head.extra.weight": torch.zeros(1),
        "ema.decay": torch.ones(1),
        "note": "no tensor",
    }
    assert load_weights(model, more, path="x.pth") == (
        "9 of 9 tensors loaded from x.pth; 2 tensors of it are not used, e.g. cls_head.extra.weight"
    )


def test_a_head_of_another_width_is_told_from_one_of_other_classes():
    model = Toy(2)
    other = {**model.state_dict(), "cls_head.fc_cls.weight": torch.zeros(2, 9)}
    state_dict, message = match_weights(model, {"state_dict": other}, path="x.pth", new_head=True)
    assert message == (
        "8 of 9 tensors loaded from x.pth; checkpoint has another head (cls_head.fc_cls.weight "
        "does not fit): the head is re-initialised"
    )
    assert torch.equal(state_dict["cls_head.fc_cls.bias"], other["cls_head.fc_cls.bias"])
    assert torch.equal(
        state_dict["cls_head.fc_cls.weight"], model.state_dict()["cls_head.fc_cls.weight"]
    )
    assert list(state_dict) == list(model.state_dict())


def test_the_first_three_tensors_that_differ_are_named():
    wide = Toy(2, width=5).state_dict()
    with pytest.raises(UserError) as error:
        load_weights(Toy(2), wide, path="x.pth")
    assert str(error.value).count("the model's (") == 3 and ", ...)" in str(error.value)
    with pytest.raises(UserError, match=r"\(backbone.1.bias is missing\)"):
        load_weights(
            Toy(2),
            {k: v for k, v in Toy(2).state_dict().items() if k != "backbone.1.bias"},
            path="x",
        )
