"""Test protocols: which frames and crops of a video are scored, by name and in words."""

from collections.abc import Mapping, Sequence
from typing import Any

from .compat.mm import Config
from .errors import UserError
from .overrides.cache import exact_pipeline
from .overrides.registry import OVERRIDES, use_plugin

PROTOCOLS = ("full", "val")
CROPS = {"TenCrop": 10, "ThreeCrop": 3}
META_KEYS = ("img_shape", "img_key", "video_id", "timestamp")  # stock's default


def pipeline_of(cfg: Config, protocol: str) -> list[Any]:
    """Returns the pipeline that stock's Runner would use for `full` (test) or `val`.

    It reads the videos themselves, also where training read its validation from the clip cache.

    Raises:
        UserError: another name, or a config without that data loader.
    """
    if protocol not in PROTOCOLS:
        raise UserError(f"protocol {protocol!r}: expected {' or '.join(PROTOCOLS)}")
    key = "test_dataloader" if protocol == "full" else "val_dataloader"
    if cfg.get(key) is None:
        raise UserError(f"the config has no {key}, which protocol {protocol!r} takes")
    return exact_pipeline(cfg[key].dataset.pipeline)


@OVERRIDES.register_module()
def protocol(cfg: Config, name: str = "full") -> None:
    """Makes testing use one protocol, keep each video's scores, and name the videos.

    Args:
        name: `full`, stock's test pipeline, or `val`, its validation pipeline.
    """
    steps = [dict(step) for step in pipeline_of(cfg, name)]
    for step in steps:
        if step["type"] == "PackActionInputs":
            keys = step.get("meta_keys", META_KEYS)
            step["meta_keys"] = (*keys, "filename") if "filename" not in keys else tuple(keys)
    cfg.test_dataloader.dataset.pipeline = steps
    if "test_pipeline" in cfg:
        cfg.test_pipeline = steps  # the copy that stock's inference reads
    cfg.test_evaluator = [dict(type="AccMetric"), dict(type="VideoScores")]
    use_plugin(cfg, "mmact_tiny.metrics")


def _sampling(pipeline: Sequence[Any]) -> Mapping[str, Any]:
    """Returns the step that chooses the frames."""
    return next((step for step in pipeline if "num_clips" in step), {})


def num_views(pipeline: Sequence[Any]) -> tuple[int, int]:
    """Returns `(clips, crops)` of a test pipeline; a video has clips x crops views."""
    sampling = _sampling(pipeline)
    crops = [CROPS[step["type"]] for step in pipeline if step["type"] in CROPS]
    return sampling.get("num_clips", 1), crops[0] if crops else 1


def describe_protocol(name: str, pipeline: Sequence[Any]) -> str:
    """Returns the protocol in words: `full: 25 clips x 10 crops = 250 views a video, ...`."""
    clips, crops = num_views(pipeline)
    sampling = _sampling(pipeline)
    resize = next((step["scale"] for step in pipeline if step["type"] == "Resize"), None)
    crop = next((step["crop_size"] for step in pipeline if "crop_size" in step), None)
    length, interval = sampling.get("clip_len", 1), sampling.get("frame_interval", 1)
    words = [
        f"{clips} clips x {crops} crops = {clips * crops} views a video",
        f"clips of {length} frame(s), interval {interval}",
    ]
    if resize is not None:
        words.append(f"short side {max(resize)}" if -1 in resize else f"resized to {resize}")
    if crop is not None:
        words.append(f"crop {crop}")
    return f"{name}: {', '.join(words)}"
