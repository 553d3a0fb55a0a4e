"""Examines one video, recognizes it, and says what the page shows: labels, frames, times."""

import base64
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import av
import torch
from PIL import Image

from ..compat.mm import Compose
from ..errors import UserError
from ..pipeline import num_views
from ..recognizer import Recognizer
from ..video.files import sample_of
from ..video.frames import choose_evenly
from ..video.isolated import GuardedReader

# What people film and share. Lists of other files (HLS, DASH, concat), which would have the
# server read files that nobody uploaded, and picture sequences are not among them.
CONTAINERS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,flv,asf,mpegts,mpeg,mpegvideo,ogg,gif"
MAX_PIXELS = 4096 * 2304  # the frames of all clips stand in memory at this size
POSTER_WIDTH = 240
TOP_K = 5
MAX_PICTURES = 32
CENTRE_CROP = {1: 0, 3: 2, 10: 8}  # of ThreeCrop and TenCrop: the one in the middle, not mirrored


@dataclass(frozen=True)
class Examined:
    """What a video is: seconds to the end of its last packet, and its first frame as a JPEG."""

    seconds: float
    poster: bytes


def examine(sample: dict[str, Any]) -> Examined:
    """Examines a video by its packets and its first frame; decodes no other frame.

    Args:
        sample: The path, as `filename`.

    Raises:
        ValueError: it cannot be read, is another kind of file, or has no frame or too large ones.
    """
    options = {"protocol_whitelist": "file", "format_whitelist": CONTAINERS}
    try:
        with av.open(sample["filename"], options=options) as container:
            return _examine(container)
    except av.FFmpegError as error:
        raise ValueError(f"it is not a video that can be read ({error.strerror})") from None


def _examine(container: av.container.InputContainer) -> Examined:
    cover = av.stream.Disposition.attached_pic  # of a piece of music
    stream = next((s for s in container.streams.video if not s.disposition & cover), None)
    if stream is None:
        raise ValueError("there is no video in the file")
    if stream.width * stream.height > MAX_PIXELS:
        raise ValueError(f"{stream.width} x {stream.height} pixels are more than 4096 x 2304")
    poster = None
    times: list[int] = []
    for packet in container.demux(stream):  # the header's own length may be missing or forged
        time = packet.dts if packet.pts is None else packet.pts
        if time is not None:
            times += [time, time + (packet.duration or 0)]
        if poster is None:
            with suppress(av.FFmpegError):  # perhaps the next packet gives a frame
                for frame in packet.decode()[:1]:
                    poster = _poster(frame)
    if poster is None:
        raise ValueError("no frame of the video can be decoded")
    length = max(times) - min(times) if times else 0
    return Examined(float(length * (stream.time_base or 0)), poster)


def _poster(frame: av.VideoFrame) -> bytes:
    height = max(1, round(frame.height * POSTER_WIDTH / frame.width))
    image = frame.to_image(width=POSTER_WIDTH, height=height)
    return _jpeg(image.rotate(frame.rotation, expand=True))


def _jpeg(image: Image.Image) -> bytes:
    buffer = BytesIO()
    image.save(buffer, "JPEG", quality=80)
    return buffer.getvalue()


class Answerer:
    """Recognizes one video after the other, for the page and its JSON endpoint.

    Args:
        recognizer: Made with the protocol that is wanted.
        max_seconds: Longer videos are refused.
    """

    def __init__(self, recognizer: Recognizer, *, max_seconds: float) -> None:
        self.recognizer = recognizer
        self.max_seconds = max_seconds
        self._crops = num_views(recognizer.steps)[1]
        self._pipeline = Compose(recognizer.steps)
        self._reader = GuardedReader(self._read)
        self._reader.start()  # before the engine is built: its process has no need of one

    def _read(self, sample: dict[str, Any]) -> tuple[Examined, dict[str, Any]]:
        """Examines a video before it is read: what a stranger sends may be anything."""
        examined = examine(sample)
        if examined.seconds > self.max_seconds:
            long = f"it lasts {examined.seconds:.0f} seconds"
            raise ValueError(f"{long}; {self.max_seconds:g} seconds is the most")
        return examined, self._pipeline(sample)

    def answer(
        self, video: Path, check: Callable[[], None], *, pictures: bool = False
    ) -> dict[str, Any]:
        """Returns `predictions` (label and score of the best), `frames`, `views`, `seconds`.

        `frames` counts those that the network saw, `views` their crops too. With `pictures`,
        their centre crops are there as data URIs, at most `MAX_PICTURES`, evenly chosen.

        Args:
            video: Path.
            check: Called before each chunk of views is computed; raises to give the video up.
            pictures: Whether the frames are wanted.

        Raises:
            UserError: the video cannot be read or is too long; in a sentence without its path.
        """
        start = time.perf_counter()
        try:
            examined, packed = self._reader(sample_of(video))
        except UserError as error:
            reason = str(error).replace(str(video), "the file").rstrip(".")
            raise UserError(f"This video cannot be used: {reason}.") from None
        reading = time.perf_counter() - start
        scores = self._score(packed, check)
        computing = time.perf_counter() - start - reading
        frames = centre_frames(packed["inputs"], self._crops)
        best = self.recognizer.top_k(scores, TOP_K)
        answer = dict(
            predictions=[dict(label=label, score=score) for label, score in best],
            frames=len(frames),
            views=len(frames) * self._crops,
            video_seconds=round(examined.seconds, 3),
            seconds=dict(reading=round(reading, 3), computing=round(computing, 3)),
            protocol=self.recognizer.protocol,
        )
        return answer | ({"pictures": _pictures(frames)} if pictures else {})

    def _score(self, packed: dict[str, Any], check: Callable[[], None]) -> Any:
        engine = self.recognizer.engine
        before, engine.before_chunk = engine.before_chunk, check
        try:
            (scores,) = self.recognizer.score_samples([packed])
            return scores
        finally:
            engine.before_chunk = before

    def close(self) -> None:
        """Ends the process that reads videos, also in the middle of one."""
        self._reader.close()


def centre_frames(inputs: torch.Tensor, crops: int) -> torch.Tensor:
    """Returns the frames of the centre crops, in order: shape (frames, 3, height, width).

    Args:
        inputs: What a pipeline packs: crops one after the other, of each its clips; (views, 3,
            height, width), or (views, 3, frames of a clip, height, width).
        crops: How many crops a frame has.
    """
    if inputs.ndim == 5:
        inputs = inputs.transpose(1, 2).flatten(0, 1)
    return inputs.unflatten(0, (crops, -1))[CENTRE_CROP[crops]]


def _pictures(frames: torch.Tensor) -> list[str]:
    if frames.dtype != torch.uint8 or frames.shape[1] != 3:  # normalized already, or no picture
        return []
    chosen = choose_evenly(len(frames), MAX_PICTURES)
    images = (Image.fromarray(frames[i].permute(1, 2, 0).numpy()) for i in chosen)
    return [f"data:image/jpeg;base64,{base64.b64encode(_jpeg(i)).decode()}" for i in images]
