"""Reads and checks one entry of the clip cache: its record and its frames.

An entry is an ordinary mp4 that any decoder reads, closed by a `free` box, which decoders skip,
with a JSON record: what the entry was made from and the checksum of all that precedes the box.
docs/clip_cache.md has the measurements behind the codecs.
"""

import hashlib
import json
import struct
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO

import av
import cv2
import numpy as np
from av.video.reformatter import VideoReformatter

VERSION = 1  # of the entries: a change of the codecs or of the record makes it one more
MAGIC = b"mmaclip1"


@dataclass(frozen=True)
class Codec:
    """How the frames of an entry are encoded; every `keyint`-th is a keyframe."""

    name: str
    pix_fmt: str
    keyint: int
    options: dict[str, str]


# fastdecode: no deblocking, no arithmetic coding. bf=0: frames come out in the order that they
# went in. sc_threshold=0: keyframes exactly `keyint` apart, whatever the scene does.
_X264 = dict(preset="veryfast", tune="fastdecode", crf="18", g="4", bf="0", sc_threshold="0")
CODECS = {
    "small": Codec("libx264", "yuv420p", 4, _X264),
    "fast": Codec("mjpeg", "yuvj420p", 1, dict(qmin="3", qmax="3")),
}


@dataclass(frozen=True)
class ClipInfo:
    """The record of an entry; `width` and `height` are without the padding to even sizes."""

    source: str
    format: str
    short_side: int
    num_frames: int
    width: int
    height: int
    fps: float
    pts_step: int
    num_bytes: int
    checksum: str
    version: int = VERSION


def append_record(file: BinaryIO, info: ClipInfo) -> None:
    """Writes the record behind the mp4's last box."""
    record = json.dumps(asdict(info)).encode()
    tail = record + struct.pack(">I", len(record)) + MAGIC
    file.seek(0, 2)
    file.write(struct.pack(">I", len(tail) + 8) + b"free" + tail)


def read_record(path: Path) -> ClipInfo | None:
    """Reads all of an entry; returns its record, None where it is not whole or of this version."""
    with path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(max(0, size - 4096))
        tail = file.read()
        if not tail.endswith(MAGIC) or len(tail) < 20:
            return None
        (length,) = struct.unpack(">I", tail[-12:-8])
        try:
            info = ClipInfo(**json.loads(tail[-12 - length : -12]))
        except (ValueError, TypeError):  # not JSON, or the fields of another version
            return None
        known = info.version == VERSION and info.format in CODECS
        whole = size == info.num_bytes + 8 + length + 12
        return info if known and whole and checksum(file, info.num_bytes) == info.checksum else None


def checksum(file: BinaryIO, num_bytes: int) -> str:
    """Returns the BLAKE2b digest of a file's first `num_bytes`."""
    digest = hashlib.blake2b(digest_size=16)
    file.seek(0)
    while num_bytes > 0 and (chunk := file.read(min(1 << 20, num_bytes))):
        digest.update(chunk)
        num_bytes -= len(chunk)
    return digest.hexdigest()


@dataclass
class Frames:
    """A batch of frames, uint8 RGB, with the method that `DecordDecode` calls on decord's."""

    array: np.ndarray  # (num_frames, height, width, 3)

    def asnumpy(self) -> np.ndarray:
        return self.array


class ClipReader:
    """Reads the frames of an entry; has the methods of decord's `VideoReader` that stock calls.

    At most `keyint` frames are decoded for one that is asked for.
    """

    def __init__(self, path: str | Path, info: ClipInfo) -> None:
        self.path = str(path)
        self.info = info
        self._container = av.open(self.path)  # stays readable where another process removes it
        self._container.streams.video[0].thread_type = "NONE"  # few frames: threads only cost

    def __len__(self) -> int:
        return self.info.num_frames

    def get_avg_fps(self) -> float:
        """Returns the frames per second of the source."""
        return self.info.fps

    def get_batch(self, indices: Sequence[int] | np.ndarray) -> Frames:
        """Returns the frames of the indices, in their order; a repeated one is decoded once.

        Raises:
            IndexError: an index beyond the clip.
        """
        order, places = np.unique(np.asarray(indices), return_inverse=True)
        for index in order:
            if not 0 <= index < len(self):
                raise IndexError(f"{self.path}: no frame {index} of {len(self)}")
        out = np.empty((len(places), self.info.height, self.info.width, 3), np.uint8)
        read = self._read_jpeg if CODECS[self.info.format].name == "mjpeg" else self._read_h264
        for number, image in enumerate(read(order.tolist())):
            out[places == number] = image[: self.info.height, : self.info.width]
        return Frames(out)

    def _read_h264(self, order: Sequence[int]) -> Iterator[np.ndarray]:
        stream = self._container.streams.video[0]
        step, keyint = self.info.pts_step, CODECS[self.info.format].keyint
        reformatter = VideoReformatter()
        group = -1
        for index in order:
            if index // keyint != group:
                group = index // keyint
                self._container.seek(index * step, stream=stream)
                frames = self._container.decode(stream)
            frame = next(frame for frame in frames if frame.pts == index * step)
            yield reformatter.reformat(frame, format="rgb24", threads=1).to_ndarray()

    def _read_jpeg(self, order: Sequence[int]) -> Iterator[np.ndarray]:
        stream = self._container.streams.video[0]
        for index in order:
            self._container.seek(index * self.info.pts_step, stream=stream)
            packet = next(self._container.demux(stream))
            image = cv2.imdecode(np.frombuffer(bytes(packet), np.uint8), cv2.IMREAD_COLOR)
            if image is None:
                raise ValueError(f"{self.path}: frame {index} is broken")
            yield cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
