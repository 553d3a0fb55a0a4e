"""Fit a linear probe on features of a frozen recognizer: a recognizer from few videos.

python tools/probe.py --data FOLDER                   # FOLDER/<class>/*.mp4, or a dataset
python tools/probe.py --data data/mine --folds 5      # cross-validation: an honest accuracy
python tools/probe.py --data data/mine --rank FOLDER  # which videos to label next
python tools/probe.py --data data/mine --checkpoint FILE.pth --config configs/tsn_mobilenetv2.py
torchrun --nproc_per_node=2 tools/probe.py --data data/mine --launcher pytorch

A folder without train.txt and val.txt is made a dataset first, as prepare_data.py does it, in
data/<its name>_probe.

Writes an ordinary run, which test.py, infer.py, train.py and the others read. Without
--checkpoint it takes the best weights in checkpoints/: published ones of Kinetics-400 by their
accuracy, then resnet50_torchvision, then a MobileNetV2 (`python tools/download.py NAME`).
"""

import os
import shlex
from collections.abc import Sequence
from pathlib import Path

from mmact_tiny import cli
from mmact_tiny.errors import EXIT_OK, EXIT_PARTIAL, UserError


def prepared(folder: str) -> str:
    """Returns a dataset folder as it is; of another folder of videos makes one, and returns it.

    Raises:
        UserError: nothing to make one of; the name that it would have is another folder's.
    """
    from mmact_tiny.dataset import ANN_FILES
    from mmact_tiny.video.files import walk_videos

    root = Path(os.path.abspath(Path(folder).expanduser()))  # noqa: PTH100  as `find_source`
    names = ANN_FILES["train"], ANN_FILES["val"]
    is_dataset = all(any((root / name).is_file() for name in split) for split in names)
    if is_dataset or not folder or not root.is_dir() or not cli.has_room("prepare"):
        return folder
    if next(walk_videos(root), None) is None:
        return folder
    from mmact_tiny.prepare.prepare import prepare_data
    from mmact_tiny.prepare.write import read_videos_table

    out = Path("data", f"{root.resolve().name}_probe")
    rows = read_videos_table(out)
    if rows and not Path(rows[0]["source"]).is_relative_to(root):
        raise UserError(
            f"{out} is a dataset of other videos, {rows[0]['source']}\n"
            f"  make one of these: python tools/prepare_data.py {shlex.quote(folder)} --out DIR"
        )
    print(f"{folder} has no lists of videos: {out} becomes a dataset of them")
    prepare_data(root, out)
    return str(out)


@cli.tool
def main(argv: Sequence[str] | None = None) -> int | None:
    parser = cli.make_parser(__doc__)
    parser.add_argument("--data", metavar="DIR", required=True, help="dataset, or class folders")
    parser.add_argument("--checkpoint", metavar="FILE", help="weights of a recognizer or backbone")
    parser.add_argument("--config", help="of the recognizer; default: that of the checkpoint")
    parser.add_argument(
        "--looks",
        type=int,
        default=2,
        metavar="N",
        help="at each training video: straight, mirrored, then other frames (default: 2)",
    )
    parser.add_argument(
        "--folds", type=int, metavar="K", help="K probes, each tested on videos that it did not see"
    )
    parser.add_argument(
        "--rank", metavar="FOLDER", help="of unlabelled videos: which of them to label next"
    )
    parser.add_argument("--work-dir", metavar="DIR", help="default: work_dirs/<config stem>_probe")
    cli.add_time_limit(parser)
    cli.add_device(parser)
    parser.add_argument("--launcher", choices=("none", "pytorch", "slurm", "mpi"), default="none")
    cli.add_cfg_options(parser)
    cli.add_verbose(parser)
    args = parser.parse_args(argv)
    cli.start(args)

    from mmact_tiny.features.run import probe

    result = probe(
        prepared(args.data) if args.launcher == "none" else args.data,
        config=args.config,
        checkpoint=args.checkpoint,
        looks=args.looks,
        folds=args.folds,
        rank=args.rank,
        work_dir=args.work_dir,
        launcher=args.launcher,
        time_limit=args.time_limit,
        options=dict(args.cfg_options),
        command=cli.command_line(),
    )
    if cli.has_room("report") and result.folder:
        from mmact_tiny.report.report import try_report

        try_report(result.folder)
    return EXIT_PARTIAL if result.errors else EXIT_OK


if __name__ == "__main__":
    raise SystemExit(main())
