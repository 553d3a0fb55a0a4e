"""Wrong configs and flags: one line each, exit status 2, no traceback; --debug shows it."""

from pathlib import Path

import pytest
from conftest import STOCK

from mmact_tiny.errors import EXIT_ERROR, UserError
from tools import infer, test, train

BASE = f'_base_ = ["{STOCK}"]\n'
LISTED = (
    BASE
    + 'overrides = [dict(type="dataset_paths", data_root={data!r}), dict(type={name!r}{rest})]\n'
)
TRAIN_FLAGS = {
    "zero batch": (["--batch-size", "0"], "batch_size train=0: expected 1 or more"),
    "negative batch": (["--batch-size", "-4"], "batch_size train=-4: expected 1 or more"),
    "zero epochs": (["--epochs", "0"], "max_epochs=0: expected 1 or more"),
    "zero checkpoint interval": (
        ["--checkpoint-every", "0"],
        "checkpoints every=0: expected 1 or more",
    ),
    "no such CUDA device": (["--device", "cuda:99"], "--device cuda:99: this machine has"),
    "no such device": (["--device", "tpu"], "--device tpu: expected auto, cpu, cuda or cuda:N"),
    "no such weights": (["--pretrained", "gone.pth"], "no pretrained weights gone.pth"),
    "no such checkpoint": (["--resume", "gone.pth"], "no checkpoint gone.pth to resume from"),
    "no such data": (["--data", "gone"], "no dataset folder gone"),
    "negative seed": (["--seed", "-1"], "randomness.seed=-1: expected 0 to 4294967295"),
    "seed of 33 bits": (["--seed", "4294967296"], "expected 0 to 4294967295"),
    "no digit of ours": (["--device", "cuda:²"], "--device cuda:²: expected auto, cpu, cuda or"),
    "empty work directory": (["--work-dir", ""], "--work-dir '': expected the name of a folder"),
    "null byte": (["--work-dir", "a\0b"], "--work-dir 'a\\x00b': expected the name of a folder"),
    "zero epochs, by key": (
        ["--cfg-options", "train_cfg.max_epochs=0"],
        "max_epochs=0: expected 1",
    ),
    "zero batch, by key": (
        ["--cfg-options", "val_dataloader.batch_size=0"],
        "val_dataloader.batch_size=0: expected 1 or more",
    ),
    "unknown key": (
        ["--cfg-options", "optim_wrapper.optimiser.lr=1"],
        "no key 'optim_wrapper.optimiser'",
    ),
    "wrong type": (
        ["--cfg-options", "train_cfg.max_epochs=ten"],
        "train_cfg.max_epochs='ten': expected int",
    ),
    "not key=value": (["--cfg-options", "lr"], "--cfg-options 'lr': expected key=value"),
    "zero workers asked as text": (
        ["--cfg-options", "train_dataloader.num_workers=two"],
        "train_dataloader.num_workers='two': expected int",
    ),
}


NO_VALUES = {
    "epochs": (["--epochs", "1.5"], "argument --epochs: invalid int value: '1.5'"),
    "endless cache": (["--cache", "--cache-size", "inf"], "argument --cache-size: invalid"),
    "unknown flag": (["--epoch-s", "1"], "unrecognized arguments: --epoch-s 1"),
    "precision": (["--precision", "fp8"], "argument --precision: invalid choice: 'fp8'"),
}


@pytest.mark.parametrize("case", NO_VALUES)
def test_a_flag_that_cannot_be_parsed_is_a_line(case, capsys):
    flags, message = NO_VALUES[case]
    with pytest.raises(SystemExit) as caught:
        train.main(["configs/tsn_tiny.py", *flags])
    assert caught.value.code == EXIT_ERROR
    error = capsys.readouterr().err
    assert error.startswith("error: ") and message in error and error.count("\n") == 1


def error_of(capsys: pytest.CaptureFixture[str]) -> str:
    return capsys.readouterr().err


@pytest.mark.parametrize("case", TRAIN_FLAGS)
def test_a_wrong_flag_of_training(case, toy_dataset, tmp_path, capsys):
    flags, message = TRAIN_FLAGS[case]
    if "--data" not in flags:
        flags = ["--data", str(toy_dataset), *flags]
    arguments = ["configs/tsn_tiny.py", "--work-dir", str(tmp_path / "run"), *flags, "--dry-run"]
    assert train.main(arguments) == EXIT_ERROR
    error = error_of(capsys)
    assert message in error
    assert error.startswith("error: ") and "Traceback" not in error
    with pytest.raises(UserError):
        train.main([*arguments, "--debug"])


CONFIGS = {
    "syntax": ("model = (", "SyntaxError"),
    "no model": ("x = 1", "has no `model`"),
    "no such base": ('_base_ = ["gone.py"]', "gone.py"),
    "raises": ("1 / 0", "ZeroDivisionError"),
    "unknown override": (("batch_sise", ", train=2"), "did you mean 'batch_size'"),
    "unknown argument": (("batch_size", ", trian=2"), "did you mean 'train'"),
    "wrong type": (("batch_size", ", train='two'"), "'two': expected a whole number"),
    "float epochs": (("schedule", ", max_epochs=1.5"), "max_epochs=1.5: expected int"),
    "text epochs": (("schedule", ", max_epochs='ten'"), "max_epochs='ten': expected int"),
    "text rate": (("learning_rate", ", lr='high'"), "lr='high': expected float"),
    "negative rate": (("learning_rate", ", lr=-1"), "lr=-1: expected a positive number"),
    "nan rate": (("learning_rate", ", lr=float('nan')"), "lr=nan: expected a positive number"),
    "negative workers": (("hardware", ", num_workers=-1"), "num_workers=-1: expected 0 or more"),
    "text workers": (("hardware", ", num_workers='2'"), "num_workers='2': expected int"),
    "fraction": (("data_guard", ", max_bad_fraction=2"), "max_bad_fraction=2: expected 0 to 1"),
    "time limit": (("data_guard", ", video_seconds=0"), "video_seconds=0: expected more than 0"),
    "keep": (("checkpoints", ", max_keep=0"), "max_keep=0: expected 1 or more"),
    "labels above the classes": (("classes", ", names=['a', 'b']"), "is not in 0 .. 1"),
    "label map missing": (("classes", ", label_map='gone.txt'"), "cannot read label map gone.txt"),
    "not a dict": ("overrides = [3]", "expected dict(type='name', ...)"),
}


@pytest.mark.parametrize("case", CONFIGS)
def test_a_wrong_config(case, toy_dataset, tmp_path, capsys):
    text, message = CONFIGS[case]
    if isinstance(text, tuple):
        text = LISTED.format(data=str(toy_dataset), name=text[0], rest=text[1])
    elif text.startswith("overrides"):
        text = BASE + text
    config = tmp_path / "wrong.py"
    config.write_text(text)
    arguments = [str(config), "--work-dir", str(tmp_path / "run"), "--device", "cpu"]
    assert train.main(arguments) == EXIT_ERROR
    error = error_of(capsys)
    assert message in error
    assert error.startswith("error: ") and "Traceback" not in error
    assert error.count("\n") <= 25, "one screen"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained recognizer of three classes, as a run would have left it."""
    import torch

    from mmact_tiny import compat

    compat.repair()
    import mmaction.models  # noqa: F401
    from mmaction.registry import MODELS
    from mmengine.config import Config
    from mmengine.registry import init_default_scope

    from benchmarks.small_job import CONFIG

    folder = tmp_path_factory.mktemp("recognizer")
    path = folder / "job.py"
    path.write_text(CONFIG.replace("DATA", "''"))
    cfg = Config.fromfile(path)
    cfg.pop("overrides")
    cfg.model.backbone.pretrained = None
    cfg.model.cls_head.num_classes = 3
    init_default_scope("mmaction")
    meta = dict(cfg=cfg.pretty_text, dataset_meta=dict(classes=["a", "b", "c"]))
    file = folder / "recognizer.pth"
    torch.save(dict(meta=meta, state_dict=MODELS.build(cfg.model).state_dict()), file)
    return file


INFER_FLAGS = {
    "top-k above the classes": (["--top-k", "4"], "--top-k 4: the checkpoint has 3 classes"),
    "top-k 0": (["--top-k", "0"], "--top-k 0: the checkpoint has 3 classes"),
    "top-k negative": (["--top-k", "-1"], "--top-k -1: the checkpoint has 3 classes"),
    "label map too short": (["--label-map", "SHORT"], "has 2 lines; the model has 3 classes"),
    "label map too long": (["--label-map", "LONG"], "has 4 lines; the model has 3 classes"),
    "label map empty": (["--label-map", "EMPTY"], "is empty"),
    "out suffix": (["--out", "x.txt"], "--out x.txt: expected a name that ends in .json"),
    "no such CUDA device": (["--device", "cuda:99"], "--device cuda:99: this machine has"),
}


@pytest.mark.parametrize("case", INFER_FLAGS)
def test_a_wrong_flag_of_inference(case, checkpoint, tmp_path, capsys):
    flags, message = INFER_FLAGS[case]
    maps = {"SHORT": "a\nb\n", "LONG": "a\nb\nc\nd\n", "EMPTY": ""}
    for name, text in maps.items():
        (tmp_path / name).write_text(text)
    flags = [str(tmp_path / flag) if flag in maps else flag for flag in flags]
    video = tmp_path / "clip.mp4"
    video.touch()
    status = infer.main([str(video), "--checkpoint", str(checkpoint), *flags])
    error = error_of(capsys)
    assert status == EXIT_ERROR
    assert message in error
    assert error.startswith("error: ") and error.count("\n") == 1


TEST_FLAGS = {
    "no run": (["--work-dir", "gone"], "no checkpoint in gone"),
    "no config": (["gone.py", "gone.pth"], "no config gone.py"),
    "no checkpoint": (["configs/tsn_tiny.py", "gone.pth"], "gone.pth"),
    "no such CUDA device": (["--device", "cuda:99"], "--device cuda:99: this machine has"),
}


@pytest.mark.parametrize("case", TEST_FLAGS)
def test_a_wrong_flag_of_testing(case, toy_dataset, capsys):
    flags, message = TEST_FLAGS[case]
    assert test.main([*flags, "--data", str(toy_dataset)]) == EXIT_ERROR
    error = error_of(capsys)
    assert message in error
    assert error.startswith("error: ") and "Traceback" not in error
