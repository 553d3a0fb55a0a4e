"""Configs in checkpoints are read as data; only registered types in them are built."""

from pathlib import Path

import pytest

from mmact_tiny.checkpoints.config_text import (
    check_types,
    config_from_json,
    config_from_text,
    config_to_json,
    stock_configs,
    vet_config,
)
from mmact_tiny.compat import Config
from mmact_tiny.errors import UserError

CONFIGS = stock_configs() / "recognition"


@pytest.mark.parametrize("folder", ["tsn", pytest.param("", marks=pytest.mark.slow)])
def test_stock_configs_round_trip(folder):
    paths = sorted((CONFIGS / folder).rglob("*.py"))
    assert len(paths) >= 14
    for path in paths:
        try:
            config = Config.fromfile(path)
        except (FileNotFoundError, KeyError, ImportError):
            continue  # broken upstream
        if folder:
            assert config_from_text(config.pretty_text) == config.to_dict(), path
            assert config_from_json(config_to_json(config.to_dict())) == config.to_dict(), path
        else:
            text = Config(config.to_dict(), format_python_code=False).pretty_text
            assert config_from_text(text) == config.to_dict(), path


def test_literals():
    text = "a = -1\nb = dict(c=[1, (2.5, None)], d={'x.y': {1, 2}})\n"
    text += "e = 'f' + 'g'\nh = dict({'i.j': 1})"
    assert config_from_text(text) == {
        "a": -1,
        "b": {"c": [1, (2.5, None)], "d": {"x.y": {1, 2}}},
        "e": "fg",
        "h": {"i.j": 1},
    }


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("import os", "line 1: 'import os'"),
        ("a = 1\nb = open('canary', 'w')", "line 2: \"open('canary', 'w')\""),
        ("a = __import__('os').system('touch canary')", "line 1"),
        ("a = [x for x in (1, 2)]", "line 1"),
        ("a = dict(**b)", "line 1"),
        ("a = {**{}}", "line 1"),
        ("a = f'{1}'", "line 1"),
        ("a = 'x' * 10**9", "line 1"),
        ("a = 9**9**9", "line 1"),
        ("a.b = 1", "line 1"),
        ("a, b = 1, 2", "line 1"),
        ("a = {[]: 1}", "unhashable"),
        ("a = " + "[" * 250 + "]" * 250, "nested"),
        ("a = " + "-" * 5000 + "1", "recursion"),
        ("a = (", "not Python"),
        ("a = '\0'", "null bytes"),
        ("a = '" + "x" * 3_000_000 + "'", "at most"),
        (None, "not a text"),
    ],
)
def test_code_is_refused(text, reason, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"the config in x\.pth") as error:
        config_from_text(text, source="x.pth")
    assert reason in str(error.value)
    assert len(str(error.value).splitlines()) == 1
    assert not Path("canary").exists()


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ({"model": {"type": "subprocess.Popen", "args": "x"}}, "type 'subprocess.Popen'"),
        ({"model": {"head": [{"type": "antigravity"}]}}, "type 'antigravity'"),
        ({"model": {"type": "mmaction.TSN"}}, "type 'mmaction.TSN'"),
        ({"type": ["TSN"]}, "type ['TSN']"),
        ({"model": {"type": "Recognizer2D", "_scope_": "evil"}}, "_scope_ 'evil'"),
        ({"default_scope": "evil"}, "default_scope 'evil'"),
        ({"_base_": "/etc/passwd"}, "_base_ '/etc/passwd'"),
        ({"custom_imports": {"imports": ["mmact_tiny.x", "os"]}}, "custom_imports of 'os'"),
        ({"custom_imports": {"imports": "mmact_tinyx"}}, "custom_imports of 'mmact_tinyx'"),
    ],
)
def test_only_registered_types_are_built(config, reason):
    with pytest.raises(UserError) as error:
        check_types(config, source="x.pth")
    assert reason in str(error.value)


def test_what_would_load_other_files_is_switched_off():
    config = {
        "load_from": "http://x/y.pth",
        "custom_imports": {"imports": ["mmact_tiny.cache.transforms"]},
        "model": {
            "type": "Recognizer2D",
            "backbone": {"type": "ResNet", "pretrained": "http://x/y.pth", "depth": 50},
            "neck": {"init_cfg": {"type": "Pretrained", "checkpoint": "y.pth"}},
            "cls_head": {
                "init_cfg": [{"type": "Normal", "layer": "Linear"}],
                "size": (1, {"a": 2}),
            },
        },
    }
    assert vet_config(config) == {
        "load_from": None,
        "custom_imports": {"imports": ["mmact_tiny.cache.transforms"]},
        "model": {
            "type": "Recognizer2D",
            "backbone": {"type": "ResNet", "pretrained": None, "depth": 50},
            "neck": {},
            "cls_head": {
                "init_cfg": [{"type": "Normal", "layer": "Linear"}],
                "size": (1, {"a": 2}),
            },
        },
    }


def test_stock_tsn_configs_are_built_as_they_are():
    """But for the weights of their backbones."""
    for path in sorted((CONFIGS / "tsn").glob("*.py")):
        config = Config.fromfile(path).to_dict()
        expected = {**config, "load_from": None, "model": {**config["model"]}}
        expected["model"]["backbone"] = {**config["model"]["backbone"], "pretrained": None}
        vetted = vet_config(config)
        vetted["model"]["backbone"].setdefault("pretrained", None)
        assert vetted == expected, path


def test_a_config_in_json_is_the_config():
    """Tuples stay tuples; keys that are no text, and those that look like our marks."""
    config = {
        "scale": (-1, 256),
        "nested": [(), {"a": ((1,), [2.5, None, True])}],
        "classes": {0: "a", (1, 2): "b"},
        "marks": {"__tuple__": [1]},
        "names": {"x", "y"},
        "rate": 0.1,
        "limit": float("inf"),
        "empty": {},
    }
    assert config_from_json(config_to_json(config)) == config
    with pytest.raises(TypeError):
        config_to_json({"a": object()})
    with pytest.raises(UserError, match=r"config in x\.pth cannot be read: unhashable"):
        config_from_json('{"__set__": [[]]}', source="x.pth")
