"""Jobs over any number of videos, in any number of processes, that can be killed at any moment.

`job` has the folder of a job: its list of videos, its identity, and its parts. `score` fills the
parts in this process, `cluster` with Ray, `collect` joins them. `store` reads and writes folders
here and by address, `fetch` brings videos that have an address.

What a tool needs of it is here; it imports the rest when it is used.
"""

import argparse
from collections.abc import Callable
from importlib import import_module
from typing import Any

from .. import hardware
from ..errors import UserError
from .store import is_address, names_a_folder

__all__ = ["add_flags", "check_flags", "collect_job", "score_job"]


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of jobs to those of a tool that has `--out`."""
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


def check_flags(args: argparse.Namespace) -> bool:
    """Returns whether `--out` or `--collect` names the folder of a job; gives the job a device.

    Raises:
        UserError: a flag of jobs without one.
    """
    is_folder = args.out is not None and names_a_folder(args.out)
    is_job = is_folder or args.collect is not None
    names = [name for name in ("part", "parquet", "ray") if getattr(args, name)]
    names += ["launcher"] * (args.launcher != "none")
    if names and (not is_folder or args.collect is not None):
        raise UserError(f"--{names[0]}: expected --out FOLDER, without --collect")
    if is_job and (args.render or args.cam):
        raise UserError("--render and --cam: expected --out FILE, or none")
    if args.collect is not None and args.videos:
        raise UserError(f"--collect {args.collect}: expected no VIDEO_OR_DIR, as {args.videos[0]}")
    if args.out is not None and is_address(args.out) and not is_job:
        raise UserError(f"--out {args.out}: expected the address of a folder")
    if is_job and args.launcher != "none" and args.device == "auto":
        args.device = import_module(".score", __name__).device_of_rank()
    return is_job


def collect_job(folder: str, out: str | None, write_windows: Callable[..., None]) -> int:
    """Joins a job to one file, see `collect.collect`."""
    return import_module(".collect", __name__).collect(folder, out, write_windows)


def score_job(args: argparse.Namespace, answers: dict[str, Any], settings: dict[str, Any]) -> int:
    """Scores what is missing of a job, see `score.score_job`."""
    own = dict(parquet=args.parquet, top_k=args.top_k, time_limit=args.time_limit, **settings)
    if args.ray is None:
        home = import_module(".score", __name__)
        own["share"] = home.share_of(args.launcher, args.part)
        return home.score_job(args.videos, args.out, rows_of=answers.get("rows_of"), **own)
    if answers or args.part or args.launcher != "none":
        raise UserError("--ray: expected without --window, --part and --launcher")
    home = import_module(".cluster", __name__)
    return home.score_job(args.videos, args.out, ray=args.ray, **own)
