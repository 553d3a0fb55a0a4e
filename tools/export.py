"""Export a checkpoint for others: safetensors, ONNX or OpenVINO, with its classes.

python tools/export.py                                the newest run, its best checkpoint
python tools/export.py FILE.pth --out model.safetensors
python tools/export.py --format onnx                  one file that runs without PyTorch
python tools/export.py --format onnx --int8 --videos FOLDER
"""

from collections.abc import Sequence

from mmact_tiny import cli
from mmact_tiny.errors import EXIT_OK, UserError, as_typed


@cli.tool
def main(argv: Sequence[str] | None = None) -> int | None:
    parser = cli.make_parser(__doc__)
    parser.add_argument("checkpoint", nargs="?", help="default: the best of the newest run")
    parser.add_argument("--checkpoint", dest="named", metavar="FILE", help="the same")
    formats = ("safetensors", "onnx", "openvino")
    parser.add_argument("--format", choices=formats, default=formats[0], help="docs/export.md")
    parser.add_argument("--out", metavar="FILE", help="default: beside the checkpoint, by its name")
    parser.add_argument("--int8", action="store_true", help="quantized, for CPUs (extra)")
    parser.add_argument(
        "--videos",
        metavar="VIDEO_OR_DIR",
        help="to compare and quantize on; default: the run's validation videos",
    )
    args = parser.parse_args(argv)
    if args.named is not None and args.checkpoint is not None:
        parser.error("expected one checkpoint")
    checkpoint = args.checkpoint if args.named is None else args.named
    if args.format == "safetensors" and (args.int8 or args.videos):
        raise UserError("--int8 and --videos: expected --format onnx or openvino")
    args.device = "cpu"
    cli.start(args, trains=args.format == "safetensors")

    if args.format == "safetensors":
        from mmact_tiny.export.safetensors import export_safetensors

        done = export_safetensors(checkpoint, args.out)
        classes = f"{len(done.classes)} classes" if done.classes else "no class names"
        config = "its config" if done.has_config else "no config"
        print(f"written: {done.path}")
        print(f"  {done.num_tensors} tensors, {done.num_bytes / 1e6:.1f} MB, {classes}, {config}")
    else:
        cli.need_room("portable", f"--format {args.format}")
        from mmact_tiny.export.onnx_file import export_network

        done = export_network(
            checkpoint,
            args.out,
            target=args.format,
            int8=args.int8,
            videos=[args.videos] if args.videos else [],
        )
        far = done.differences
        print(f"written: {done.path}")
        print(f"  {done.num_bytes / 1e6:.1f} MB, {done.num_classes} classes, all protocols")
        print(
            f"  largest difference of a score on {far.videos} videos: {far.engine:.1e} from the "
            f"engine, {far.stock:.1e} from stock"
        )
    if args.format != "openvino":
        print(as_typed(f"next: python tools/infer.py VIDEO --checkpoint {done.path}"))
    return EXIT_OK


if __name__ == "__main__":
    raise SystemExit(main())
