"""Draws the answer for one video as a picture that a notebook displays."""

from pathlib import Path

import numpy as np
from PIL import Image

from ..compat import Compose
from ..recognizer import Recognizer
from ..video.frames import PacketDecode, PacketInit
from ..video.isolated import GuardedReader
from ..video.packets import Source, as_file, choose_evenly
from ..video.times import ask_frame_times
from .sheet import Panel, lay_out, to_pixels

NUM_FRAMES = 6  # of a video, from its first to its last


def draw_answer(recognizer: Recognizer, video: Source, k: int) -> Image.Image:
    """Returns frames of a video with their times, its best label above, the k best with scores.

    Raises:
        UserError: the video cannot be read; k is below 1.
    """
    with as_file(video) as path:
        predictions = recognizer.predict(path, k)
        times = ask_frame_times(path)
        frame_inds = np.array(choose_evenly(len(times), NUM_FRAMES))
        reader = GuardedReader(Compose([PacketInit(), PacketDecode()]))
        try:
            images = reader(dict(filename=str(path), frame_inds=frame_inds))["imgs"]
        finally:
            reader.close()
    notes = [f"frame {frame}: {times.seconds[frame]:.2f} s" for frame in frame_inds]
    best, *others = [f"{label} {score:.3f}" for label, score in predictions]
    pictures = list(zip(images, notes, strict=True))
    panel = Panel(title=best, subtitle=", ".join(others), pictures=pictures)
    name = Path(video).name if isinstance(video, str | Path) else "a video"
    heading = [name, recognizer.protocol]
    return Image.fromarray(to_pixels(lay_out([panel], heading=heading)))
