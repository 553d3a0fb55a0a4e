"""Write features of videos to a file, as a frozen recognizer's last layer gets them.

python tools/extract.py VIDEO_OR_DIR --out features.npz
python tools/extract.py data/mine/train --out features.parquet --per clip
python tools/extract.py data/mine/train --out features.safetensors --checkpoint FILE.pth

Interrupted, the same command goes on where it stopped: features are kept by the content of a video.
Which weights it takes without --checkpoint: see `python tools/probe.py --help`.
"""

from collections.abc import Sequence

from mmact_tiny import cli
from mmact_tiny.errors import EXIT_OK, EXIT_PARTIAL


@cli.tool
def main(argv: Sequence[str] | None = None) -> int | None:
    parser = cli.make_parser(__doc__)
    parser.add_argument("videos", nargs="+", metavar="VIDEO_OR_DIR")
    parser.add_argument("--out", metavar="FILE.npz|.parquet|.safetensors", required=True)
    parser.add_argument("--per", choices=("video", "clip"), default="video", help="a row for each")
    parser.add_argument("--checkpoint", metavar="FILE", help="weights of a recognizer or backbone")
    parser.add_argument("--config", help="of the recognizer; default: that of the checkpoint")
    cli.add_time_limit(parser)
    cli.add_device(parser)
    cli.add_verbose(parser)
    args = parser.parse_args(argv)
    cli.start(args, trains=False)

    from mmact_tiny.features.write import write_features

    errors = write_features(
        args.videos,
        args.out,
        per=args.per,
        config=args.config,
        checkpoint=args.checkpoint,
        time_limit=args.time_limit,
    )
    for video, reason in errors.items():
        print(f"error: cannot read video {video}: {reason}")
    return EXIT_PARTIAL if errors else EXIT_OK


if __name__ == "__main__":
    raise SystemExit(main())
