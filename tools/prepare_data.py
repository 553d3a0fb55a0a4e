"""Makes a dataset that trains from a folder of videos: checks, labels and divides them.

    python tools/prepare_data.py SRC --out data/mine

SRC is one of
  SRC/<class>/*.mp4                        class folders
  SRC/train/<class>/*.mp4, SRC/val/...     split class folders; or SRC/<class>/train/*.mp4
  SRC/train.txt, SRC/val.txt               lists: a path and a label on each line
  SRC/*.csv or *.tsv, or SRC is the file   a table: path,label[,split]
  the official lists of UCF101, HMDB51, Kinetics and others (docs/prepare_data.md)
or what Label Studio, CVAT, ELAN or VIA export, of videos or stretches of them (docs/labels.md):

    python tools/prepare_data.py EXPORT --videos DIR --out data/mine

Every video is decoded from start to end. What cannot be used is left out and listed in
quarantine.csv; everything else that is wrong is reported at once, and in summary.json. Run it
again after adding videos, or after an interruption: only what is new is decoded.
"""

from collections.abc import Sequence
from dataclasses import replace
from importlib import import_module

from mmact_tiny.cli import add_cache, make_parser, need_room, tool
from mmact_tiny.prepare.types import Settings

DEFAULTS = Settings()


@tool
def main(argv: Sequence[str] | None = None) -> None:
    parser = make_parser(__doc__)
    parser.add_argument(
        "src", nargs="?", metavar="SRC", help="the videos: a folder, a list or a table"
    )
    parser.add_argument("--out", metavar="DIR", help="where the dataset goes")
    for flag, metavar, what in (
        ("--videos", "DIR", "where the videos of a list are; default: beside it"),
        ("--tier", "NAME", "of an export with several: tier, attribute or control"),
        ("--background", "LABEL", "class of what no stretch of a video has"),
        ("--group", "RULE", "keep together what shares a pattern's match, a column, or `folder`"),
    ):
        parser.add_argument(flag, metavar=metavar, help=what)
    parser.add_argument(
        "--multi-label", action="store_true", help="a video may have several labels, as `a;b`"
    )
    parser.add_argument(
        "--frame-rate", type=float, metavar="FPS", help="that an export counts frames with"
    )
    parser.add_argument(
        "--split", type=int, metavar="N", help="of official lists that have several, as UCF101's"
    )
    for flag, value, what in (
        ("--val", DEFAULTS.val, "part of each class for validation"),
        ("--seed", DEFAULTS.seed, "of the validation draw"),
        ("--min-frames", DEFAULTS.min_frames, "leave shorter videos out"),
        ("--batch-size", DEFAULTS.batch_size, "report fewer training videos"),
    ):
        parser.add_argument(
            flag, type=type(value), default=value, help=f"{what} (default %(default)s)"
        )
    parser.add_argument(
        "--keep-leaks", action="store_true", help="go on with a video in train and val"
    )
    parser.add_argument("--copy", action="store_true", help="copy the videos, do not link to them")
    parser.add_argument(
        "--no-convert",
        action="store_true",
        help="leave AV1 and transport streams as they are: decord cannot read them",
    )
    parser.add_argument(
        "--workers", type=int, metavar="N", help="processes (default: one for each core)"
    )
    parser.add_argument(
        "--time-limit",
        type=float,
        default=DEFAULTS.seconds_per_video,
        metavar="SECONDS",
        help="for one video, and 5 s for each megabyte (default %(default)g)",
    )
    add_cache(parser, "write the clip cache too")
    parser.add_argument(
        "--ray",
        nargs="?",
        const="local",
        metavar="ADDRESS",
        help="read and convert on a cluster, by default on this machine (extra): docs/scale.md",
    )
    parser.add_argument("--clear-cache", action="store_true", help="remove all cached clips")
    args = parser.parse_args(argv)
    if args.cache_size and not args.cache:
        parser.error("--cache-size bounds the cache of --cache")
    if args.ray and args.workers:
        parser.error("--workers: expected without --ray, which takes the cores of the cluster")
    if args.clear_cache:
        from mmact_tiny.cache.cache import clear_cache

        clear_cache()
        if args.src is None:
            return
    if args.src is None or args.out is None:
        before = ", before --ray" * bool(args.ray)
        parser.error(f"name the videos, SRC{before}, and where the dataset goes, --out DIR")

    from mmact_tiny.prepare.prepare import prepare_data

    settings = Settings(
        videos=args.videos,
        tier=args.tier,
        multi_label=args.multi_label,
        background=args.background,
        group=args.group,
        frame_rate=args.frame_rate,
        split=args.split,
        val=args.val,
        seed=args.seed,
        min_frames=args.min_frames,
        batch_size=args.batch_size,
        keep_leaks=args.keep_leaks,
        copy=args.copy,
        convert=not args.no_convert,
        num_workers=args.workers,
        seconds_per_video=args.time_limit,
    )
    if args.ray:
        need_room("scale", "--ray")
        scale = import_module("mmact_tiny.scale")
        with scale.calls_on(args.ray, None if args.no_convert else args.out) as call_each:
            prepare_data(args.src, args.out, replace(settings, call_each=call_each))
    else:
        prepare_data(args.src, args.out, settings)
    if args.cache:
        from mmact_tiny.cache.cache import cache_dataset

        cache_dataset(args.out, format=args.cache, max_bytes=args.cache_size)


if __name__ == "__main__":
    raise SystemExit(main())
