"""Export a checkpoint to safetensors, the format to hand to others: weights, classes and config.

python tools/export.py                                the newest run, its best checkpoint
python tools/export.py FILE.pth --out model.safetensors
"""

from collections.abc import Sequence

from mmact_tiny import cli
from mmact_tiny.errors import EXIT_OK, as_typed


@cli.tool
def main(argv: Sequence[str] | None = None) -> int | None:
    parser = cli.make_parser(__doc__)
    parser.add_argument("checkpoint", nargs="?", help="default: the best of the newest run")
    parser.add_argument(
        "--out", metavar="FILE.safetensors", help="default: beside the checkpoint, by its name"
    )
    args = parser.parse_args(argv)
    cli.start(args)

    from mmact_tiny.export.safetensors import export_safetensors

    done = export_safetensors(args.checkpoint, args.out)
    classes = f"{len(done.classes)} classes" if done.classes else "no class names"
    config = "its config" if done.has_config else "no config"
    print(f"written: {done.path}")
    print(f"  {done.num_tensors} tensors, {done.num_bytes / 1e6:.1f} MB, {classes}, {config}")
    print(as_typed(f"next: python tools/infer.py VIDEO --checkpoint {done.path}"))
    return EXIT_OK


if __name__ == "__main__":
    raise SystemExit(main())
