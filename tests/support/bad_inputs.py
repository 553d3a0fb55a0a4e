"""Makes files that a reader of videos meets sooner or later: broken, odd, or hostile."""

import os
import signal
import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import av
import h264_videos
import numpy as np
from torch.utils.data import get_worker_info
from video_files import truncate, write_audio

LEAKED: list[bytes] = []


def write_clip(
    path: Path,
    *,
    frames: int = 12,
    size: tuple[int, int] = (64, 48),
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    seed: int = 0,
) -> Path:
    """Writes a clip of smooth noise, width x height = `size`."""
    generator = np.random.default_rng(seed)
    width, height = size
    options = {"preset": "ultrafast", "g": "6"} if codec == "libx264" else {}
    with av.open(str(path), "w") as sink:
        stream = sink.add_stream(codec, rate=10, options=options)
        stream.width, stream.height, stream.pix_fmt = width, height, pix_fmt
        for _ in range(frames):
            image = np.full((height, width, 3), generator.integers(0, 256, 3), dtype=np.uint8)
            image[: height // 2] //= 2
            frame = av.VideoFrame.from_ndarray(image, "rgb24")
            sink.mux(stream.encode(frame.reformat(format=pix_fmt)))
        sink.mux(stream.encode(None))
    return path


def write_two_sizes(path: Path) -> None:
    parts = [path.with_name("small.ts"), path.with_name("large.ts")]
    for part, size in zip(parts, [(64, 48), (96, 80)], strict=True):
        write_clip(part, size=size)
    path.write_bytes(b"".join(part.read_bytes() for part in parts))


def patch(path: Path, box: bytes, offset: int, value: int) -> None:
    """Writes a 32-bit number into an MP4 box, `offset` bytes after its name."""
    data = bytearray(write_clip(path).read_bytes())
    where = data.index(box) + 4 + offset
    data[where : where + 4] = struct.pack(">I", value)
    path.write_bytes(data)


def rotate(path: Path) -> None:
    """Turns a clip by a quarter; decord needs the height to be a multiple of 64 then."""
    h264_videos.rotate(write_clip(path, size=(128, 64)), 90)


def forbid(path: Path) -> None:
    write_clip(path).chmod(0)


def is_root() -> bool:
    return os.geteuid() == 0


READABLE, UNREADABLE, EITHER = "readable", "unreadable", "either"
# name: (what writes it, what has to come out)
TABLE: dict[str, tuple[Callable[[Path], object], str]] = {
    "empty": (lambda path: path.touch(), UNREADABLE),
    "text renamed": (lambda path: path.write_text("not a video\n" * 50), UNREADABLE),
    **{
        f"cut at {n}0%": (lambda path, n=n: truncate(write_clip(path), n / 10), EITHER)
        for n in range(1, 10)
    },
    "audio only": (write_audio, UNREADABLE),
    "one frame": (lambda path: write_clip(path, frames=1), READABLE),
    "2x2 pixels": (lambda path: write_clip(path, size=(2, 2)), EITHER),
    "8K": (lambda path: write_clip(path, size=(7680, 4320), frames=1), READABLE),
    "variable size": (write_two_sizes, EITHER),
    "rotated": (rotate, READABLE),
    "10-bit": (lambda path: write_clip(path, pix_fmt="yuv420p10le"), READABLE),
    "0 fps header": (lambda path: patch(path, b"mdhd", 12, 0), EITHER),
    "0 duration header": (lambda path: patch(path, b"stts", 12, 0), EITHER),
    "million-frame header": (lambda path: patch(path, b"stsz", 8, 1_000_000), EITHER),
    "FIFO": (lambda path: os.mkfifo(path), UNREADABLE),
    "directory": (lambda path: path.mkdir(), UNREADABLE),
    "no permission": (forbid, UNREADABLE),
    "removed": (lambda path: None, UNREADABLE),
}
NAMES = ["a\nnewline.mp4", "emoji \U0001f3cb.mp4", "-leading-dash.mp4"]


def mutants(clip: bytes, count: int, seed: int = 0) -> Iterator[bytes]:
    """Yields copies of a file with 1 to 64 bytes changed at random."""
    generator = np.random.default_rng(seed)
    for _ in range(count):
        data = np.frombuffer(clip, np.uint8).copy()
        places = generator.integers(0, len(data), generator.integers(1, 65))
        data[places] = generator.integers(0, 256, len(places))
        yield data.tobytes()


def misbehave(sample: dict) -> dict:
    """Crashes or hangs, really, where the name says so."""
    name = Path(sample["filename"]).name
    if "crash" in name:
        os.kill(os.getpid(), signal.SIGSEGV)
    if "hang" in name:
        time.sleep(1000)
    if "grow" in name and get_worker_info() is not None:
        LEAKED.append(b"x" * (20 * 2**20))
        time.sleep(0.1)
    if "bad" in name:
        raise ValueError(f"no video in {name}\nC++ stack")
    return dict(inputs=name)
