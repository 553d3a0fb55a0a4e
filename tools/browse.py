"""Look at what the network sees: a picture of a split's samples, or of one video's time line.

python tools/browse.py configs/tsn_tiny.py
python tools/browse.py configs/tsn_tiny.py --data data/mine --split val --num 32 --out val.png
python tools/browse.py configs/tsn_tiny.py video.mp4

Without VIDEO: the frames after every transform, augmentation applied, with label and file name.
With VIDEO: which of its frames training, validation and test take.
"""

import logging
from collections.abc import Sequence

from mmact_tiny import cli
from mmact_tiny.errors import EXIT_OK
from mmact_tiny.files import check_out


@cli.tool
def main(argv: Sequence[str] | None = None) -> int | None:
    parser = cli.make_parser(__doc__)
    parser.add_argument("config", help="file, or mmaction::NAME of an installed stock config")
    parser.add_argument("video", nargs="?", help="mark the frames that are taken of this file")
    parser.add_argument("--split", choices=("train", "val", "test"), default="train")
    parser.add_argument("--num", type=int, default=16, metavar="N", help="videos (default: 16)")
    parser.add_argument("--data", metavar="DIR", help="dataset folder")
    parser.add_argument(
        "--pretrained", metavar="auto|none|imagenet|zoo|PATH|URL", help="as in train.py"
    )
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="default: 0")
    parser.add_argument("--out", metavar="FILE.png", default="browse.png")
    cli.add_cfg_options(parser)
    args = parser.parse_intermixed_args(argv)  # VIDEO may come last
    cli.start(args)
    check_out(args.out, [".png"])

    from mmact_tiny.view.browse import browse_split, browse_video
    from mmact_tiny.view.describe import config_to_describe
    from mmact_tiny.view.sheet import write_picture

    logging.getLogger("mmact_tiny").setLevel(logging.WARNING)  # the overrides' changes
    options = dict(args.cfg_options)
    cfg = config_to_describe(
        args.config, data_root=args.data, pretrained=args.pretrained, options=options
    )
    if args.video is None:
        page = browse_split(cfg, args.split, num=args.num, seed=args.seed)
    else:
        page = browse_video(cfg, args.video, seed=args.seed)
    write_picture(page, args.out)
    print(f"written: {args.out}")
    return EXIT_OK


if __name__ == "__main__":
    raise SystemExit(main())
