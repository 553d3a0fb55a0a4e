"""Examines one video, recognizes it, and says what the page shows: labels, frames, times."""

import base64
import time
from collections.abc import Callable
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import av
import numpy as np
from PIL import Image

from ..errors import UserError
from ..pipeline import num_views
from ..recognizer import Recognizer
from ..video.files import best_stream, orientation_of, sample_of
from ..video.isolated import GuardedReader
from ..video.packets import choose_evenly

# What people film and share. Lists of other files (HLS, DASH, concat), which would have the
# server read files that nobody uploaded, and picture sequences are not among them.
CONTAINERS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,flv,asf,mpegts,mpeg,mpegvideo,ogg,gif"
MAX_PIXELS = 4096 * 2304  # the frames of all clips stand in memory at this size
POSTER_WIDTH = 240
TOP_K = 5
MAX_PICTURES = 32
CENTRE_CROP = {1: 0, 3: 2, 10: 8}  # of ThreeCrop and TenCrop: the one in the middle, not mirrored


class Examined(NamedTuple):
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
    frame, times = None, []
    try:
        with av.open(sample["filename"], options=options) as container:
            stream = best_stream(container)
            width, height = stream.width, stream.height
            if width * height > MAX_PIXELS:
                raise ValueError(f"{width} x {height} pixels are more than 4096 x 2304")
            for packet in container.demux(stream):  # the header's length may be missing or forged
                start = packet.dts if packet.pts is None else packet.pts
                if start is not None:
                    times += [start, start + (packet.duration or 0)]
                if frame is None:
                    with suppress(av.FFmpegError):  # perhaps the next packet gives a frame
                        frame = next(iter(packet.decode()), None)
            unit = stream.time_base or 0
    except UserError:
        raise ValueError("there is no video in the file") from None
    except av.FFmpegError as error:
        raise ValueError(f"it is not a video that can be read ({error.strerror})") from None
    if frame is None:
        raise ValueError("no frame of the video can be decoded")
    height = max(1, round(frame.height * POSTER_WIDTH / frame.width))
    pixels = frame.to_ndarray(width=POSTER_WIDTH, height=height, format="rgb24")
    image = Image.fromarray(np.ascontiguousarray(orientation_of(frame).turn(pixels)))
    return Examined(float((max(times) - min(times)) * unit) if times else 0.0, jpeg(image))


def jpeg(image: Image.Image) -> bytes:
    """Returns the image as a JPEG file."""
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
        self._pipeline = recognizer.compose(recognizer.steps)
        self._reader = GuardedReader(self._read)
        self._reader.start()  # before the engine is built: its process has no need of one
        self.close = self._reader.close  # also in the middle of a video

    def _read(self, sample: dict[str, Any]) -> tuple[float, dict[str, Any]]:
        """Examines a video before it is read: what a stranger sends may be anything."""
        seconds = examine(sample).seconds
        if seconds > self.max_seconds:
            most = f"{self.max_seconds:g} seconds is the most"
            raise ValueError(f"it lasts {seconds:.0f} seconds; {most}")
        return seconds, self._pipeline(sample)

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
            video_seconds, packed = self._reader(sample_of(video))
        except UserError as error:
            reason = str(error).replace(str(video), "the file").rstrip(".")
            raise UserError(f"This video cannot be used: {reason}.") from None
        read = time.perf_counter()
        self.recognizer.engine.before_chunk = check
        try:
            scores: Any = next(self.recognizer.score_samples([packed]))
        finally:
            self.recognizer.engine.before_chunk = lambda: None
        computed = time.perf_counter()
        frames = centre_frames(np.asarray(packed["inputs"]), self._crops)
        best = self.recognizer.top_k(scores, TOP_K)
        answer = dict(
            predictions=[dict(label=label, score=score) for label, score in best],
            frames=len(frames),
            views=len(frames) * self._crops,
            video_seconds=round(video_seconds, 3),
            seconds=dict(reading=round(read - start, 3), computing=round(computed - read, 3)),
            protocol=self.recognizer.protocol,
        )
        return answer | ({"pictures": _pictures(frames)} if pictures else {})


def centre_frames(inputs: np.ndarray, crops: int) -> np.ndarray:
    """Returns the frames of the centre crops, in order: shape (frames, 3, height, width).

    Args:
        inputs: What a pipeline packs: crops one after the other, of each its clips; (views, 3,
            height, width), or (views, 3, frames of a clip, height, width).
        crops: How many crops a frame has.
    """
    if inputs.ndim == 5:
        inputs = inputs.swapaxes(1, 2).reshape(-1, *np.delete(inputs.shape, [0, 2]))
    return inputs.reshape(crops, -1, *inputs.shape[1:])[CENTRE_CROP[crops]]


def _pictures(frames: np.ndarray) -> list[str]:
    if frames.dtype != np.uint8 or frames.shape[1] != 3:  # normalized already, or no picture
        return []
    chosen = choose_evenly(len(frames), MAX_PICTURES)
    images = (Image.fromarray(frames[i].transpose(1, 2, 0)) for i in chosen)
    return [f"data:image/jpeg;base64,{base64.b64encode(jpeg(i)).decode()}" for i in images]
