"""Adds a tone to a test's video, in any codec and of any length."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np


def add_tone(
    video: Path, out: Path, *, codec: str = "aac", seconds: float = 2.0, rate: int = 44100
) -> Path:
    """Copies a video's pictures to `out` and adds a sine of 440 Hz."""
    with av.open(str(video)) as source, av.open(str(out), "w") as sink:
        pictures = source.streams.video[0]
        target = sink.add_stream_from_template(pictures)
        sound = sink.add_stream(codec, rate=rate)
        sound.codec_context.layout = "mono"
        for packet in source.demux(pictures):
            if packet.dts is not None:
                packet.stream = target
                sink.mux(packet)
        for start in range(0, round(seconds * rate), 1024):
            count = min(1024, round(seconds * rate) - start)
            wave = 0.3 * np.sin(2 * np.pi * 440 * np.arange(start, start + count) / rate)
            frame = av.AudioFrame.from_ndarray(wave.astype(np.float32)[None], "fltp", "mono")
            frame.sample_rate, frame.pts, frame.time_base = rate, start, Fraction(1, rate)
            sink.mux(sound.encode(frame))
        sink.mux(sound.encode(None))
    return out
