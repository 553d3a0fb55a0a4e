"""Reads the frames of a video that a test saw, as small pictures for the page."""

import base64
import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from ..cache import transforms as _transforms  # noqa: F401  registers those of a dump
from ..checkpoints.config_text import check_types
from ..compat import Compose, register_all_modules
from ..errors import UserError
from ..pipeline import CROPS
from ..video.files import sample_of
from ..video.isolated import GuardedReader, Lost
from ..video.packets import choose_evenly
from .types import Settings

MAX_FRAMES = 8
HEIGHT = 112  # pixels
QUALITY = 80  # of JPEG
VIDEO_SECONDS = 30.0
# What comes after the pictures: tensors, or several crops of each picture.
END = (*CROPS, "FormatShape", "PackActionInputs")


def read_frames(config: Settings | None, videos: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Runs the pipeline of a test on videos again, up to its pictures.

    Each video is read in a process that may crash or hang, as everywhere.

    Args:
        config: Of the test; its types are checked before anything is built.
        videos: Paths.

    Returns:
        Of each video `frames`, at most `MAX_FRAMES` evenly chosen ones, as `index`, `jpeg` (in
        base64), `width`, `height`; `num_sampled`; `num_frames` in the video; `crops` of each frame,
        which are shown whole. Or an `error`.
    """
    try:
        pipeline, crops = _picture_pipeline(config)
    except UserError as error:
        return {video: {"error": str(error)} for video in videos}
    reader = GuardedReader(partial(_pictures, pipeline, crops))
    calls = ((video, (video,), VIDEO_SECONDS) for video in videos)
    return {
        video: {"error": f"the video cannot be shown: {found}"}
        if isinstance(found, Lost)
        else found
        for video, found in reader.call_each(calls)
    }


def _picture_pipeline(config: Settings | None) -> tuple[Compose, int]:
    """Returns the transforms up to the pictures, and how many crops follow of each.

    Raises:
        UserError: there is no such pipeline, or it cannot be built here.
    """
    if config is None:
        raise UserError("the config of the test is not there")
    check_types(config, source="the test's config")
    try:
        steps = config["test_dataloader"]["dataset"]["pipeline"]
        types = [step["type"] for step in steps]
    except (KeyError, TypeError):
        raise UserError("the config has no test pipeline") from None
    end = next((i for i, name in enumerate(types) if name in END), len(types))
    register_all_modules(init_default_scope=False)
    try:
        # The scope is named in each step: the process may have any other, or none.
        pipeline = Compose([{"_scope_": "mmaction", **step} for step in steps[:end]])
    except Exception as error:  # a transform of any kind; the cause is in its own words
        raise UserError(f"the test's pipeline cannot be built here: {error}") from error
    return pipeline, next((CROPS[name] for name in types[end:] if name in CROPS), 1)


def _pictures(pipeline: Callable[[dict], Any], crops: int, video: str) -> dict[str, Any]:
    """Applies a pipeline to a video and returns a few of its pictures."""
    import cv2

    logging.disable(logging.WARNING)  # in this process: stock's transforms repeat theirs
    sample = pipeline(sample_of(video))
    indices = np.ravel(sample["frame_inds"]).tolist()
    frames = []
    for number in choose_evenly(len(sample["imgs"]), MAX_FRAMES):
        picture: Any = np.asarray(sample["imgs"][number], dtype=np.uint8)
        height, width = picture.shape[:2]
        if height > HEIGHT:
            width, height = max(1, round(width * HEIGHT / height)), HEIGHT
            picture = cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA)
        _, data = cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
        jpeg = base64.b64encode(data.tobytes()).decode()
        frames.append({"index": indices[number], "jpeg": jpeg, "width": width, "height": height})
    return {
        "frames": frames,
        "num_sampled": len(sample["imgs"]),
        "num_frames": sample["total_frames"],
        "crops": crops,
    }
