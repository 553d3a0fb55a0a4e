"""Says where the stretches of videos are, in seconds, and which of them cannot be used."""

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from importlib import import_module
from itertools import pairwise
from statistics import median
from types import ModuleType
from typing import TYPE_CHECKING

from ..errors import UserError
from .types import Findings, Settings, Video, length_of

if TYPE_CHECKING:
    from ..video.times import FrameTimes

SLACK = 0.1  # seconds that tools may be wrong by: at a video's end, and where labels meet


def place_stretches(findings: Findings, settings: Settings) -> None:
    """Sets the seconds of each stretch among the usable videos; leaves out and reports the others.

    Where there are stretches, a video that is listed as a whole is one from its start to its end.
    """
    if not any(video.times for video in findings.videos):
        if settings.background is not None:
            raise UserError("--background: nothing lists stretches, so there is no rest of a video")
        if settings.frame_rate is not None:
            raise UserError("--frame-rate: nothing lists stretches: leave it out")
        return
    frame_times: dict[str, FrameTimes] = {}
    good: dict[str, list[Video]] = defaultdict(list)
    listed: dict[str, list[Video]] = defaultdict(list)
    for video in findings.videos:
        length = length_of(video.record)
        start, end = _seconds(video, settings, frame_times)
        if end is not None and start is not None and length < end <= length + SLACK:
            end = length  # tools round
        listed[video.path].append(video)
        if start is None or end is None or not 0 <= start < end <= length:
            kind, why = _fault(video, start, end, length)
            findings.report(kind, video.where, f"{why}: left out")
            continue
        # Down: a frame's own time, rounded up, would be that of the frame before.
        video.start, video.end = (math.floor(t * 1000 + 1e-6) / 1000 for t in (start, end))
        if video.seconds * video.record["fps"] < settings.min_frames:
            why = f"at least {settings.min_frames} frames are sampled"
            findings.report("too short", video.where, f"{video.shown}: {why}: left out")
        else:
            good[video.path].append(video)
    choose = _cut if findings.multi_label else _agreeing
    findings.videos = [video for videos in good.values() for video in choose(videos, findings)]
    if settings.background is not None:
        findings.videos += _background(findings, listed, settings.background)


def _seconds(
    video: Video, settings: Settings, frame_times: dict[str, "FrameTimes"]
) -> tuple[float | None, float | None]:
    """Returns where a stretch begins and ends in seconds; None for what is no number."""
    if video.times is None:
        return 0.0, length_of(video.record)
    try:
        start, end = float(video.times.start), float(video.times.end)
    except ValueError:
        return None, None
    if not video.times.in_frames:
        return start, end
    if rate := settings.frame_rate or video.times.rate:
        return start / rate, end / rate
    if video.path not in frame_times:
        frame_times[video.path] = _of_video("times").read_frame_times(video.path)
    times = frame_times[video.path]
    seconds = [*times.seconds.tolist(), times.duration]
    last = len(times)
    return tuple(  # type: ignore[return-value]
        seconds[int(frame)] if 0 <= frame <= last else frame / times.fps for frame in (start, end)
    )


def _fault(video: Video, start: float | None, end: float | None, length: float) -> tuple[str, str]:
    """Returns what is wrong with a stretch: a few words, and the particulars."""
    times = video.times
    assert times is not None
    unit = "frames" if times.in_frames else "seconds"
    what = f"{unit} {times.start} to {times.end} of {video.path}"
    if start is None or end is None:
        return "not a time", f"{what}: expected numbers, as {'25' if times.in_frames else '12.5'}"
    if start < 0 or not end > start:
        return "not a stretch", f"{what}: expected a start of 0 or more, and an end after it"
    fix = "is it another video of that name?"
    if times.in_frames:
        fix = "which rate did the tool count with? say so by --frame-rate"
    return "outside the video", f"{what}, which ends at {length:.1f} s; {fix}"


def _agreeing(videos: Sequence[Video], findings: Findings) -> Iterator[Video]:
    """Yields the stretches of a video but for repeated ones, and those of which labels disagree."""
    against: dict[int, Video] = {}
    ordered = sorted(videos, key=lambda video: (video.start, video.end or 0))
    for index, one in enumerate(ordered):
        for other in ordered[index + 1 :]:
            if other.start >= (one.end or 0) - SLACK:
                break
            same_times = (one.start, one.end) == (other.start, other.end)
            if one.label != other.label:
                against[id(one)], against[id(other)] = other, one
            elif same_times and one.split == other.split:
                against.setdefault(id(other), one)
    for video in videos:
        if id(video) not in against:
            yield video
            continue
        other = against[id(video)]
        if other.label == video.label:
            message = f"{video.shown} is listed at {other.where} already: left out"
            findings.report("duplicate", video.where, message)
        else:
            message = (
                f"{video.shown} is {video.written!r}, and {other.where} says {other.written!r} "
                f"from {other.start:g} to {other.end:g} s; --multi-label takes both: left out"
            )
            findings.report("contradicting labels", video.where, message)


def _cut(videos: Sequence[Video], findings: Findings) -> Iterator[Video]:
    """Yields the stretches of a video that have the same labels throughout, all that hold there."""
    borders = sorted({time for video in videos for time in (video.start, video.end or 0)})
    for start, end in pairwise(borders):
        here = [one for one in videos if one.start <= start and end <= (one.end or 0)]
        if here and end - start > SLACK:
            labels = tuple(sorted({label for one in here for label in one.labels}))
            yield replace(here[0], start=start, end=end, labels=labels)


def _background(findings: Findings, listed: dict[str, list[Video]], name: str) -> list[Video]:
    """Returns stretches of what no stretch of a video has, as long as half of the others are.

    A video gives as many as it has labelled stretches, spread evenly, or all there are.

    Raises:
        UserError: there is none in any video.
    """
    length = median(video.seconds for video in findings.videos) if findings.videos else 0.0
    used_of: dict[str, list[Video]] = defaultdict(list)
    for video in findings.videos:
        used_of[video.path].append(video)
    rest: list[Video] = []
    for path, used in used_of.items():
        videos = listed[path]
        taken = sorted((video.start, video.end or 0) for video in videos)
        borders = [(0.0, 0.0), *taken, (length_of(videos[0].record),) * 2]
        windows: list[float] = []
        reached = 0.0
        for (_, end), (start, _) in pairwise(borders):
            reached = max(reached, end)
            count = int((start - reached) / length)
            windows += [reached + number * length for number in range(count)]
        if not windows:
            message = f"no gap of {length:.1f} s, the median stretch: none of it is {name!r}"
            findings.report("no background", videos[0].where, f"{path} has {message}")
            continue
        for index in _of_video("packets").choose_evenly(len(windows), len(used)):
            start = math.floor(windows[index] * 1000) / 1000
            end = math.floor((start + length) * 1000) / 1000
            labels = (findings.classes.index(name),)
            rest.append(replace(used[0], written=name, labels=labels, start=start, end=end))
    if findings.videos and not rest:
        why = f"no video has a gap of {length:.1f} s, the median stretch: leave it out"
        raise UserError(f"--background {name}: {why}")
    return rest


def _of_video(name: str) -> ModuleType:
    """Imports a module that takes torch with it, which datasets of whole videos do not need."""
    return import_module(f"mmact_tiny.video.{name}")
