"""Recognize the action in videos.

python tools/infer.py video.mp4
python tools/infer.py FOLDER --out answers.csv
python tools/infer.py video.mp4 --checkpoint FILE.pth --top-k 3
python tools/infer.py video.mp4 --render labelled.mp4
python tools/infer.py long.mp4 --window 4 --stride 2 --render labelled.mp4 --out segments.csv
python tools/infer.py video.mp4 --cam why.png
python tools/infer.py FOLDER --window 2 --for label-studio --out predictions.json
python tools/infer.py data/mine/val.txt                    each video, or stretch, of a list
python tools/infer.py FOLDER_OR_LIST --out answers/        any number of videos: docs/scale.md
python tools/infer.py --collect answers/ --out answers.csv
python tools/infer.py rtsp://CAMERA --window 2 --stride 0.5 --out events.jsonl
    a stream or camera, live: rtsp://, rtmp://, udp://, /dev/video0, - (standard input), and with
    --window, but without a folder as --out, http://: docs/live.md
"""

import argparse
from collections.abc import Sequence
from contextlib import closing
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

from mmact_tiny import cli, hardware
from mmact_tiny.errors import UserError

STREAMS = ("rtsp://", "rtsps://", "rtmp://", "rtmps://", "rtp://", "tcp://", "udp://", "/dev/video")
LIVE_FLAGS = ("smooth", "threshold", "background")


@cli.tool
def main(argv: Sequence[str] | None = None) -> int | None:
    parser = cli.make_parser(__doc__)
    parser.add_argument("videos", nargs="*", metavar="VIDEO_OR_DIR")
    cli.add_recognizer(parser)
    parser.add_argument("--top-k", type=int, metavar="K", help="default: 5, or all classes")
    cli.add_time_limit(parser)
    parser.add_argument("--out", metavar="FILE.json|.csv|.jsonl|FOLDER")
    parser.add_argument(
        "--for",
        dest="tool",
        choices=("label-studio", "cvat", "fiftyone"),
        help="write --out as this tool's pre-annotations, to be corrected there",
    )
    parser.add_argument(
        "--window", type=float, metavar="SECONDS", help="score each such stretch of a long video"
    )
    parser.add_argument(
        "--stride", type=float, metavar="SECONDS", help="between windows; default: half a window"
    )
    parser.add_argument(
        "--smooth", type=int, metavar="N", help="a stream: mean of so many windows (default: 3)"
    )
    parser.add_argument(
        "--threshold",
        type=float,
        metavar="SCORE",
        help="a stream: begins an event (default: 0.6, of several labels each one's own)",
    )
    parser.add_argument(
        "--background", metavar="LABEL", help="a stream: this label stands for nothing"
    )
    parser.add_argument("--render", metavar="FILE.mp4", help="the video with its labels burnt in")
    parser.add_argument(
        "--cam",
        metavar="FILE.png",
        help="the frames, with the regions behind the label (extra)",
    )
    parser.add_argument("--collect", metavar="FOLDER", help="join the parts of a job into --out")
    parser.add_argument("--launcher", choices=hardware.LAUNCHERS, default="none")
    parser.add_argument("--part", metavar="I/N", help="be the I-th of N processes of a job")
    parser.add_argument("--parquet", action="store_true", help="parts are Parquet (extra)")
    parser.add_argument(
        "--ray",
        nargs="?",
        const="local",
        metavar="ADDRESS",
        help="spread a job over a cluster, by default over this machine (extra)",
    )
    cli.add_device(parser)
    cli.add_verbose(parser)
    args = parser.parse_args(argv)
    if stream := stream_among(args):
        return watch(args, stream)
    jobs = cli.room_of_jobs(args)
    cli.start(args, trains=False)
    if jobs and args.collect is not None:
        return jobs.collect_job(args.collect, args.out, write_windows=write_windows)
    if not args.videos:
        parser.error("expected VIDEO_OR_DIR" + ", before --ray" * bool(args.ray))
    if not jobs and any(name.lower().endswith((".txt", ".csv")) for name in args.videos):
        args.videos = import_module("mmact_tiny.annotations").expand_lists(args.videos)

    from mmact_tiny.infer import infer

    answers: dict[str, Any] = {}
    if args.window is not None:
        cli.need_room("view", "--window")
        from mmact_tiny.video.window import check_window
        from mmact_tiny.view import windows

        check_window(args.window, stride_of(args))
        answers = dict(
            rows_of=partial(windows.window_rows, window=args.window, stride=stride_of(args)),
            lines_of=windows.say_segments,
            write=windows.write_segments,
        )
    elif args.stride is not None:
        raise UserError(f"--stride {args.stride:g}: expected --window SECONDS too")
    if args.tool is not None:
        cli.need_room("view", "--for")
        from mmact_tiny.view.pre_annotate import TOOLS

        if args.out is None:
            raise UserError(f"--for {args.tool}: expected --out too")
        answers |= TOOLS[args.tool]._asdict()
    if args.render is not None or args.cam is not None:
        cli.need_room("view", "--render and --cam")
        from mmact_tiny.view import pictures

        pictures.check_pictures(args.videos, args.checkpoint, render=args.render, cam=args.cam)
    if jobs:
        return jobs.score_job(args, answers, cli.recognizer_settings(args))
    result = infer(
        args.videos,
        top_k=args.top_k,
        time_limit=args.time_limit,
        out=args.out,
        **answers,
        **cli.recognizer_settings(args),
    )
    if args.render is not None or args.cam is not None:
        pictures.draw_pictures(result.rows[0], result.recognizer, render=args.render, cam=args.cam)
    return result.status


def stride_of(args: argparse.Namespace) -> float:
    """Returns the seconds between windows."""
    return args.window / 2 if args.stride is None else args.stride


def stream_among(args: argparse.Namespace) -> str | None:
    """Returns the first video that is a stream or camera, None where none is.

    An address of http(s) is one with `--window`, unless `--out` or a flag asks for a job.
    """
    streams = [name for name in args.videos if name == "-" or name.startswith(STREAMS)]
    if not streams and args.window is not None and cli.room_of_jobs(args) is None:
        streams = [name for name in args.videos if name.startswith(("http://", "https://"))]
    for name in LIVE_FLAGS:
        if not streams and getattr(args, name) is not None:
            raise UserError(f"--{name} {getattr(args, name)}: expected a stream: docs/live.md")
    return streams[0] if streams else None


def watch(args: argparse.Namespace, stream: str) -> None:
    """Watches a stream until it ends."""
    cli.need_room("live", stream)
    live = import_module("mmact_tiny.live")
    settings = live.settings_of(args, stream)
    with closing(live.open_reader(stream)) as reader:
        cli.start(args, trains=False)
        live.watch_stream(reader, cli.recognizer_settings(args), settings)


def write_windows(path: Path, rows: Any) -> None:
    """Writes rows of windows."""
    cli.need_room("view", "--collect")
    import_module("mmact_tiny.view.windows").write_segments(path, rows)


if __name__ == "__main__":
    raise SystemExit(main())
