"""What the page is told about a video: its best labels, the frames that were used, the time."""

import base64
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..errors import UserError
from ..pipeline import num_views
from ..recognizer import Recognizer, sample_of
from ..report.strips import choose_evenly
from ..video.guarded_reader import GuardedReader
from .glance import glance, jpeg
from .upload import Refused
from .waiting_line import Job

TOP_K = 5
MAX_PICTURES = 32
CENTRE_CROP = {1: 0, 3: 2, 10: 8}  # of ThreeCrop and TenCrop: the one in the middle, not mirrored


class Answerer:
    """Recognizes one video after the other, for the page and its JSON endpoint.

    Args:
        recognizer: Made with the protocol that is wanted.
        max_seconds: Longer videos are refused.
    """

    def __init__(self, recognizer: Recognizer, *, max_seconds: float) -> None:
        from ..compat.mm import Compose

        self.recognizer = recognizer
        self.max_seconds = max_seconds
        self.crops = num_views(recognizer.steps)[1]
        self._pipeline = Compose(recognizer.steps)
        self._reader = GuardedReader(self._read)
        self._reader.start()  # before the engine is built: its process has no need of one

    def _read(self, sample: dict[str, Any]) -> dict[str, Any]:
        """Looks at a video before it is read: what a stranger sends may be anything."""
        seen = glance(sample)
        if seen["seconds"] > self.max_seconds:
            long = f"it lasts {seen['seconds']:.0f} seconds"
            raise ValueError(f"{long}; {self.max_seconds:g} seconds is the most")
        return {"glance": seen, "packed": self._pipeline(sample)}

    def answer(self, video: Path, job: Job, *, pictures: bool) -> dict[str, Any]:
        """Returns `predictions` (label and score of the best), `frames`, `views`, `seconds`.

        `frames` counts those that the network saw, `views` their crops too. With `pictures`,
        their centre crops are there as data URIs, at most `MAX_PICTURES`, evenly chosen.

        Raises:
            Refused: the video cannot be read or is too long.
            Left: nobody waits for the answer.
        """
        start = time.perf_counter()
        try:
            read = self._reader(sample_of(video))
        except UserError as error:
            job.check()
            reason = str(error).replace(str(video), "the file").rstrip(".")
            raise Refused(422, f"This video cannot be used: {reason}.") from None
        reading = time.perf_counter() - start
        with self._given_up_by(job):
            (scores,) = self.recognizer.score_samples([read["packed"]])
        assert not isinstance(scores, UserError)  # that is for samples that are errors
        computing = time.perf_counter() - start - reading
        frames = centre_frames(read["packed"]["inputs"], self.crops)
        best = self.recognizer.top_k(scores, TOP_K)
        answer: dict[str, Any] = dict(
            predictions=[dict(label=label, score=score) for label, score in best],
            frames=len(frames),
            views=len(frames) * self.crops,
            video_seconds=round(read["glance"]["seconds"], 3),
            seconds=dict(reading=round(reading, 3), computing=round(computing, 3)),
            protocol=self.recognizer.protocol,
        )
        if pictures:
            answer["pictures"] = _pictures(frames)
        return answer

    @contextmanager
    def _given_up_by(self, job: Job) -> Iterator[None]:
        """Has the engine ask the job before each chunk of views."""
        engine = self.recognizer.engine
        before, engine.before_chunk = engine.before_chunk, job.check
        try:
            yield
        finally:
            engine.before_chunk = before

    def close(self) -> None:
        """Ends the process that reads videos, also in the middle of one."""
        self._reader.close()


def centre_frames(inputs: Any, crops: int) -> Any:
    """Returns the frames of the centre crops, in order: a tensor (frames, 3, height, width).

    Args:
        inputs: What a pipeline packs: crops one after the other, of each its clips; (views, 3,
            height, width), or (views, 3, frames of a clip, height, width).
        crops: How many crops a frame has.
    """
    if inputs.ndim == 5:
        inputs = inputs.transpose(1, 2).flatten(0, 1)
    return inputs.unflatten(0, (crops, -1))[CENTRE_CROP[crops]]


def _pictures(frames: Any) -> list[str]:
    import torch
    from PIL import Image

    if frames.dtype != torch.uint8 or frames.shape[1] != 3:  # normalized already, or no picture
        return []
    chosen = choose_evenly(len(frames), MAX_PICTURES)
    images = (Image.fromarray(frames[i].permute(1, 2, 0).numpy()) for i in chosen)
    return [f"data:image/jpeg;base64,{base64.b64encode(jpeg(i)).decode()}" for i in images]
