"""Train a recognizer.

python tools/train.py configs/tsn_tiny.py
python tools/train.py configs/tsn_tiny.py --data data/mine
python tools/train.py mmaction::recognition/tsn/NAME.py --data data/mine
torchrun --nproc_per_node=2 tools/train.py configs/tsn_tiny.py --launcher pytorch
python tools/train.py configs/tsn_tiny.py --data data/mine --folds 5     # cross-validation
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from mmact_tiny import cli
from mmact_tiny.errors import EXIT_OK, EXIT_PARTIAL


def int_or_auto(text: str) -> int | str:
    """Returns a whole number, or `auto`, for argparse."""
    return text if text == "auto" else int(text)


def float_or_auto(text: str) -> float | str:
    """Returns a number, or `auto`, for argparse."""
    return text if text == "auto" else float(text)


def names(text: str) -> list[str]:
    """Returns the names of `a,b`, for argparse."""
    return [name.strip() for name in text.split(",")]


def add_finetuning(parser: argparse.ArgumentParser) -> None:
    """Adds what makes fine-tuning bearable for few videos; all of it is off unless asked for."""
    group = parser.add_argument_group("few videos (docs/few_videos.md)")
    group.add_argument("--recipe", choices=("small",), help="a measured combination of these")
    group.add_argument("--freeze", metavar="backbone|STAGES|none", help="what is not trained")
    group.add_argument(
        "--early-stop", type=int, metavar="N", help="end after N validations without a better one"
    )
    group.add_argument("--label-smoothing", type=float, metavar="EPS")
    group.add_argument(
        "--blend", type=names, metavar="mixup|cutmix", help="blend videos; both with a comma"
    )
    group.add_argument(
        "--ema",
        nargs="?",
        const="auto",
        type=float_or_auto,
        metavar="MOMENTUM",
        help="save and validate a moving average of the weights",
    )
    group.add_argument("--backbone-lr", type=float, metavar="FRACTION", help="of the rate")
    group.add_argument("--layer-decay", type=float, metavar="FACTOR", help="of the rate, by block")
    group.add_argument("--lora", type=int, metavar="RANK", help="adapters, for transformers")


@cli.tool
def main(argv: Sequence[str] | None = None) -> int | None:
    parser = cli.make_parser(__doc__)
    parser.add_argument("config", help="file, or mmaction::NAME of an installed stock config")
    parser.add_argument("--data", metavar="DIR", help="dataset folder")
    parser.add_argument("--work-dir", metavar="DIR", help="default: work_dirs/<config stem>")
    parser.add_argument("--epochs", type=int, metavar="N")
    parser.add_argument("--batch-size", type=int_or_auto, metavar="N|auto")
    parser.add_argument(
        "--global-batch",
        type=int,
        metavar="N",
        help="videos a step of all processes together, kept for any number of them",
    )
    parser.add_argument("--pretrained", metavar="auto|none|imagenet|zoo|PATH|URL")
    parser.add_argument(
        "--resume",
        nargs="?",
        const=True,
        metavar="CHECKPOINT",
        help="go on from the newest checkpoint of the work directory, or from this one",
    )
    parser.add_argument(
        "--checkpoint-every",
        type=int,
        metavar="N",
        help="iterations between checkpoints within epochs; SIGTERM and Ctrl-C save in any case",
    )
    parser.add_argument(
        "--multi-label",
        action="store_true",
        default=None,
        help="a video may have several labels, as `path 0 3` or `a;b` in the lists",
    )
    cli.add_cache(parser, "read videos from the clip cache, and fill it")
    cli.add_device(parser)
    parser.add_argument("--precision", choices=("auto", "fp32", "bf16", "fp16"))
    add_finetuning(parser)
    parser.add_argument("--seed", type=int, metavar="N")
    parser.add_argument("--deterministic", action="store_true", default=None)
    parser.add_argument("--launcher", choices=("none", "pytorch", "slurm", "mpi"))
    parser.add_argument(
        "--track",
        type=names,
        action="extend",
        metavar="tensorboard|wandb|mlflow",
        help="log to this tracker too; several with commas",
    )
    parser.add_argument(
        "--folds", type=int, metavar="K", help="K runs, each tested on videos that it did not see"
    )
    parser.add_argument("--dry-run", action="store_true", help="print the changes and the config")
    cli.add_cfg_options(parser)
    cli.add_verbose(parser)
    args = parser.parse_args(argv)
    if args.cache_size and not args.cache:
        parser.error("--cache-size bounds the cache of --cache")
    if args.folds is not None and isinstance(args.resume, str):
        parser.error("--folds has a checkpoint for each fold: --resume without a file")
    cli.start(args)

    from mmact_tiny.config import load_config
    from mmact_tiny.overrides.finetune import with_recipe

    changes = {
        "dataset_paths": {"data_root": args.data},
        "multi_label": {"enabled": args.multi_label},
        "schedule": {"max_epochs": args.epochs},
        "batch_size": {"train": args.batch_size, "total": args.global_batch},
        "pretrained": {"weights": args.pretrained, "resume": args.resume},
        "clip_cache": {"format": args.cache, "max_bytes": args.cache_size},
        "checkpoints": {"every": args.checkpoint_every},
        "freeze": {"parts": args.freeze},
        "early_stop": {"patience": args.early_stop},
        "label_smoothing": {"eps": args.label_smoothing},
        "blending": {"kinds": args.blend},
        "ema": {"momentum": args.ema},
        "backbone_lr": {"fraction": args.backbone_lr},
        "layer_decay": {"factor": args.layer_decay},
        "lora": {"rank": args.lora},
        "hardware": {"precision": args.precision},
        "run": {
            "work_dir": args.work_dir,
            "seed": args.seed,
            "deterministic": args.deterministic,
            "launcher": args.launcher,
            "track": args.track,
        },
    }
    if args.resume is True:
        changes["pretrained"]["work_dir"] = args.work_dir
    if args.recipe:
        changes = with_recipe(args.recipe, changes)
    options = dict(args.cfg_options)
    if args.folds is not None and not args.dry_run:
        return cross_validate(args.config, args.folds, changes, options)
    cfg = load_config(args.config, changes=changes, options=options)
    if args.dry_run:
        print(cfg.pretty_text)
        return EXIT_OK

    from mmact_tiny.train import train

    report(train(cfg, command=cli.command_line()).work_dir)
    return EXIT_OK


def cross_validate(config: str, folds: int, changes: dict, options: dict) -> int:
    """Trains each fold, and returns the exit status."""
    from mmact_tiny.folds.run import train_folds

    command = cli.command_line()
    result = train_folds(config, folds, changes=changes, options=options, command=command)
    report(result.folder)
    return EXIT_PARTIAL if result.errors else EXIT_OK


def report(folder: str | Path | None) -> None:
    """Writes the report of a run, where that room is there; other processes have no folder."""
    if folder and cli.has_room("report"):
        from mmact_tiny.report.report import try_report

        try_report(folder)


if __name__ == "__main__":
    raise SystemExit(main())
