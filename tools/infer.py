"""Recognize the action in videos.

python tools/infer.py video.mp4
python tools/infer.py FOLDER --out answers.csv
python tools/infer.py video.mp4 --checkpoint FILE.pth --top-k 3
python tools/infer.py video.mp4 --render labelled.mp4
python tools/infer.py long.mp4 --window 4 --stride 2 --render labelled.mp4 --out segments.csv
python tools/infer.py video.mp4 --cam why.png
"""

from collections.abc import Sequence

from mmact_tiny import cli


@cli.tool
def main(argv: Sequence[str] | None = None) -> int | None:
    parser = cli.make_parser(__doc__)
    parser.add_argument("videos", nargs="+", metavar="VIDEO_OR_DIR")
    cli.add_recognizer(parser)
    parser.add_argument("--top-k", type=int, metavar="K", help="default: 5, or all classes")
    cli.add_time_limit(parser)
    parser.add_argument("--out", metavar="FILE.json|.csv|.jsonl")
    parser.add_argument(
        "--window", type=float, metavar="SECONDS", help="score each such stretch of a long video"
    )
    parser.add_argument(
        "--stride", type=float, metavar="SECONDS", help="between windows; default: half a window"
    )
    parser.add_argument("--render", metavar="FILE.mp4", help="the video with its labels burnt in")
    parser.add_argument(
        "--cam", metavar="FILE.png", help="the frames, with what spoke for the label (extra: cam)"
    )
    cli.add_device(parser)
    cli.add_verbose(parser)
    args = parser.parse_args(argv)
    cli.start(args, trains=False)

    from mmact_tiny import infer as inference

    return inference.infer(
        args.videos,
        top_k=args.top_k,
        time_limit=args.time_limit,
        out=args.out,
        window=args.window,
        stride=args.stride,
        render=args.render,
        cam=args.cam,
        **cli.recognizer_settings(args),
    )


if __name__ == "__main__":
    raise SystemExit(main())
