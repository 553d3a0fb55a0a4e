"""A run that version 0.1.0 wrote, and its dumps: today's tools go on from them.

`tests/support/run_0_1_0/README.md` says how the files were made.
"""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import warm

from mmact_tiny.errors import EXIT_OK
from tools import infer, report, test, train

OLD = Path(__file__).resolve().parent.parent / "support" / "run_0_1_0"
ALL_PLUGINS = OLD / "dump_all_plugins.py"
LABELS = ["bouncing ball", "falling rain", "rising bubbles", "waving flag"]
FLAG = "data/tiny/val/waving_flag1.mp4"
FLAG_SCORES = [0.2617265284, 0.2391358912, 0.2269617766, 0.2721757591]

# What 0.1.0 wrote into a dump's `custom_imports`, and what those modules register.
OLD_MODULES = [
    *("initialization", "transforms", "metrics", "packets", "engine_hook", "checkpoint_hooks"),
    *("resume", "stopping", "guarded_loader", "precision", "timing_hook", "tracking", "balance"),
]
REGISTERED = {
    "HOOKS": [
        *("ZeroInitResidualHook", "EngineHook", "WeightsHook", "SafeCheckpointHook"),
        *("ValidatedHook", "ResumeHook", "LossHook", "StopHook", "DataGuardHook"),
        *("PrecisionHook", "TimingHook"),
    ],
    "TRANSFORMS": ["CachedVideo", "ClipInit", "PacketInit", "PacketDecode"],
    "METRICS": ["VideoScores"],
    "DATASETS": ["BalancedVideos"],
    "OPTIM_WRAPPERS": ["CpuAmpOptimWrapper"],
    "VISBACKENDS": ["WandbConfigBackend"],
}
LOADERS = {
    "ours": "from mmact_tiny.config import load_config; cfg = load_config(path)",
    "stock": (
        "from mmact_tiny import compat; compat.repair()\n"
        "from mmengine.config import Config; cfg = Config.fromfile(path)"
    ),
}


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    """A copy of the work directory, elsewhere than it was written."""
    return Path(shutil.copytree(OLD / "small", tmp_path / "work_dirs" / "small"))


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Returns all that a checkpoint holds; the file is one of these tests' own."""
    return torch.load(path, weights_only=False)


def test_testing_gives_the_scores_that_0_1_0_gave(run_dir):
    results = run_dir / "test" / "results.json"
    old = json.loads(results.read_text())
    results.unlink()
    assert test.main(["--work-dir", str(run_dir), "--device", "cpu"]) == EXIT_OK
    new = json.loads(results.read_text())
    assert len(new["videos"]) == 16
    assert [row["video"] for row in new["videos"]] == [row["video"] for row in old["videos"]]
    for now, then in zip(new["videos"], old["videos"], strict=True):
        assert now["label"] == then["label"]
        assert now["scores"] == pytest.approx(then["scores"], rel=0, abs=1e-5), now["video"]
    scores = {row["video"]: row["scores"] for row in new["videos"]}
    assert scores[FLAG] == pytest.approx(FLAG_SCORES, rel=0, abs=1e-5)
    assert new["classes"] == LABELS
    assert Path(new["checkpoint"]).name == "best_acc_top1_epoch_1.pth"
    assert new["checkpoint_sha256"] == old["checkpoint_sha256"]
    assert new["protocol"] == (
        "full: 25 clips x 10 crops = 250 views a video, clips of 1 frame(s), interval 1, "
        "short side 37, crop 32"
    )
    assert [accuracy["counts"] for accuracy in new["accuracies"]] == [
        "4 of 16 videos",
        "16 of 16 videos",
        "1/4, 0/4, 0/4, 3/4 by class",
    ]


def test_inference_answers_as_0_1_0_did(run_dir, capsys):
    checkpoint = str(run_dir / "best_acc_top1_epoch_1.pth")
    assert infer.main([FLAG, "--checkpoint", checkpoint, "--device", "cpu"]) == EXIT_OK
    printed = capsys.readouterr().out
    answers = re.findall(r"^([a-z ]+): (0\.\d+)$", printed, flags=re.MULTILINE)
    assert [label for label, _ in answers] == [LABELS[place] for place in (3, 0, 1, 2)]
    scores = [float(score) for _, score in answers]
    assert scores == pytest.approx(sorted(FLAG_SCORES, reverse=True), rel=0, abs=1e-5)


def test_training_goes_on_for_another_epoch(run_dir, capsys):
    flags = ["--work-dir", str(run_dir), "--resume", "--epochs", "3", "--device", "cpu"]
    assert train.main([str(run_dir / "small.py"), *flags]) == EXIT_OK
    printed = capsys.readouterr().out
    assert f"64 of 64 tensors loaded from {run_dir / 'epoch_2.pth'}" in printed
    assert "epoch 1/3" not in printed
    assert "epoch 3/3  loss " in printed
    checkpoint = read_checkpoint(run_dir / "epoch_3.pth")
    assert (checkpoint["meta"]["epoch"], checkpoint["meta"]["iter"]) == (3, 15)
    assert (run_dir / "last_checkpoint").read_text() == str(run_dir / "epoch_3.pth")
    newest = max(run_dir.glob("*/vis_data/scalars.json"))  # the folders are named by time
    rows = [json.loads(line) for line in newest.read_text().splitlines()]
    losses = {row["iter"]: row["loss"] for row in rows if "loss" in row}
    assert list(losses) == [5, 10, 15], "the log goes on from the one of 0.1.0"
    assert losses[5] == 1.4861055850982665
    (run,) = json.loads((run_dir / "report.json").read_text())["runs"]
    assert [(start["log"], start["resumed"]) for start in run["starts"]] == [
        ("20261126_000712", False),
        (newest.parent.parent.name, True),
    ]


def test_a_checkpoint_within_an_epoch_leads_to_the_same_weights(tmp_path, capsys):
    """Batch 3 of 5 is next: what 0.1.0 went on to is `epoch_2.pth`."""
    flags = ["--resume", str(OLD / "iter_7.pth"), "--device", "cpu"]
    flags += ["--work-dir", str(tmp_path / "again")]
    assert train.main([str(OLD / "small" / "small.py"), *flags]) == EXIT_OK
    assert "epoch 2/2  loss 1.3" in capsys.readouterr().out
    now = read_checkpoint(tmp_path / "again" / "epoch_2.pth")
    then = read_checkpoint(OLD / "small" / "epoch_2.pth")
    assert (now["meta"]["epoch"], now["meta"]["iter"]) == (2, 10)
    assert now["state_dict"].keys() == then["state_dict"].keys()
    for name, weights in then["state_dict"].items():
        assert torch.allclose(now["state_dict"][name], weights, rtol=0, atol=1e-4), name


def test_the_report_tells_of_the_run(run_dir):
    assert report.main([str(run_dir)]) == EXIT_OK
    (run,) = json.loads((run_dir / "report.json").read_text())["runs"]
    (start,) = run["starts"]
    assert start["command"] == (
        "python tools/train.py configs/small.py --pretrained none --work-dir work_dirs/small "
        "--epochs 2 --checkpoint-every 7 --precision fp32 --device cpu"
    )
    assert start["packages"]["mmact-tiny"] == "0.1.0"
    assert [row["acc/top1"] for row in run["log"]["val"]] == [0.3125, 0.25]
    assert [row["epoch"] for row in run["timing"]["epochs"]] == [1, 2]
    assert run["checkpoint"]["name"] == "best_acc_top1_epoch_1.pth"
    assert run["test"]["checkpoint_sha256"] == run["checkpoint"]["sha256"]
    assert run["test"]["accuracies"][0]["value"] == 0.25
    assert [row["right"] for row in run["test"]["by_class"]] == [1, 0, 0, 3]
    assert run["test"]["wrong"][0]["video"] == "data/tiny/val/falling_rain1.mp4"
    page = (run_dir / "report.html").read_text()
    assert page.count('<img src="data:image/jpeg') == 96  # 8 frames of each of 12 videos


@pytest.mark.parametrize("loader", ["ours", "stock"])
def test_a_dump_with_every_old_module_name_loads(loader):
    """In a process of its own: what it registers, the dump's imports have registered."""
    listed = re.findall(r"'mmact_tiny\.(\w+)',", ALL_PLUGINS.read_text())
    assert listed == OLD_MODULES
    script = (
        "import json, sys; path = sys.argv[1]\n"
        f"{LOADERS[loader]}\n"
        "import mmaction.registry as registries\n"
        "found = {kind: [name for name in names if getattr(registries, kind).get(name)]\n"
        "         for kind, names in json.loads(sys.argv[2]).items()}\n"
        "print(json.dumps([found, cfg.train_dataloader.dataset.type, cfg.custom_hooks]))\n"
    )
    printed = warm.run("-c", script, ALL_PLUGINS, json.dumps(REGISTERED))
    found, dataset, hooks = json.loads(printed.splitlines()[-1])
    assert found == REGISTERED
    assert dataset == "BalancedVideos"
    assert dict(type="EngineHook", engine="openvino", precision="int8") in hooks
