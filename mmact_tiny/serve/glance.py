"""A look at a video before it is recognized: how long, how large, and its first picture."""

from contextlib import suppress
from io import BytesIO
from typing import Any

import av

# What people film and share. Lists of other files (HLS, DASH, concat), which would have the
# server read files that nobody uploaded, and picture sequences are not among them.
CONTAINERS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,flv,asf,mpegts,mpeg,mpegvideo,ogg,gif"
MAX_PIXELS = 4096 * 2304  # the frames of all clips stand in memory at this size
POSTER_WIDTH = 240


def glance(sample: dict[str, Any]) -> dict[str, Any]:
    """Returns a video's `seconds` (to the end of its last packet), `width`, `height`, `poster`.

    The poster is its first frame as a JPEG, `POSTER_WIDTH` pixels wide. Decodes no other frame.

    Args:
        sample: The path, as `filename`.

    Raises:
        ValueError: it cannot be read, is another kind of file, or has no frame or too large ones.
    """
    options = {"protocol_whitelist": "file", "format_whitelist": CONTAINERS}
    try:
        with av.open(sample["filename"], options=options) as container:
            return _glance(container)
    except av.FFmpegError as error:
        raise ValueError(f"it is not a video that can be read ({error.strerror})") from None


def _glance(container: av.container.InputContainer) -> dict[str, Any]:
    cover = av.stream.Disposition.attached_pic  # of a piece of music
    stream = next((s for s in container.streams.video if not s.disposition & cover), None)
    if stream is None:
        raise ValueError("there is no video in the file")
    if stream.width * stream.height > MAX_PIXELS:
        raise ValueError(f"{stream.width} x {stream.height} pixels are more than 4096 x 2304")
    poster = None
    times: list[tuple[int, int]] = []
    for packet in container.demux(stream):
        time = packet.dts if packet.pts is None else packet.pts
        if time is not None:
            times.append((time, time + (packet.duration or 0)))
        if poster is None:
            with suppress(av.FFmpegError):  # perhaps the next packet gives one
                for frame in packet.decode()[:1]:
                    poster = _poster(frame)
    if poster is None:
        raise ValueError("no frame of the video can be decoded")
    length = max(end for _, end in times) - min(start for start, _ in times) if times else 0
    return dict(
        seconds=float(length * (stream.time_base or 0)),
        width=stream.width,
        height=stream.height,
        poster=poster,
    )


def _poster(frame: av.VideoFrame) -> bytes:
    height = max(1, round(frame.height * POSTER_WIDTH / frame.width))
    image = frame.to_image(width=POSTER_WIDTH, height=height)
    return jpeg(image.rotate(frame.rotation, expand=True))


def jpeg(image: Any) -> bytes:
    """Returns a Pillow image as a JPEG."""
    buffer = BytesIO()
    image.save(buffer, "JPEG", quality=80)
    return buffer.getvalue()
