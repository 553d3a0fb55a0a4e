"""Overrides of decoding and of testing: how videos are read, what is scored, and how."""

from typing import Any

from ..compat import Config
from ..pipeline import (
    num_views,
    pipeline_of,
    sampling_step,
    set_pipeline,
    split_datasets,
    with_decoder,
)
from .registry import OVERRIDES, add_hook, comes_after, use_plugin

FRAMES_A_BATCH = 24  # of all views: little for the memory, enough for one forward pass
META_KEYS = ("img_shape", "img_key", "video_id", "timestamp")  # stock's default


@OVERRIDES.register_module()
@comes_after("recipe", "clip_cache")
def decoder(cfg: Config, name: str = "packets") -> None:
    """Chooses how training and validation decode the videos that no clip cache has.

    A `RepeatAugDataset`, which asserts decord, becomes a `RepeatedVideos`.

    Args:
        name: `packets`, which decodes only what the frames need, or `decord`; the same pixels
            where decord reads a video right, which it refuses where not.
    """
    for split, dataset in split_datasets(cfg):
        pipeline = dataset.get("pipeline") or []
        types = {step["type"] for step in pipeline}
        if split == "test" or ("CachedVideo" in types and "ClipInit" not in types):
            continue
        own = "packets" if "ClipInit" in types else name  # also in a dump of 0.1.0
        set_pipeline(cfg, split, dataset, with_decoder(pipeline, own))
        if dataset.type == "RepeatAugDataset":
            dataset.type = "RepeatedVideos"
            use_plugin(cfg, "mmact_tiny.hooks.repeats")
    use_plugin(cfg, "mmact_tiny.video.frames")


@OVERRIDES.register_module()
@comes_after("recipe", "input_size", "clip_cache", "multi_label")
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
    metric: dict[str, Any] = dict(type="AccMetric")
    if cfg.test_dataloader.dataset.get("multi_class"):
        metric["metric_list"] = ("mean_average_precision",)
    cfg.test_evaluator = [metric, dict(type="VideoScores")]
    use_plugin(cfg, "mmact_tiny.metrics")


@OVERRIDES.register_module()
@comes_after("recipe", "protocol", "batch_size")
def inference(
    cfg: Config, precision: str = "fp32", engine: str = "torch", decoder: str = "packets"
) -> None:
    """Chooses the engine and the decoder of testing; the scores in fp32 are stock's.

    Several videos share a batch where they have few frames, one is a batch where the model takes
    its views in parts (`max_testing_views`): stock asserts it, and the engine does that anyway.

    Args:
        precision: `fp32`, `bf16`, `fp16` (CUDA) or `auto`.
        engine: `torch`, `openvino` or `auto`.
        decoder: `packets` or `decord`, as of the override `decoder`.
    """
    loader = cfg.test_dataloader
    set_pipeline(cfg, "test", loader.dataset, with_decoder(loader.dataset.pipeline, decoder))
    clips, crops = num_views(loader.dataset.pipeline)
    frames = clips * crops * sampling_step(loader.dataset.pipeline).get("clip_len", 1)
    loader.batch_size = max(loader.batch_size, FRAMES_A_BATCH // frames)
    if (cfg.model.get("test_cfg") or {}).get("max_testing_views"):
        loader.batch_size = 1
    use_plugin(cfg, "mmact_tiny.video.frames")
    use_plugin(cfg, "mmact_tiny.hooks")
    add_hook(cfg, "EngineHook", precision=precision, engine=engine)
