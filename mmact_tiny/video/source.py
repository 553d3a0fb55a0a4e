"""Gives the path of a video that is a path, bytes, a file object or an array of frames."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any, BinaryIO

import av
import numpy as np

from ..errors import UserError

Source = str | Path | bytes | BinaryIO | np.ndarray  # a video, see `as_file`


@contextmanager
def as_file(source: Source) -> Iterator[str | Path]:
    """Gives the path of a video; what is no path yet lies in a temporary file until the end.

    Args:
        source: A path; the bytes of a file; a binary file object, which is read to its end; or
            frames, an array of uint8 RGB, shape (T, H, W, 3), which are kept as they are.

    Raises:
        UserError: another array, or an object that gives no bytes.
    """
    if isinstance(source, str | Path):
        yield source
        return
    is_array = hasattr(source, "__array__")
    with NamedTemporaryFile(suffix=".nut" if is_array else ".mp4") as file:
        if is_array:
            _write_frames(np.asarray(source), file.name)
        else:
            data: Any = source.read() if hasattr(source, "read") else source
            if not isinstance(data, bytes | bytearray | memoryview):
                raise UserError(
                    f"{type(source).__name__}: expected a path, bytes, a binary file object, "
                    "or an array (T, H, W, 3) of uint8 RGB"
                )
            file.write(data)
            file.flush()
        yield file.name


def _write_frames(frames: np.ndarray, path: str) -> None:
    shape = frames.shape
    if frames.dtype != np.uint8 or len(shape) != 4 or shape[3] != 3 or 0 in shape:
        raise UserError(
            f"an array of {frames.dtype}, shape {shape}: expected uint8 RGB, (T, H, W, 3)"
        )
    with av.open(path, "w", format="nut") as sink:
        stream = sink.add_stream("rawvideo", rate=25)
        stream.height, stream.width, stream.pix_fmt = shape[1], shape[2], "rgb24"
        for frame in frames:
            sink.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(frame))))
        sink.mux(stream.encode(None))
