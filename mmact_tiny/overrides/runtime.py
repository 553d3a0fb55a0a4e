"""Overrides that keep a run from being lost: checkpoints, and what reads the videos."""

from ..compat.mm import Config
from ..errors import UserError
from .registry import OVERRIDES, add_hook, use_plugin


@OVERRIDES.register_module()
def checkpoints(
    cfg: Config,
    interval: int | None = None,
    max_keep: int | None = None,
    every: int | None = None,
) -> None:
    """Makes checkpoints safe to read, atomic to write, exact to resume from, and never of nan.

    Args:
        interval: Epochs between checkpoints, by default the config's. The last epoch and the
            best one are always written.
        max_keep: How many of them stay, by default the config's.
        every: Iterations between checkpoints within epochs, of which the newest stays.
    """
    for key, value in {"interval": interval, "max_keep": max_keep, "every": every}.items():
        if value is not None and value < 1:
            raise UserError(f"checkpoints {key}={value}: expected 1 or more")
    use_plugin(cfg, "mmact_tiny.hooks")
    for name in ("WeightsHook", "ValidatedHook", "ResumeHook", "LossHook"):
        add_hook(cfg, name)
    for hook in cfg.custom_hooks:
        if hook["type"] == "EarlyStoppingHook":
            hook.setdefault("priority", "LOW")  # counts before the checkpoint that says so
    hooks = [hook for hook in cfg.custom_hooks if hook["type"] == "StopHook"]
    every = every or (hooks[0].get("every") if hooks else None)
    add_hook(cfg, "StopHook", **({"every": every} if every else {}))
    node = cfg.default_hooks.checkpoint
    node.type = "SafeCheckpointHook"
    for key, value in {"interval": interval, "max_keep_ckpts": max_keep}.items():
        if value is not None:
            node[key] = value


@OVERRIDES.register_module()
def data_guard(cfg: Config, max_bad_fraction: float = 0.1, video_seconds: float = 120) -> None:
    """Has a broken video cost only itself: see `GuardedLoader`.

    Args:
        max_bad_fraction: Training stops when more of a split's videos than this cannot be read.
        video_seconds: Time limit for one video.
    """
    if not 0 <= max_bad_fraction <= 1:
        raise UserError(f"data_guard max_bad_fraction={max_bad_fraction}: expected 0 to 1")
    if not video_seconds > 0:
        raise UserError(f"data_guard video_seconds={video_seconds}: expected more than 0")
    use_plugin(cfg, "mmact_tiny.hooks")
    add_hook(cfg, "DataGuardHook", max_bad_fraction=max_bad_fraction, video_seconds=video_seconds)
