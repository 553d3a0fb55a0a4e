"""Overrides are checked before they are applied; two of one key are an error in any order."""

import copy
import itertools
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from config_changes import changes, leaves, pretend, stock
from conftest import STOCK
from mmengine.config import Config

from mmact_tiny import config
from mmact_tiny.errors import UserError
from mmact_tiny.overrides.registry import (
    OVERRIDES,
    apply_overrides,
    comes_after,
    diff,
    flatten,
    reason_for,
    record_choice,
)


@pytest.fixture(autouse=True)
def _one_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch)


@pytest.fixture
def of_users() -> Iterator[None]:
    """Overrides as a user writes them."""

    def append_milestone(cfg: Config) -> None:
        if 99 not in cfg.param_scheduler[0].milestones:
            cfg.param_scheduler[0].milestones.append(99)

    def set_depth(cfg: Config, depth: int) -> None:
        cfg.model.backbone.depth = depth

    @comes_after("set_depth")
    def deepen(cfg: Config) -> None:
        cfg.model.backbone.norm_eval = cfg.model.backbone.depth > 18

    theirs = (append_milestone, set_depth, deepen)
    for override in theirs:
        OVERRIDES.register_module(module=override)
    yield
    for override in theirs:
        del OVERRIDES.module_dict[override.__name__]


@pytest.mark.usefixtures("of_users")
def test_a_list_that_is_edited_in_place_is_a_change(caplog: pytest.LogCaptureFixture) -> None:
    cfg = stock()
    with caplog.at_level("INFO", logger="mmact_tiny"):
        apply_overrides(cfg, [dict(type="append_milestone")])
    assert caplog.messages == [
        "override append_milestone()",
        "  param_scheduler[MultiStepLR].milestones: [40, 80] -> [40, 80, 99]",
    ]


@pytest.mark.usefixtures("of_users")
@pytest.mark.parametrize(
    ("entries", "key"),
    [
        (
            [dict(type="append_milestone"), dict(type="schedule", max_epochs=10)],
            r"param_scheduler\[MultiStepLR\].milestones",
        ),
        (
            [dict(type="classes", names=["a", "b"]), dict(type="classes", names=["c", "d"])],
            "train_dataloader.dataset.metainfo.classes",
        ),
        (
            [dict(type="set_depth", depth=18), dict(type="set_depth", depth=34)],
            "model.backbone.depth",
        ),
        (  # the config has 50: the first or the second of them changes nothing
            [dict(type="set_depth", depth=50), dict(type="set_depth", depth=34)],
            "model.backbone.depth",
        ),
    ],
)
def test_two_that_change_one_key_are_an_error_in_either_order(
    entries: list[dict[str, Any]], key: str
) -> None:
    for order in (entries, entries[::-1]):
        first, second = (entry["type"] for entry in order)
        message = f"overrides '{first}' and '{second}' both change {key}|"
        message += f"overrides '{second}' and '{first}' both change {key}"
        with pytest.raises(UserError, match=message):
            apply_overrides(stock(), order)


@pytest.mark.usefixtures("of_users")
def test_one_that_builds_on_another_comes_after_it() -> None:
    cfg = stock()
    entries = [dict(type="set_depth", depth=34), dict(type="deepen")]
    apply_overrides(cfg, entries)
    assert cfg.model.backbone.norm_eval is True
    with pytest.raises(UserError, match="'deepen' is listed before 'set_depth', whose result it"):
        apply_overrides(stock(), entries[::-1])


def test_several_may_add_a_plug_in(toy_dataset: Path) -> None:
    cfg = stock(toy_dataset)
    apply_overrides(cfg, [dict(type="protocol"), dict(type="checkpoints"), dict(type="decoder")])
    assert cfg.custom_imports["imports"] == [
        "mmact_tiny.metrics",
        "mmact_tiny.hooks",
        "mmact_tiny.video.frames",
    ]


DEFAULTS = [
    dict(type="dataset_paths", data_root=""),
    dict(type="classes"),
    dict(type="pretrained", weights="none"),
    dict(type="batch_size", train=2, accumulate=4),
    dict(type="learning_rate"),
]
OTHERS = [
    dict(type="schedule", max_epochs=7),
    dict(type="input_size", crop=112),
    dict(type="clip_cache"),
    dict(type="hardware"),
    dict(type="run"),
]


@pytest.fixture
def resolve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Gives what a config of these overrides resolves to, its plug-ins sorted; or its error."""
    path, read = tmp_path / "mine.py", stock()
    path.write_text(f"_base_ = ['{STOCK}']\n")

    def resolve(entries: Sequence[dict[str, Any]]) -> dict[str, Any] | str:
        listed = Config(dict(copy.deepcopy(read.to_dict()), overrides=list(entries)))
        monkeypatch.setattr(config, "read_config", lambda path: listed)
        listed.__dict__["_filename"] = str(path)
        try:
            cfg = config.load_config(path)
        except UserError as error:
            return str(error)
        imports = sorted(cfg.custom_imports["imports"])
        cfg.custom_imports = dict(cfg.custom_imports, imports=imports)
        cfg.custom_hooks = sorted(cfg.custom_hooks, key=lambda hook: hook["type"])
        return leaves(cfg)

    return resolve


@pytest.mark.parametrize("listed", [DEFAULTS, [DEFAULTS[0], *OTHERS]], ids=["defaults", "others"])
def test_every_order_gives_the_same_config_or_an_error_that_names_both(
    listed: list[dict[str, Any]], toy_dataset: Path, resolve: Callable[..., Any]
) -> None:
    listed = [dict(listed[0], data_root=str(toy_dataset)), *listed[1:]]
    expected = resolve(listed)
    assert isinstance(expected, dict)
    after = {
        "classes": {"dataset_paths"},
        "batch_size": {"dataset_paths", "input_size"},
        "clip_cache": {"input_size"},
    }
    results = {"same": 0, "error": 0}
    for order in itertools.islice(itertools.permutations(listed), 0, None, (len(listed) - 4) ** 2):
        names = [entry["type"] for entry in order]
        wrong = [
            (name, later)
            for index, name in enumerate(names)
            for later in names[index + 1 :]
            if later in after.get(name, ())
        ]
        result = resolve(order)
        if wrong:
            assert isinstance(result, str)
            assert result.startswith(f"override {wrong[0][0]!r} is listed before {wrong[0][1]!r}")
            results["error"] += 1
        else:
            assert isinstance(result, dict), result
            assert changes(expected, result) == {}
            results["same"] += 1
    assert min(results.values()) > 30


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (dict(type="batch_sise", train=2), "no override 'batch_sise'; did you mean 'batch_size'"),
        (dict(type="batch_size", trian=2), "no argument 'trian'; did you mean 'train'"),
        (dict(type="schedule"), "needs its argument 'max_epochs'"),
        (dict(train=2), "expected dict"),
        ("batch_size", "expected dict"),
        (dict(type="schedule", max_epochs="3"), "max_epochs='3': expected int"),
        (dict(type="schedule", max_epochs=3.0), "max_epochs=3.0: expected int"),
        (dict(type="schedule", max_epochs=True), "max_epochs=True: expected int"),
        (dict(type="data_guard", video_seconds=True), "video_seconds=True: expected float"),
        (dict(type="clip_cache", build="yes"), "build='yes': expected bool"),
        (dict(type="classes", names="ab"), "names='ab': expected list"),
        (dict(type="schedule", max_epochs=10, scratch_epochs=30), "configs/tsn_tiny_scratch.py"),
    ],
)
def test_a_wrong_entry_is_one_clear_error_before_anything_is_changed(
    entry: dict[str, Any], message: str
) -> None:
    cfg = stock()
    before = leaves(cfg)
    with pytest.raises(UserError, match=message):
        apply_overrides(cfg, [dict(type="protocol"), entry])
    assert changes(before, leaves(cfg)) == {}


def test_whole_numbers_pass_as_floats_and_tuples_as_lists(toy_dataset: Path) -> None:
    cfg = stock(toy_dataset)
    names = ("a", "b")
    apply_overrides(
        cfg, [dict(type="data_guard", video_seconds=3), dict(type="classes", names=names)]
    )
    assert cfg.custom_hooks[0].video_seconds == 3
    assert cfg.model.cls_head.num_classes == 2


def test_an_override_that_changes_nothing_says_so(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", logger="mmact_tiny"):
        apply_overrides(stock(), [dict(type="schedule", max_epochs=100)])
    assert caplog.messages == ["override schedule(max_epochs=100): changes nothing"]


def test_flatten_names_the_steps_of_a_pipeline_and_copies_the_leaves() -> None:
    milestones, empty = [1, 2], {}
    node = dict(
        steps=[dict(type="Resize", scale=(1, 2)), dict(type="Flip"), dict(type="Resize", scale=3)],
        milestones=milestones,
        empty=empty,
        mixed=[dict(type="A"), 1],
    )
    flat = flatten(node)
    milestones.append(3)
    empty["key"] = 1
    assert flat == {
        "steps[Resize].type": "Resize",
        "steps[Resize].scale": (1, 2),
        "steps[Flip].type": "Flip",
        "steps[Resize#2].type": "Resize",
        "steps[Resize#2].scale": 3,
        "milestones": [1, 2],
        "empty": {},
        "mixed": [{"type": "A"}, 1],
    }
    assert diff({"a": 1, "b": 2}, {"b": 3, "c": None}) == {
        "a": (1, "(not set)"),
        "b": (2, 3),
        "c": ("(not set)", None),
    }


def test_the_reason_of_a_choice_stays_until_another_value_is_set() -> None:
    cfg = Config(dict(loader=dict(num_workers=2)))
    assert reason_for(cfg, "loader.num_workers") == "as the config or a flag says"
    record_choice(cfg, "loader.num_workers", "4 cores")
    record_choice(cfg, "wrapper.dtype", "no bf16")
    assert reason_for(cfg, "loader.num_workers") == "4 cores"
    assert reason_for(cfg, "wrapper.dtype") == "no bf16"
    assert json.loads(json.dumps(cfg.to_dict())) == {"loader": {"num_workers": 2}}
    assert "4 cores" not in cfg.pretty_text
    cfg.loader.num_workers = 4
    assert reason_for(cfg, "loader.num_workers") == "as the config or a flag says"
