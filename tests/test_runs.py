"""Which checkpoint a run goes on from, that it stays what it was, and what it notes of itself."""

import json
import os
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from mmact_tiny.config import load_config
from mmact_tiny.errors import UserError
from mmact_tiny.runs import (
    best_checkpoint,
    last_checkpoint,
    newest_checkpoint,
    newest_run,
    open_run,
    own_checkpoints,
    record_run,
    run_facts,
    set_aside,
)


def save(
    path: Path, *, epoch: int, iterations: int, cfg: str = "initial_weights = 'random'\n"
) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(dict(meta=dict(epoch=epoch, iter=iterations, cfg=cfg), state_dict={}), path)
    return path


@pytest.mark.parametrize(
    ("files", "newest"),
    [
        ({}, None),
        ({"epoch_1.pth": (1, 8), "epoch_2.pth": (2, 16)}, "epoch_2.pth"),
        ({"epoch_2.pth": (2, 16), "iter_14.pth": (1, 14)}, "epoch_2.pth"),
        ({"epoch_2.pth": (2, 16), "iter_18.pth": (2, 18)}, "iter_18.pth"),
        ({"epoch_2.pth": (2, 16), "iter_16.pth": (1, 16)}, "epoch_2.pth"),
        ({"epoch_9.pth": (9, 90), "epoch_10.pth": (10, 100)}, "epoch_10.pth"),
        ({"best_acc_top1_epoch_3.pth": (3, 24)}, None),
    ],
)
def test_the_newest_is_the_furthest_on(tmp_path, files, newest):
    for name, (epoch, iterations) in files.items():
        save(tmp_path / name, epoch=epoch, iterations=iterations)
    (tmp_path / "last_checkpoint").write_text("epoch_1.pth")  # a kill left it behind
    assert newest_checkpoint(tmp_path) == (tmp_path / newest if newest else None)


def test_the_last_one_is_what_the_run_wrote_last_and_the_best_the_newest(tmp_path):
    assert last_checkpoint(tmp_path) is None
    names = ("epoch_10.pth", "epoch_9.pth", "iter_12.pth", "weights.pth")
    for seconds, name in zip((1, 3, 3, 9), names, strict=True):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (seconds, seconds))
    assert last_checkpoint(tmp_path) == tmp_path / "iter_12.pth"
    assert best_checkpoint(tmp_path) == tmp_path / "iter_12.pth"
    for seconds, name in ((2, "best_b_epoch_2.pth"), (1, "best_c_epoch_1.pth")):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (seconds, seconds))
    assert best_checkpoint(tmp_path) == tmp_path / "best_b_epoch_2.pth"
    with pytest.raises(UserError, match=r"no dumped config in .*, beside best_b_epoch_2\.pth"):
        open_run(tmp_path)
    for seconds, name in ((2, "new.py"), (1, "old.py")):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (seconds, seconds))
    assert open_run(tmp_path).config == tmp_path / "new.py"


def test_a_damaged_checkpoint_is_passed_over(tmp_path, caplog):
    good = save(tmp_path / "epoch_1.pth", epoch=1, iterations=8)
    (tmp_path / "epoch_2.pth").write_bytes(good.read_bytes()[:300])
    with caplog.at_level("WARNING", logger="mmact_tiny"):
        assert newest_checkpoint(tmp_path) == good
    assert str(tmp_path / "epoch_2.pth") in caplog.text
    good.write_bytes(b"")
    with pytest.raises(UserError, match="can be read\n"):
        newest_checkpoint(tmp_path)


def test_nothing_to_resume_starts_from_the_beginning(toy_dataset, tmp_path):
    cfg = load_config(
        "configs/tsn_tiny.py",
        changes={
            "dataset_paths": {"data_root": str(toy_dataset)},
            "pretrained": {"resume": True, "work_dir": str(tmp_path), "weights": "README.md"},
        },
    )
    assert (cfg.resume, cfg.load_from) == (False, "README.md")


@pytest.mark.parametrize(("started_from", "epochs"), [("random", 30), ("k400.pth", 10)])
def test_a_resumed_run_keeps_its_schedule_whatever_weights_are_found_today(
    toy_dataset, tmp_path, started_from, epochs
):
    """Weights that came since, or are gone, change neither the epochs nor the learning rate."""
    save(
        tmp_path / "epoch_1.pth", epoch=1, iterations=8, cfg=f"initial_weights = {started_from!r}\n"
    )
    found = "README.md" if started_from == "random" else "no-such-file_*.pth"
    cfg = load_config(
        "configs/tsn_tiny.py",
        changes={
            "dataset_paths": {"data_root": str(toy_dataset)},
            "pretrained": {"resume": True, "work_dir": str(tmp_path), "search": found},
        },
    )
    assert (cfg.resume, cfg.load_from) == (True, None)
    assert cfg.initial_weights == started_from
    assert cfg.train_cfg.max_epochs == epochs


def test_the_newest_run_has_the_checkpoint_that_was_written_last(tmp_path):
    for name, times in {"first": (1, 9), "second": (5, 6), "without a config": (20, 21)}.items():
        for epoch, seconds in enumerate(times, 1):
            path = save(tmp_path / name / f"epoch_{epoch}.pth", epoch=epoch, iterations=8 * epoch)
            os.utime(path, (seconds, seconds))
        if name != "without a config":
            (tmp_path / name / "job.py").touch()
    assert newest_run(tmp_path).config == tmp_path / "first" / "job.py"
    assert newest_run(tmp_path / "first") is None
    with pytest.raises(UserError, match=r"no checkpoint in .*nothing\n  train first: python"):
        open_run(tmp_path / "nothing")


def test_a_run_that_starts_anew_leaves_no_checkpoint_to_mistake(tmp_path):
    assert set_aside(tmp_path / "none") is None
    names = ("epoch_30.pth", "iter_7.pth", "best_acc_top1_epoch_11.pth", "weights.pth")
    for name in names:
        (tmp_path / name).write_text(name)
    (tmp_path / "last_checkpoint").write_text("epoch_30.pth")
    moved = set_aside(tmp_path, keep=tmp_path / "best_acc_top1_epoch_11.pth")
    assert moved is not None and moved.parent == tmp_path / "earlier"
    assert sorted(path.name for path in moved.iterdir()) == sorted(names[:3])
    assert own_checkpoints(tmp_path) == [tmp_path / "weights.pth"]
    assert best_checkpoint(tmp_path) is None  # what it starts from is not the new run's best
    left = sorted(path.name for path in tmp_path.glob("*.pth"))
    assert left == ["best_acc_top1_epoch_11.pth", "weights.pth"]  # the weights it starts from
    assert not (tmp_path / "last_checkpoint").exists()
    assert set_aside(tmp_path, keep="https://example.org/x.pth") is not None
    assert [path.name for path in tmp_path.glob("*.pth")] == ["weights.pth"]
    assert set_aside(tmp_path) is None
    (tmp_path / "weights.pth").unlink()
    with pytest.raises(UserError, match=r"run's are in .*/earlier/\d.*\)\n  train first: "):
        open_run(tmp_path)


def test_the_facts_name_what_the_figures_belong_to():
    import numpy
    import torch

    facts = run_facts()
    assert facts["command"] is None
    assert facts["num_processes"] == 1
    assert facts["packages"]["numpy"] == numpy.__version__
    assert facts["packages"]["torch"] == torch.__version__.partition("+")[0]
    assert facts["machine"]["cores"] >= 1


@pytest.mark.parametrize(("rank", "written"), [(0, ["run.json"]), (1, [])])
def test_the_first_process_writes_the_facts(rank, written, tmp_path):
    record_run(SimpleNamespace(rank=rank, log_dir=tmp_path, seed=5), "python x.py")
    assert [path.name for path in tmp_path.iterdir()] == written
    if written:
        facts = json.loads((tmp_path / written[0]).read_text())
        assert (facts["command"], facts["seed"]) == ("python x.py", 5)
