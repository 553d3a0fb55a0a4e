"""Download the tutorial's dataset and the weights of MMAction2's zoo to data/ and checkpoints/.

  python tools/download.py --list
  python tools/download.py --list slowfast
  python tools/download.py kinetics400_tiny tsn_r50_k400
  python tools/download.py slowfast_r50_8xb8-4x16x1-256e_kinetics400-rgb

A name is one of --list, or a stock config. The names of the classes come with the weights.
Interrupted, the same command goes on where it stopped. MMACT_TINY_MIRROR names a mirror of
https://download.openmmlab.com, MMACT_TINY_LABEL_MAP_MIRROR one of
https://raw.githubusercontent.com, to fetch from there.
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
        was_there = download.is_there(item) and not args.force
        path = download.fetch(item, force=args.force)
        said = f"{path} is there already, whole" if was_there else f"saved to {path}"
        print(f"{item.name}: {said}")


if __name__ == "__main__":
    sys.exit(main())
