"""Fit a linear probe on features of a frozen recognizer: a recognizer from few videos.

python tools/probe.py --data data/mine
python tools/probe.py --data data/mine --folds 5      # cross-validation: an honest accuracy
python tools/probe.py --data data/mine --rank FOLDER  # which videos to label next
python tools/probe.py --data data/mine --checkpoint FILE.pth --config configs/tsn_mobilenetv2.py
torchrun --nproc_per_node=2 tools/probe.py --data data/mine --launcher pytorch

Writes an ordinary run, which test.py, infer.py, train.py and the others read. Without
--checkpoint it takes the best weights in checkpoints/: published ones of Kinetics-400 by their
accuracy, then resnet50_imagenet, then mobilenetv2_imagenet (`python tools/download.py NAME`).
"""

from collections.abc import Sequence

from mmact_tiny import cli
from mmact_tiny.errors import EXIT_OK, EXIT_PARTIAL


@cli.tool
def main(argv: Sequence[str] | None = None) -> int | None:
    parser = cli.make_parser(__doc__)
    parser.add_argument("--data", metavar="DIR", required=True, help="dataset folder")
    parser.add_argument("--checkpoint", metavar="FILE", help="weights of a recognizer or backbone")
    parser.add_argument("--config", help="of the recognizer; default: that of the checkpoint")
    parser.add_argument(
        "--looks",
        type=int,
        default=2,
        metavar="N",
        help="at each training video: straight, mirrored, then other frames (default: 2)",
    )
    parser.add_argument(
        "--folds", type=int, metavar="K", help="K probes, each tested on videos that it did not see"
    )
    parser.add_argument(
        "--rank", metavar="FOLDER", help="of unlabelled videos: which of them to label next"
    )
    parser.add_argument("--work-dir", metavar="DIR", help="default: work_dirs/<config stem>_probe")
    cli.add_time_limit(parser)
    cli.add_device(parser)
    parser.add_argument("--launcher", choices=("none", "pytorch", "slurm", "mpi"), default="none")
    cli.add_cfg_options(parser)
    cli.add_verbose(parser)
    args = parser.parse_args(argv)
    cli.start(args)

    from mmact_tiny.features.run import probe

    result = probe(
        args.data,
        config=args.config,
        checkpoint=args.checkpoint,
        looks=args.looks,
        folds=args.folds,
        rank=args.rank,
        work_dir=args.work_dir,
        launcher=args.launcher,
        time_limit=args.time_limit,
        options=cli.parse_cfg_options(args),
        command=cli.command_line(),
    )
    if cli.has_room("report") and result.folder:
        from mmact_tiny.report.report import try_report

        try_report(result.folder)
    return EXIT_PARTIAL if result.errors else EXIT_OK


if __name__ == "__main__":
    raise SystemExit(main())
