"""Renders the bundled clips of data/tiny again, or others like them with another seed.

python tools/render_tiny.py --out data/tiny
"""

from collections.abc import Sequence
from pathlib import Path

from mmact_tiny.cli import make_parser, tool


@tool
def main(argv: Sequence[str] | None = None) -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder of the dataset")
    parser.add_argument("--seed", type=int, help="default: the seed of the committed clips")
    args = parser.parse_args(argv)

    from mmact_tiny.prepare.tiny_clips import SEED, render_dataset

    paths = render_dataset(args.out, SEED if args.seed is None else args.seed)
    num_bytes = sum(path.stat().st_size for path in paths)
    print(f"{len(paths)} clips in {args.out}, {num_bytes / 1e6:.2f} MB")


if __name__ == "__main__":
    raise SystemExit(main())
