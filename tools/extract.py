"""Write features of videos to a file, as a frozen recognizer's last layer gets them.

python tools/extract.py VIDEO_OR_DIR --out features.npz
python tools/extract.py data/mine/train.txt --out features.parquet --per clip
python tools/extract.py data/mine/train.txt --out features.safetensors --checkpoint FILE.pth
python tools/extract.py FOLDER_OR_LIST --out features/     any number of videos: docs/scale.md
python tools/extract.py --collect features/ --out features.npz

Interrupted, the same command goes on where it stopped: features are kept by the content of a video,
those of a folder as --out in its parts alone. Of a list of stretches each one has a row.
Which weights it takes without --checkpoint: see `python tools/probe.py --help`.
"""

from collections.abc import Sequence

from mmact_tiny import cli, hardware
from mmact_tiny.errors import EXIT_OK, EXIT_PARTIAL


@cli.tool
def main(argv: Sequence[str] | None = None) -> int | None:
    parser = cli.make_parser(__doc__)
    parser.add_argument("videos", nargs="*", metavar="VIDEO_OR_DIR")
    parser.add_argument("--out", metavar="FILE.npz|.parquet|.safetensors|FOLDER", required=True)
    parser.add_argument("--per", choices=("video", "clip"), default="video", help="a row for each")
    parser.add_argument("--checkpoint", metavar="FILE", help="weights of a recognizer or backbone")
    parser.add_argument("--config", help="of the recognizer; default: that of the checkpoint")
    parser.add_argument("--collect", metavar="FOLDER", help="join the parts of a job into --out")
    parser.add_argument("--launcher", choices=hardware.LAUNCHERS, default="none")
    parser.add_argument("--part", metavar="I/N", help="be the I-th of N processes of a job")
    parser.add_argument("--parquet", action="store_true", help="parts are Parquet (extra)")
    cli.add_time_limit(parser)
    cli.add_device(parser)
    cli.add_verbose(parser)
    args = parser.parse_args(argv)
    jobs = cli.room_of_jobs(args)
    cli.start(args, trains=False)
    if not args.videos and args.collect is None:
        parser.error("expected VIDEO_OR_DIR")

    from mmact_tiny.features import write

    if jobs and args.collect is not None:
        return jobs.collect_job(args.collect, args.out, kind=write.FeatureFile)
    names = ("per", "config", "checkpoint", "time_limit")
    settings = {name: getattr(args, name) for name in names}
    if jobs:
        return jobs.fill_job(args, **write.job_of_features(parquet=args.parquet, **settings))
    errors = write.write_features(args.videos, args.out, **settings)
    for video, reason in errors.items():
        print(f"error: cannot read video {video}: {reason}")
    return EXIT_PARTIAL if errors else EXIT_OK


if __name__ == "__main__":
    raise SystemExit(main())
