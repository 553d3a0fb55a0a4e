"""Has training and validation read the clip cache."""

from collections.abc import Sequence

from ..cache.clip import CODECS
from ..compat import Config
from ..errors import UserError, suggest
from ..hooks.timing import RAISE_WORKERS
from ..pipeline import SPLITS, Step, exact_pipeline, set_pipeline, split_datasets, with_decoder
from .registry import OVERRIDES, add_hook, comes_after, use_plugin

READERS = ("clip", "stock")
# What a run is told whose epochs wait for videos.
FILL_FIRST = f"the first epoch fills the cache{{}}; after it, {RAISE_WORKERS}"
BOUND = " as far as --cache-size has room, and a larger one holds more videos"


@OVERRIDES.register_module()
@comes_after("recipe", "input_size")
def clip_cache(
    cfg: Config,
    root: str | None = None,
    format: str = "small",
    max_bytes: int | None = None,
    splits: Sequence[str] = ("train", "val"),
    build: bool = True,
    reader: str = "clip",
) -> None:
    """Reads videos from the clip cache, at the size that the pipeline's first Resize asks for.

    Args:
        root: The cache's folder, by default `cache.default_root()`.
        format: `small`, about the bytes of the source, or `fast`, twice that.
        max_bytes: Bound on the cache's bytes.
        splits: The pipelines to change. Testing stays exact unless it is named here.
        build: Whether a video that has no entry gets one when it is first met.
        reader: `clip`, or `stock` to open the clips with the config's own transforms; then a
            clip of odd width or height in format `small` has one column or row more.
    """
    for name, value, known in (("format", format, CODECS), ("reader", reader, READERS)):
        if value not in known:
            raise UserError(f"clip_cache {name}={value!r}{suggest(value, known)}")
    for split in splits:
        if split not in SPLITS:
            raise UserError(f"clip_cache splits: no {split!r}{suggest(split, SPLITS)}")
    for split, dataset in split_datasets(cfg):
        if split not in splits:
            continue
        if dataset.type in ("RepeatAugDataset", "RepeatedVideos"):
            raise UserError("clip_cache: a RepeatAugDataset opens its videos itself")
        steps = exact_pipeline(dataset.pipeline)
        where = f"{split}_dataloader.dataset.pipeline"
        settings = dict(root=root, format=format, short_side=_short_side(steps, where))
        if max_bytes is not None:
            settings["max_bytes"] = max_bytes
        steps = _open_clips(steps, where) if reader == "clip" else with_decoder(steps, "decord")
        cached = dict(type="CachedVideo", **settings, build=build)
        set_pipeline(cfg, split, dataset, [cached, *steps])
    use_plugin(cfg, "mmact_tiny.cache")
    if any(hook["type"] == "TimingHook" for hook in cfg.get("custom_hooks") or []):
        time_epochs(cfg)


def time_epochs(cfg: Config) -> None:
    """Adds the hook that measures epochs, with what it advises where they wait for videos."""
    use_plugin(cfg, "mmact_tiny.hooks")
    train = [dataset for split, dataset in split_datasets(cfg) if split == "train"]
    steps = [step for dataset in train for step in dataset.get("pipeline") or []]
    cached = [step for step in steps if step["type"] == "CachedVideo"]
    hint = FILL_FIRST.format(BOUND if any(step.get("max_bytes") for step in cached) else "")
    add_hook(cfg, "TimingHook", **({"data_hint": hint} if cached else {}))


def _short_side(steps: Sequence[Step], where: str) -> int:
    """Returns the size that the first Resize asks for, where nothing before it changes frames."""
    resize = next((step for step in steps if step["type"] == "Resize"), {})
    scale = resize.get("scale")
    before = [step["type"] for step in steps[: steps.index(resize)]] if resize else []
    plain = all(
        name.endswith(("Init", "Decode", "SampleFrames", "UniformSample")) for name in before
    )
    sides = tuple(scale) if isinstance(scale, (list, tuple)) else ()
    if not (plain and len(sides) == 2 and min(sides) == -1 and resize.get("keep_ratio", True)):
        raise UserError(
            f"clip_cache: {where} starts with {[*before, resize]}; it needs Resize(scale=(-1, N)) "
            "right after decoding, as stock TSN has it"
        )
    return max(sides)


def _open_clips(steps: Sequence[Step], where: str) -> list[Step]:
    steps = with_decoder(steps, "packets")
    openers, decodes = (
        [step for step in steps if step["type"] == name] for name in ("PacketInit", "PacketDecode")
    )
    if len(openers) != 1 or len(decodes) != 1:
        raise UserError(
            f"clip_cache reader='clip' replaces DecordInit, and {where} does not decode with "
            "DecordInit and DecordDecode; use reader='stock'"
        )
    openers[0]["type"] = "ClipInit"
    return steps
