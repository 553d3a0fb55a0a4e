"""Lets a stock pipeline read the clip cache.

`CachedVideo` comes first and puts the entry in the place of the video; `ClipInit` stands where
`DecordInit` stood, `PacketDecode` where `DecordDecode` did. The rest of the pipeline is stock.
"""

import logging
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from ..compat import TRANSFORMS, BaseTransform
from ..errors import UserError
from ..video.files import split_name
from ..video.frames import PacketInit
from .cache import CacheFullError, ClipCache
from .clip import ClipReader

logger = logging.getLogger("mmact_tiny")
# By the cache's folder, whether the log has said that it is full; workers inherit the memory.
_told_full: dict[str | None, torch.Tensor] = {}


@TRANSFORMS.register_module()
class CachedVideo(BaseTransform):
    """Puts the cached clip in the place of the video, under the key `filename`.

    A video without an entry gets one when it is first met. One that cannot have one is read from
    its source, and the log says so once: of a full cache once for all processes and splits.

    Required keys: filename. Added keys: source (the original name), and clip (the entry's record)
    where there is an entry. The arguments but `build`, whether to make missing entries, are those
    of `ClipCache`; the pipeline's first Resize must ask for the same `short_side`.
    """

    def __init__(
        self,
        root: str | None = None,
        short_side: int = 256,
        format: str = "small",
        max_bytes: int | None = None,
        build: bool = True,
    ) -> None:
        self.settings: dict[str, Any] = dict(
            root=root, short_side=short_side, format=format, max_bytes=max_bytes
        )
        self.build = build
        self._from_source: set[str] = set()
        _told_full.setdefault(root, torch.zeros(1).share_memory_()).zero_()

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in vars(self).items() if key != "cache"}

    @cached_property
    def cache(self) -> ClipCache:
        """The cache, opened in the process that reads: a lock does not travel to workers."""
        return ClipCache(**self.settings)  # type: ignore[arg-type]

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        results["source"] = video = results["filename"]
        if not (Path(split_name(video)[0]).suffix or Path(video).exists()):
            video += ".mp4"  # as DecordInit does
        if video in self._from_source:
            return results
        try:
            found = self.cache.find(video)
            if found is None and self.build:
                self.cache.build(video)
                found = self.cache.find(video)
            if found:
                results["filename"], results["clip"] = str(found[0]), found[1]
        except CacheFullError as error:
            self.build = False
            told = _told_full.setdefault(self.settings["root"], torch.zeros(1))
            if not told.item():
                told.fill_(1)
                count = sum(1 for _ in self.cache.root.glob("*/*/*.mp4"))
                what = "videos without an entry are read without the clip cache"
                logger.warning("%s: %s, which has %d clip(s)", what, error, count)
        except UserError as error:
            self._from_source.add(video)
            logger.warning("read without the clip cache: %s", error)
        return results

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.settings}, build={self.build})"


@TRANSFORMS.register_module()
class ClipInit(PacketInit):
    """Opens a cached clip with the fast reader, and anything else as `PacketInit` does.

    The reader has the methods of decord's that the stock transforms call, and returns the frames
    without the column or row that pads a clip of odd size.
    """

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Adds video_reader, total_frames and avg_fps; `filename` is the source's again."""
        if "clip" not in results:
            return super().transform(results)
        clip, results["filename"] = results["filename"], results["source"]
        try:
            reader = ClipReader(clip, results["clip"])
        except FileNotFoundError:  # the cache was cleared just now
            del results["clip"]
            return super().transform(results)
        results.update(video_reader=reader, total_frames=len(reader), avg_fps=reader.get_avg_fps())
        return results
