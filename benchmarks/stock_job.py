"""One job of stock MMAction2, as the tutorial's notebook does it, in a process of its own.

Used by against_stock.py. Nothing of this project runs here but the import repairs, without which
stock MMAction2 1.2.0 does not start.
"""

import argparse
import json
import time
from pathlib import Path

from mmact_tiny import compat

compat.repair()

import torch  # noqa: E402
from mmengine.config import Config  # noqa: E402
from mmengine.hooks import Hook  # noqa: E402

STOCK = "recognition/tsn/tsn_imagenet-pretrained-r50_8xb32-1x1x3-100e_kinetics400-rgb.py"


class EpochSeconds(Hook):
    """Notes how long the batches of each epoch took; changes nothing."""

    priority = "LOWEST"

    def __init__(self) -> None:
        self.seconds: list[float] = []

    def before_train_epoch(self, runner) -> None:
        self.started = time.perf_counter()

    def after_train_iter(self, runner, *args, **kwargs) -> None:
        self.last = time.perf_counter()

    def after_train_epoch(self, runner) -> None:
        self.seconds.append(self.last - self.started)


def notebook_config(args: argparse.Namespace) -> Config:
    """Returns the stock config with the notebook's fifteen edits."""
    root = Path(compat.get_installed_path("mmaction")) / ".mim" / "configs"
    cfg = Config.fromfile(root / STOCK)
    cfg.model.backbone.pretrained = None
    cfg.model.cls_head.num_classes = args.num_classes
    data = Path(args.data)
    for split, listed in (("train", "train"), ("val", "val"), ("test", "val")):
        loader = cfg[f"{split}_dataloader"]
        loader.dataset.ann_file = str(data / f"{listed}.txt")
        loader.dataset.data_prefix = dict(video=str(data / listed))
        loader.num_workers = args.num_workers
    cfg.train_dataloader.batch_size = args.batch_size
    cfg.val_dataloader.batch_size = args.batch_size
    cfg.optim_wrapper.optimizer.lr = cfg.optim_wrapper.optimizer.lr * args.batch_size / 256
    cfg.train_cfg.max_epochs = args.epochs
    cfg.work_dir = args.work_dir
    cfg.load_from = args.checkpoint
    return cfg


def train(cfg: Config, args: argparse.Namespace) -> dict:
    from mmengine.runner import Runner

    runner = Runner.from_cfg(cfg)
    hook = EpochSeconds()
    runner.register_hook(hook)
    runner.train()
    return {"epoch_seconds": hook.seconds}


def test(cfg: Config, args: argparse.Namespace) -> dict:
    from mmengine.runner import Runner

    dump = Path(args.work_dir) / "results.pkl"
    cfg.test_evaluator = [cfg.test_evaluator, dict(type="DumpResults", out_file_path=str(dump))]
    runner = Runner.from_cfg(cfg)
    started = time.perf_counter()
    runner.test()
    seconds = time.perf_counter() - started
    from mmengine.fileio import load

    return {"seconds": seconds, "scores": [row["pred_score"].tolist() for row in load(dump)]}


def infer(cfg: Config, args: argparse.Namespace) -> dict:
    from mmaction.apis import inference_recognizer, init_recognizer

    model = init_recognizer(cfg, args.checkpoint, device=args.device)
    scores = []
    started = time.perf_counter()
    for video in args.videos:
        result = inference_recognizer(model, video)
        best = sorted(enumerate(result.pred_score.tolist()), key=lambda pair: -pair[1])[:5]
        print(best)
        scores.append(result.pred_score.tolist())
    return {"seconds": time.perf_counter() - started, "scores": scores}


def pipeline(cfg: Config, args: argparse.Namespace) -> dict:
    from mmaction.registry import DATASETS
    from mmengine.registry import init_default_scope

    init_default_scope("mmaction")
    dataset = DATASETS.build(cfg.train_dataloader.dataset)
    started = time.perf_counter()
    for index in range(args.samples):
        dataset[index % len(dataset)]
    return {"seconds": time.perf_counter() - started, "samples": args.samples}


def trust_own_checkpoints() -> None:
    """Lets `torch.load` read what stock's Runner wrote, which PyTorch 2.6 and later refuses.

    In this process alone, and for files that the benchmark itself wrote.
    """
    load = torch.load
    torch.load = lambda *args, **kwargs: load(*args, **{**kwargs, "weights_only": False})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("job", choices=("train", "test", "infer", "pipeline"))
    parser.add_argument("--data", required=True)
    parser.add_argument("--num-classes", type=int, required=True)
    parser.add_argument("--work-dir", required=True)
    parser.add_argument("--checkpoint")
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--batch-size", type=int, default=2)
    parser.add_argument("--num-workers", type=int, default=2)
    parser.add_argument("--samples", type=int, default=10)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--videos", nargs="*", default=[])
    parser.add_argument("--out", required=True)
    args = parser.parse_args()
    trust_own_checkpoints()
    result = globals()[args.job](notebook_config(args), args)
    Path(args.out).write_text(json.dumps(result))


if __name__ == "__main__":
    main()
