"""What the benchmarks measure of this project and no tool does: samples, ceiling, profile."""

import argparse
import json
import time
from pathlib import Path
from typing import Any

from mmact_tiny.config import load_config

CONFIG = "mmaction::recognition/tsn/tsn_imagenet-pretrained-r50_8xb32-1x1x3-100e_kinetics400-rgb.py"


def our_config(args: argparse.Namespace) -> Any:
    changes: dict[str, dict] = {
        "dataset_paths": {"data_root": args.data},
        "pretrained": {"weights": "none"},
        "batch_size": {"train": args.batch_size},
    }
    if args.cache:
        changes["clip_cache"] = {"root": args.cache}
    return load_config(CONFIG, changes=changes)


def pipeline(cfg: Any, args: argparse.Namespace) -> dict:
    """Times the training samples of one process, after a pass that fills the cache."""
    from mmaction.registry import DATASETS
    from mmengine.registry import init_default_scope

    init_default_scope("mmaction")
    dataset = DATASETS.build(cfg.train_dataloader.dataset)
    for index in range(min(args.samples, len(dataset))):
        dataset[index]
    started = time.perf_counter()
    for index in range(args.samples):
        dataset[index % len(dataset)]
    return {"seconds": time.perf_counter() - started, "samples": args.samples}


def ceiling(cfg: Any, args: argparse.Namespace) -> dict:
    """Times training steps of the same model, batch and precision on views in memory."""
    import torch
    from mmaction.registry import DATASETS
    from mmengine.dataset import pseudo_collate
    from mmengine.runner import Runner

    cfg.work_dir = args.work_dir
    runner = Runner.from_cfg(cfg)
    runner.call_hook("before_run")
    wrapper = runner.build_optim_wrapper(cfg.optim_wrapper)
    dataset = DATASETS.build(cfg.train_dataloader.dataset)
    batch = pseudo_collate([dataset[i % len(dataset)] for i in range(args.batch_size)])
    runner.model.train()
    seconds = []
    for _ in range(args.samples):
        started = time.perf_counter()
        runner.model.train_step(dict(batch), wrapper)
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - started)
    return {"seconds": sum(seconds[1:]), "samples": args.batch_size * (args.samples - 1)}


def profile(cfg: Any, args: argparse.Namespace) -> dict:
    """Profiles the second epoch of a training, and exports it for chrome://tracing."""
    import torch
    from mmengine.hooks import Hook
    from mmengine.registry import HOOKS
    from torch.profiler import ProfilerActivity

    from mmact_tiny.train import train

    cuda = torch.cuda.is_available()
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if cuda else [])]
    profiler = torch.profiler.profile(activities=activities)

    @HOOKS.register_module()
    class SecondEpoch(Hook):  # MMEngine's ProfilerHook has the first, with its start-up in it
        def before_train_epoch(self, runner: Any) -> None:
            if runner.epoch == 1:
                profiler.start()

        def after_train_epoch(self, runner: Any) -> None:
            if runner.epoch == 1:
                profiler.stop()

    cfg.work_dir = str(Path(args.work_dir) / "profile")
    cfg.train_cfg.max_epochs = 2
    cfg.custom_hooks = [*cfg.get("custom_hooks", []), dict(type="SecondEpoch")]
    train(cfg)
    trace = Path(args.work_dir) / "trace.json"
    profiler.export_chrome_trace(str(trace))
    key = "self_device_time_total" if cuda else "self_cpu_time_total"
    averages = profiler.key_averages()
    print(averages.table(sort_by=key, row_limit=30))
    longest = sorted(averages, key=lambda event: -getattr(event, key))[:5]
    named = [f"{event.key[:60]} {getattr(event, key) / 1000:.1f} ms" for event in longest]
    return {"trace": str(trace), "longest": named}


def weights(cfg: Any, args: argparse.Namespace) -> dict:
    """Writes a recognizer of random weights, whose scores differ from video to video."""
    import torch
    from mmaction.registry import MODELS
    from mmengine.registry import init_default_scope

    init_default_scope("mmaction")
    torch.manual_seed(0)
    model = MODELS.build(cfg.model)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.running_var, 0.8, 1.2)
            torch.nn.init.uniform_(module.weight, 0.5, 1)
    torch.nn.init.normal_(model.cls_head.fc_cls.weight, std=0.05)
    classes = list(cfg.train_dataloader.dataset.metainfo["classes"])
    meta = dict(cfg=cfg.pretty_text, dataset_meta=dict(classes=classes))
    path = Path(args.work_dir) / "weights.pth"
    torch.save(dict(state_dict=model.state_dict(), meta=meta), path)
    cfg.dump(str(path.with_suffix(".py")))
    return {"checkpoint": str(path), "num_classes": len(classes)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("job", choices=("pipeline", "ceiling", "profile", "weights"))
    parser.add_argument("--data", required=True)
    parser.add_argument("--work-dir", required=True)
    parser.add_argument("--batch-size", type=int, default=2)
    parser.add_argument("--samples", type=int, default=10)
    parser.add_argument("--cache", help="folder of the clip cache")
    parser.add_argument("--out", required=True)
    args = parser.parse_args()
    result = globals()[args.job](our_config(args), args)
    Path(args.out).write_text(json.dumps(result))


if __name__ == "__main__":
    main()
