"""Opens a stream or camera, reads its packets in a thread, and opens it again when it is lost.

A server that sends nothing any more (`SILENT_SECONDS`) is as lost as one that goes away; the
pauses between two tries double. A source of known length, a file at an address, is read at its own
speed and ends with its last packet. So is HLS read, whose segments come whole.
"""

import logging
import re
import select
import threading
import time
from collections import deque
from collections.abc import Iterator
from typing import Any, NamedTuple

import av

from ..errors import UserError
from ..video.files import best_stream

OPEN_SECONDS = 10.0  # for a server to answer
SILENT_SECONDS = 15.0  # without a packet: longer than a segment of HLS
ANALYZE_SECONDS = 2.0  # of a stream, to learn what is in it
STALE_SECONDS = 2.0  # that a packet may wait for the decoder
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 30.0  # seconds between two tries
AHEAD_SECONDS = 30.0  # that a packet may be early; more is a jump of the time stamps
MAX_BYTES = 64 << 20  # of packets that wait for the decoder
# What a source may have FFmpeg open further, as a playlist does: no file of this machine.
NETWORK = "crypto,data,http,httpproxy,https,rtmp,rtmps,rtmpt,rtp,srtp,tcp,tls,udp"
NO_TIMESTAMPS = 0x80  # AVFMT_NOTIMESTAMPS of libavformat/avformat.h
SEGMENTED = ("hls", "dash")
logger = logging.getLogger("mmact_tiny")


def without_password(source: str) -> str:
    """Returns an address as it may be shown."""
    return re.sub(r"(?<=://)[^/@]*@", "", source)


class Opened:
    """A source that is open: its container, its best video stream, and how to read it.

    `ends` says whether its end is the end of the video, and not a loss; `is_paced` whether it is
    read at its own speed; `has_times` whether its time stamps come from a clock.

    Args:
        source: An address, as `rtsp://...`; a camera, as `/dev/video0`; `-` for standard input.
        silent_seconds: Without a packet, after which reading ends in an error.

    Raises:
        UserError: it cannot be opened, in time or at all, or has no video.
    """

    def __init__(self, source: str, silent_seconds: float = SILENT_SECONDS) -> None:
        is_device, self.silent_seconds = source.startswith("/dev/video"), silent_seconds
        options = dict(analyzeduration=str(int(ANALYZE_SECONDS * 1e6)), rtsp_transport="tcp")
        options["live_start_index"] = "-1"  # HLS: its newest segment
        if not is_device:
            options["protocol_whitelist"] = "pipe" if source == "-" else NETWORK
        # FFmpeg waits for a pipe without end.
        if source == "-" and not select.select([0], [], [], OPEN_SECONDS)[0]:
            raise UserError(f"-: nothing came in {OPEN_SECONDS:g} s on standard input")
        try:
            self.container: Any = av.open(
                "pipe:0" if source == "-" else source,
                format="v4l2" if is_device else None,
                options=options,
                timeout=(OPEN_SECONDS, silent_seconds),
            )
        except av.FFmpegError as error:
            hint = "; PyAV's wheels read no DASH" if ".mpd" in source else ""
            raise UserError(f"{without_password(source)}: {_explain(error)}{hint}") from None
        try:
            self.stream = best_stream(self.container)
        except UserError as error:
            self.container.close()
            raise UserError(f"{without_password(source)}: {error}") from None
        self.context, self.time_base = self.stream.codec_context, self.stream.time_base
        self.context.thread_type = "SLICE"  # a thread for each frame would hold frames back
        kind, has_length = self.container.format, bool(self.container.duration)  # live FLV has 0
        self.has_times = not kind.flags & NO_TIMESTAMPS
        self.is_paced = has_length or kind.name in SEGMENTED
        has_size = self.container.size > 0 and kind.name not in SEGMENTED
        self.ends = has_length or has_size or source == "-"

    def packets(self) -> Iterator[av.Packet]:
        """Yields the packets of the video as they come.

        Raises:
            av.FFmpegError: the connection is lost, or no packet comes any more.
        """
        last = time.monotonic()
        for packet in self.container.demux():
            if packet.stream_index == self.stream.index and packet.size:
                yield packet
                last = time.monotonic()
            elif time.monotonic() - last > self.silent_seconds:  # there is sound only
                raise av.ExitError(0, "")


def _explain(error: av.FFmpegError) -> str:
    if isinstance(error, av.ExitError):
        return "nothing came in time"
    if isinstance(error, av.InvalidDataError):
        return "it is no video stream that can be read"
    return error.strerror or type(error).__name__


class Waiting(NamedTuple):
    """A packet, where it is from, and when it came (`time.monotonic`)."""

    opened: Opened
    packet: av.Packet
    arrival: float


class Loss(NamedTuple):
    """From when to when (`time.monotonic`) a source was lost, and why."""

    start: float
    end: float
    reason: str


class Reader:
    """Reads a source in a thread; `take` gives its packets in order.

    Where the decoder is so slow that one has waited for `STALE_SECONDS`, all before the newest
    keyframe are left out; where none waits, all up to the next.

    Args:
        source: As of `Opened`.
        first_pause: Seconds from a loss to the first try.
        silent_seconds: As of `Opened`.

    Raises:
        UserError: as `Opened`; only what was open once is tried again.
    """

    def __init__(
        self,
        source: str,
        *,
        first_pause: float = FIRST_PAUSE,
        silent_seconds: float = SILENT_SECONDS,
    ) -> None:
        self.source, self.first_pause, self.silent_seconds = source, first_pause, silent_seconds
        self.losses: deque[Loss] = deque(maxlen=1000)  # that nobody has taken yet
        self.lost: str | None = None  # why, while it is
        self.num_read = 0  # packets that were taken or left out
        self._error: BaseException | None = None
        self._waiting: deque[Waiting] = deque()
        self._num_bytes = 0
        self._needs_keyframe = self._has_ended = False
        self._changed = threading.Condition()
        self._stopped = threading.Event()
        opened = Opened(source, silent_seconds)
        self._thread = threading.Thread(target=self._run, args=(opened,), daemon=True)
        if not opened.ends:
            self.start()  # what comes while the model loads is too old then

    def start(self) -> None:
        """Begins to read what has an end; the rest is read from when it was opened."""
        if self._thread.ident is None:
            self._thread.start()

    def take(self) -> Waiting | None:
        """Waits for the next packet and returns it, None after the last."""
        with self._changed:
            while True:
                self._changed.wait_for(lambda: self._waiting or self._has_ended)
                self._leave_stale()
                if self._waiting:
                    found = self._pop()
                    if not self._needs_keyframe or found.packet.is_keyframe:
                        self._needs_keyframe = False
                        return found
                elif self._error is not None:
                    raise self._error
                elif self._has_ended:
                    return None

    def close(self) -> bool:
        """Ends reading; returns whether it has ended, and does not hang in FFmpeg."""
        self._stopped.set()
        with self._changed:
            self._changed.notify_all()
        if self._thread.ident is not None:
            self._thread.join(1.0)
        return not self._thread.is_alive()

    def _pop(self) -> Waiting:
        found = self._waiting.popleft()
        self._num_bytes -= found.packet.size
        self.num_read += 1
        self._changed.notify_all()
        return found

    def _leave_stale(self) -> None:
        if not self._waiting or time.monotonic() - self._waiting[0].arrival <= STALE_SECONDS:
            return
        keyframes = [i for i, one in enumerate(self._waiting) if one.packet.is_keyframe]
        self._needs_keyframe = not keyframes
        for _ in range(keyframes[-1] if keyframes else len(self._waiting)):
            self._pop()

    def _run(self, opened: Opened | None) -> None:
        try:
            pause = self.first_pause
            while opened is not None:
                start = time.monotonic()
                reason = self._read(opened)
                opened.container.close()
                if reason is None or self._stopped.is_set():
                    break
                if time.monotonic() - start > LONGEST_PAUSE:
                    pause = self.first_pause
                opened, pause = self._open_again(reason, pause)
        except BaseException as error:
            self._error = error
        with self._changed:
            self._has_ended = True
            self._changed.notify_all()

    def _read(self, opened: Opened) -> str | None:
        """Reads to the end; returns why the source is lost, None where it just ended."""
        anchor = None  # when what has the time stamp 0 is due
        try:
            for packet in opened.packets():
                stamp = packet.dts if packet.dts is not None else packet.pts
                if opened.is_paced and stamp is not None:
                    anchor = self._wait_until_due(float(stamp * packet.time_base), anchor)
                with self._changed:
                    self._changed.wait_for(
                        lambda: self._num_bytes < MAX_BYTES or self._stopped.is_set()
                    )
                    self._waiting.append(Waiting(opened, packet, time.monotonic()))
                    self._num_bytes += packet.size
                    self._changed.notify_all()
                if self._stopped.is_set():
                    return None
        except av.FFmpegError as error:
            if self.source == "-":
                raise UserError(
                    f"-: {_explain(error)}; standard input cannot be read again, and an MP4 has to "
                    "begin with its index"
                ) from None
            return _explain(error)
        return None if opened.ends else "it ended"

    def _wait_until_due(self, stamp: float, anchor: float | None) -> float:
        """Waits until a packet is due, and returns the anchor; a new one where its time jumped."""
        now = time.monotonic()
        if anchor is None or not -1 < anchor + stamp - now < AHEAD_SECONDS:
            return now - stamp
        self._stopped.wait(max(0.0, anchor + stamp - now))
        return anchor

    def _open_again(self, reason: str, pause: float) -> tuple[Opened | None, float]:
        """Tries to open the source until it succeeds; returns it, and the next pause."""
        start, self.lost, opened = time.monotonic(), reason, None
        shown = without_password(self.source)
        while opened is None:
            logger.warning("%s is lost: %s; trying again in %g s", shown, self.lost, pause)
            if self._stopped.wait(pause):
                break
            pause = min(2 * pause, LONGEST_PAUSE)
            try:
                opened = Opened(self.source, self.silent_seconds)
            except UserError as error:
                self.lost = str(error).removeprefix(f"{shown}: ")
        else:
            logger.warning("%s is back after %.1f s", shown, time.monotonic() - start)
            self.lost = None
        self.losses.append(Loss(start, time.monotonic(), reason))
        return opened, pause
