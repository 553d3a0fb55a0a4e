"""Whether each video decoder of this installation really decodes a clip."""

from collections.abc import Callable
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

NUM_FRAMES, WIDTH, HEIGHT = 24, 96, 64  # of the clip that is made where none is bundled
Check = dict[str, Any]  # {"ok": bool, "detail": str}


def attempt(probe: Callable[[], Any]) -> Check:
    """Returns `{"ok": bool, "detail": str}`: what `probe` returned, or its exception in words."""
    try:
        return {"ok": True, "detail": str(probe())}
    except Exception as error:  # a broken package can raise anything when it is imported
        text = f"{type(error).__name__}: {error}".strip()
        return {"ok": False, "detail": text if len(text) <= 400 else f"{text[:400]}..."}


def sample_clip(folder: str | Path) -> Path:
    """Returns a bundled clip, or one that PyAV writes into `folder`.

    Raises:
        Exception: whatever a broken PyAV raises.
    """
    bundled = next(iter(sorted(Path("data/tiny").rglob("*.mp4"))), None)
    return bundled or write_clip(Path(folder) / "clip.mp4")


def write_clip(path: Path) -> Path:
    """Writes a clip of 24 grey frames, H.264 where PyAV has an encoder for it."""
    import av
    import numpy as np

    codec = "libx264" if "libx264" in av.codecs_available else "mpeg4"
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(codec, rate=Fraction(12))
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for index in range(NUM_FRAMES):
            image = np.full((HEIGHT, WIDTH, 3), index * 10, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())
    return path


def check_decoders(clip: str | Path) -> dict[str, Check]:
    """Returns a check by decoder: `24 frames, 96 x 64`, or why it could not decode `clip`."""
    return {name: attempt(partial(decode, str(clip))) for name, decode in DECODERS.items()}


def _words(num_frames: int, height: int, width: int) -> str:
    if not num_frames:
        raise RuntimeError("opens the clip and decodes no frame")
    return f"{num_frames} frames, {width} x {height}"


def _decord(clip: str) -> str:
    import decord

    reader = decord.VideoReader(clip, num_threads=1)
    return _words(len(reader), *reader[len(reader) - 1].asnumpy().shape[:2])


def _av(clip: str) -> str:
    import av

    with av.open(clip) as container:
        frames = [(frame.height, frame.width) for frame in container.decode(video=0)]
    return _words(len(frames), *(frames or [(0, 0)])[-1])


def _opencv(clip: str) -> str:
    import cv2

    capture = cv2.VideoCapture(clip)
    frames = []
    while True:
        found, image = capture.read()
        if not found:
            break
        frames.append(image.shape[:2])
    capture.release()
    return _words(len(frames), *(frames or [(0, 0)])[-1])


def _torchcodec(clip: str) -> str:
    from torchcodec.decoders import VideoDecoder

    decoder = VideoDecoder(clip)
    return _words(len(decoder), *decoder[len(decoder) - 1].shape[-2:])


# By the distribution that brings it; torchcodec is optional, nothing here needs it.
DECODERS: dict[str, Callable[[str], str]] = {
    "decord": _decord,
    "av": _av,
    "opencv": _opencv,
    "torchcodec": _torchcodec,
}
