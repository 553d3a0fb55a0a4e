"""Decides whether a run can go on from a checkpoint, before stock takes up any of it."""

from pathlib import Path
from typing import Any

from ..errors import UserError
from ..hardware import MAX_SEED
from ..log import SHOWN

RATES = ("lr", "momentum", "weight_decay", "betas", "eps", "nesterov")
MOVING = ("last_step", "_global_step", "_last_value", "verbose")  # of a scheduler


def check_resumable(checkpoint: dict, path: str | Path, runner: Any) -> None:
    """Compares a checkpoint with the run that is to go on from it.

    Warns where the optimizer or the schedule of the config are others: stock goes on with those
    of the checkpoint.

    Raises:
        UserError: what is missing, as in a best or published checkpoint, or does not fit.
    """
    needed = ("state_dict", "meta", "message_hub", "optimizer")
    missing = [key for key in needed if key not in checkpoint]
    if missing:
        raise UserError(
            f"cannot resume from checkpoint {path}: it has no {', '.join(missing)}. Resume from "
            "an epoch_*.pth or iter_*.pth, or start a new run with its weights (load_from)"
        )
    wrong = _wrong_numbers(checkpoint["meta"]) or _misfit(checkpoint, runner)
    if wrong:
        raise UserError(
            f"cannot resume from checkpoint {path}: {wrong}. Resume with the config that it was "
            "trained with, or start a new run with its weights (load_from)"
        )
    changed = [*_changed_rates(checkpoint, runner), *_changed_schedule(checkpoint, runner)]
    if changed:
        message = "resumed with the checkpoint's, not the config's: %s"
        runner.logger.warning(message, "; ".join(changed), extra=SHOWN)


def _wrong_numbers(meta: dict) -> str | None:
    seed = meta.get("seed")
    if seed is not None and not (type(seed) is int and 0 <= seed <= MAX_SEED):
        return f"its seed is {seed!r:.40}"
    for key in ("epoch", "iter"):
        if type(meta.get(key)) is not int or meta[key] < 0:
            return f"its {key} is {meta.get(key)!r:.40}"
    return None


def _misfit(checkpoint: dict, runner: Any) -> str | None:
    """Returns how the optimizer or the schedule do not fit the config's; None if they do."""
    theirs, own = checkpoint["optimizer"], runner.optim_wrapper.state_dict()
    if "param_groups" not in own:  # several optimizers
        return None
    groups = theirs.get("param_groups") if isinstance(theirs, dict) else None
    if not isinstance(groups, list) or not all(isinstance(group, dict) for group in groups):
        return "its optimizer has no groups of parameters"
    sizes, own_sizes = (
        [len(g.get("params") or ()) for g in s] for s in (groups, own["param_groups"])
    )
    if sizes != own_sizes:
        return f"its optimizer has groups of {sizes} parameters, the config's of {own_sizes}"
    unknown = sorted(own["param_groups"][0].keys() - groups[0].keys() - {"initial_lr"})
    if unknown:
        return f"its optimizer is of another type, without {', '.join(unknown)}"
    schedulers = checkpoint.get("param_schedulers") or []
    if isinstance(runner.param_schedulers, list) and len(schedulers) != len(
        runner.param_schedulers
    ):
        return f"it has {len(schedulers)} schedulers, the config {len(runner.param_schedulers)}"
    return None


def _changed_rates(checkpoint: dict, runner: Any) -> list[str]:
    own = runner.optim_wrapper.state_dict().get("param_groups")
    if not own:
        return []
    mine, theirs = (
        {**g, "lr": g.get("initial_lr", g["lr"])}
        for g in (own[0], checkpoint["optimizer"]["param_groups"][0])
    )
    return [
        f"{key} {theirs[key]:g}, not {mine[key]:g}"
        if isinstance(mine[key], float) and isinstance(theirs[key], float)
        else f"{key} {theirs[key]}, not {mine[key]}"
        for key in RATES
        if key in mine and mine[key] != theirs[key]
    ]


def _changed_schedule(checkpoint: dict, runner: Any) -> list[str]:
    if not isinstance(runner.param_schedulers, list):
        return []
    pairs = zip(runner.param_schedulers, checkpoint["param_schedulers"], strict=True)
    return [
        f"{type(own).__name__} {key} {theirs[key]}, not {value}"
        for own, theirs in pairs
        if not isinstance(own, dict)  # built later, where a program resumes by itself
        for key, value in own.state_dict().items()
        if key in theirs and key not in MOVING and key != "base_values" and theirs[key] != value
    ]
