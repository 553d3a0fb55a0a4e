"""Reads videos in MMAction2's pipelines: steps that take the place of stock's, with `packets`."""

from contextlib import suppress
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path

import av
import numpy as np

from ..compat import NOT_A_VIDEO, TRANSFORMS, BaseTransform, DecordDecode, DecordInit, get
from ..errors import UserError
from .files import orientation_of, shown_streams, split_name
from .packets import (
    DecodedReader,
    PacketReader,
    TooLarge,
    UnclearPackets,
    clear_times,
    decode,
    open_video,
    packet_times,
    read_frames,
    rewound,
)


def decord_differs(source: str | Path | BytesIO) -> str:
    """Returns why decord 0.6.0 is known to read other frames of a video; nothing where it is not.

    Raises:
        UserError: no video stream.
        av.FFmpegError: a file that FFmpeg cannot open.
    """
    with av.open(rewound(source)) as container:
        if len(shown_streams(container)) > 1:
            return "several video streams"
        if container.format.name == "mpegts":
            return "an MPEG transport stream"
        packets = packet_times(container)
    with suppress(UnclearPackets):
        if len(clear_times(packets, source)) < len(packets):
            return "frames that are hidden, or cut off from others"
    first = next(decode(source), None)
    return "mirrored" if first and orientation_of(first[1]).is_mirrored else ""


def may_take_decord(source: str | Path | BytesIO) -> bool:
    """Returns whether decord is installed, and not known to read other frames of a video."""
    return find_spec("decord") is not None and not decord_differs(source)


@TRANSFORMS.register_module()
class CheckedDecordInit(DecordInit):
    """Stock's `DecordInit`, which refuses a video that decord is known to read otherwise."""

    def transform(self, results: dict) -> dict:
        try:
            why = decord_differs(self._source(results))
        except av.FFmpegError:
            why = ""  # decord has an older FFmpeg, which may know it
        if why:
            raise UserError(f"decord reads other frames than are shown: {why}; packets reads it")
        return super().transform(results)

    def _source(self, results: dict) -> str | BytesIO:
        name = split_name(results["filename"])[0]
        if not (Path(name).suffix or Path(name).exists()):
            name += ".mp4"  # as stock's DecordInit
        if self.io_backend == "disk":
            return name
        return BytesIO(get(name, backend_args=dict(backend=self.io_backend, **self.kwargs)))


@TRANSFORMS.register_module()
class PacketInit(CheckedDecordInit):
    """Opens a video for `PacketDecode`; takes the place of stock's `DecordInit`.

    `filename` may be that of a stretch, see `files.stretch_name`: its frames are all there are.

    Args:
        io_backend: MMEngine file client that reads the file.
        num_threads: Threads of the decoder; 0 takes one for each CPU core.
    """

    def transform(self, results: dict) -> dict:
        source, stretch = self._source(results), split_name(results["filename"])[1]
        try:
            reader = open_video(source, num_threads=self.num_threads, stretch=stretch)
        except av.InvalidDataError:
            raise ValueError(NOT_A_VIDEO) from None
        except TooLarge:
            if stretch is None and may_take_decord(source):
                return super().transform(results)
            reader = DecodedReader(source, stretch)
        except av.FFmpegError:
            if stretch is not None or find_spec("decord") is None:  # decord knows no stretch
                raise
            return super().transform(results)
        results["video_reader"] = reader
        results["total_frames"] = len(reader)
        results["avg_fps"] = reader.average_fps
        return results


@TRANSFORMS.register_module()
class PacketDecode(BaseTransform):
    """Decodes `frame_inds` in the place of `DecordDecode`: its pixels, where decord is right.

    Args:
        mode: Of `DecordDecode`.
        io_backend: Not used; a TSM config of mmaction2 1.2.0 gives it, which stock refuses.
    """

    def __init__(self, mode: str = "accurate", io_backend: str = "disk") -> None:
        self._decord_init = DecordInit()
        self._decord_decode = DecordDecode(mode)

    def transform(self, results: dict) -> dict:
        reader = results["video_reader"]
        if not isinstance(reader, PacketReader | DecodedReader):
            return self._decord_decode(results)
        results["frame_inds"] = np.atleast_1d(np.squeeze(results["frame_inds"]))
        try:
            frames = read_frames(reader, results["frame_inds"], results["total_frames"])
        except (UnclearPackets, IndexError, av.FFmpegError):
            unlike = isinstance(reader, DecodedReader) or reader.stretch is not None
            if unlike or not may_take_decord(reader.source):
                raise UserError("some of its frames cannot be decoded") from None
            return self._decord_decode(self._decord_init(results))
        finally:
            reader.close()
        results["video_reader"] = None
        results["imgs"] = frames
        results["original_shape"] = results["img_shape"] = frames[0].shape[:2]
        return results

    def __repr__(self) -> str:
        return f"{type(self).__name__}(mode={self._decord_decode.mode})"
