"""Runs that fine-tune: real processes, interrupted and resumed, and what they write."""

import json
import signal
from pathlib import Path
from typing import Any

import pytest
from jobs import output, run, with_hook, with_lines

from benchmarks import small_job as job
from mmact_tiny.build import build_model
from mmact_tiny.checkpoints.load import load_checkpoint
from mmact_tiny.engine.engine import Engine
from mmact_tiny.hooks.finetune import add_adapters, split_adapters
from mmact_tiny.recognizer import Recognizer
from mmact_tiny.runs import newest_checkpoint

NO_PROGRESS: dict[str, Any] = {"checkpoints": {"every": None}}
TRANSFORMER = """
model = dict(
    _delete_=True,
    type="Recognizer3D",
    backbone=dict(
        type="VisionTransformer",
        **dict(img_size=32, patch_size=16, embed_dims=48, depth=2, num_heads=4, num_frames=4),
    ),
    cls_head=dict(type="TimeSformerHead", num_classes=2, in_channels=48, average_clips="prob"),
    data_preprocessor=dict(
        type="ActionDataPreprocessor", mean=[128.0] * 3, std=[60.0] * 3, format_shape="NCTHW"
    ),
)
"""
SCHEDULES = {  # and the rates of epochs 3 and 4 of 4, iteration by iteration
    "steps": ("", [7.8125e-4] * 4 + [7.8125e-5] * 4),
    "cosine": (
        "param_scheduler = [\n"
        "    dict(type='LinearLR', start_factor=0.5, by_epoch=False, begin=0, end=3),\n"
        "    dict(type='CosineAnnealingLR', T_max=100, by_epoch=True, begin=0, end=100,\n"
        "         convert_to_iter_based=True),\n"
        "]",
        None,
    ),
}


@pytest.fixture(scope="module")
def transformer(config: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The config of a small transformer on the same clips."""
    text = config.read_text().replace("NCHW", "NCTHW").replace("num_clips=2", "num_clips=1")
    head, model = text.replace("clip_len=1", "clip_len=4").split("model = dict(\n")
    path = tmp_path_factory.mktemp("transformer") / "job.py"
    path.write_text(head + TRANSFORMER + model.partition("\n)\n")[2])
    return path


@pytest.fixture(scope="module")
def weights(transformer: Path) -> Path:
    """A checkpoint of it, for adapters to begin with."""
    changes = {"schedule": {"max_epochs": 1}}
    return run(transformer, transformer.with_name("first"), changes) / "epoch_1.pth"


def rates(work_dir: Path) -> dict[int, float]:
    """Returns the learning rate of each iteration, as the newest log has it."""
    log = sorted(work_dir.glob("*/vis_data/scalars.json"))[-1]
    lines = map(json.loads, log.read_text().splitlines())
    return {line["step"]: line["lr"] for line in lines if "lr" in line}


def test_adapters_with_an_average_resume_identically(
    transformer: Path, weights: Path, tmp_path: Path
) -> None:
    """Interrupted in the second epoch; the checkpoints hold an ordinary recognizer."""
    tuned = {
        **NO_PROGRESS,
        "lora": {"rank": 2},
        "ema": {"momentum": 0.2},
        "batch_size": {"train": 4},
    }

    def changes(folder: str) -> dict[str, Any]:
        where = {"resume": True, "work_dir": str(tmp_path / folder)}
        return {**tuned, "pretrained": {"weights": str(weights), **where}}

    expected = job.outcome(run(transformer, tmp_path / "undisturbed", changes("undisturbed")))
    marker = str(tmp_path / "sent")
    number = int(signal.SIGTERM)
    hook = f"dict(type='SignalInIteration', iteration=6, number={number}, marker={marker!r})"
    work_dir, signalling = tmp_path / "run", with_hook(transformer, tmp_path, hook)
    run(signalling, work_dir, changes("run"), status=143)
    run(signalling, work_dir, changes("run"))
    assert job.differences(expected, job.outcome(work_dir)) == []
    text = output(work_dir)
    assert "adapters in the attention of VisionTransformer: rank 2, alpha 16" in text
    before, after = load_checkpoint(weights), load_checkpoint(tmp_path / "run/epoch_3.pth")
    assert {*after["state_dict"]} == {*before["state_dict"]}
    kept = {key: "attn.qkv" in key or "attn.proj.weight" in key for key in after["state_dict"]}
    for key, value in after["state_dict"].items():
        is_equal = bool((value == before["state_dict"][key]).all())
        assert is_equal is not (kept[key] or key.startswith("cls_head."))


def test_adapters_learn_and_are_exported(transformer: Path, weights: Path, tmp_path: Path) -> None:
    """The sum that checkpoints and exports hold gives the scores of the adapters beside weights."""
    changes: dict[str, Any] = {
        **NO_PROGRESS,
        "pretrained": {"weights": str(weights)},
        "lora": {"rank": 2},
        "layer_decay": {"factor": 0.5},
        "learning_rate": {"lr": 0.08, "scale": False},
        "schedule": {"max_epochs": 8},
    }
    work_dir = run(transformer, tmp_path / "run", changes)
    losses = job.outcome(work_dir)["losses"]
    assert sum(losses[-4:]) < 0.7 * sum(losses[:4])
    last = work_dir / "epoch_8.pth"
    checkpoint = load_checkpoint(last)
    begun = {group["initial_lr"] for group in checkpoint["optimizer"]["param_groups"]}
    assert begun == {0.08, 0.04, 0.02, 0.01}, "head, second block, first block, patches"
    apart, merged = (Recognizer(last, protocol="val", engine="torch") for _ in range(2))
    model = build_model(apart.cfg)
    add_adapters(model, rank=2, alpha=16)
    split_adapters(checkpoint)
    model.load_state_dict(checkpoint["state_dict"])
    apart.engine = Engine(model.eval(), precision="fp32", engine="torch")
    export = pytest.importorskip("mmact_tiny.export.safetensors")
    exported = export.export_safetensors(last, tmp_path / "tuned.safetensors").path
    handed_on, before = (
        Recognizer(path, protocol="val", engine="torch") for path in (exported, weights)
    )
    videos = sorted(Path(apart.cfg.val_dataloader.dataset.data_prefix.video).glob("*.mp4"))
    for video in videos:
        expected = apart.scores(video)
        assert merged.scores(video) == pytest.approx(expected, abs=1e-5)
        assert handed_on.scores(video) == pytest.approx(expected, abs=1e-5)
        assert before.scores(video) != pytest.approx(expected, abs=1e-2)


def test_adapters_in_two_processes(transformer: Path, weights: Path, tmp_path: Path) -> None:
    """They begin alike, and no process waits for the gradients of what is frozen."""
    changes = {**NO_PROGRESS, "lora": {"rank": 2}, "schedule": {"max_epochs": 1}}
    changes["pretrained"] = {"weights": str(weights)}
    processes = job.start_ranks(transformer, tmp_path / "run", changes, 2)
    for process in processes:
        process.join(300)
    assert [process.exitcode for process in processes] == [0, 0], output(tmp_path / "run")
    assert "find_unused_parameters" not in output(tmp_path / "run")


@pytest.mark.parametrize("num_processes", [1, 2])
def test_a_frozen_backbone_waits_for_no_gradient(
    num_processes: int, config: Path, tmp_path: Path
) -> None:
    changes = {**NO_PROGRESS, "freeze": {"parts": "backbone"}, "schedule": {"max_epochs": 2}}
    processes = job.start_ranks(config, tmp_path / "run", changes, num_processes)
    for process in processes:
        process.join(300)
    text = output(tmp_path / "run")
    assert [process.exitcode for process in processes] == [0] * num_processes, text
    assert "find_unused_parameters" not in text
    assert "trained: 258 of " in text  # the head's 2 x 128 weights and 2 biases
    first, last = (load_checkpoint(tmp_path / f"run/epoch_{n}.pth")["state_dict"] for n in (1, 2))
    changed = {key for key in first if not (first[key] == last[key]).all()}
    assert changed == {"cls_head.fc_cls.weight", "cls_head.fc_cls.bias"}


def test_an_interrupted_run_stops_as_early_as_undisturbed(config: Path, tmp_path: Path) -> None:
    changes = {**NO_PROGRESS, "early_stop": {"patience": 2}, "schedule": {"max_epochs": 12}}
    expected = job.outcome(run(config, tmp_path / "undisturbed", changes))
    last = int(expected["name"].removeprefix("epoch_").removesuffix(".pth"))
    assert 3 <= last < 12
    accuracies = [line["acc/top1"] for line in expected["log"] if "acc/top1" in line]
    best = accuracies.index(max(accuracies)) + 1
    assert last == len(accuracies) == best + 2
    marker, iteration = str(tmp_path / "sent"), 4 * (last - 1) + 1  # in the last epoch
    number = int(signal.SIGTERM)
    hook = f"dict(type='SignalInIteration', iteration={iteration}, number={number}, "
    signalling = with_hook(config, tmp_path, f"{hook}marker={marker!r})")
    work_dir = run(signalling, tmp_path / "run", changes, status=143)
    run(signalling, work_dir, changes)
    assert job.differences(expected, job.outcome(work_dir)) == []


@pytest.mark.parametrize("name", SCHEDULES)
def test_more_epochs_have_the_rates_of_a_run_of_so_many(
    name: str, config: Path, tmp_path: Path
) -> None:
    """The third epoch begins where a run of four has it; a second resume goes on from there."""
    line, literal = SCHEDULES[name]
    scheduled = with_lines(config, tmp_path, line)
    four, two = ({**NO_PROGRESS, "schedule": {"max_epochs": count}} for count in (4, 2))
    expected = rates(run(scheduled, tmp_path / "four", four))
    work_dir = run(scheduled, tmp_path / "run", two)
    assert rates(work_dir) != {step: rate for step, rate in expected.items() if step <= 8}
    run(scheduled, work_dir, four)
    assert "resumed for 4 epochs: from here on the rates of such a run" in output(work_dir)
    assert "resumed with the checkpoint's, not the config's" not in output(work_dir)
    found = rates(work_dir)
    assert [found[step] for step in range(9, 17)] == [expected[step] for step in range(9, 17)]
    if literal:
        assert [found[step] for step in range(9, 17)] == pytest.approx(literal)
    newest = newest_checkpoint(work_dir)
    assert newest is not None and newest.name == "epoch_4.pth"


def test_weights_of_a_run_with_another_size_or_optimizer_are_told(
    config: Path, tmp_path: Path
) -> None:
    """And not those of a run that was the same."""
    first = run(config, tmp_path / "first", {"schedule": {"max_epochs": 1}}) / "epoch_1.pth"
    changes = {"pretrained": {"weights": str(first)}, "schedule": {"max_epochs": 1}}
    assert "was trained with" not in output(run(config, tmp_path / "same", changes))
    other = with_lines(config, tmp_path, "optim_wrapper = dict(optimizer=dict(_delete_=True,")
    other.write_text(other.read_text() + " type='AdamW', lr=0.5))\n")
    text = output(run(other, tmp_path / "other", {**changes, "input_size": {"crop": 48}}))
    told = f"*** {first} was trained with 32 pixels and SGD; this run has 48 pixels and AdamW: "
    assert text.count(told) == 1
