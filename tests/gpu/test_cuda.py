"""What this project does on a CUDA device alone; skipped where there is none."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import ROOT

from benchmarks import small_job as job
from mmact_tiny import evaluate
from mmact_tiny.checkpoints.load import load_checkpoint
from mmact_tiny.config import load_config
from mmact_tiny.engine.engine import exact_convolutions
from mmact_tiny.overrides import batch_size
from mmact_tiny.recognizer import Recognizer
from mmact_tiny.train import train

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]


ENVIRON = {
    **os.environ,
    "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
}


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return job.write_job(tmp_path_factory.mktemp("job"))


@pytest.fixture(scope="module")
def run_dir(config: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of one epoch in the GPU's fastest precision."""
    work_dir = tmp_path_factory.mktemp("run")
    run(config, work_dir, precision="auto", epochs=1)
    return work_dir


def run(config: Path, work_dir: Path, precision: str, epochs: int, **changes: Any) -> Any:
    changes |= {"schedule": {"max_epochs": epochs}, "hardware": {"precision": precision}}
    return train(load_config(config, changes={**changes, "run": {"work_dir": str(work_dir)}}))


def weights_of(work_dir: Path, epoch: int) -> dict[str, torch.Tensor]:
    return load_checkpoint(work_dir / f"epoch_{epoch}.pth")["state_dict"]


@pytest.mark.parametrize(
    ("precision", "dtype", "scaled"),
    [("fp32", None, False), ("bf16", torch.bfloat16, False), ("fp16", torch.float16, True)],
)
def test_training_in_each_precision(
    precision: str, dtype: torch.dtype | None, scaled: bool, config: Path, tmp_path: Path
) -> None:
    seen: list[torch.dtype] = []

    def note(module: Any, inputs: Any, output: Any) -> None:
        if isinstance(module, torch.nn.Conv2d) and module.training:
            seen.append(output.dtype)

    with torch.nn.modules.module.register_module_forward_hook(note):
        runner = run(config, tmp_path, precision, epochs=1)
    assert set(seen) == {dtype or torch.float32}
    scaler = getattr(runner.optim_wrapper, "loss_scaler", None)
    assert (scaler is not None and scaler.is_enabled() and scaler.get_scale() > 1) or not scaled
    assert np.isfinite(runner.message_hub.get_scalar("train/loss").current())
    assert next(runner.model.parameters()).device.type == "cuda"
    assert all(w.isfinite().all() for w in weights_of(tmp_path, 1).values())


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_a_resumed_run_ends_as_one_that_was_not_stopped(
    precision: str, config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Deterministic algorithms: cuDNN's fastest add up in another order from run to run."""
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    changes = {"hardware": {"precision": precision}}
    ends = {"whole": [3], "resumed": [2, 3]}
    for name, stops in ends.items():
        folder = str(tmp_path / name)
        for epochs in stops:
            pretrained = {"resume": epochs != stops[0] or None, "work_dir": folder}
            cfg = load_config(
                config,
                changes={
                    **changes,
                    "pretrained": pretrained,
                    "run": {"work_dir": folder, "deterministic": True},
                },
                options={"train_cfg.max_epochs": epochs},
            )
            train(cfg)
    torch.use_deterministic_algorithms(False)
    torch.backends.cudnn.deterministic = False
    whole, resumed = (weights_of(tmp_path / name, 3) for name in ends)
    assert job.differences(whole, resumed) == []


def test_the_fp32_test_is_the_cpus_within_rounding(run_dir: Path, tmp_path: Path) -> None:
    """With TF32 the scores would differ in the third or fourth digit."""
    out = tmp_path / "cpu.json"
    command = [sys.executable, "tools/test.py", "--work-dir", str(run_dir), "--device", "cpu"]
    command += ["--engine", "torch", "--out", str(out)]
    subprocess.run(command, check=True, env=ENVIRON, cwd=ROOT)
    cpu = [row["scores"] for row in json.loads(out.read_text())["videos"]]
    cuda = [row["scores"] for row in evaluate.test(work_dir=run_dir).rows]
    assert np.abs(np.array(cuda) - np.array(cpu)).max() < 1e-5


def test_exact_convolutions_do_not_round_to_tf32() -> None:
    torch.manual_seed(0)
    images = torch.randn(8, 64, 56, 56, device="cuda")
    kernel = torch.randn(64, 64, 3, 3, device="cuda")
    exact = torch.nn.functional.conv2d(images.double(), kernel.double())

    def error(is_exact: bool) -> float:
        with exact_convolutions(is_exact):
            found = torch.nn.functional.conv2d(images, kernel)
        return float((found - exact).abs().max() / exact.abs().max())

    assert error(True) < 1e-6
    if torch.cuda.get_device_capability() >= (8, 0):
        assert error(False) > 1e-5  # it has TF32, so the limit above says something


def test_infer_gives_the_scores_of_the_test(run_dir: Path) -> None:
    (first, *_) = evaluate.test(work_dir=run_dir).rows
    recognizer = Recognizer(next(run_dir.glob("best_*.pth")))
    assert np.abs(recognizer.scores(first["video"]) - np.array(first["scores"])).max() < 1e-5
    fast = Recognizer(next(run_dir.glob("best_*.pth")), precision="auto")
    assert np.abs(fast.scores(first["video"]) - np.array(first["scores"])).max() < 0.02


def test_views_are_copied_from_pinned_memory(
    run_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copies: list[tuple[bool, bool]] = []
    to = torch.Tensor.to

    def noted(self: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        if self.dtype == torch.uint8 and self.device.type == "cpu":
            copies.append((self.is_pinned(), kwargs.get("non_blocking", False)))
        return to(self, *args, **kwargs)

    monkeypatch.setattr(torch.Tensor, "to", noted)
    recognizer = Recognizer(next(run_dir.glob("best_*.pth")))
    video = next((Path(recognizer.cfg.test_dataloader.dataset.data_prefix.video)).glob("*.mp4"))
    recognizer.scores(video)
    assert copies and set(copies) == {(True, True)}


def test_the_loader_pins_what_it_hands_on(config: Path, tmp_path: Path) -> None:
    changes = {"run": {"work_dir": str(tmp_path)}}
    cfg = load_config(config, changes=changes)
    assert cfg.train_dataloader.pin_memory is True
    assert cfg.env_cfg.dist_cfg.backend == "nccl"


def test_nccl_on_one_gpu(config: Path, tmp_path: Path) -> None:
    """The whole of a job of several processes, but for the other processes."""
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=1"]
    command += ["--standalone", "tools/train.py", str(config), "--launcher", "pytorch"]
    command += ["--work-dir", str(tmp_path), "--epochs", "1", "--precision", "auto"]
    done = subprocess.run(
        command,
        cwd=ROOT,
        env=ENVIRON,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:]
    assert all(w.isfinite().all() for w in weights_of(tmp_path, 1).values())


def test_a_full_memory_ends_the_search_for_the_batch_not_the_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The allocator is given so little that PyTorch itself runs out of memory."""
    cfg = load_config("configs/tsn_tiny.py", changes={"pretrained": {"weights": "none"}})
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.empty_cache()
    room = torch.cuda.memory_reserved() + (3 << 30)
    full: list[int] = []
    step = batch_size.TrainingStep._run

    def noted(self: batch_size.TrainingStep, size: int) -> None:
        try:
            step(self, size)
        except torch.OutOfMemoryError:
            full.append(size)
            raise

    monkeypatch.setattr(batch_size.TrainingStep, "_run", noted)
    torch.cuda.set_per_process_memory_fraction(min(1.0, room / total))
    try:
        found = batch_size.largest_batch(batch_size.TrainingStep(cfg, "cuda:0").fits, 512)
        assert full == [2 * found]
        assert batch_size.TrainingStep(cfg, "cuda:0").fits(1), "what was taken came back"
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
