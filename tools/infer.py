"""Recognize the action in videos.

python tools/infer.py video.mp4
python tools/infer.py FOLDER --out answers.csv
python tools/infer.py video.mp4 --checkpoint FILE.pth --top-k 3
"""

from collections.abc import Sequence

from mmact_tiny import cli


@cli.tool
def main(argv: Sequence[str] | None = None) -> int | None:
    parser = cli.make_parser(__doc__)
    parser.add_argument("videos", nargs="+", metavar="VIDEO_OR_DIR")
    parser.add_argument("--checkpoint", metavar="FILE", help="default: the newest run's best")
    parser.add_argument("--config", help="only for a checkpoint that carries none")
    parser.add_argument("--label-map", metavar="FILE", help="line i names class i")
    parser.add_argument("--top-k", type=int, metavar="K", help="default: 5, or all classes")
    parser.add_argument("--protocol", choices=("full", "val"), default="full")
    cli.add_engine(parser, precision="auto", engine="auto")
    parser.add_argument("--out", metavar="FILE.json|.csv|.jsonl")
    cli.add_device(parser)
    args = parser.parse_args(argv)
    cli.start(args)

    from mmact_tiny import inference

    return inference.infer(
        args.videos,
        checkpoint=args.checkpoint,
        config=args.config,
        label_map=args.label_map,
        top_k=args.top_k,
        protocol=args.protocol,
        precision=args.precision,
        engine=args.engine,
        out=args.out,
    )


if __name__ == "__main__":
    raise SystemExit(main())
