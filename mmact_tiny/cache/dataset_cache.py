"""The clip cache of a whole dataset: built at once, and cleared."""

import logging
from pathlib import Path

from ..dataset import find_dataset, read_annotations
from ..progress import Bar
from .cache import ClipCache, default_root

logger = logging.getLogger("mmact_tiny")


def cache_dataset(data_root: str | Path, *, format: str, max_bytes: int | None = None) -> None:
    """Writes an entry for each video of a dataset, in parallel, and prints what came of it.

    The entries have the short side that stock's pipelines ask for, 256; training at another size
    makes its own.

    Raises:
        UserError: no dataset, a full disk, or a folder that cannot be written.
    """
    cache = ClipCache(format=format, max_bytes=max_bytes)
    videos = [
        split.video_dir / annotation.path
        for split in find_dataset(data_root).splits.values()
        for annotation in read_annotations(split.ann_file)
    ]
    with Bar("caching clips", len(dict.fromkeys(videos)), keep=True) as bar:
        report = cache.build_many(videos, progress=lambda done, total: bar.update(done))
    print(
        f"clip cache {cache.root}: {len(report.built)} clips built, {len(report.present)} there "
        f"already, {cache.num_bytes() / 1e6:.1f} MB in all"
    )
    if report.no_room:
        print(f"  {len(report.no_room)} clips did not fit in --cache-size; their videos are read")
    for video, reason in report.failed.items():
        print(f"  not cached: {video}: {reason}")


def clear_cache() -> None:
    """Removes every entry of the default cache and prints what that freed."""
    root = default_root()
    print(f"clip cache {root}: {ClipCache().clear() / 1e6:.1f} MB removed")
