"""Writes features of videos to a file, for whoever wants them elsewhere."""

import json
import logging
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from ..checkpoints.load import config_of, load_checkpoint
from ..errors import UserError
from ..files import check_out, open_atomically
from ..pipeline import describe_protocol
from ..video.files import find_videos
from .extract import Extractor
from .run import choose_recognizer

SUFFIXES = (".npz", ".parquet", ".safetensors")
logger = logging.getLogger("mmact_tiny")


def write_features(
    paths: Sequence[str | Path],
    out: str | Path,
    *,
    per: str = "video",
    config: str | Path | None = None,
    checkpoint: str | Path | None = None,
    time_limit: float | None = None,
) -> dict[Path, str]:
    """Writes a row of features for each video, or each of its clips; returns what has none, why.

    `features` is float32 of shape (rows, channels); `seconds` (rows, 2) is where the clip starts
    and ends in the video, for a video the first start and the last end, by its mean frame rate;
    `videos` names the video of each row, `protocol` and `weights` say how they came about. What
    was computed before, also for a probe, is not computed again.

    Args:
        paths: Videos, and folders of videos.
        out: A `.npz`, `.parquet` or `.safetensors` file.
        per: `video`, the mean of its clips, or `clip`.
        config, checkpoint: As for `choose_recognizer`.
        time_limit: Seconds that reading one video may take.

    Raises:
        UserError: a path, checkpoint or `out` that cannot be used; no video that can be read.
    """
    out = Path(out)
    check_out(out, SUFFIXES)
    if out.suffix == ".parquet" and find_spec("pyarrow") is None:
        raise UserError(f"--out {out} needs pyarrow: pip install 'mmact-tiny[parquet]'")
    videos = find_videos(paths)
    config, weights = choose_recognizer(config, checkpoint)
    if weights is None:
        raise UserError(f"--config {config}: expected --checkpoint too")
    cfg = config_of(load_checkpoint(weights), Path(weights), config)
    extractor = Extractor(cfg, Path(weights), time_limit)
    errors = extractor.compute(dict.fromkeys(videos, 1))
    names, features, seconds = [], [], []
    for video in videos:
        if video not in errors:
            units, times = extractor.load(video)
            clips = units.reshape(-1, len(times), units.shape[-1]).mean(axis=0)  # of all crops
            if per == "video":
                clips, times = clips.mean(axis=0)[None], np.array([[times.min(), times.max()]])
            names += [str(video)] * len(clips)
            features.append(clips)
            seconds.append(times)
    if not names:
        raise UserError(
            f"none of {len(videos)} videos can be read; {videos[0]}: {errors[videos[0]]}"
        )
    protocol = describe_protocol("val", extractor.steps)
    facts = dict(protocol=protocol, weights=Path(weights).name, config=str(config), per=per)
    _write(out, names, np.concatenate(features), np.concatenate(seconds), facts)
    return errors


def _write(
    out: Path, names: list[str], features: np.ndarray, seconds: np.ndarray, facts: dict[str, str]
) -> None:
    with open_atomically(out) as file:
        if out.suffix == ".npz":
            arrays: dict[str, Any] = {**facts, "videos": names}
            np.savez(file, features=features, seconds=seconds, **arrays)
        elif out.suffix == ".safetensors":
            from safetensors.numpy import save

            tensors = dict(features=features, seconds=seconds)
            file.write(save(tensors, {**facts, "videos": json.dumps(names)}))
        else:
            import pyarrow
            import pyarrow.parquet

            columns: dict[str, Any] = dict(video=names, start=seconds[:, 0], end=seconds[:, 1])
            rows = pyarrow.FixedSizeListArray.from_arrays(features.ravel(), features.shape[1])
            table = pyarrow.table({**columns, "features": rows}).replace_schema_metadata(facts)
            pyarrow.parquet.write_table(table, file)
    logger.info("written: %s, %d rows of %d features", out, *features.shape)
