"""Writes features of videos to a file, or to the parts of a job, for whoever wants them."""

import json
import logging
import tempfile
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib.util import find_spec
from itertools import groupby, tee
from pathlib import Path
from typing import Any, BinaryIO, ClassVar
from zipfile import BadZipFile

import numpy as np

from .. import __version__
from ..annotations import expand_lists
from ..checkpoints.load import config_of, load_checkpoint
from ..errors import UserError
from ..files import Row, check_out, open_atomically, sha256
from ..pipeline import describe_protocol
from ..video.files import find_videos, split_name
from ..video.isolated import blame
from .extract import Extractor, Found
from .head import last_layer
from .run import choose_recognizer

FACTS = ("protocol", "weights", "checkpoint", "per")  # of a job or a command, that files carry
logger = logging.getLogger("mmact_tiny")


def write_features(
    paths: Sequence[str | Path], out: str | Path, *, per: str = "video", **settings: Any
) -> dict[Path, str]:
    """Writes a row of features for each video, or each of its clips; returns what has none, why.

    What was computed before, also for a probe, is not computed again.

    Args:
        paths: Videos, folders of videos, and lists of videos or stretches.
        out: A `.npz`, `.parquet` or `.safetensors` file, see `FeatureFile`.
        per: `video`, the mean of its clips, or `clip`.
        settings: As for `open_extractor`.

    Raises:
        UserError: a path, checkpoint or `out` that cannot be used; no video that can be read.
    """
    out = Path(out)
    check_out(out, FeatureFile.suffixes)
    if out.suffix == ".parquet" and find_spec("pyarrow") is None:
        raise UserError(f"--out {out} needs pyarrow: pip install 'mmact-tiny[parquet]'")
    videos = find_videos(expand_lists(paths))
    extractor = open_extractor(**settings)
    errors = extractor.compute(dict.fromkeys(videos, 1))
    if len(errors) == len(videos):
        raise UserError(
            f"none of {len(videos)} videos can be read; {videos[0]}: {errors[videos[0]]}"
        )

    def rows() -> Iterator[Row]:
        for video in videos:
            why = UserError(errors[video]) if video in errors else None
            yield row_of(video, why or extractor.load(video), per)

    FeatureFile(facts_of(extractor, per)).write(out, rows())
    logger.info("written: %s, of %d videos", out, len(videos) - len(errors))
    return errors


def open_extractor(
    config: str | Path | None = None,
    checkpoint: str | Path | None = None,
    time_limit: float | None = None,
) -> Extractor:
    """Returns what computes features.

    Args:
        config, checkpoint: As for `choose_recognizer`.
        time_limit: Seconds that reading one video may take.

    Raises:
        UserError: a checkpoint that cannot be used.
    """
    config, weights = choose_recognizer(config, checkpoint)
    if weights is None:
        raise UserError(f"--config {config}: expected --checkpoint too")
    cfg = config_of(load_checkpoint(weights), Path(weights), config)
    return Extractor(cfg, Path(weights), time_limit)


def job_of_features(*, per: str, parquet: bool, **settings: Any) -> dict[str, Any]:
    """Returns what a job of features is, for `scale.fill_job`; its features are not kept.

    Args:
        per: As for `write_features`.
        parquet: Whether parts are Parquet, not `.npz`.
        settings: As for `open_extractor`.
    """
    extractor = open_extractor(**settings)
    logger.info("checkpoint: %s", extractor.weights)

    def rows_of(videos: Iterable[Path]) -> Iterator[Row]:
        videos, names = tee(videos)
        for found, video in zip(extractor.features(videos), names, strict=True):
            yield row_of(video, found, per)

    channels = last_layer(extractor.engine.model.cls_head).in_features
    return dict(
        identity=dict(facts_of(extractor, per), channels=channels),
        suffix="parquet" if parquet else "npz",
        kind=FeatureFile,
        rows_of=rows_of,
    )


def facts_of(extractor: Extractor, per: str) -> dict[str, Any]:
    """Returns what the features of a command depend on."""
    return dict(
        mmact_tiny=__version__,
        checkpoint=sha256(extractor.weights),
        weights=extractor.weights.name,
        config_and_steps=extractor.digest,
        protocol=describe_protocol("val", extractor.steps),
        engine="torch, fp32",
        per=per,
    )


def row_of(video: Path, found: Found | UserError, per: str) -> Row:
    """Returns the `features` (rows, channels) and `seconds` (rows, 2) of a video, or its `error`.

    Seconds count from the video's beginning, also in a stretch.
    """
    if isinstance(found, UserError):
        return dict(video=str(video), error=blame(video, found))
    units, seconds = found
    clips = units.reshape(-1, len(seconds), units.shape[-1]).mean(axis=0)  # of all crops
    seconds = seconds + (split_name(video)[1] or (0.0,))[0]
    if per == "video":
        clips, seconds = clips.mean(axis=0)[None], np.array([[seconds.min(), seconds.max()]])
    return dict(video=str(video), features=clips, seconds=seconds)


class FeatureFile:
    """Files of features, each of one command or job: whole, or a part of it.

    `features` is float32 of shape (rows, channels); `seconds` (rows, 2) is where the clip starts
    and ends in the video, for a video the first start and the last end, by its mean frame rate;
    `videos` names the video of each row; `protocol`, `weights`, `checkpoint` (SHA-256) and `per`
    say how they came about; `failed` is JSON, of why the other videos have no row. A table has
    the columns `video`, `start`, `end` and `features`, the others are metadata of its schema.

    Args:
        facts: What `facts_of` returned, of a job with its `channels`.

    Raises:
        UserError: facts of a job of answers.
    """

    suffixes: ClassVar[Sequence[str]] = (".npz", ".parquet", ".safetensors")

    def __init__(self, facts: Mapping[str, Any]) -> None:
        if "per" not in facts:
            raise UserError("the job there has answers: see `python tools/infer.py --help`")
        self._channels: int = facts.get("channels", 0)
        self._is_parquet = facts.get("format") == "parquet"
        self._facts: dict[str, str] = {name: facts[name] for name in FACTS}

    def write(self, path: Path, rows: Iterable[Row]) -> None:
        """Writes rows of `row_of`; their features may be larger than memory."""
        names: list[str] = []
        seconds, failed, channels = [np.empty((0, 2))], {}, self._channels
        with open_atomically(path) as file, tempfile.TemporaryFile(dir=path.parent) as kept:
            for row in rows:
                if "error" in row:
                    failed[row["video"]] = row["error"]
                    continue
                channels = row["features"].shape[1]
                kept.write(row["features"].tobytes())
                names += [row["video"]] * len(row["features"])
                seconds.append(row["seconds"])
            kept.flush()
            features = np.empty((0, channels), np.float32)
            if names:
                features = np.memmap(kept, np.float32, "r", shape=(len(names), channels))
            facts = {**self._facts, "failed": json.dumps(failed)}
            _write(file, path.suffix, names, features, np.concatenate(seconds), facts)

    def read(self, file: BinaryIO, videos: Sequence[str]) -> list[Row]:
        """Returns the rows of a part; raises a ValueError where it is broken."""
        names, failed, features, seconds = self._load(file, ("features", "seconds"))
        known = {_escaped(video): video for video in videos} if self._is_parquet else {}
        found: list[Row] = []
        start = 0
        for name, group in groupby(names):
            end = start + len(list(group))
            own = dict(features=features[start:end], seconds=seconds[start:end])
            found.append(dict(video=known.get(name, name), **own))
            start = end
        for place, video in enumerate(videos):
            if video in failed:
                found.insert(place, dict(video=video, error=failed[video]))
        return found

    def num_videos(self, file: BinaryIO) -> int:
        """Returns of how many videos a part says something; 0 where it is broken."""
        try:
            names, failed = self._load(file)
        except (ValueError, KeyError, TypeError):
            return 0
        return len(set(names)) + len(failed)

    def _load(self, file: BinaryIO, arrays: Sequence[str] = ()) -> list[Any]:
        """Returns the names of rows, what failed, and arrays of a part."""
        if self._is_parquet:
            import pyarrow.parquet

            table = pyarrow.parquet.read_table(file, columns=None if arrays else ["video"])
            found = [table["video"].to_pylist(), json.loads(table.schema.metadata[b"failed"])]
            if arrays:
                flat = table["features"].combine_chunks().values.to_numpy()
                times = np.stack([table["start"].to_numpy(), table["end"].to_numpy()], axis=1)
                found += [flat.reshape(-1, self._channels), times]
            return found
        try:
            with np.load(file) as part:
                failed = json.loads(str(part["failed"]))
                return [part["videos"].tolist(), failed, *(part[name] for name in arrays)]
        except (BadZipFile, EOFError, OSError, zlib.error) as error:
            raise ValueError(str(error)) from None


def _escaped(name: str) -> str:
    return name.encode("utf-8", "backslashreplace").decode()


def _write(
    file: BinaryIO,
    suffix: str,
    names: list[str],
    features: np.ndarray,
    seconds: np.ndarray,
    facts: Mapping[str, str],
) -> None:
    if suffix == ".npz":
        arrays: dict[str, Any] = {**facts, "videos": np.array(names, dtype=str)}
        np.savez(file, features=features, seconds=seconds, **arrays)
    elif suffix == ".safetensors":
        from safetensors.numpy import save

        tensors = dict(features=features, seconds=seconds)
        file.write(save(tensors, {**facts, "videos": json.dumps(names)}))
    else:
        import pyarrow
        import pyarrow.parquet

        columns: dict[str, Any] = dict(video=pyarrow.array(map(_escaped, names), pyarrow.string()))
        columns |= dict(start=seconds[:, 0], end=seconds[:, 1])
        rows = pyarrow.FixedSizeListArray.from_arrays(features.ravel(), features.shape[1])
        table = pyarrow.table({**columns, "features": rows}).replace_schema_metadata(facts)
        pyarrow.parquet.write_table(table, file)
