"""Writes videos that the stock decoder cannot read as H.264, so that every tool can read them.

The original stays as it is. Runs in worker processes: imports PyAV and NumPy only.
"""

import os
from pathlib import Path

import av
import numpy as np

OPTIONS = {"crf": "17", "preset": "veryfast", "g": "12"}  # crf 17: no loss that the eye sees


def convert(path: str, target: str) -> int:
    """Writes a video's frames to an .mp4 file, whole or not at all; returns how many.

    Times are kept, a rotation is carried out, sound is left out, odd sides lose a pixel.
    """
    Path(target).parent.mkdir(parents=True, exist_ok=True)
    new = f"{target}.{os.getpid()}.new"
    try:
        with av.open(path) as source, av.open(new, "w", format="mp4") as sink:
            count = _copy_frames(source, sink)
        Path(new).replace(target)
    finally:
        Path(new).unlink(missing_ok=True)
    return count


def _copy_frames(source: av.container.InputContainer, sink: av.container.OutputContainer) -> int:
    stream = source.streams.video[0]
    output = sink.add_stream("libx264", rate=stream.average_rate or 25, options=OPTIONS)
    output.pix_fmt = "yuv420p"
    count = 0
    start = 0
    for frame in source.decode(stream):
        pts, time_base = frame.pts, frame.time_base
        if turns := frame.rotation // 90 % 4:
            pixels = frame.to_ndarray(format="rgb24").astype(np.uint8, copy=False)
            pixels = np.ascontiguousarray(np.rot90(pixels, turns))
            frame = av.VideoFrame.from_ndarray(pixels, "rgb24")
        if count == 0:
            output.width, output.height = frame.width // 2 * 2, frame.height // 2 * 2
            if time_base is not None:
                output.codec_context.time_base = time_base
            start = pts or 0
        frame = frame.reformat(output.width, output.height, "yuv420p")
        frame.pts = None if pts is None else pts - start
        if time_base is not None:
            frame.time_base = time_base
        sink.mux(output.encode(frame))
        count += 1
    sink.mux(output.encode(None))
    return count
