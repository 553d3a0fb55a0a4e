"""What a person sees of a whole config, on a terminal and in a log, and what only the file has."""

import logging
import re
import sys
import warnings
from pathlib import Path

import pytest
import torch
from conftest import ROOT
from jobs import command, train_command
from terminals import HIDE_CURSOR, left_to_see, on_terminal

from benchmarks import small_job
from mmact_tiny import log as terminal
from mmact_tiny.errors import EXIT_ERROR, EXIT_OK, EXIT_PARTIAL
from mmact_tiny.files import read_json

EPOCH = (
    r"epoch {n}  loss \d\.\d{{3}}  lr \d\.\de-0\d  val top-1 \d+\.\d%  [\d.]+ videos/s  \w+-bound"
)
NOISE = ("mmengine", "override ", "FileClient", "Hooks will be executed", "Epoch(train)", "Loads")


@pytest.fixture(scope="module")
def trained(config: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A run on a terminal, and all that was written there."""
    work_dir = tmp_path_factory.mktemp("runs") / "job"
    written, status = on_terminal(train_command(config, work_dir, "--epochs", "2"), columns=120)
    assert status == EXIT_OK, written
    return work_dir, written


def test_a_training_on_a_terminal(config, trained):
    work_dir, written = trained
    lines = [line for line in left_to_see(written) if not line.startswith("  ")]
    data = config.parent / "data"
    checkpoint = next(work_dir.glob("best_*.pth"))
    expected = [
        "training: Recognizer2D with ResNet, 2 classes, 2 epoch(s)",
        f"train: 16 videos of {data}/train.txt",
        f"val: 4 videos of {data}/val.txt",
        f"work directory: {work_dir}",
        "device: CPU, 1 threads",
        "precision: float32 (as asked)",
        "loader workers: 2 (as asked)",
        "learning rate: 0.0078125 = 0.5 * batch 4 * 1 process(es) / 256",
        "*** RANDOM WEIGHTS: ",
        f"log: {work_dir}/",
        re.compile(EPOCH.format(n="1/2")),
        re.compile(EPOCH.format(n="2/2")),
        f"best checkpoint: {checkpoint} (",
        "trained from random weights: ",
        f"next: python tools/test.py --work-dir {work_dir}",
        f"report: {work_dir}/report.html",
    ]
    for line, start in zip(lines, expected, strict=True):
        assert start.match(line) if isinstance(start, re.Pattern) else line.startswith(start)
    assert re.search(r"epoch 2/2 .*4/4  0:00 left  [\d.]+ videos/s  loss 0\.\d{3}  top-1", written)
    assert re.search(r"validation .*1/1  0:00 left  [\d.]+ videos/s  top-1 \d+%", written)
    assert HIDE_CURSOR not in written
    assert not [word for word in NOISE if word in written]


def test_the_report_has_the_numbers_of_the_terminal(trained):
    work_dir, written = trained
    (run,) = read_json(work_dir / "report.json")["runs"]
    said = re.findall(r"epoch \d/2  loss (\d\.\d{3})  lr [^ ]+  val top-1 (\d+\.\d)%", written)
    losses = [f"{row['loss']:.3f}" for row in run["log"]["train"] if row["x"] in (1, 2)]
    accuracies = [f"{100 * row['acc/top1']:.1f}" for row in run["log"]["val"]]
    assert said == list(zip(losses, accuracies, strict=True)) and len(said) == 2


def test_the_log_file_has_all_of_it(trained):
    (log,) = trained[0].glob("*/*.log")
    text = log.read_text()
    for part in (*NOISE[:-1], "device: CPU", "epoch 2/2  loss", "next: python", "Loads checkpoint"):
        assert (part in text) is (part != "Loads checkpoint"), part
    assert text.count("override dataset_paths(") == text.count("*** RANDOM WEIGHTS") == 1


def test_a_run_that_counts_iterations_is_shown_too(config, tmp_path):
    counted = config.with_name("counted.py")
    counted.write_text(
        config.read_text().replace(f'dict(type="schedule", max_epochs={small_job.EPOCHS}),', "")
        + "train_cfg = dict(_delete_=True, type='IterBasedTrainLoop', max_iters=4)\n"
        + "train_cfg['val_interval'] = 3\n"
        + "param_scheduler = []\n"
        + "default_hooks['checkpoint']['by_epoch'] = False\n"
    )
    written, status = on_terminal(command("train", counted, "--work-dir", tmp_path), columns=120)
    assert status == EXIT_OK, written
    lines = [line for line in left_to_see(written) if line.startswith("iteration ")]
    assert [line.split("  ")[0] for line in lines] == ["iteration 3/4", "iteration 4/4"]
    speed = float(re.search(r"([\d.]+) videos/s", lines[1])[1])
    assert 0 < speed < 2000, "measured from the start of the iteration"


def test_a_log_gets_a_line_an_epoch_and_verbose_the_whole_stream(config, tmp_path, capfd):
    def printed(work_dir: str, *flags: str) -> str:
        words = train_command(config, tmp_path / work_dir, *flags)
        log = tmp_path / f"{work_dir}.txt"
        assert on_terminal(words, output=log) == ("", EXIT_OK)
        return log.read_text()

    plain = printed("plain")
    assert "\x1b" not in plain and "\r" not in plain and "left" not in plain
    assert len(re.findall(EPOCH.format(n="1/1"), plain)) == 1
    assert not [word for word in NOISE if word in plain]
    verbose = printed("verbose", "--verbose")
    assert not [word for word in NOISE[:-1] if word not in verbose]
    assert "epoch 1/1  loss" not in verbose


def test_ctrl_c_says_what_was_saved_and_leaves_no_bar(config, tmp_path):
    written, status = on_terminal(
        train_command(config, tmp_path, "--epochs", "50"), keys={"epoch  1/50": b"\x03"}
    )
    assert status == 130
    assert left_to_see(written)[-1].startswith(f"SIGINT: saved {tmp_path}/iter_")


def test_an_error_comes_after_the_bar_and_is_whole(config, tmp_path):
    lr = ["--cfg-options", "optim_wrapper.optimizer.lr=1e12"]
    written, status = on_terminal(train_command(config, tmp_path, *lr))
    lines = left_to_see(written)
    start = next(n for n, line in enumerate(lines) if line.startswith("error: the loss is "))
    assert status == EXIT_ERROR
    assert lines[-1].endswith("--cfg-options optim_wrapper.optimizer.lr=...")
    assert not [line for line in lines[start:] if "left" in line]
    assert "epoch 1/1" in written[: written.index("error: ")]


def test_testing_and_inference_of_a_folder(config, trained, tmp_path):
    work_dir = trained[0]
    words = command("test", "--work-dir", work_dir, "--protocol", "val")
    written, status = on_terminal(words, columns=120)
    assert status == EXIT_OK, written
    assert re.search(r"testing .*1/1  0:00 left  [\d.]+ videos/s  top-1 \d+%", written)
    assert not [word for word in NOISE if word in written]
    lines = left_to_see(written)
    assert lines[0] == f"config: {work_dir}/job.py"
    assert [line for line in lines if line.startswith("top-1: ")]

    videos = tmp_path / "videos"
    videos.mkdir()
    for video in (config.parent / "data" / "val").glob("*.mp4"):
        (videos / video.name).write_bytes(video.read_bytes())
    (videos / "broken.mp4").write_text("no video")
    checkpoint = next(work_dir.glob("best_*.pth"))
    words = command("infer", videos, "--checkpoint", checkpoint, "--protocol", "val")
    written, status = on_terminal([*words, "--engine", "torch"], columns=120)
    assert status == EXIT_PARTIAL, written
    lines = left_to_see(written)
    assert [line for line in lines if line.startswith(str(videos))] == sorted(
        map(str, videos.iterdir())
    )
    assert len([line for line in lines if line.startswith("error: cannot read video")]) == 1
    assert re.search(r"inference .*5/5  0:00 left", written)
    assert not [line for line in lines if "/5  " in line]


@pytest.mark.parametrize(
    ("filename", "shown"),
    [
        (torch.__file__, False),
        (logging.__file__, False),
        ("<frozen importlib._bootstrap>", False),
        (str(ROOT / "my_transforms.py"), True),
    ],
)
def test_warnings_of_installed_code_go_to_the_file(filename, shown, capsys):
    terminal.set_up(verbose=False)
    warnings.showwarning("look here", UserWarning, filename, 3)
    waiting = logging.getLogger("mmact_tiny").handlers[1]
    assert ("look here" in capsys.readouterr().out) is shown
    assert [record.getMessage().split("\n")[0] for record in waiting.buffer] == [
        f"{filename}:3: UserWarning: look here"
    ]


def test_a_program_that_imports_us_keeps_the_stock_log(config, tmp_path, capfd):
    program = (
        "from mmact_tiny.config import load_config\n"
        "from mmact_tiny.train import train\n"
        f"changes = dict(run=dict(work_dir={str(tmp_path)!r}), schedule=dict(max_epochs=1))\n"
        f"train(load_config({str(config)!r}, changes=changes))"
    )
    environ = ["env", "OMP_NUM_THREADS=1", f"PYTHONPATH={ROOT}"]
    written, status = on_terminal([*environ, sys.executable, "-c", program])
    assert status == 0
    assert "Epoch(train)" in written and "left" not in written
