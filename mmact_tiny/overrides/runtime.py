"""Overrides of the machine and the run: precision, workers, work directory, checkpoints, guard."""

from pathlib import Path

from .. import hardware
from ..compat import Config
from ..errors import UserError
from ..hooks.guard import MAX_BAD_FRACTION
from ..pipeline import SPLITS
from ..video.isolated import VIDEO_SECONDS
from .cache import time_epochs
from .registry import OVERRIDES, add_hook, comes_after, record_choice, use_plugin
from .tracking import log_epoch_means, use_trackers
from .training import default_work_dir


@OVERRIDES.register_module()
@comes_after("recipe")
def checkpoints(
    cfg: Config, interval: int | None = None, max_keep: int | None = None, every: int | None = None
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
def data_guard(
    cfg: Config, max_bad_fraction: float | None = None, video_seconds: float | None = None
) -> None:
    """Has a broken video cost only itself: see `GuardedLoader`.

    Args:
        max_bad_fraction: Training stops when more of a split's videos than this cannot be read;
            by default the config's, else 0.1.
        video_seconds: Time limit for one video, by default the config's, else 120.
    """
    hooks = [hook for hook in cfg.get("custom_hooks") or [] if hook["type"] == "DataGuardHook"]
    own = dict(hooks[0]) if hooks else {}
    if max_bad_fraction is None:
        max_bad_fraction = own.get("max_bad_fraction", MAX_BAD_FRACTION)
    if video_seconds is None:
        video_seconds = own.get("video_seconds", VIDEO_SECONDS)
    if not 0 <= max_bad_fraction <= 1:
        raise UserError(f"data_guard max_bad_fraction={max_bad_fraction}: expected 0 to 1")
    if not video_seconds > 0:
        raise UserError(f"data_guard video_seconds={video_seconds}: expected more than 0")
    use_plugin(cfg, "mmact_tiny.hooks")
    add_hook(cfg, "DataGuardHook", max_bad_fraction=max_bad_fraction, video_seconds=video_seconds)


@OVERRIDES.register_module(name="hardware")
@comes_after("recipe")
def fit_to_hardware(cfg: Config, precision: str = "auto", num_workers: int | None = None) -> None:
    """Fits the run to the machine: precision, memory format, loader workers, process backend.

    Args:
        precision: `auto`, `fp32`, `bf16` or `fp16`, of the forward pass in training.
        num_workers: Loader processes for each training process, by default from the CPU cores.
    """
    chosen, reason = hardware.choose_precision(precision)
    cuda = hardware.has_cuda()
    wrapper = cfg.optim_wrapper
    if chosen == "fp32":
        wrapper.type = "OptimWrapper"
        wrapper.pop("dtype", None)
    else:
        wrapper.type = "AmpOptimWrapper" if cuda else "CpuAmpOptimWrapper"
        wrapper.dtype = hardware.DTYPES[chosen]
    if wrapper.type != "AmpOptimWrapper":
        wrapper.pop("loss_scale", None)
    record_choice(cfg, "optim_wrapper.dtype", reason)
    reason = "as asked"
    if num_workers is None:
        num_workers, reason = hardware.choose_num_workers()
    if num_workers < 0:
        raise UserError(f"num_workers={num_workers}: expected 0 or more")
    for split in SPLITS:
        loader = cfg.get(f"{split}_dataloader")
        if loader is not None:
            loader.num_workers = num_workers
            loader.persistent_workers = num_workers > 0
            loader.pin_memory = cuda
    record_choice(cfg, "train_dataloader.num_workers", reason)
    cfg.env_cfg.dist_cfg.backend = "nccl" if cuda else "gloo"
    use_plugin(cfg, "mmact_tiny.hooks")
    add_hook(cfg, "PrecisionHook")
    time_epochs(cfg)


@OVERRIDES.register_module()
def run(
    cfg: Config,
    work_dir: str | None = None,
    seed: int | None = None,
    deterministic: bool | None = None,
    launcher: str | None = None,
    track: list | None = None,
) -> None:
    """Sets what belongs to this run alone, and has its log tell the means of each epoch.

    Args:
        work_dir: Folder of its logs and checkpoints, by default `work_dirs/<config stem>`.
        seed: Seed of every random generator.
        deterministic: Whether PyTorch may use only deterministic algorithms.
        launcher: none, pytorch, slurm or mpi.
        track: Trackers to log to: tensorboard, wandb, mlflow; by default the config's.
    """
    if work_dir is not None and (
        not work_dir.strip() or "\0" in work_dir or Path(work_dir).is_file()
    ):
        raise UserError(f"--work-dir {work_dir!r}: expected the name of a folder")
    cfg.work_dir = work_dir or cfg.get("work_dir") or default_work_dir(cfg)
    log_epoch_means(cfg)
    if track is not None:
        use_trackers(cfg, track)
    randomness = dict(cfg.get("randomness") or {})
    if seed is not None:
        randomness["seed"] = seed
    if deterministic is not None:
        randomness["deterministic"] = deterministic
    if randomness:
        cfg.randomness = randomness
    if launcher is not None:
        if launcher not in hardware.LAUNCHERS:
            raise UserError(f"launcher {launcher!r}: expected {', '.join(hardware.LAUNCHERS)}")
        cfg.launcher = launcher
        if launcher != "none" and not hardware.has_cuda():
            # Without it MMEngine gives DistributedDataParallel a GPU's index.
            cfg.model_wrapper_cfg = dict(
                type="MMDistributedDataParallel",
                device_ids=None,
                broadcast_buffers=False,
            )
            if "find_unused_parameters" in cfg:
                cfg.model_wrapper_cfg.find_unused_parameters = cfg.find_unused_parameters
