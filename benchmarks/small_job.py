"""The smallest training job that has all a big one has, in processes that may be killed."""

import faulthandler
import json
import logging
import multiprocessing
import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

EPOCHS = 3
IMPORTED = [
    *("mmact_tiny.train", "mmact_tiny.config", "mmact_tiny.video.frames", "mmact_tiny.scale.score"),
    *("mmaction.models", "mmaction.datasets", "torch._dynamo", "matplotlib.pyplot"),
    *(f"mmact_tiny.overrides.{name}" for name in ("recipe", "cache", "runtime", "testing")),
    *("mmaction.engine", "mmaction.visualization", "torchvision", "benchmarks.told_once"),
]  # by the processes of a job, before they start
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

    It is forked from a process that did nothing but import the packages (`fork_ranks`): the import
    would take most of the time of so small a run.
    """
    return start_ranks(config, work_dir, changes, num_processes=1)[0]


def start_ranks(
    config: Path, work_dir: Path, changes: dict[str, Any] | None = None, num_processes: int = 2
) -> list[multiprocessing.process.BaseProcess]:
    """Starts a training of several processes, which talk through gloo; returns them by rank."""
    return fork_ranks(_train, (config, work_dir, changes or {}), work_dir, num_processes)


def start_elastic(
    config: Path, work_dir: Path, changes: dict[str, Any] | None = None, num_processes: int = 2
) -> multiprocessing.process.BaseProcess:
    """Starts torchrun's agent, which starts the processes of a training again when one ends.

    They are forked for the time of the imports; `benchmarks/kill_resume.py` has the command itself.
    """
    arguments = (config, work_dir, changes or {}, num_processes)
    return fork_ranks(_launch, arguments, work_dir, num_processes=1)[0]


def _launch(config: Path, work_dir: Path, changes: dict[str, Any], num_processes: int) -> None:
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    multiprocessing.get_context("forkserver").set_forkserver_preload(IMPORTED)
    settings: Any = dict(
        start_method="forkserver",
        run_id="job",
        rdzv_backend="c10d",
        rdzv_endpoint="127.0.0.1:0",
        local_addr="127.0.0.1",
    )
    settings |= dict(min_nodes=1, max_nodes=1, nproc_per_node=num_processes, max_restarts=3)
    elastic_launch(LaunchConfig(**settings), _train)(config, work_dir, changes)


def fork_ranks(
    target: Callable[..., None], arguments: tuple, folder: Path, num_processes: int
) -> list[multiprocessing.process.BaseProcess]:
    """Calls a function in processes that have what torchrun gives, and write to `output.txt`.

    They are not forked from this process: a lock that one of its threads holds, or OpenMP's pool
    that it has used, would hang them.
    """
    server = multiprocessing.get_context("forkserver")
    server.set_forkserver_preload(IMPORTED)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    processes = []
    for rank in range(num_processes):
        ranks = dict(RANK=rank, LOCAL_RANK=rank, WORLD_SIZE=num_processes, MASTER_PORT=port)
        ranks = {name: str(value) for name, value in ranks.items()} if num_processes > 1 else {}
        environ = {**os.environ, **ranks, "MASTER_ADDR": "127.0.0.1", "CUDA_VISIBLE_DEVICES": ""}
        processes.append(server.Process(target=_in_rank, args=(target, arguments, folder, environ)))
        processes[-1].start()
    return processes


def _in_rank(
    target: Callable[..., None], arguments: tuple, folder: Path, environ: dict[str, str]
) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    log = os.open(folder / "output.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for number in (1, 2):
        os.dup2(log, number)
    sys.stdout = sys.stderr = os.fdopen(log, "w", buffering=1)  # pytest has its own in their place
    faulthandler.enable(sys.stderr)  # a signal shows where it hangs
    level = "INFO" if environ.get("RANK", "0") == "0" else "ERROR"
    logging.basicConfig(stream=sys.stdout, level=level, format="%(message)s", force=True)
    os.environ.clear()
    os.environ.update(environ)
    target(*arguments)


def _train(config: Path, work_dir: Path, changes: dict[str, Any]) -> None:
    from mmact_tiny.config import load_config
    from mmact_tiny.errors import UserError
    from mmact_tiny.train import train

    changes = {
        "pretrained": {"resume": True, "work_dir": str(work_dir)},
        "run": {
            "work_dir": str(work_dir),
            "launcher": "pytorch" if "WORLD_SIZE" in os.environ else "none",
        },
        **changes,
    }
    try:
        train(load_config(config, changes=changes))
    except UserError as error:
        print(f"error: {error}", flush=True)
        raise SystemExit(2) from None


def outcome(work_dir: Path) -> dict[str, Any]:
    """Returns all of a finished run that has to be the same, tensors and numbers."""
    from mmact_tiny.checkpoints.load import load_checkpoint
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
