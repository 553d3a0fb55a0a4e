"""Makes real videos, sound and broken, for tests: everything is encoded with PyAV."""

import struct
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

# codec, suffix: each is read by the bundled decoders
FORMATS = [
    ("libx264", ".mp4"),
    ("libx265", ".mkv"),
    ("libvpx-vp9", ".webm"),
    ("libsvtav1", ".mp4"),
    ("mjpeg", ".avi"),
    ("libx264", ".mov"),
]
FAST = {
    "libx264": {"preset": "ultrafast", "g": "12"},
    "libx265": {"preset": "ultrafast", "x265-params": "log-level=none"},
    "libvpx-vp9": {"deadline": "realtime", "cpu-used": "8"},
    "libsvtav1": {"preset": "12"},
}


def render(
    seed: int, *, frames: int = 24, width: int = 96, height: int = 72
) -> Iterator[np.ndarray]:
    """Yields frames of a moving texture, another for each seed: uint8, (height, width, 3)."""
    generator = np.random.default_rng(seed)
    waves = generator.uniform(-0.5, 0.5, (6, 3))
    phases = generator.uniform(0, 2 * np.pi, (6, 3))
    y, x = np.mgrid[:height, :width] / max(height, width) * 40
    for time in np.linspace(0, 1, frames):
        angle = (
            waves[:, 0, None, None, None] * x[..., None]
            + waves[:, 1, None, None, None] * y[..., None]
            + (time * 20 * waves[:, 2, None] + phases)[:, None, None, :]
        )
        yield (127.5 + 127.5 * np.sin(angle).mean(0) * 1.5).clip(0, 255).astype(np.uint8)


def write_video(
    path: Path,
    *,
    seed: int = 0,
    frames: int = 24,
    width: int = 96,
    height: int = 72,
    codec: str = "libx264",
    options: dict[str, str] | None = None,
    container_options: dict[str, str] | None = None,
) -> Path:
    """Writes a video of `frames` frames at 12 frames/s; makes its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(path, "w", options=container_options or {}) as sink:
        options = FAST.get(codec, {}) | (options or {})
        stream = sink.add_stream(codec, rate=12, options=options)
        stream.width, stream.height = width, height
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        for image in render(seed, frames=frames, width=width, height=height):
            sink.mux(stream.encode(av.VideoFrame.from_ndarray(image, "rgb24")))
        sink.mux(stream.encode(None))
    return path


def truncate(path: Path, part: float = 0.6) -> Path:
    """Cuts the end of a file off."""
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * part)])
    return path


def claim_frames(path: Path, frames: int) -> Path:
    """Sets the number of frames that an .avi file's stream header claims."""
    data = bytearray(path.read_bytes())
    length = data.index(b"strh") + 8 + 32
    data[length : length + 4] = struct.pack("<I", frames)
    path.write_bytes(data)
    return path


def write_two_sizes(path: Path, *, seed: int = 0) -> Path:
    """Writes an .mkv whose frames change size half-way: two H.264 streams, one after another."""
    parts = [
        write_video(path.with_suffix(f".{width}.h264"), seed=seed, frames=12, width=width)
        for width in (96, 128)
    ]
    joined = path.with_suffix(".joined.h264")
    joined.write_bytes(b"".join(part.read_bytes() for part in parts))
    with av.open(joined) as source, av.open(path, "w") as sink:
        stream = sink.add_stream_from_template(source.streams.video[0])
        for count, packet in enumerate(source.demux(video=0)):
            if packet.size:
                packet.stream, packet.time_base = stream, Fraction(1, 12)
                packet.pts = packet.dts = count
                sink.mux(packet)
    for temporary in (*parts, joined):
        temporary.unlink()
    return path


def write_audio(path: Path) -> Path:
    """Writes a second of silence without pictures."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(path, "w") as sink:
        stream = sink.add_stream("aac", rate=44100)
        for index in range(40):
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
            frame.sample_rate, frame.pts = 44100, index * 1024
            sink.mux(stream.encode(frame))
        sink.mux(stream.encode(None))
    return path


def encode_again(source: Path, target: Path, *, codec: str = "mjpeg") -> Path:
    """Writes the same pictures at the same rate again, smaller, in another codec."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with av.open(source) as reader, av.open(target, "w") as sink:
        rate = round(reader.streams.video[0].average_rate)
        stream = sink.add_stream(codec, rate=rate, options=FAST.get(codec, {}))
        stream.width, stream.height = 64, 48
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        for count, frame in enumerate(reader.decode(video=0)):
            frame = frame.reformat(64, 48, stream.pix_fmt)
            frame.pts, frame.time_base = count, Fraction(1, rate)
            sink.mux(stream.encode(frame))
        sink.mux(stream.encode(None))
    return target
