"""Short H.264 videos for tests, with what real ones have: B-frames, odd timing, rotation."""

import struct
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

ROTATIONS = {  # the matrix of the track header, clockwise degrees when shown
    90: (0, 65536, 0, -65536, 0, 0, 0, 0, 1 << 30),
    180: (-65536, 0, 0, 0, -65536, 0, 0, 0, 1 << 30),
    270: (0, -65536, 0, 65536, 0, 0, 0, 0, 1 << 30),
}


def write_video(
    path: Path,
    *,
    num_frames: int = 60,
    size: tuple[int, int] = (96, 64),
    x264: str = "keyint=25:bframes=3",
    milliseconds: tuple[int, int] = (40, 41),
    seed: int = 0,
) -> Path:
    """Writes noise that moves, each frame another; a frame lasts a random time in the range."""
    rng = np.random.default_rng(seed)
    width, height = size
    noise = rng.integers(0, 255, (height // 8, width // 8, 3))
    time = 0
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"x264-params": x264})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        for index in range(num_frames):
            image = np.kron(np.roll(noise, index // 2, axis=1), np.ones((8, 8, 1)))
            column = index * 3 % width
            image[:, column : column + 6] = 255 * (index % 2)
            frame = av.VideoFrame.from_ndarray(image.astype(np.uint8), format="rgb24")
            frame.pts, frame.time_base = time, Fraction(1, 1000)
            time += int(rng.integers(*milliseconds))
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def rotate(path: Path, degrees: int) -> Path:
    """Marks an MP4 as filmed with a turned camera, as phones do; the frames stay."""
    return _turn(path, ROTATIONS[degrees])


def mirror(path: Path) -> Path:
    """Marks an MP4 as one of a camera that faces its user; the frames stay."""
    return _turn(path, (-65536, 0, 0, 0, 65536, 0, 0, 0, 1 << 30))


def _turn(path: Path, matrix: tuple[int, ...]) -> Path:
    data = bytearray(path.read_bytes())
    start = data.index(b"tkhd") + 44
    data[start : start + 36] = struct.pack(">9i", *matrix)
    path.write_bytes(data)
    return path
