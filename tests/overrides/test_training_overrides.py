"""Initial weights, schedule, batch size and learning rate: literal values for each case."""

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from config_changes import changes, changes_by, leaves, pretend, stock
from conftest import STOCK
from file_server import FileServer
from mmengine.config import Config

from mmact_tiny.config import load_config
from mmact_tiny.download import find_published, zoo
from mmact_tiny.errors import UserError
from mmact_tiny.overrides import batch_size
from mmact_tiny.overrides.batch_size import TrainingStep, largest_batch
from mmact_tiny.overrides.learning_rate import describe_learning_rate
from mmact_tiny.overrides.registry import apply_overrides

IMAGENET = "model.backbone.pretrained"
RANDOM = {IMAGENET: None, "initial_weights": "random", "load_from": None, "resume": False}
NOWHERE = dict(search="checkpoints/no-such-file_*.pth")
TSM = "mmaction::recognition/tsm/tsm_imagenet-pretrained-r50_8xb16-1x1x8-50e_kinetics400-rgb.py"
I3D = "mmaction::recognition/i3d/i3d_imagenet-pretrained-r50_8xb8-32x2x1-100e_kinetics400-rgb.py"


@pytest.fixture(autouse=True)
def _one_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (dict(weights="none"), RANDOM),
        (NOWHERE, RANDOM),
        (
            dict(search="READM?.md"),
            {IMAGENET: None, "initial_weights": "README.md", "load_from": "README.md"},
        ),
        (
            dict(weights="README.md"),  # any file: it is not opened here
            {IMAGENET: None, "initial_weights": "README.md", "load_from": "README.md"},
        ),
        (
            dict(weights="https://example.org/a.pth"),
            {
                IMAGENET: None,
                "initial_weights": "https://example.org/a.pth",
                "load_from": "https://example.org/a.pth",
            },
        ),
        (dict(weights="imagenet"), {"initial_weights": "imagenet"}),
        (dict(weights="none", resume=True, work_dir="no-such-folder"), RANDOM),
        (
            dict(weights="README.md", origin="random"),
            {IMAGENET: None, "initial_weights": "random", "load_from": "README.md"},
        ),
    ],
)
def test_pretrained(arguments: dict[str, Any], expected: dict[str, Any]) -> None:
    changed = changes_by(stock(), dict(type="pretrained", **arguments))
    assert changed == {key: value for key, value in expected.items() if key in changed}
    assert changed.keys() >= expected.keys() - {"load_from", "resume"}


STEMS = {
    "TSM": "tsm/tsm_imagenet-pretrained-r50_8xb16-1x1x8-50e_kinetics400-rgb",
    "UniFormer V2": "uniformerv2/uniformerv2-base-p16-res224_clip_8xb32-u8_kinetics400-rgb",
    "TIN": "tin/tin_kinetics400-pretrained-tsm-r50_1x1x8-50e_kinetics400-rgb",
    "SlowFast": "slowfast/slowfast_r50_8xb8-4x16x1-256e_kinetics400-rgb",
}
IS_RANDOM = {"initial_weights": "random"}
OWN: list[tuple[str, str, dict[str, Any] | None]] = [  # what `weights` changes; None: an error
    ("TSM", "none", IS_RANDOM | {IMAGENET: None, "model.backbone.pretrained2d": False}),
    ("UniFormer V2", "none", IS_RANDOM | {IMAGENET: None, "model.backbone.clip_pretrained": False}),
    (
        "TIN",  # whose class is a TSM's
        "none",
        IS_RANDOM | {IMAGENET: None, "model.backbone.pretrained2d": False, "load_from": None},
    ),
    ("TIN", "imagenet", {"initial_weights": "imagenet"}),
    ("UniFormer V2", "imagenet", {"initial_weights": "imagenet"}),
    ("SlowFast", "imagenet", None),
]


@pytest.mark.parametrize(("name", "weights", "expected"), OWN)
def test_weights_of_the_configs_own(name: str, weights: str, expected: dict | None) -> None:
    cfg = stock(config=f"mmaction::recognition/{STEMS[name]}.py")
    if expected is not None:
        changed = changes_by(cfg, dict(type="pretrained", weights=weights))
        assert {k: v for k, v in changed.items() if k != "resume"} == expected
        return
    with pytest.raises(
        UserError, match=r"^mmaction::slowfast_\S+ has no initial weights .*\n.*none"
    ):
        apply_overrides(cfg, [dict(type="pretrained", weights=weights)])


def test_weights_of_the_zoo(
    toy_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The published ones of the stock config below, fetched once."""
    stem = "tsn_imagenet-pretrained-r50_8xb32-1x1x3-100e_kinetics400-rgb"
    weights = f"checkpoints/{stem}_20220906-{hashlib.sha256(b'weights').hexdigest()[:8]}.pth"
    item = find_published("tsn_r50_k400")
    published = replace(item, url=f"{zoo.HOST}/{Path(weights).name}", path=Path(weights))
    monkeypatch.setattr(zoo, "list_published", lambda: (published,))
    config = tmp_path / "mine.py"
    config.write_text(f"_base_ = ['{Path('configs/tsn_tiny.py').resolve()}']\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with FileServer() as server:
        monkeypatch.setenv("MMACT_TINY_MIRROR", server.url)
        server.files[f"/{Path(weights).name}"] = b"weights"
        cfg = load_tiny(toy_dataset, str(config), weights="zoo")
    assert len(server.ranges) == 1 and Path(weights).read_bytes() == b"weights"
    assert (cfg.initial_weights, cfg.load_from) == (weights, weights)
    assert (cfg.model.backbone.pretrained, cfg.train_cfg.max_epochs) == (None, 10)


def test_a_config_that_has_none_in_the_zoo() -> None:
    stem = "tsm/tsm_imagenet-pretrained-mobilenetv2_8xb16-1x1x8-100e_kinetics400-rgb"
    with pytest.raises(UserError, match=r"no weights of .*mobilenetv2.*\n.*--pretrained FILE"):
        apply_overrides(
            stock(config=f"mmaction::recognition/{stem}.py"),
            [dict(type="pretrained", weights="zoo")],
        )


def test_the_last_of_the_files_found_is_taken(tmp_path: Path) -> None:
    for name in ("w_1.pth", "w_3.pth", "w_2.pth"):
        (tmp_path / name).touch()
    cfg = stock()
    apply_overrides(cfg, [dict(type="pretrained", search=str(tmp_path / "w_*.pth"))])
    assert cfg.load_from == str(tmp_path / "w_3.pth")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (dict(weights="gone.pth"), "no pretrained weights gone.pth\n.*tools/download.py"),
        (dict(resume="gone.pth"), "no checkpoint gone.pth to resume from"),
    ],
)
def test_weights_that_are_not_there(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        apply_overrides(stock(), [dict(type="pretrained", **arguments)])


def load_tiny(toy_dataset: Path, config: str = "configs/tsn_tiny.py", **pretrained: Any) -> Config:
    changed = {"dataset_paths": {"data_root": str(toy_dataset)}, "pretrained": pretrained}
    return load_config(config, changes=changed)


@pytest.mark.parametrize("weights", [NOWHERE, dict(weights="none")])
def test_random_weights_take_the_config_for_them(
    toy_dataset: Path, weights: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    """Its lines are those of `tsn_tiny_scratch`, in the work directory of the one asked for."""
    with caplog.at_level("INFO", logger="mmact_tiny"):
        cfg = load_tiny(toy_dataset, **weights)
    said = "from random weights: as configs/tsn_tiny_scratch.py says"
    assert [m for m in caplog.messages if "random weights" in m] == [said]
    scratch = load_tiny(toy_dataset, "configs/tsn_tiny_scratch.py")
    assert changes(leaves(scratch), leaves(cfg)) == {"work_dir": "work_dirs/tsn_tiny"}
    assert cfg.optim_wrapper.optimizer == dict(type="AdamW", lr=0.01, weight_decay=0.05)
    assert cfg.train_cfg.max_epochs == 30
    assert cfg.val_pipeline[4].crop_size == 96
    assert "ZeroInitResidualHook" in [hook.type for hook in cfg.custom_hooks]
    assert (cfg.initial_weights, cfg.load_from, cfg.resume) == ("random", None, False)


def test_weights_that_are_there_take_the_config_as_it_is(toy_dataset: Path) -> None:
    cfg = load_tiny(toy_dataset, search="READM?.md")
    assert cfg.optim_wrapper.optimizer.type == "SGD"
    assert cfg.train_cfg.max_epochs == 10
    assert cfg.val_pipeline[4].crop_size == 224
    assert "ZeroInitResidualHook" not in [hook.type for hook in cfg.custom_hooks]
    assert (cfg.initial_weights, cfg.load_from) == ("README.md", "README.md")


@pytest.mark.parametrize(("origin", "crop"), [("random", 96), ("imagenet", 224), (None, 224)])
def test_weights_are_tested_at_the_size_they_were_trained_at(
    toy_dataset: Path, origin: str | None, crop: int
) -> None:
    cfg = load_tiny(toy_dataset, weights="README.md", **({"origin": origin} if origin else {}))
    assert cfg.val_pipeline[4].crop_size == crop
    assert cfg.load_from == "README.md"


def test_a_config_of_ones_own_keeps_its_lines_under_those_for_random_weights(
    toy_dataset: Path, tmp_path: Path
) -> None:
    path = tmp_path / "mine.py"
    base = Path("configs/tsn_tiny.py").resolve()
    path.write_text(f"_base_ = ['{base}']\nmodel = dict(backbone=dict(depth=18))\n")
    cfg = load_tiny(toy_dataset, str(path), weights="none")
    assert (cfg.model.backbone.depth, cfg.train_cfg.max_epochs) == (18, 30)
    assert cfg.work_dir == "work_dirs/mine"
    path.write_text(path.read_text() + "overrides = [dict(type='pretrained', scratch='gone.py')]")
    with pytest.raises(UserError, match=r"no config gone.py"):
        load_tiny(toy_dataset, str(path), weights="none")


def test_epochs_of_a_flag_count_from_random_weights_too(toy_dataset: Path) -> None:
    changed = {
        "dataset_paths": {"data_root": str(toy_dataset)},
        "pretrained": {"weights": "none"},
        "schedule": {"max_epochs": 3},
    }
    cfg = load_config("configs/tsn_tiny.py", changes=changed)
    assert (cfg.train_cfg.max_epochs, cfg.val_pipeline[4].crop_size) == (3, 96)


SCHEDULES = {
    "stock": ([dict(type="MultiStepLR", milestones=[40, 80], end=100)], 10, [([4, 8], 0, 10)]),
    "rounded, not cut": ([dict(type="MultiStepLR", milestones=[40, 80])], 7, [([3, 6], 0, None)]),
    "of one epoch": ([dict(type="MultiStepLR", milestones=[40, 80], end=100)], 1, [([1, 1], 0, 1)]),
    "in steps": ([dict(type="StepLR", step_size=30, end=100)], 10, [(3, 0, 10)]),
    "by iteration": (
        [dict(type="LinearLR", by_epoch=False, begin=0, end=500)],
        10,
        [(None, 0, 500)],
    ),
    "warm-up and cosine": (
        [
            dict(type="LinearLR", by_epoch=True, begin=0, end=5),
            dict(type="CosineAnnealingLR", begin=5, end=100, T_max=95),
        ],
        20,
        [(None, 0, 1), (19, 1, 20)],
    ),
    "a warm-up as long as the run": (
        [
            dict(type="LinearLR", by_epoch=True, begin=0, end=5),
            dict(type="CosineAnnealingLR", begin=5, end=100, T_max=95),
        ],
        1,
        [(None, 0, 1)],
    ),
}


@pytest.mark.parametrize("case", SCHEDULES)
def test_schedule_rescales_what_counts_epochs(case: str) -> None:
    schedulers, epochs, expected = SCHEDULES[case]
    cfg = stock()
    cfg.param_scheduler = schedulers
    changed = changes_by(cfg, dict(type="schedule", max_epochs=epochs))
    assert cfg.train_cfg.max_epochs == epochs
    shown = [
        (s.get("milestones", s.get("step_size", s.get("T_max"))), s.get("begin", 0), s.get("end"))
        for s in cfg.param_scheduler
    ]
    assert shown == expected
    assert {key.split(".")[0] for key in changed} <= {"train_cfg", "param_scheduler"}
    cfg.param_scheduler = None
    apply_overrides(cfg, [dict(type="schedule", max_epochs=2 * epochs)])


def test_one_scheduler_that_is_no_list_is_rescaled() -> None:
    cfg = stock()
    cfg.param_scheduler = dict(type="MultiStepLR", milestones=[40, 80])
    apply_overrides(cfg, [dict(type="schedule", max_epochs=10)])
    assert cfg.param_scheduler == dict(type="MultiStepLR", milestones=[4, 8])


@pytest.mark.parametrize(
    ("train_cfg", "epochs", "message"),
    [
        (dict(type="IterBasedTrainLoop", max_iters=9), 1, "schedule counts epochs; train_cfg is"),
        (dict(type="EpochBasedTrainLoop", max_epochs=9), 0, "max_epochs=0: expected 1 or more"),
    ],
)
def test_a_schedule_that_cannot_be(train_cfg: dict, epochs: int, message: str) -> None:
    cfg = stock()
    cfg.train_cfg = train_cfg
    with pytest.raises(UserError, match=message):
        apply_overrides(cfg, [dict(type="schedule", max_epochs=epochs)])


@pytest.fixture
def many_videos(toy_dataset: Path) -> Path:
    """20 training and 12 validation videos."""
    for split, count in (("train", 20), ("val", 12)):
        (toy_dataset / f"{split}.txt").write_text("0.mp4 0\n" * count)
    return toy_dataset


@pytest.mark.parametrize(
    ("cuda", "arguments", "expected"),
    [
        (False, {}, {"train": 8, "val": 8}),
        (False, dict(train="auto"), {"train": 8, "val": 8}),
        (True, {}, {"train": 20, "val": 12}),  # stock's 32, at most the dataset
        (False, dict(train=2), {"train": 2, "val": 2}),
        (False, dict(train=2, val=3, test=4), {"train": 2, "val": 3, "test": 4}),
        (False, dict(train=100, test=100), {"train": 20, "val": 12, "test": 12}),
    ],
)
def test_batch_size(
    many_videos: Path,
    monkeypatch: pytest.MonkeyPatch,
    cuda: bool,
    arguments: dict[str, Any],
    expected: dict[str, int],
) -> None:
    pretend(monkeypatch, cuda)
    changed = changes_by(stock(many_videos), dict(type="batch_size", **arguments))
    assert changed == {f"{split}_dataloader.batch_size": size for split, size in expected.items()}


def test_an_empty_dataset_still_has_a_batch(toy_dataset: Path) -> None:
    cfg = stock(toy_dataset)
    (toy_dataset / "val.txt").write_text("")
    apply_overrides(cfg, [dict(type="batch_size", train=4)])
    assert (cfg.train_dataloader.batch_size, cfg.val_dataloader.batch_size) == (4, 1)


def test_batch_size_auto_asks_the_gpu(many_videos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, cuda=True)
    asked = []
    monkeypatch.setattr(batch_size, "fit_batch", lambda cfg, limit: asked.append(limit) or 16)
    cfg = stock(many_videos)
    apply_overrides(cfg, [dict(type="batch_size", train="auto")])
    assert asked == [20], "it takes long: once"
    assert (cfg.train_dataloader.batch_size, cfg.val_dataloader.batch_size) == (16, 12)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (dict(train=0), "train=0: expected 1 or more"),
        (dict(val=0), "val=0: expected 1 or more"),
        (dict(test=-1), "test=-1: expected 1 or more"),
        (dict(accumulate=0), "accumulate=0: expected 1 or more"),
        (dict(train="two"), "'two': expected a whole number"),
        (dict(total=0), "total=0: expected 1 or more"),
        (dict(total=8, accumulate=2), "total=8 sets accumulate=2: give one"),
    ],
)
def test_a_batch_that_cannot_be(toy_dataset: Path, arguments: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        apply_overrides(stock(toy_dataset), [dict(type="batch_size", **arguments)])


@pytest.mark.parametrize(
    ("num_processes", "size", "steps"), [(1, 8, 6), (2, 8, 3), (3, 8, 2), (4, 6, 2), (48, 1, 1)]
)
def test_a_global_batch_is_kept_by_any_number_of_processes_that_divides_it(
    many_videos: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    num_processes: int,
    size: int,
    steps: int,
) -> None:
    monkeypatch.setenv("WORLD_SIZE", str(num_processes))
    cfg = stock(many_videos)
    apply_overrides(cfg, [dict(type="batch_size", train=8, total=48)])
    assert cfg.train_dataloader.batch_size == size
    assert cfg.optim_wrapper.get("accumulative_counts", 1) == steps
    assert num_processes * size * steps == 48
    (said,) = caplog.messages
    assert said == (
        "*** --global-batch 48: the weights change less than once an epoch of 20 videos, at the "
        "rate of that batch; expected 20 or less ***"
    )
    monkeypatch.setenv("WORLD_SIZE", "5")
    with pytest.raises(UserError, match="--global-batch 48: 5 processes cannot divide it"):
        apply_overrides(stock(many_videos), [dict(type="batch_size", train=8, total=48)])


def write_config(
    tmp_path: Path, *entries: dict[str, Any], more: str = "", base: str = STOCK
) -> str:
    path = tmp_path / "mine.py"
    path.write_text(f"_base_ = ['{base}']\noverrides = {list(entries)!r}\n{more}\n")
    return str(path)


BATCH_OF_2 = dict(type="batch_size", train=2)
RATE = dict(type="learning_rate", lr=0.01)
FOUR = {"+optim_wrapper.accumulative_counts": 4}
RULES: dict[str, tuple[list[dict[str, Any]], str, dict[str, Any], float, float]] = {
    # what is listed, lines of the config, options: the base batch size, the rate of a process
    "plain": ([BATCH_OF_2, RATE], "", {}, 256, 7.8125e-05),
    "batch first": ([dict(BATCH_OF_2, accumulate=4), RATE], "", {}, 64, 3.125e-04),
    "rate first": ([RATE, dict(BATCH_OF_2, accumulate=4)], "", {}, 64, 3.125e-04),
    "by two": ([RATE, dict(BATCH_OF_2, accumulate=2)], "", {}, 128, 1.5625e-04),
    "by three": ([RATE, dict(BATCH_OF_2, accumulate=3)], "", {}, 256 / 3, 2.34375e-04),
    "an option": ([BATCH_OF_2, RATE], "", FOUR, 64, 3.125e-04),
    "an option last": (
        [dict(BATCH_OF_2, accumulate=2), RATE],
        "",
        {"optim_wrapper.accumulative_counts": 4},
        64,
        3.125e-04,
    ),
    "the config's lines": (
        [BATCH_OF_2, RATE],
        "optim_wrapper = dict(accumulative_counts=4)",
        {},
        64,
        3.125e-04,
    ),
    "one undoes four": (
        [dict(BATCH_OF_2, accumulate=1), RATE],
        "optim_wrapper = dict(accumulative_counts=4)",
        {},
        256,
        7.8125e-05,
    ),
    "a base of its own": (
        [BATCH_OF_2, RATE],
        "auto_scale_lr = dict(base_batch_size=128)",
        {},
        128,
        1.5625e-04,
    ),
    "no base": ([BATCH_OF_2, RATE], "auto_scale_lr = None", {}, 256, 7.8125e-05),
    "the rate of an option": (
        [BATCH_OF_2, RATE],
        "",
        {"optim_wrapper.optimizer.lr": 0.02},
        256,
        1.5625e-04,
    ),
    "not scaled": ([dict(BATCH_OF_2, accumulate=4)], "", {}, 256, 0.01),
}


@pytest.mark.parametrize("case", RULES)
def test_the_learning_rate_follows_the_real_batch(
    case: str, toy_dataset: Path, tmp_path: Path
) -> None:
    """The rule is what MMEngine's `Runner.scale_lr` computes, which the end-to-end job runs."""
    entries, more, options, base, rate = RULES[case]
    paths = dict(type="dataset_paths", data_root=str(toy_dataset))
    cfg = load_config(write_config(tmp_path, paths, *entries, more=more), options=options)
    assert cfg.auto_scale_lr.base_batch_size == pytest.approx(base, rel=1e-12)
    assert float(describe_learning_rate(cfg).split()[0]) == pytest.approx(rate, rel=1e-4)
    cfg.dump(tmp_path / "dump.py")
    assert leaves(load_config(tmp_path / "dump.py")) == leaves(cfg)


def test_the_processes_of_a_job_count(
    toy_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "3")
    paths = dict(type="dataset_paths", data_root=str(toy_dataset))
    cfg = load_config(write_config(tmp_path, paths, dict(BATCH_OF_2, accumulate=2), RATE))
    rule = "0.01 * batch 2 * {} process(es) * 2 accumulated steps / 256"
    assert describe_learning_rate(cfg) == f"0.00015625 = {rule.format(1)}"
    cfg.launcher = "pytorch"
    assert describe_learning_rate(cfg) == f"0.00046875 = {rule.format(3)}"


def test_mmengine_computes_that_rate(toy_dataset: Path, tmp_path: Path) -> None:
    from unittest.mock import Mock

    from mmengine.optim import OptimWrapper
    from mmengine.runner import Runner

    paths = dict(type="dataset_paths", data_root=str(toy_dataset))
    cfg = load_config(write_config(tmp_path, paths, RATE, dict(BATCH_OF_2, accumulate=4)))
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.01)
    job = Mock(world_size=8, param_schedulers=None, _train_dataloader=cfg.train_dataloader)
    Runner.scale_lr(job, OptimWrapper(optimizer), cfg.auto_scale_lr)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(2.5e-3, rel=1e-12)  # 0.01 * 2 * 8 / 64


@pytest.mark.parametrize(("config", "base"), [(TSM, 128), (I3D, 64), (STOCK, 256)])
def test_a_stock_config_keeps_the_batch_that_its_rate_was_chosen_for(
    toy_dataset: Path, config: str, base: int
) -> None:
    changed = {"dataset_paths": {"data_root": str(toy_dataset)}}
    assert load_config(config, changes=changed).auto_scale_lr == dict(
        enable=True, base_batch_size=base
    )


def test_a_config_without_a_base_batch_has_that_of_a_name(
    toy_dataset: Path, tmp_path: Path
) -> None:
    """Of the stock config below, else of its own."""
    slowfast = f"mmaction::recognition/{STEMS['SlowFast']}.py"  # 8xb8
    paths = dict(type="dataset_paths", data_root=str(toy_dataset))
    cfg = load_config(write_config(tmp_path, paths, RATE, base=slowfast))
    assert cfg.auto_scale_lr.base_batch_size == 64
    stock(config=slowfast).dump(tmp_path / "mine_2xb4-4x16x1.py")
    cfg = load_config(tmp_path / "mine_2xb4-4x16x1.py", changes={"learning_rate": {"lr": 0.1}})
    assert cfg.auto_scale_lr.base_batch_size == 8


@pytest.mark.parametrize(
    ("changed", "options", "base"),
    [
        ({}, {}, 64),
        ({"learning_rate": {"lr": 0.02}}, {}, 64),
        ({"batch_size": {"train": 4}}, {}, 64),
        ({"batch_size": {"accumulate": 1}}, {}, 256),
        ({}, {"optim_wrapper.accumulative_counts": 8}, 32),
    ],
)
@pytest.mark.parametrize("of_0_1_0", [False, True])
def test_a_dump_is_not_divided_again(
    toy_dataset: Path, tmp_path: Path, changed: dict, options: dict, base: int, of_0_1_0: bool
) -> None:
    paths = dict(type="dataset_paths", data_root=str(toy_dataset))
    cfg = load_config(write_config(tmp_path, paths, dict(BATCH_OF_2, accumulate=4), RATE))
    assert cfg.auto_scale_lr.pop("accumulative_counts") == 4
    if not of_0_1_0:
        cfg.auto_scale_lr.accumulative_counts = 4
    cfg.dump(tmp_path / "dump.py")
    again = load_config(tmp_path / "dump.py", changes=changed, options=options)
    assert again.auto_scale_lr.base_batch_size == base


def test_a_dump_that_was_not_scaled_is_divided(toy_dataset: Path, tmp_path: Path) -> None:
    paths = dict(type="dataset_paths", data_root=str(toy_dataset))
    cfg = load_config(write_config(tmp_path, paths, dict(BATCH_OF_2, accumulate=4)))
    cfg.dump(tmp_path / "dump.py")
    again = load_config(tmp_path / "dump.py", changes={"learning_rate": {"lr": 0.01}})
    assert again.auto_scale_lr.base_batch_size == 64


@pytest.mark.parametrize("lr", [0, -0.1])
def test_a_rate_that_cannot_be(lr: float) -> None:
    with pytest.raises(UserError, match=f"lr={lr}: expected a positive number"):
        apply_overrides(stock(), [dict(type="learning_rate", lr=lr)])


@pytest.mark.parametrize(
    ("room", "limit", "expected", "tried"),
    [
        (100, 30, 30, [1, 2, 4, 8, 16, 30]),
        (16, 30, 16, [1, 2, 4, 8, 16, 30]),
        (11, 300, 8, [1, 2, 4, 8, 16]),
        (1, 30, 1, [1, 2]),
        (5, 1, 1, [1]),
    ],
)
def test_the_batch_doubles_until_it_does_not_fit(
    room: int, limit: int, expected: int, tried: list[int]
) -> None:
    asked = []

    def fits(size: int) -> bool:
        asked.append(size)
        return size <= room

    assert largest_batch(fits, limit) == expected
    assert asked == tried


def test_not_even_one_video() -> None:
    with pytest.raises(UserError, match="one video does not fit"):
        largest_batch(lambda size: False, 30)


@pytest.fixture
def step() -> TrainingStep:
    """A real step of a small recognizer on the bundled clips, on the CPU."""
    cfg = load_config("configs/tsn_tiny.py", changes={"pretrained": {"weights": "none"}})
    cfg.model.backbone = dict(type="MobileNetV2", pretrained=None)
    cfg.model.cls_head.in_channels = 1280
    return TrainingStep(cfg, "cpu")


def test_a_device_without_room_for_more(step: TrainingStep) -> None:
    sizes = []

    def room_for_six_videos(module: torch.nn.Module, inputs: tuple[torch.Tensor]) -> None:
        sizes.append(len(inputs[0]))
        if len(inputs[0]) > 6 * 3:  # 3 frames a video
            raise torch.OutOfMemoryError("out of memory")

    step.model.backbone.register_forward_pre_hook(room_for_six_videos)
    before = step.model.cls_head.fc_cls.weight.clone()
    assert largest_batch(step.fits, 40) == 4
    assert sizes == [3, 3, 6, 6, 12, 12, 24]
    assert torch.equal(step.model.cls_head.fc_cls.weight, before)  # learning rate 0
    assert all(parameter.grad is None for parameter in step.model.parameters())


def test_other_errors_are_not_taken_for_a_full_memory(step: TrainingStep) -> None:
    def broken(module: torch.nn.Module, inputs: object) -> None:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    step.model.backbone.register_forward_pre_hook(broken)
    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        step.fits(1)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_on_a_gpu_the_limit_on_its_memory_holds() -> None:
    cfg = load_config("configs/tsn_tiny.py", changes={"pretrained": {"weights": "none"}})
    roomy = largest_batch(TrainingStep(cfg, "cuda:0").fits, 32)
    tight = largest_batch(TrainingStep(cfg, "cuda:0", memory_bytes=2 << 30).fits, 32)
    assert 1 <= tight <= roomy


def test_the_first_video_that_can_be_read(toy_dataset: Path) -> None:
    with pytest.raises(UserError, match="none of the first training videos can be read"):
        TrainingStep(load_tiny(toy_dataset, weights="none"), "cpu")  # its files are empty
