"""Download the tutorial's dataset and the weights of MMAction2's zoo to data/ and checkpoints/.

  python tools/download.py --list
  python tools/download.py --list slowfast
  python tools/download.py kinetics400_tiny tsn_r50_k400

Interrupted, the same command goes on where it stopped. Set MMACT_TINY_MIRROR to a mirror of
https://download.openmmlab.com to fetch from there.
"""

import sys
from collections.abc import Sequence

from mmact_tiny.cli import make_parser, tool


@tool
def main(argv: Sequence[str] | None = None) -> None:
    parser = make_parser(__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="what to fetch, by its name")
    parser.add_argument(
        "--list",
        nargs="?",
        const="",
        metavar="WORD",
        help="show the names and what is there; only what has the word in its name or dataset",
    )
    parser.add_argument("--force", action="store_true", help="fetch again what is there")
    args = parser.parse_args(argv)
    if not args.names and args.list is None:
        parser.error("name what to download, or give --list")

    from mmact_tiny import download

    if args.list is not None:
        print(download.table(args.list))
    for item in [download.find_published(name) for name in args.names]:
        if download.is_there(item) and not args.force:
            print(f"{item.name}: {item.path} is there already, whole")
        else:
            print(f"{item.name}: saved to {download.fetch(item, force=args.force)}")


if __name__ == "__main__":
    sys.exit(main())
