"""Wrong configs and flags: one line each, exit status 2, no traceback; --debug shows it."""

import shlex
from pathlib import Path

import pytest
from conftest import STOCK

from mmact_tiny.errors import EXIT_ERROR, UserError
from mmact_tiny.hooks.processes import start_processes
from tools import infer, test, train

BASE = f'_base_ = ["{STOCK}"]\n'
LISTED = (
    BASE
    + 'overrides = [dict(type="dataset_paths", data_root={data!r}), dict(type={name!r}{rest})]\n'
)
TRAIN_FLAGS = {
    "--batch-size 0": "batch_size train=0: expected 1 or more",
    "--batch-size -4": "batch_size train=-4: expected 1 or more",
    "--epochs 0": "max_epochs=0: expected 1 or more",
    "--checkpoint-every 0": "checkpoints every=0: expected 1 or more",
    "--device cuda:99": "--device cuda:99: this machine has",
    "--device tpu": "--device tpu: expected auto, cpu, cuda, cuda:N or mps",
    "--device mps": "--device mps: it infers only; train and test with auto, cpu or cuda",
    "--device cuda:²": "--device cuda:²: expected auto, cpu, cuda, cuda:N or",  # no digit of ours
    "--pretrained gone.pth": "no pretrained weights gone.pth",
    "--resume gone.pth": "no checkpoint gone.pth to resume from",
    "--data gone": "no dataset folder gone",
    "--seed -1": "randomness.seed=-1: expected 0 to 4294967295",
    "--seed 4294967296": "expected 0 to 4294967295",
    "--work-dir ''": "--work-dir '': expected the name of a folder",
    "--work-dir a\0b": "--work-dir 'a\\x00b': expected the name of a folder",
    "--work-dir README.md": "--work-dir 'README.md': expected the name of a folder",
    "--track ''": "--track : no such tracker; known: mlflow, tensorboard, wandb",
    "--cfg-options train_cfg.max_epochs=0": "max_epochs=0: expected 1",
    "--cfg-options val_dataloader.batch_size=0": "val_dataloader.batch_size=0: expected 1 or more",
    "--cfg-options optim_wrapper.optimiser.lr=1": "no key 'optim_wrapper.optimiser'",
    "--cfg-options train_cfg.max_epochs=ten": "train_cfg.max_epochs='ten': expected int",
    "--cfg-options lr": "--cfg-options 'lr': expected key=value",
    "--cfg-options train_dataloader.num_workers=two": (
        "train_dataloader.num_workers='two': expected int"
    ),
}
NO_VALUES = {
    "--epochs 1.5": "argument --epochs: invalid int value: '1.5'",
    "--epoch-s 1": "unrecognized arguments: --epoch-s 1",
    "--precision fp8": "argument --precision: invalid choice: 'fp8'",
    "--cache tiny": "argument --cache: invalid choice: 'tiny'",
    "--cache-size 1G": "--cache-size bounds the cache of --cache",
    **{
        f"--cache --cache-size {size}": f"argument --cache-size: invalid num_bytes value: '{size}'"
        for size in ("inf", "-1", "lots")
    },
}


@pytest.mark.parametrize("flags", NO_VALUES)
def test_a_flag_that_cannot_be_parsed_is_a_line(flags, capsys):
    with pytest.raises(SystemExit) as caught:
        train.main(["configs/tsn_tiny.py", *shlex.split(flags)])
    assert caught.value.code == EXIT_ERROR
    error = capsys.readouterr().err
    assert error.startswith("error: ") and NO_VALUES[flags] in error and error.count("\n") == 1


@pytest.mark.parametrize("flags", TRAIN_FLAGS)
def test_a_wrong_flag_of_training(flags, toy_dataset, tmp_path, capsys):
    where = ["--data", str(toy_dataset), "--work-dir", str(tmp_path / "run")]
    arguments = ["configs/tsn_tiny.py", *where, *shlex.split(flags), "--dry-run"]
    assert train.main(arguments) == EXIT_ERROR
    error = capsys.readouterr().err
    assert TRAIN_FLAGS[flags] in error
    assert error.startswith("error: ") and "Traceback" not in error
    with pytest.raises(UserError):
        train.main([*arguments, "--debug"])


CONFIGS = {
    "syntax": ("model = (", "SyntaxError"),
    "no model": ("x = 1", "has no `model`"),
    "no such base": ('_base_ = ["gone.py"]', "gone.py"),
    "raises": ("1 / 0", "ZeroDivisionError"),
    "unknown override": (("batch_sise", ", train=2"), "did you mean 'batch_size'"),
    "wrong type": (("batch_size", ", train='two'"), "'two': expected a whole number"),
    "text rate": (("learning_rate", ", lr='high'"), "lr='high': expected float"),
    "negative rate": (("learning_rate", ", lr=-1"), "lr=-1: expected a positive number"),
    "nan rate": (("learning_rate", ", lr=float('nan')"), "lr=nan: expected a positive number"),
    "negative workers": (("hardware", ", num_workers=-1"), "num_workers=-1: expected 0 or more"),
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
    error = capsys.readouterr().err
    assert message in error
    assert error.startswith("error: ") and "Traceback" not in error
    assert error.count("\n") <= 25, "one screen"


INFER_FLAGS = {
    "--top-k 5": "--top-k 5: the checkpoint has 4 classes",
    "--top-k 0": "--top-k 0: the checkpoint has 4 classes",
    "--top-k -1": "--top-k -1: the checkpoint has 4 classes",
    "--label-map SHORT": "has 2 lines; the model has 4 classes",
    "--label-map LONG": "has 5 lines; the model has 4 classes",
    "--label-map EMPTY": "is empty",
    "--out x.txt": "--out x.txt: expected a name that ends in .json",
    "--device cuda:99": "--device cuda:99: this machine has",
}


@pytest.mark.parametrize("flags", INFER_FLAGS)
def test_a_wrong_flag_of_inference(flags, tiny_checkpoint, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, text in {"SHORT": "a\nb\n", "LONG": "a\nb\nc\nd\ne\n", "EMPTY": ""}.items():
        Path(name).write_text(text)
    Path("clip.mp4").touch()
    arguments = ["clip.mp4", "--checkpoint", str(tiny_checkpoint), *flags.split()]
    assert infer.main(arguments) == EXIT_ERROR
    error = capsys.readouterr().err
    assert INFER_FLAGS[flags] in error
    assert error.startswith("error: ") and error.count("\n") == 1


TEST_FLAGS = {
    "--work-dir gone": "no checkpoint in gone",
    "gone.py gone.pth": "no config gone.py",
    "--out x.txt": "--out x.txt: expected a name that ends in .json",
    "--out /proc/x.json": "cannot write /proc/x.json: ",
    "configs/tsn_tiny.py gone.pth": "gone.pth",
    "--device cuda:99": "--device cuda:99: this machine has",
}


@pytest.mark.parametrize("flags", TEST_FLAGS)
def test_a_wrong_flag_of_testing(flags, toy_dataset, capsys):
    assert test.main([*flags.split(), "--data", str(toy_dataset)]) == EXIT_ERROR
    error = capsys.readouterr().err
    assert TEST_FLAGS[flags] in error
    assert error.startswith("error: ") and "Traceback" not in error


@pytest.mark.parametrize(
    ("launcher", "fix"), [("pytorch", "start with: torchrun"), ("slurm", "set it to the name of")]
)
def test_a_launcher_that_did_not_start_it(launcher, fix, monkeypatch):
    monkeypatch.delenv("MASTER_ADDR", raising=False)
    with pytest.raises(UserError, match=f"--launcher {launcher}: MASTER_ADDR is not set\n  {fix}"):
        start_processes({"launcher": launcher})
