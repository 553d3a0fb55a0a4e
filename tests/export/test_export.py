"""`tools/export.py`: what it writes is read by training, testing and inference, with the scores."""

import json
import os
import shutil
from pathlib import Path
from types import ModuleType
from typing import IO, Any

import pytest
from hostile_checkpoints import CANARY, HOSTILE

from benchmarks import small_job as job
from mmact_tiny.checkpoints import load
from mmact_tiny.checkpoints.load import load_checkpoint
from mmact_tiny.errors import EXIT_ERROR, EXIT_OK
from tools import export, infer, test, train


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The work directory of a short run, beside its config and data."""
    import torch

    import mmact_tiny.train  # noqa: F401  before the fork

    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("job")
    process = job.start(job.write_job(folder), folder / "run", {"schedule": {"max_epochs": 1}})
    process.join()
    assert process.exitcode == 0, (folder / "run" / "output.txt").read_text()[-3000:]
    return folder / "run"


@pytest.fixture(scope="module")
def best(run_dir: Path) -> Path:
    return next(run_dir.glob("best_*.pth"))


@pytest.fixture(scope="module")
def exported(run_dir: Path, best: Path) -> Path:
    out = run_dir.parent / "shared" / "model.safetensors"
    assert export.main([str(best), "--out", str(out)]) == EXIT_OK
    return out


def test_it_says_what_it_wrote_and_what_is_next(
    best: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "m.safetensors"
    out.write_text("an older one")
    assert export.main([str(best), "--out", str(out)]) == EXIT_OK
    weights = load_checkpoint(best)["state_dict"]
    size = out.stat().st_size / 1e6
    assert capsys.readouterr().out == (
        f"written: {out}\n"
        f"  {len(weights)} tensors, {size:.1f} MB, 2 classes, its config\n"
        f"next: python tools/infer.py VIDEO --checkpoint {out}\n"
    )
    assert [path.name for path in tmp_path.iterdir()] == ["m.safetensors"]


def test_the_newest_runs_best_is_exported_beside_it(
    run_dir: Path, best: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert export.main([]) == EXIT_ERROR
    shutil.copytree(run_dir, tmp_path / "work_dirs" / "job")
    assert export.main([]) == EXIT_OK
    (out,) = Path("work_dirs", "job").glob("*.safetensors")
    assert out.stem == best.stem


def test_testing_and_inference_give_the_same_scores(
    run_dir: Path, best: Path, exported: Path, tmp_path: Path
) -> None:
    """The file alone, moved away from its run, is all that inference needs."""
    config, work_dir = str(run_dir.parent / "job.py"), str(run_dir)
    video = str(run_dir.parent / "data" / "val" / "0.mp4")
    tested, answers = [], []
    for number, checkpoint in enumerate((best, exported)):
        out = tmp_path / f"{number}.json"
        arguments = [config, str(checkpoint), "--work-dir", work_dir, "--protocol", "val"]
        assert test.main([*arguments, "--device", "cpu", "--out", str(out)]) == EXIT_OK
        tested.append([row["scores"] for row in json.loads(out.read_text())["videos"]])
        flags = ["--protocol", "val", "--engine", "torch", "--device", "cpu", "--out", str(out)]
        assert infer.main([video, "--checkpoint", str(checkpoint), *flags]) == EXIT_OK
        answers.append(json.loads(out.read_text())[0]["predictions"])
    assert tested[0] == tested[1] and len(tested[0]) == 4
    assert answers[0] == answers[1]
    assert {answer["label"] for answer in answers[0]} == {"red", "white"}


@pytest.mark.parametrize("tool", [test, train])
def test_the_tensors_of_a_checkpoint_are_loaded_once(
    tool: ModuleType, run_dir: Path, best: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the Runner, in a test and in a resume; what the tools ask before leaves them alone."""
    folder = Path(shutil.copytree(run_dir, tmp_path / "run"))
    names = {path.stat().st_ino: path.name for path in folder.glob("*.pth")}
    loaded, stock_load = [], load._torch_load

    def count(file: IO[bytes], map_location: Any) -> Any:
        loaded.append(names[os.fstat(file.fileno()).st_ino])
        return stock_load(file, map_location)

    monkeypatch.setattr(load, "_torch_load", count)
    flags = {test: ["--protocol", "val"], train: ["--resume", "--epochs", "1"]}[tool]
    config = str(run_dir.parent / "job.py")
    assert tool.main([config, "--work-dir", str(folder), "--device", "cpu", *flags]) == EXIT_OK
    assert loaded == [{test: best.name, train: "epoch_1.pth"}[tool]]


def test_training_starts_from_it(
    run_dir: Path, exported: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """At a learning rate of 0 the weights stay those of the file."""
    arguments = [str(run_dir.parent / "job.py"), "--pretrained", str(exported), "--epochs", "1"]
    options = ["--device", "cpu", "--cfg-options", "optim_wrapper.optimizer.lr=0.0"]
    work_dir = ["--work-dir", str(tmp_path / "run")]
    assert train.main([*arguments, *work_dir, *options]) == EXIT_OK
    assert f"weights: {exported}" in capsys.readouterr().out
    (checkpoint,) = (tmp_path / "run").glob("epoch_1.pth")
    before, after = load_checkpoint(exported), load_checkpoint(checkpoint)
    weights = [name for name in before["state_dict"] if name.endswith(".weight")]
    assert weights
    for name in weights:
        assert before["state_dict"][name].equal(after["state_dict"][name]), name


def test_a_run_is_not_resumed_from_it(
    run_dir: Path, exported: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [str(run_dir.parent / "job.py"), "--work-dir", str(tmp_path), "--device", "cpu"]
    assert train.main([*arguments, "--resume", str(exported)]) == EXIT_ERROR
    assert "it has no message_hub, optimizer" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("checkpoint", "out", "reason"),
    [
        ("in.safetensors", "model.pth", "expected a name that ends in .safetensors"),
        ("in.safetensors", "folder.safetensors", "is a folder: name a file in it"),
        ("in.safetensors", "in.safetensors", "is the checkpoint itself: choose another name"),
        ("in.safetensors", "link.safetensors", "is the checkpoint itself: choose another name"),
        ("in.safetensors", "file/model.safetensors", "cannot write "),
        *((case, "x.safetensors", case) for case in ("system", "declared size", "cut zip", "text")),
    ],
)
def test_what_it_refuses(
    exported: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    checkpoint: str,
    out: str,
    reason: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    if checkpoint in HOSTILE:
        Path(checkpoint).write_bytes(HOSTILE[checkpoint][0])
    Path("in.safetensors").write_bytes(exported.read_bytes())
    Path("link.safetensors").symlink_to("in.safetensors")
    Path("folder.safetensors").mkdir()
    Path("file").touch()
    before = sorted(Path().iterdir())
    assert export.main([checkpoint, "--out", out]) == EXIT_ERROR
    error = capsys.readouterr().err
    assert reason in error and error.count("\n") == 1
    assert Path("in.safetensors").read_bytes() == exported.read_bytes()
    assert sorted(Path().iterdir()) == before and not Path(CANARY).exists()
