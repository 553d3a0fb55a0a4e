"""The frames of a video that the network saw, small, as pictures that a page can hold."""

import base64
import logging
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..checkpoints.config_text import check_types
from ..errors import UserError
from ..pipeline import CROPS
from ..video.files import sample_of
from ..video.frames import choose_evenly
from ..video.isolated import GuardedReader

MAX_FRAMES = 8
HEIGHT = 112  # pixels
QUALITY = 80  # of JPEG
VIDEO_SECONDS = 30.0
# What comes after the pictures: tensors, or several crops of each picture.
END = (*CROPS, "FormatShape", "PackActionInputs")


def read_strips(
    config: Mapping[str, Any] | None, videos: Sequence[str]
) -> dict[str, dict[str, Any]]:
    """Runs the pipeline of a test on videos again, up to its pictures.

    Each video is read in a process that may crash or hang, as everywhere.

    Args:
        config: Of the test; its types are checked before anything is built.
        videos: Paths.

    Returns:
        By video: `frames`, at most `MAX_FRAMES` evenly chosen of the sampled ones, each with its
        `index` in the video and `jpeg` in base64; `num_sampled`; `crops` of each frame, where
        they are several and the frames are shown whole; or an `error`.
    """
    try:
        steps, crops = _picture_steps(config)
        reader = GuardedReader(_Strip(steps), VIDEO_SECONDS)
    except UserError as error:
        return {video: {"error": str(error)} for video in videos}
    strips: dict[str, dict[str, Any]] = {}
    try:
        for video in videos:
            try:
                strips[video] = {**reader(sample_of(video)), "crops": crops}
            except (UserError, OSError, ValueError) as error:
                strips[video] = {"error": f"the video cannot be shown: {error}"}
    finally:
        reader.close()
    return strips


def _picture_steps(config: Mapping[str, Any] | None) -> tuple[list[Any], int]:
    """Returns the transforms up to the pictures, and how many crops follow of each.

    Raises:
        UserError: there is no such pipeline, or it cannot be built here.
    """
    if config is None:
        raise UserError("the config of the test is not there")
    check_types(config, source="the test's config")
    try:
        pipeline = config["test_dataloader"]["dataset"]["pipeline"]
        types = [step["type"] for step in pipeline]
    except (KeyError, TypeError):
        raise UserError("the config has no test pipeline") from None
    end = next((i for i, name in enumerate(types) if name in END), len(types))
    from ..compat.mm import TRANSFORMS, import_modules_from_strings, register_all_modules

    try:
        register_all_modules(init_default_scope=False)
        imports = (config.get("custom_imports") or {}).get("imports") or []
        import_modules_from_strings(imports, allow_failed_imports=True)
        steps = [TRANSFORMS.build(dict(step)) for step in pipeline[:end]]
    except Exception as error:  # a transform of any kind; the cause is in its own words
        raise UserError(f"the test's pipeline cannot be built here: {error}") from error
    return steps, next((CROPS[name] for name in types[end:] if name in CROPS), 1)


class _Strip:
    """Applies transforms to a sample and returns a few of its pictures."""

    def __init__(self, steps: Sequence[Any]) -> None:
        self.steps = steps

    def __call__(self, sample: dict[str, Any]) -> dict[str, Any]:
        import cv2

        logging.disable(logging.WARNING)  # in this process: stock's transforms repeat theirs
        for step in self.steps:
            sample = step(sample)
        pictures = sample["imgs"]
        indices = np.ravel(sample["frame_inds"]).tolist()
        frames = []
        for number in choose_evenly(len(pictures), MAX_FRAMES):
            picture: Any = np.asarray(pictures[number], dtype=np.uint8)
            height, width = picture.shape[:2]
            if height > HEIGHT:
                size = (max(1, round(width * HEIGHT / height)), HEIGHT)
                picture = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
            _, data = cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
            jpeg = base64.b64encode(data.tobytes()).decode()
            height, width = picture.shape[:2]
            frames.append(dict(index=indices[number], jpeg=jpeg, width=width, height=height))
        return dict(frames=frames, num_sampled=len(pictures), num_frames=sample["total_frames"])
