"""Describe a config: the model's stages, and which frames of a video it takes.

python tools/describe.py configs/tsn_tiny.py
python tools/describe.py mmaction::recognition/tsm/NAME.py --num-frames 100
python tools/describe.py configs/tsn_tiny.py --data data/mine --video video.mp4

A stock config needs no dataset here; with --data it is described as it would be trained.
"""

import logging
from collections.abc import Sequence

from mmact_tiny import cli
from mmact_tiny.errors import EXIT_OK


@cli.tool
def main(argv: Sequence[str] | None = None) -> int | None:
    parser = cli.make_parser(__doc__)
    parser.add_argument("config", help="file, or mmaction::NAME of an installed stock config")
    parser.add_argument("--data", metavar="DIR", help="dataset folder")
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--num-frames", type=int, default=300, metavar="N", help="default: 300")
    length.add_argument("--video", help="list the frames taken of this file")
    cli.add_cfg_options(parser)
    args = parser.parse_args(argv)
    cli.start(args)
    logging.getLogger("mmact_tiny").setLevel(logging.WARNING)  # the overrides' changes

    from mmact_tiny.view.describe import config_to_describe, describe

    cfg = config_to_describe(args.config, data_root=args.data, options=dict(args.cfg_options))
    print(describe(cfg, num_frames=args.num_frames, video=args.video))
    return EXIT_OK


if __name__ == "__main__":
    raise SystemExit(main())
