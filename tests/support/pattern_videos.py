"""Real video files for the tests: a moving pattern whose brightness tells the frame's index."""

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from h264_videos import rotate


def pattern(index: int, width: int, height: int) -> np.ndarray:
    """Returns frame `index`: soft waves that move, brighter by 4 of 255 from frame to frame."""
    y, x = np.mgrid[0:height, 0:width]
    wave = 12 * np.sin((x + 3 * index) / 17) + 12 * np.cos((y - 2 * index) / 23)
    image = np.empty((height, width, 3))
    for channel, shift in enumerate((0, 10, -10)):
        image[..., channel] = 30 + 4 * index + shift + (wave if channel else -wave)
    return np.clip(image, 0, 255).astype(np.uint8)


def make_video(
    path: Path,
    *,
    size: tuple[int, int] = (640, 360),
    num_frames: int = 24,
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    fps: Fraction | int = 25,
    pts: list[int] | None = None,
    rotation: int = 0,
    options: dict[str, str] | None = None,
) -> Path:
    """Writes a video with PyAV; `size` is (width, height) as stored, before any rotation."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        quick = {"preset": "veryfast"} if codec == "libx264" else {}
        stream = container.add_stream(codec, rate=fps, options={**quick, **(options or {})})
        stream.width, stream.height = size
        stream.pix_fmt = pix_fmt
        for index in range(num_frames):
            frame = av.VideoFrame.from_ndarray(pattern(index, *size), format="rgb24")
            if pts is not None:
                frame.pts, frame.time_base = pts[index], 1 / Fraction(fps)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    if rotation:
        rotate(path, rotation)
    return path


def count_decoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Returns a list that gets an item for each frame that PyAV decodes from now on."""
    decoded: list[int] = []
    stock_open = av.open

    class Container:
        def __init__(self, path: str) -> None:
            self.stock = stock_open(path)
            self.streams, self.seek = self.stock.streams, self.stock.seek

        def decode(self, stream: Any) -> Iterator[av.VideoFrame]:
            for frame in self.stock.decode(stream):
                decoded.append(frame.pts)
                yield frame

        def demux(self, stream: Any) -> Iterator[av.Packet]:
            for packet in self.stock.demux(stream):
                decoded.append(packet.pts)
                yield packet

    monkeypatch.setattr(av, "open", Container)
    return decoded


def psnr(image: np.ndarray, reference: np.ndarray) -> float:
    """Returns the peak signal-to-noise ratio of 8-bit images, in dB."""
    error = np.mean((image.astype(np.float64) - reference) ** 2)
    return float(10 * np.log10(255**2 / max(error, 1e-9)))
