"""The sound of a labelled video: copied as it is, or turned into AAC where MP4 cannot hold it."""

import logging
from fractions import Fraction
from typing import Any

import av

logger = logging.getLogger("mmact_tiny")
MP4_CODECS = {"aac", "mp3", "ac3", "eac3", "opus", "flac", "alac"}
AAC_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000, 64000, 88200, 96000)


class Sounds:
    """Takes the audio packets of one file into another, every track, at the same times.

    Args:
        source: The container that is read.
        sink: The container that is written; its header must not be written yet.
        start: Seconds that the new file begins later than the old one counts.
    """

    def __init__(self, source: Any, sink: Any, start: Fraction) -> None:
        self._sink, self._start = sink, start
        self._targets: dict[int, Any] = {}
        self._copied: set[int] = set()
        self._last: dict[int, int] = {}
        for stream in source.streams.audio:
            codec = stream.codec_context
            if codec is None or not codec.sample_rate:
                logger.warning("sound track %d left out: its codec is not known", stream.index)
            elif codec.codec.canonical_name in MP4_CODECS:
                self._targets[stream.index] = sink.add_stream_from_template(stream)
                self._copied.add(stream.index)
            else:
                rate = codec.sample_rate if codec.sample_rate in AAC_RATES else 48000
                target = sink.add_stream("aac", rate=rate)
                target.codec_context.layout = "mono" if codec.channels == 1 else "stereo"
                self._targets[stream.index] = target
        self.streams = [s for s in source.streams.audio if s.index in self._targets]

    def add(self, packet: Any) -> None:
        """Copies a packet, or decodes it and encodes what it holds."""
        target = self._targets[packet.stream.index]
        offset = round(self._start / packet.time_base)
        if packet.stream.index in self._copied:
            index, dts = packet.stream.index, packet.dts
            if dts is None or dts <= self._last.get(index, dts - 1):
                return  # the mark at the end; or damaged: MP4 has no steps back in time
            self._last[index] = dts
            packet.pts = None if packet.pts is None else packet.pts - offset
            packet.dts = dts - offset
            packet.stream = target
            self._sink.mux(packet)
            return
        try:
            frames = packet.decode()
        except av.FFmpegError:
            return
        for frame in frames:
            if frame.pts is not None:
                frame.pts -= offset
            self._sink.mux(target.encode(frame))

    def finish(self) -> None:
        """Writes what the encoders still hold."""
        for index, target in self._targets.items():
            if index not in self._copied:
                self._sink.mux(target.encode(None))
