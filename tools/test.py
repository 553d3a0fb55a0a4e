"""Test a recognizer: top-1, top-5 and mean class accuracy with 95% intervals.

python tools/test.py                                  the newest run, its best checkpoint
python tools/test.py configs/tsn_tiny.py              the run of this config, as it was trained
python tools/test.py configs/tsn_tiny.py FILE.pth --data data/mine
"""

from collections.abc import Sequence

from mmact_tiny import cli
from mmact_tiny.errors import EXIT_OK, EXIT_PARTIAL
from mmact_tiny.files import check_out


@cli.tool
def main(argv: Sequence[str] | None = None) -> int | None:
    parser = cli.make_parser(__doc__)
    parser.add_argument("config", nargs="?", help="default: that of the newest run")
    parser.add_argument("checkpoint", nargs="?", help="default: the best of the config's run")
    parser.add_argument("--data", metavar="DIR", help="dataset folder")
    parser.add_argument("--work-dir", metavar="DIR", help="the run, if not work_dirs/<config stem>")
    parser.add_argument("--protocol", choices=("full", "val"), default="full")
    cli.add_engine(parser, precision="fp32", engine=None)
    cli.add_time_limit(parser)
    parser.add_argument("--out", metavar="FILE.json", help="write metrics and each video's scores")
    cli.add_device(parser)
    parser.add_argument("--launcher", choices=("none", "pytorch", "slurm", "mpi"), default="none")
    cli.add_cfg_options(parser)
    cli.add_verbose(parser)
    args = parser.parse_args(argv)
    cli.start(args)
    if args.out is not None:
        check_out(args.out, [".json"])

    from mmact_tiny import evaluate

    result = evaluate.test(
        config=args.config,
        checkpoint=args.checkpoint,
        work_dir=args.work_dir,
        data_root=args.data,
        protocol=args.protocol,
        precision=args.precision,
        engine=args.engine,
        launcher=args.launcher,
        time_limit=args.time_limit,
        options=dict(args.cfg_options),
        out=args.out,
        command=cli.command_line(),
    )
    if cli.has_room("report"):
        from mmact_tiny.report.report import try_report

        try_report(result.folder)
    return EXIT_PARTIAL if result.errors else EXIT_OK


if __name__ == "__main__":
    raise SystemExit(main())
