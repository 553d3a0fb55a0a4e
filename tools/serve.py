"""Serve a page that recognizes the action in videos: drop, choose or record one.

python tools/serve.py
python tools/serve.py --checkpoint FILE.pth --port 8000 --protocol val
curl -F video=@clip.mp4 http://127.0.0.1:7860/api/recognize
"""

from collections.abc import Sequence

from mmact_tiny import cli


@cli.tool
def main(argv: Sequence[str] | None = None) -> None:
    parser = cli.make_parser(__doc__)
    cli.add_recognizer(parser)
    parser.add_argument(
        "--host", default="127.0.0.1", help="another lets the network in (default: %(default)s)"
    )
    parser.add_argument("--port", type=int, default=7860, help="0: a free one (default: 7860)")
    parser.add_argument("--max-mb", type=float, default=200, help="of an upload (default: 200)")
    parser.add_argument("--max-seconds", type=float, default=600, help="of a video (default: 600)")
    parser.add_argument(
        "--examples", metavar="DIR", help="videos to click; default: one of each class"
    )
    cli.add_device(parser)
    args = parser.parse_args(argv)
    cli.start(args, trains=False)

    from mmact_tiny.serve.server import serve

    serve(
        host=args.host,
        port=args.port,
        max_mb=args.max_mb,
        max_seconds=args.max_seconds,
        examples=args.examples,
        **cli.recognizer_settings(args),
    )


if __name__ == "__main__":
    raise SystemExit(main())
