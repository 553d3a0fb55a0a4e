"""Serve a page that recognizes the action in videos: drop, choose or record one.

python tools/serve.py
python tools/serve.py --checkpoint FILE.pth --port 8000 --protocol val
python tools/serve.py --protocol val --live rtsp://CAMERA --window 2 --stride 0.5
curl -F video=@clip.mp4 http://127.0.0.1:7860/api/recognize
"""

from collections.abc import Sequence
from contextlib import closing, nullcontext

from mmact_tiny import cli
from mmact_tiny.errors import UserError


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
    parser.add_argument("--live", metavar="STREAM", help="shown with its labels: docs/live.md")
    parser.add_argument("--window", type=float, help="of --live, seconds (default: 2)")
    parser.add_argument("--stride", type=float, help="of --live (default: 0.5)")
    cli.add_device(parser)
    args = parser.parse_args(argv)
    reader, watch = None, None
    windows = {name: vars(args)[name] for name in ("window", "stride")}
    windows = {name: seconds for name, seconds in windows.items() if seconds is not None}
    if args.live is None and windows:
        raise UserError("--window and --stride: expected --live STREAM too")
    if args.live is not None:
        cli.need_room("live", "--live")
        from mmact_tiny import live

        how = live.Settings(**dict(window=2.0, stride=0.5) | windows)
        reader = live.open_reader(args.live)
    with closing(reader) if reader else nullcontext():
        cli.start(args, trains=False)

        from mmact_tiny.serve.server import serve

        settings = cli.recognizer_settings(args)
        if reader is not None:
            # It has a recognizer of its own, so that it waits for nobody's upload.
            watch = live.open_watch(reader, settings, how)
        serve(
            host=args.host,
            port=args.port,
            max_mb=args.max_mb,
            max_seconds=args.max_seconds,
            examples=args.examples,
            live=watch,
            **settings,
        )


if __name__ == "__main__":
    raise SystemExit(main())
