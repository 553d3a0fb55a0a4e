"""Work directories as training and testing leave them, written by hand: no run is needed."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from conftest import STOCK

from mmact_tiny.files import write_json
from mmact_tiny.runs import RESULTS

PIPELINE = [
    dict(type="DecordInit", io_backend="disk"),
    dict(type="SampleFrames", clip_len=1, frame_interval=1, num_clips=25, test_mode=True),
    dict(type="DecordDecode"),
    dict(type="Resize", scale=(-1, 110)),
    dict(type="TenCrop", crop_size=96),
    dict(type="FormatShape", input_format="NCHW"),
    dict(type="PackActionInputs"),
]


def write_run(
    folder: Path,
    *,
    classes: Sequence[str] = ("walk", "run"),
    epochs: int = 3,
    resume: bool = False,
    time: str = "20260101_000000",
    lr: float = 0.01,
    first_epoch: int = 1,
) -> Path:
    """Writes a run of `epochs` epochs of 4 iterations: loss 1 / epoch, accuracies from 0.5 up."""
    log = folder / time
    (log / "vis_data").mkdir(parents=True)
    data = folder / "data"
    data.mkdir(exist_ok=True)
    for split, count in (("train", 4), ("val", 2)):
        lines = [f"{split}{i}.mp4 {i % len(classes)}\n" for i in range(count)]
        (data / f"{split}.txt").write_text("".join(lines))
    config = config_text(data, classes=classes, resume=resume, lr=lr)
    (folder / "job.py").write_text(config, encoding="utf-8")
    (log / "vis_data" / "config.py").write_text(config, encoding="utf-8")
    lines: list[dict[str, Any]] = []
    numbers = range(first_epoch, first_epoch + epochs)
    for epoch in numbers:
        place = dict(epoch=epoch, iter=4 * epoch, step=4)
        accuracy = min(1.0, 0.25 + 0.25 * epoch)
        lines.append(dict(lr=lr, loss=1 / epoch, top1_acc=accuracy, **place))
        lines.append({"acc/top1": 0.5 if epoch < 2 else 1.0, "time": 0.1, "step": epoch})
    write_lines(log / "vis_data" / "scalars.json", lines)
    seconds = dict(data=1.0, device=2.0, validation=0.5, checkpoint=0.5)
    write_lines(log / "timing.jsonl", [dict(epoch=epoch, **seconds) for epoch in numbers])
    return folder


def config_text(data: Path, *, classes: Sequence[str], resume: bool, lr: float) -> str:
    """Returns a dumped config, as `Config.pretty_text` has it but for the line breaks."""

    def loader(split: str) -> dict[str, Any]:
        return dict(
            batch_size=2,
            dataset=dict(
                type="VideoDataset",
                ann_file=str(data / f"{split}.txt"),
                data_prefix=dict(video=str(data)),
                metainfo=dict(classes=list(classes)),
                pipeline=PIPELINE,
            ),
        )

    values = dict(
        stock_base=[STOCK],
        resume=resume,
        load_from=None,
        initial_weights="random",
        randomness=dict(seed=7),
        model=dict(type="Recognizer2D", cls_head=dict(type="TSNHead", num_classes=len(classes))),
        optim_wrapper=dict(optimizer=dict(type="SGD", lr=lr)),
        train_cfg=dict(type="EpochBasedTrainLoop", max_epochs=3),
        train_dataloader=loader("train"),
        val_dataloader=loader("val"),
        test_dataloader=loader("val"),
    )
    return "".join(f"{name} = {value!r}\n" for name, value in values.items())


def write_test(
    folder: Path,
    rows: Sequence[dict[str, Any]],
    *,
    classes: Sequence[str] = ("walk", "run"),
    **facts: Any,
) -> None:
    """Writes `test/results.json`, and the test's config where the run has one."""
    (folder / "test").mkdir(parents=True, exist_ok=True)
    if (folder / "job.py").is_file():
        (folder / "test" / "job.py").write_bytes((folder / "job.py").read_bytes())
    usable = [row for row in rows if row.get("scores") and None not in row["scores"]]
    right = sum(row["scores"].index(max(row["scores"])) == row["label"] for row in usable)
    count = len(usable)
    counts = f"{right} of {count} videos"
    top1 = dict(name="top-1", value=right / max(1, count), low=0.0, high=1.0, counts=counts)
    record = dict(
        protocol="val: 3 clips x 1 crops",
        ann_file=str(folder / "data" / "val.txt"),
        classes=list(classes),
        accuracies=[top1] if count else [],
        seconds=2.0,
        videos=list(rows),
    )
    write_json(folder / RESULTS, {**record, **facts})


def scored(video: str, label: int, *scores: float) -> dict[str, Any]:
    """Returns a row of a test."""
    return dict(video=video, label=label, scores=list(scores))


def write_lines(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Writes JSON lines."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
