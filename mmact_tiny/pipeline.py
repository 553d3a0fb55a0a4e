"""Reads and rewrites the pipelines of a config: splits, decoders, test protocols."""

from collections.abc import Iterator, Sequence
from importlib import import_module
from typing import Any

from . import compat
from .errors import UserError

SPLITS = ("train", "val", "test")
PROTOCOLS = ("full", "val")
CROPS = {"TenCrop": 10, "ThreeCrop": 3}
DECODERS = ("packets", "decord")
_STEPS = {
    "packets": {
        f"{name}{step}": f"Packet{step}"
        for name in ("Decord", "CheckedDecord", "PyAV", "OpenCV", "PIMS")
        for step in ("Init", "Decode")
    },
    "decord": dict.fromkeys(("DecordInit", "PacketInit"), "CheckedDecordInit")
    | {"PacketDecode": "DecordDecode"},
}
_EXACT = dict.fromkeys(("PacketInit", "CheckedDecordInit", "ClipInit"), "DecordInit")
Step = dict[str, Any]  # of a pipeline: its `type` and its arguments


def split_datasets(cfg: "compat.Config") -> Iterator[tuple[str, "compat.ConfigDict"]]:
    """Yields `(split, dataset)` for each data loader, wrappers such as RepeatDataset opened."""
    for split in SPLITS:
        loader = cfg.get(f"{split}_dataloader")
        if loader is not None:
            dataset = loader.dataset
            while "dataset" in dataset and "ann_file" not in dataset:
                dataset = dataset.dataset
            yield split, dataset


def set_pipeline(
    cfg: "compat.Config", split: str, dataset: "compat.ConfigDict", steps: Sequence[Step]
) -> None:
    """Sets a dataset's pipeline, and the config's variable of the same content with it.

    The dump would say two things otherwise, and stock's inference reads the variable.
    """
    variable = cfg.get(f"{split}_pipeline") or []
    # MMEngine adds `_scope_` to the variables of a base config of MMAction2.
    plain = [{key: step[key] for key in step if key != "_scope_"} for step in variable]
    if plain and plain == dataset.pipeline:
        cfg[f"{split}_pipeline"] = steps
    dataset.pipeline = steps


def with_decoder(pipeline: Sequence[Step], decoder: str) -> list[Step]:
    """Returns a pipeline that reads videos with `packets`, or with decord where that is right.

    Decord's `efficient` mode, which returns other frames, stays; so does what `ClipInit` opens.

    Args:
        pipeline: Stock's steps.
        decoder: `packets` or `decord`.

    Raises:
        UserError: another decoder.
    """
    if decoder not in DECODERS:
        raise UserError(f"decoder {decoder!r}: expected {' or '.join(DECODERS)}")
    import_module("mmact_tiny.video.frames")  # registers them; takes MMAction2's with it, so late
    is_efficient = any(step.get("mode") == "efficient" for step in pipeline)
    names = _STEPS["decord" if is_efficient else decoder]
    steps = [dict(step, type=names.get(step["type"], step["type"])) for step in pipeline]
    for step in steps:
        if step["type"] == "PacketDecode":
            step.pop("multi_thread", None)  # of PyAVDecode
    return steps


def exact_pipeline(pipeline: Sequence[Step]) -> list[Step]:
    """Returns a pipeline's steps as stock has them: they read the sources, with decord."""
    names = _EXACT | {"PacketDecode": "DecordDecode"}
    steps = [step for step in pipeline if step["type"] != "CachedVideo"]
    return [dict(step, type=names.get(step["type"], step["type"])) for step in steps]


def pipeline_of(cfg: "compat.Config", protocol: str) -> list[Step]:
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


def sampling_step(pipeline: Sequence[Step]) -> Step:
    """Returns the step that chooses the frames."""
    return next((step for step in pipeline if {"num_clips", "clip_len"} & {*step}), {})


def num_views(pipeline: Sequence[Step]) -> tuple[int, int]:
    """Returns `(clips, crops)` of a test pipeline; a video has clips x crops views."""
    crops = [CROPS[step["type"]] for step in pipeline if step["type"] in CROPS]
    step = sampling_step(pipeline)
    dense = step.get("num_sample_positions", 10) if step.get("type") == "DenseSampleFrames" else 1
    repeats = dense * (1 + bool(step.get("twice_sample"))) if step.get("test_mode") else 1
    return step.get("num_clips", 1) * repeats, crops[0] if crops else 1


def describe_protocol(name: str, pipeline: Sequence[Step]) -> str:
    """Returns the protocol in words: `full: 25 clips x 10 crops = 250 views a video, ...`."""
    clips, crops = num_views(pipeline)
    sampling = sampling_step(pipeline)
    resize = next((step["scale"] for step in pipeline if step["type"] == "Resize"), None)
    crop = next((step["crop_size"] for step in pipeline if "crop_size" in step), None)
    spread = str(sampling.get("type")).startswith("Uniform")
    how = "spread over it" if spread else f"interval {sampling.get('frame_interval', 1)}"
    words = [
        f"{clips} clips x {crops} crops = {clips * crops} views a video",
        f"clips of {sampling.get('clip_len', 1)} frame(s), {how}",
    ]
    if resize is not None:
        short = not isinstance(resize, float) and -1 in resize
        words.append(f"short side {max(resize)}" if short else f"resized to {resize}")
    if crop is not None:
        words.append(f"crop {crop}")
    return f"{name}: {', '.join(words)}"
