"""Jobs over any number of videos, in any number of processes, that can be killed at any moment.

`job` has the folder of a job: its list of videos, its identity, and its parts. `score` fills the
parts in this process, `cluster` with Ray, `collect` joins them. `store` reads and writes folders
here and by address, `fetch` brings videos that have an address. `call_each` has the cluster read
videos without a recognizer.

What a tool needs of it is here; it imports the rest when it is used.
"""

import argparse
import functools
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from importlib import import_module
from typing import Any

from ..errors import UserError
from .store import is_address, names_a_folder

__all__ = ["calls_on", "check_flags", "collect_job", "fill_job", "score_job"]

# Flags of what computes rows, by the value that says nothing.
OF_ROWS = {
    **dict.fromkeys(("checkpoint", "config", "label_map", "stride", "time_limit", "tool")),
    **dict.fromkeys(("top_k", "window")),
    **dict(protocol="full", per="video"),
}


def check_flags(args: argparse.Namespace, flags: Sequence[str]) -> bool:
    """Returns whether `--out` or `--collect` names the folder of a job; gives the job a device.

    Raises:
        UserError: a flag of jobs without one.
    """
    own = vars(args).get  # not every tool has all flags
    is_folder = args.out is not None and own("tool") is None and names_a_folder(args.out)
    is_job = is_folder or args.collect is not None
    others = [flag for flag in flags if flag != "--collect"]
    if others and (not is_folder or args.collect is not None):
        raise UserError(f"{others[0]}: expected --out FOLDER, without --collect")
    given = [name for name, usual in OF_ROWS.items() if own(name, usual) != usual]
    if args.collect is not None and given:
        flag = {"tool": "for"}.get(given[0], given[0].replace("_", "-"))
        raise UserError(f"--{flag}: expected without --collect, which joins what is there")
    if is_job and (own("render") or own("cam")):
        raise UserError("--render and --cam: expected --out FILE, not a folder")
    if args.collect is not None and args.videos:
        raise UserError(f"--collect {args.collect}: expected no VIDEO_OR_DIR, as {args.videos[0]}")
    if args.out is not None and is_address(args.out) and not is_job:
        raise UserError(f"--out {args.out}: expected the address of a folder")
    if is_job and args.launcher != "none" and args.device == "auto":
        args.device = import_module(".score", __name__).device_of_rank()
    return is_job


@contextmanager
def calls_on(address: str, folder: str | None) -> Iterator[Callable[..., Any]]:
    """Gives `call_each.call_each` for calls that write to a folder.

    The first call connects with the cluster at the address, see `cluster.connected`.
    """
    # Ray would go on for ever with a video that needs more memory than a machine has.
    os.environ.setdefault("RAY_task_oom_retries", "3")
    home = import_module(".cluster", __name__)
    with home.plain_errors(), ExitStack() as stack:
        connect = functools.cache(lambda: stack.enter_context(home.connected(address)))

        def call_each(function: Callable[..., Any], calls: Any) -> Any:
            connect()
            return import_module(".call_each", __name__).call_each(function, calls, folder)

        yield call_each


def collect_job(folder: str, out: str | None, **settings: Any) -> int:
    """Joins a job to one file, see `collect.collect`."""
    return import_module(".collect", __name__).collect(folder, out, **settings)


def fill_job(args: argparse.Namespace, **settings: Any) -> int:
    """Computes what is missing of a job of features, see `score.fill_job`."""
    home = import_module(".score", __name__)
    share = home.share_of(args.launcher, args.part)
    return home.fill_job(args.videos, args.out, share=share, **settings)


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
