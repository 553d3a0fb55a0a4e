"""Make the int8 model of a checkpoint, the fastest on a CPU, from some of your videos.

python tools/quantize.py FOLDER                       the newest run, its best checkpoint
python tools/quantize.py FOLDER --checkpoint FILE.pth
python tools/infer.py video.mp4 --precision int8      what it is for
"""

from collections.abc import Sequence

from mmact_tiny import cli
from mmact_tiny.errors import EXIT_OK, as_typed


@cli.tool
def main(argv: Sequence[str] | None = None) -> int | None:
    parser = cli.make_parser(__doc__)
    parser.add_argument("videos", nargs="+", metavar="VIDEO_OR_DIR")
    parser.add_argument("--checkpoint", metavar="FILE", help="default: the newest run's best")
    cli.add_verbose(parser)
    args = parser.parse_args(argv)
    args.device = "cpu"
    cli.start(args, trains=False)

    from mmact_tiny.export.int8 import quantize

    done = quantize(args.videos, args.checkpoint)
    for error in done.unreadable:
        print(f"left out: {error}")
    print(f"calibrated on {done.num_views} views of {done.num_videos} videos")
    print(
        f"scores: largest difference from fp32 {done.largest_difference:.4f}, the same best label "
        f"for {done.num_same_label} of {done.num_videos} videos"
    )
    print(f"written: {done.path}")
    command = f"python tools/infer.py VIDEO --checkpoint {done.checkpoint} --precision int8"
    print(as_typed(f"next: {command}"))
    return EXIT_OK


if __name__ == "__main__":
    raise SystemExit(main())
