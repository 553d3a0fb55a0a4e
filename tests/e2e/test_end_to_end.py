"""The user's three commands, in order, on the bundled clips, through `main([...])`."""

import csv
import json
import math
import os
from pathlib import Path

import numpy as np
import pytest
import warm
from conftest import ROOT, STOCK
from jobs import SMALL, run_python

from mmact_tiny.errors import EXIT_OK, EXIT_PARTIAL
from tools import infer, test, train

TINY = ROOT / "data" / "tiny"
LABELS = (TINY / "label_map.txt").read_text().split("\n")[:-1]


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A work directory of one short training on the bundled clips."""
    os.chdir(ROOT)
    work_dir = tmp_path_factory.mktemp("work_dirs") / "tsn_tiny"
    arguments = ["configs/tsn_tiny.py", "--epochs", "1", "--pretrained", "none"]
    arguments += ["--cfg-options", *SMALL]
    assert train.main([*arguments, "--work-dir", str(work_dir), "--device", "cpu"]) == EXIT_OK
    return work_dir


def test_training_leaves_a_config_a_log_and_checkpoints(run_dir):
    assert (run_dir / "tsn_tiny.py").is_file()
    assert [path.name for path in run_dir.glob("best_acc_top1_epoch_*.pth")] == [
        "best_acc_top1_epoch_1.pth"
    ]
    assert "epoch_1.pth" in (run_dir / "last_checkpoint").read_text()
    assert list(run_dir.glob("*/vis_data/scalars.json"))


def test_testing_writes_metrics_and_every_videos_scores(run_dir, tmp_path, capsys):
    before = (run_dir / "tsn_tiny.py").read_bytes()
    out = tmp_path / "test.json"
    status = test.main(
        ["--work-dir", str(run_dir), "--protocol", "val", "--out", str(out), "--device", "cpu"]
    )
    assert status == EXIT_OK
    printed = capsys.readouterr().out
    assert f"checkpoint: {run_dir / 'best_acc_top1_epoch_1.pth'}" in printed
    assert "val: 3 clips x 1 crops = 3 views a video" in printed
    assert "videos/s (16 in" in printed
    record = json.loads(out.read_text())
    names = [accuracy["name"] for accuracy in record["accuracies"]]
    assert names == ["top-1", "top-4", "mean class accuracy"]
    assert len(record["videos"]) == 16
    listed = [line.split()[0] for line in (TINY / "val.txt").read_text().splitlines()]
    assert [Path(row["video"]).name for row in record["videos"]] == listed
    assert all(math.isclose(sum(row["scores"]), 1, abs_tol=1e-5) for row in record["videos"])
    assert record["accuracies"][0]["value"] == pytest.approx(record["metrics"]["acc/top1"])
    assert (run_dir / "tsn_tiny.py").read_bytes() == before, "the run's own config was changed"
    assert json.loads((run_dir / "test" / "results.json").read_text()) == record
    assert record["classes"] == LABELS
    assert f"report: {run_dir / 'report.html'}" in printed
    check_report(run_dir, record)


def check_report(run_dir: Path, record: dict) -> None:
    """Checks that the report has the training and the test, with the numbers of their files."""
    (run,) = json.loads((run_dir / "report.json").read_text())["runs"]
    assert run["test"]["accuracies"] == record["accuracies"]
    assert run["test"]["checkpoint_sha256"] == run["checkpoint"]["sha256"]
    assert run["config"]["base"] == [STOCK]
    assert run["data"]["splits"]["train"]["videos"] == 40
    (start,) = run["starts"]
    assert start["command"].startswith("python tools/train.py configs/tsn_tiny.py --epochs 1 ")
    assert (start["seed"], start["resumed"], start["num_processes"]) == (0, False, 1)
    assert run["log"]["train"][-1]["x"] == 1 and run["timing"]["epochs"][0]["epoch"] == 1
    assert (run_dir / "report.html").stat().st_size < 1_000_000


def test_inference_prints_and_writes_the_answers(run_dir, tmp_path, capsys):
    checkpoint = str(next(run_dir.glob("best_*.pth")))
    folder = tmp_path / "videos"
    folder.mkdir()
    for video in sorted((TINY / "val").glob("*.mp4"))[:2]:
        (folder / video.name).write_bytes(video.read_bytes())
    (folder / "broken.mp4").write_text("not a video")
    out = tmp_path / "answers.csv"
    arguments = ["--checkpoint", checkpoint, "--protocol", "val", "--out", str(out)]
    status = infer.main([str(folder), *arguments, "--device", "cpu"])
    assert status == EXIT_PARTIAL
    printed = capsys.readouterr().out
    assert printed.count("The top-4 labels with corresponding scores are:\n") == 2
    with out.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 * 4 + 1
    assert {row["label"] for row in rows if row["label"]} == set(LABELS)
    errors = [row for row in rows if row["error"]]
    assert [Path(row["video"]).name for row in errors] == ["broken.mp4"]


def test_scores_are_those_of_the_stock_runner(run_dir, tmp_path):
    """Same weights and protocol: stock's own test loop, dumped by MMEngine, and our three ways."""
    from mmengine.config import Config
    from mmengine.runner import Runner

    from mmact_tiny import Recognizer
    from mmact_tiny.checkpoints import stock as stock_checkpoints

    checkpoint = next(run_dir.glob("best_*.pth"))
    cfg = Config.fromfile(run_dir / "tsn_tiny.py")
    short = tmp_path / "two.txt"  # the full protocol takes seconds a video
    listed = (TINY / "val.txt").read_text().splitlines()
    short.write_text("\n".join([listed[0], listed[-1]]) + "\n")
    cfg.test_dataloader.dataset.ann_file = str(short)
    cfg.test_dataloader.num_workers, cfg.test_dataloader.persistent_workers = 0, False
    cfg.test_evaluator = [
        dict(type="AccMetric"),
        dict(type="DumpResults", out_file_path=str(tmp_path / "stock.pkl")),
    ]
    cfg.load_from, cfg.work_dir = str(checkpoint), str(tmp_path / "stock")
    stock_checkpoints.register()
    metrics = Runner.from_cfg(cfg).test()
    from mmengine.fileio import load

    stock = np.array([sample["pred_score"].numpy() for sample in load(tmp_path / "stock.pkl")])

    out = tmp_path / "ours.json"
    arguments = ["--work-dir", str(run_dir), "--out", str(out), "--device", "cpu"]
    options = ["--cfg-options", f"test_dataloader.dataset.ann_file={short}"]
    assert test.main([*arguments, *options]) == EXIT_OK
    record = json.loads(out.read_text())
    tested = np.array([row["scores"] for row in record["videos"]])
    assert np.abs(tested - stock).max() < 1e-5
    assert record["metrics"]["acc/top1"] == metrics["acc/top1"]
    recognizer = Recognizer(checkpoint, precision="fp32", engine="torch")
    for row, expected in zip(record["videos"], stock, strict=True):
        assert np.abs(recognizer.scores(row["video"]) - expected).max() < 1e-5


def test_the_dump_runs_under_the_stock_runner(run_dir, tmp_path):
    """In a process of its own, where no override of ours is applied."""
    script = (
        "import sys; from mmact_tiny import compat; compat.repair()\n"
        "from mmengine.config import Config; from mmengine.runner import Runner\n"
        "cfg = Config.fromfile(sys.argv[1]); cfg.work_dir = sys.argv[2]\n"
        "cfg.train_dataloader.dataset.indices = cfg.val_dataloader.dataset.indices = 8\n"
        "Runner.from_cfg(cfg).train()\n"
        "assert 'mmact_tiny.overrides' not in sys.modules\n"
    )
    warm.run("-c", script, run_dir / "tsn_tiny.py", tmp_path / "again")
    assert (tmp_path / "again" / "epoch_1.pth").is_file()


def test_two_processes_train_with_gloo(tmp_path):
    work_dir = tmp_path / "two"
    command = ["-m", "torch.distributed.run", "--nproc_per_node=2", "--standalone"]
    arguments = ["tools/train.py", "configs/tsn_tiny.py", "--launcher", "pytorch", "--epochs", "1"]
    options = ["--device", "cpu", "--pretrained", "none", "--work-dir", str(work_dir)]
    options += ["--cfg-options", *SMALL]
    few = [f"+{split}_dataloader.dataset.indices=16" for split in ("train", "val")]
    environ = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = run_python(*command, *arguments, *options, *few, env=environ)
    # Only rank 0 speaks and writes, and the rate follows the world size.
    for line in ("device: ", "epoch 1/1  loss ", "best checkpoint: "):
        assert done.stdout.count(line) == 1
    assert "mmengine" not in done.stdout
    assert len(list(work_dir.glob("*.log"))) + len(list(work_dir.glob("*/*.log"))) == 1
    batch = 8
    assert f"batch {batch} * 2 process(es)" in done.stdout
    rates = {
        json.loads(line)["lr"]
        for path in work_dir.glob("*/vis_data/scalars.json")
        for line in path.read_text().splitlines()
        if "lr" in line
    }
    assert rates == {0.000625}, "0.01 * 8 * 2 / 256"
