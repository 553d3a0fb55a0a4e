"""Takes the frames of a window that a pipeline takes of a whole video, and packs their views."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ..errors import UserError

SHORTEST = 0.02  # seconds: about a frame, below which windows only repeat each other


def check_window(window: float, stride: float) -> None:
    """Raises a UserError for a window and a stride, in seconds, that do not cover a video."""
    if not SHORTEST <= window < float("inf"):
        raise UserError(f"--window {window:g}: expected seconds, {SHORTEST:g} or more")
    if not SHORTEST <= stride <= window:
        raise UserError(
            f"--stride {stride:g}: expected {SHORTEST:g} or more and at most --window {window:g}"
        )


def find_sampler(pipeline: Sequence[Mapping[str, Any]], split: str) -> tuple[int, int]:
    """Returns where the frames are chosen and where they are decoded images."""
    types = [str(step["type"]) for step in pipeline]
    start = next((i for i, name in enumerate(types) if "Sample" in name), None)
    decoders = [i for i, name in enumerate(types) if "Decode" in name]
    if start is None or not decoders:
        raise UserError(
            f"the {split} pipeline does not sample and decode a video: {', '.join(types)}\n"
            "  describe.py reads recognizers of video, not of audio, poses or features"
        )
    return start, decoders[-1] + 1


Compose = Callable[[Sequence[Any]], Callable[[dict], dict]]  # as `Recognizer.compose`


class WindowPipeline:
    """A test pipeline for frames that are decoded already: those of a window, counted from 0.

    Args:
        steps: The pipeline, from what opens the video on.
        compose: Makes of steps what runs them, as `Recognizer.compose`.

    Raises:
        UserError: it takes no video.
    """

    def __init__(
        self,
        steps: Sequence[Mapping[str, Any]],
        compose: Compose,
    ) -> None:
        start, end = find_sampler(steps, "test")
        self._sampler = compose(steps[start : start + 1])
        self._transforms = compose(steps[end:])

    def sample(self, sample: dict[str, Any], *, num_frames: int, fps: float) -> dict[str, Any]:
        """Returns the sample with the frames of a video of that length, `frame_inds` (frames,)."""
        sample = self._sampler(dict(sample, total_frames=num_frames, avg_fps=fps))
        inds = np.atleast_1d(np.squeeze(sample["frame_inds"]))  # as stock's DecordDecode
        return dict(sample, frame_inds=inds)

    def pack(self, sample: dict[str, Any], images: Sequence[np.ndarray]) -> dict[str, Any]:
        """Returns the views, packed; the images are those of `frame_inds`, in its order."""
        shape = images[0].shape[:2]
        own = dict(imgs=list(images), original_shape=shape, img_shape=shape)
        return self._transforms(sample | own)
