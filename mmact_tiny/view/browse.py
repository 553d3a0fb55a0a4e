"""What the network sees: a split's videos after every transform of their pipeline, as a sheet."""

import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from ..compat.mm import DATASETS, Config, init_default_scope
from ..errors import UserError
from ..hooks.dataset import seed_generators
from ..pipeline import split_datasets
from ..video.frames import choose_evenly
from ..video.isolated import GuardedReader
from .describe import config_to_describe
from .sampling import quiet, run_transforms
from .sheet import Panel, lay_out, write_picture
from .timeline import browse_video

MAX_PICTURES = 24  # of one video; a test protocol has 250 views


def browse(
    config: str | Path,
    video: str | Path | None = None,
    *,
    out: str | Path,
    split: str = "train",
    num: int = 16,
    data_root: str | Path | None = None,
    pretrained: str | None = None,
    options: Mapping[str, Any] | None = None,
    seed: int = 0,
) -> None:
    """Writes a PNG: a sheet of a split's samples, or the time line of one video.

    Raises:
        UserError: what `load_config`, `browse_split` and `browse_video` raise, or `out` cannot be
            written.
    """
    if Path(out).suffix.lower() != ".png":
        raise UserError(f"--out {out}: expected a name that ends in .png")
    cfg = config_to_describe(config, data_root=data_root, pretrained=pretrained, options=options)
    if video is not None:
        write_picture(browse_video(cfg, video, seed=seed), out)
    else:
        write_picture(browse_split(cfg, split, num=num, seed=seed), out)


def browse_split(cfg: Config, split: str, *, num: int, seed: int) -> Figure:
    """Returns a sheet of `num` videos of a split, as the model would get them.

    Random transforms are really applied, seeded by `seed` and the video's line. A video that
    cannot be read is a cell with the reason.

    Args:
        cfg: From `load_config`.
        split: train, val or test.
        num: Videos at most, drawn at random.
        seed: The same one gives the same picture.

    Raises:
        UserError: no such split, `num` below 1, or a dataset that is not one of RGB videos.
    """
    if num < 1:
        raise UserError(f"--num {num}: expected 1 or more")
    node = dict(split_datasets(cfg)).get(split)
    if node is None or node.get("modality", "RGB") != "RGB" or not node.get("ann_file"):
        raise UserError(f"the config has no {split} split of annotated RGB videos")
    if not Path(node.ann_file).is_file():
        raise UserError(f"no annotation file {node.ann_file}: name your dataset with --data DIR")
    init_default_scope("mmaction")
    with quiet():
        dataset = DATASETS.build(node)
    labels = (node.get("metainfo") or {}).get("classes") or []
    chosen = sorted(random.Random(seed).sample(range(len(dataset)), min(num, len(dataset))))
    reader = GuardedReader(lambda item: read_pictures(dataset, item["index"], seed=seed))
    try:
        with quiet():  # the transforms run in the reader's process, which begins here
            cells = [
                _read_panel(dataset.get_data_info(index), index, reader, labels) for index in chosen
            ]
    finally:
        reader.close()
    heading = [
        f"{split}: {len(chosen)} of {len(dataset)} videos as the network gets them (seed {seed})",
        f"after {', '.join(step['type'] for step in node.pipeline)}",
    ]
    return lay_out(cells, heading=heading)


def _read_panel(
    info: Mapping[str, Any], index: int, reader: GuardedReader, labels: Sequence[str]
) -> Panel:
    """Returns the cell of one video: its pictures, or why there are none."""
    name = str(info.get("filename") or info.get("frame_dir"))
    number = info["label"]
    known = isinstance(number, int) and 0 <= number < len(labels)
    title = labels[number] if known else f"label {number}"
    try:
        pictures, frames, shape = reader(dict(index=index))
    except UserError as error:
        return Panel(title=title, subtitle=name, error=f"cannot be read: {error}")
    title += f"   {' x '.join(map(str, shape))}"
    notes = [f"frame {frame}" for frame in frames]
    return Panel(title=title, subtitle=name, pictures=pictures, notes=notes)


def read_pictures(
    dataset: Any, index: int, *, seed: int
) -> tuple[list[np.ndarray], list[int], tuple[int, ...]]:
    """Returns what the model would get of one video, as uint8 RGB pictures.

    Args:
        dataset: One that MMEngine built; its whole pipeline runs.
        index: The video's line.
        seed: Of the random transforms, with the line.

    Returns:
        At most `MAX_PICTURES`, evenly chosen; the index of the frame in each; the shape of all.

    Raises:
        UserError: what the pipeline makes is not RGB pictures.
    """
    seed_generators(seed, index)
    info = dataset.get_data_info(index)
    if not Path(info.get("filename", ".")).exists():
        raise UserError("no such file")
    sample, frames = run_transforms(dataset.pipeline.transforms, info)
    inputs = sample["inputs"]
    if inputs.ndim not in (4, 5) or inputs.shape[1] != 3:
        raise UserError(f"inputs of shape {tuple(inputs.shape)} are not RGB frames")
    shape = tuple(inputs.shape)
    if inputs.ndim == 5:  # views, 3, frames, height, width
        inputs = inputs.transpose(1, 2).flatten(0, 1)
    shown = choose_evenly(len(inputs), MAX_PICTURES)
    images = inputs[shown].permute(0, 2, 3, 1).numpy()
    pictures = list(_denormalized(images, dataset.pipeline.transforms))
    return pictures, [frames[i] for i in shown], shape


def _denormalized(images: np.ndarray, transforms: Sequence[Any]) -> np.ndarray:
    """Returns images as uint8 RGB, a normalization taken back.

    MMAction2 1.x normalizes in the model's preprocessor; a transform of the user's that does it
    has `mean` and `std`.
    """
    if images.dtype == np.uint8:
        return images
    for transform in transforms:
        if hasattr(transform, "mean") and hasattr(transform, "std"):
            images = images * np.asarray(transform.std) + np.asarray(transform.mean)
    return images.round().clip(0, 255).astype(np.uint8)
