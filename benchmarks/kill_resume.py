"""Kills training runs with SIGKILL at random moments, resumes them, and compares what comes out.

python benchmarks/kill_resume.py --runs 20

Each run is killed up to three times, at a moment drawn from its whole time or within the write
of a checkpoint, and resumed until it ends. It has to end with bitwise the weights, optimizer
state, losses, metrics and best score of a run that was left alone.
"""

import argparse
import json
import logging
import multiprocessing
import os
import random
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
EPOCHS = 3
MAX_KILLS = 3
PIPELINE_END = """
    dict(type="Resize", scale=(32, 32), keep_ratio=False),
    dict(type="FormatShape", input_format="NCHW"),
    dict(type="PackActionInputs"),
]
"""
CONFIG = f"""
_base_ = [
    "mmaction::recognition/tsn/tsn_imagenet-pretrained-r50_8xb32-1x1x3-100e_kinetics400-rgb.py"
]
overrides = [
    dict(type="dataset_paths", data_root=DATA),
    dict(type="classes"),
    dict(type="pretrained", weights="none"),
    dict(type="schedule", max_epochs={EPOCHS}),
    dict(type="batch_size", train=4),
    dict(type="learning_rate", lr=0.5),
    dict(type="checkpoints", every=2),
    dict(type="hardware", precision="fp32", num_workers=2),
]
model = dict(
    backbone=dict(depth=18, num_stages=2, strides=(1, 2), dilations=(1, 1), out_indices=(1,)),
    cls_head=dict(in_channels=128),
)
train_pipeline = [
    dict(type="DecordInit"),
    dict(type="SampleFrames", clip_len=1, frame_interval=1, num_clips=2),
    dict(type="DecordDecode"),
    dict(type="RandomResizedCrop"),
    dict(type="Flip", flip_ratio=0.5),{PIPELINE_END}
val_pipeline = [
    dict(type="DecordInit"),
    dict(type="SampleFrames", clip_len=1, frame_interval=1, num_clips=2, test_mode=True),
    dict(type="DecordDecode"),{PIPELINE_END}
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=val_pipeline))
default_hooks = dict(checkpoint=dict(interval=1, max_keep_ckpts=2), logger=dict(interval=1))
randomness = dict(seed=7)
"""


def write_job(folder: Path) -> Path:
    """Writes 16 training and 4 validation clips of two classes, and a config; returns the config.

    The clips are noise: what is asked is whether two runs are the same, not what they learn.
    """
    import av
    import numpy as np

    generator = np.random.default_rng(0)
    data = folder / "data"
    for split, count in (("train", 16), ("val", 4)):
        (data / split).mkdir(parents=True, exist_ok=True)
        lines = []
        for index in range(count):
            with av.open(data / split / f"{index}.mp4", "w") as sink:
                stream = sink.add_stream("libx264", rate=10, options={"preset": "ultrafast"})
                stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
                for _ in range(12):
                    image = generator.integers(0, 256, (48, 64, 3), dtype=np.uint8)
                    image[..., 0] //= 1 + index % 2
                    sink.mux(stream.encode(av.VideoFrame.from_ndarray(image, "rgb24")))
                sink.mux(stream.encode(None))
            lines.append(f"{index}.mp4 {index % 2}\n")
        (data / f"{split}.txt").write_text("".join(lines))
    (data / "label_map.txt").write_text("red\nwhite\n")
    config = folder / "job.py"
    config.write_text(CONFIG.replace("DATA", repr(str(data))))
    return config


def start(
    config: Path, work_dir: Path, changes: dict[str, Any] | None = None
) -> multiprocessing.process.BaseProcess:
    """Starts training as `tools/train.py --resume` does, in a process of its own.

    It is forked from this one, which has the packages imported: the import would take most of the
    time of so small a run.
    """
    process = multiprocessing.get_context("fork").Process(
        target=_train, args=(config, work_dir, changes or {})
    )
    process.start()
    return process


def _train(config: Path, work_dir: Path, changes: dict[str, Any]) -> None:
    work_dir.mkdir(parents=True, exist_ok=True)
    log = os.open(work_dir / "output.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for number in (1, 2):
        os.dup2(log, number)
    sys.stdout = sys.stderr = os.fdopen(log, "w", buffering=1)  # pytest has its own in their place
    logging.basicConfig(stream=sys.stdout, level="INFO", format="%(message)s", force=True)
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
    from mmact_tiny.config import load_config
    from mmact_tiny.errors import UserError
    from mmact_tiny.training import train

    changes = {
        "pretrained": {"resume": True, "work_dir": str(work_dir)},
        "run": {"work_dir": str(work_dir)},
        **changes,
    }
    try:
        train(load_config(config, changes=changes))
    except UserError as error:
        print(f"error: {error}", flush=True)
        raise SystemExit(2) from None


def outcome(work_dir: Path) -> dict[str, Any]:
    """Returns all of a finished run that has to be the same, tensors and numbers."""
    from mmact_tiny.checkpoint import load_checkpoint
    from mmact_tiny.runs import best_checkpoint, newest_checkpoint

    last = newest_checkpoint(work_dir)
    best = best_checkpoint(work_dir)
    if last is None or best is None:
        return {}
    checkpoint = load_checkpoint(last)
    info = checkpoint["message_hub"]["runtime_info"]
    losses = checkpoint["message_hub"]["log_scalars"]["train/loss"].data[0]
    logs = sorted(work_dir.glob("*/vis_data/scalars.json"))
    lines = [json.loads(line) for line in logs[-1].read_text().splitlines()]
    return {
        "name": last.name,
        "weights": checkpoint["state_dict"],
        "optimizer": checkpoint["optimizer"],
        "schedule": checkpoint["param_schedulers"],
        "losses": losses.tolist(),
        "best": (best.name, float(info["best_score"]), load_checkpoint(best)["state_dict"]),
        "log": [{k: v for k, v in line.items() if "time" not in k} for line in lines],
    }


def differences(one: Any, other: Any, where: str = "") -> list[str]:
    """Returns the places where two outcomes are not bitwise the same."""
    import torch

    if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
        return [] if torch.equal(one, other) else [where]
    if isinstance(one, dict) and isinstance(other, dict) and one.keys() == other.keys():
        return [d for key in one for d in differences(one[key], other[key], f"{where}/{key}")]
    if isinstance(one, list | tuple) and isinstance(other, list | tuple) and len(one) == len(other):
        pairs = enumerate(zip(one, other, strict=True))
        return [d for n, (a, b) in pairs for d in differences(a, b, f"{where}/{n}")]
    return [] if type(one) is type(other) and one == other else [where or "/"]


def kill_within(
    process: multiprocessing.process.BaseProcess, work_dir: Path, seconds: float, writes: int
) -> str | None:
    """Kills a run after `seconds`, or within the write of its n-th checkpoint where `writes` > 0.

    Returns:
        The moment in words; None if the run had ended before.
    """
    began = time.monotonic()
    seen: set[tuple[str, int]] = set()
    while process.is_alive():
        if not writes and time.monotonic() - began >= seconds:
            process.kill()
            return f"{seconds:.1f} s"
        for path in work_dir.glob(".*.pth.tmp") if writes else ():
            try:
                seen.add((path.name, path.stat().st_ino))
            except FileNotFoundError:
                continue
            if len(seen) >= writes:
                process.kill()
                return f"in write {writes} ({path.name})"
        time.sleep(0.001)
    return None


def disturb(config: Path, work_dir: Path, seconds: float, moments: random.Random) -> list[str]:
    """Runs a job to its end, killed on the way; returns the moments of the kills.

    Raises:
        RuntimeError: a run that was not killed failed.
    """
    kills: list[str] = []
    planned = moments.randint(1, MAX_KILLS)
    while True:
        process = start(config, work_dir)
        if len(kills) < planned:
            writes = moments.randint(1, 4) if moments.random() < 0.5 else 0
            moment = kill_within(process, work_dir, moments.uniform(0.2, seconds), writes)
            if moment is not None:
                kills.append(moment)
                process.join()
                continue
        process.join()
        if (
            not kills and not process.exitcode
        ):  # it was faster than the moment: once more, and earlier
            shutil.rmtree(work_dir)
            seconds *= 0.6
            continue
        if process.exitcode:
            tail = (work_dir / "output.txt").read_text()[-2000:]
            raise RuntimeError(f"a resumed run ended with status {process.exitcode}\n{tail}")
        return kills


def kill_and_compare(folder: Path, runs: int, seed: int) -> list[dict[str, Any]]:
    """Returns a row for each run: its kills, and what was not identical in the end."""
    import torch

    import mmact_tiny.training  # noqa: F401  imported once, before the forks

    torch.set_num_threads(1)
    config = write_job(folder)
    began = time.monotonic()
    undisturbed = start(config, folder / "undisturbed")
    undisturbed.join()
    seconds = time.monotonic() - began
    if undisturbed.exitcode:
        raise RuntimeError((folder / "undisturbed" / "output.txt").read_text()[-2000:])
    expected = outcome(folder / "undisturbed")
    moments = random.Random(seed)
    rows = []
    for number in range(1, runs + 1):
        work_dir = folder / f"run_{number}"
        kills = disturb(config, work_dir, seconds, moments)
        wrong = differences(expected, outcome(work_dir))
        print(f"run {number}: killed {', '.join(kills)}: {wrong[:3] or 'identical'}", flush=True)
        rows.append(dict(run=number, kills=kills, differences=wrong))
        if not wrong:
            shutil.rmtree(work_dir)
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--work-dir", type=Path, help="default: a temporary folder")
    parser.add_argument("--out", type=Path, metavar="FILE.json")
    args = parser.parse_args()
    folder = args.work_dir or Path(tempfile.mkdtemp(prefix="kill_resume_"))
    rows = kill_and_compare(folder, args.runs, args.seed)
    identical = sum(not row["differences"] for row in rows)
    kills = sum(len(row["kills"]) for row in rows)
    print(f"{identical} of {len(rows)} runs ended identical, after {kills} kills")
    if args.out:
        args.out.write_text(json.dumps(rows, indent=1) + "\n")
    if args.work_dir is None and identical == len(rows):
        shutil.rmtree(folder)
    return 0 if identical == len(rows) else 1


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    raise SystemExit(main())
