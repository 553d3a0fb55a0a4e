"""Checks each video, and the dataset as a whole: repeated lines, copies, leaks, empty classes."""

from collections import Counter, defaultdict
from collections.abc import Iterator

import numpy as np

from .examine import NUM_THUMBNAILS, THUMBNAIL_SHAPE
from .splits import find_near_copies, group
from .types import Findings, Record, Settings, Verdict, Video, length_of

HIGH_IMBALANCE = 3.0  # times as many training videos in the largest class as in the smallest
# Videos may differ from their headers by this much: encoders round, containers guess.
TOLERANCE = 0.05
FRAMES_TOLERANCE = 2
# decord 0.6.0 (FFmpeg 4) has no AV1 decoder, and fails at the end of MPEG transport streams.
UNREAD_CODECS = {"av1"}
UNREAD_CONTAINERS = {"mpegts"}


def find_faults(record: Record, *, min_frames: int) -> Iterator[Verdict]:
    """Yields why a video has to be left out; the first reason is the one that is told."""
    if record["error"]:
        kind, _, detail = record["error"].partition(": ")
        yield kind, detail
        return
    header, packets, frames = record["header_frames"], record["packets"], record["frames"]
    header_seconds, seconds = record["header_seconds"], record["end_seconds"]
    if _falls_short(packets, header, FRAMES_TOLERANCE):
        yield "truncated", f"the header says {header} frames, {packets} are there"
    margin = FRAMES_TOLERANCE / (record["fps"] or 25)
    # A header counts from the first packet, or, as FFmpeg's Matroska and FLV, from time 0.
    end = record["start_seconds"] + seconds
    whole = header_seconds is not None and abs(end - header_seconds) <= margin
    if (
        header is None
        and seconds > 0
        and not whole
        and _falls_short(seconds, header_seconds, margin)
    ):
        detail = f"the header says {header_seconds:.1f} s, the data ends after {seconds:.1f} s"
        yield "truncated", detail
    expected = packets - record["discarded_packets"] - record["leading_packets"]
    if _falls_short(frames, expected, FRAMES_TOLERANCE):
        yield "damaged", f"{frames} of {expected} frames can be decoded"
    if record["num_sizes"] > 1:
        yield "variable size", f"frames of {record['num_sizes']} sizes"
    if frames < min_frames:
        yield "too few frames", f"{frames}, at least {min_frames} are sampled"


def _falls_short(count: float, expected: float | None, margin: float) -> bool:
    return expected is not None and count < expected * (1 - TOLERANCE) - margin


def find_warnings(record: Record) -> Iterator[Verdict]:
    """Yields what is unusual about a video that can be used."""
    header, frames = record["header_frames"], record["frames"]
    lost = record["packets"] - record["discarded_packets"] - frames
    if 0 < lost <= record["leading_packets"]:
        yield "cut at the start", f"{lost} frames need what was cut off before: they do not count"
    if header is not None and header - record["discarded_packets"] != frames:
        yield "frame count", f"the header says {header}, {frames} were decoded"
    if record["damaged_frames"]:
        yield "damaged frames", f"{record['damaged_frames']} of {frames}"
    if record["mirrored"]:
        yield "mirrored", "by its display matrix, as players show it; stock's decord does not"
    elif record["rotation"] % 90:
        yield "rotated", f"by {record['rotation']} degrees, no quarter turn: shown as stored"
    elif record["rotation"]:
        yield "rotated", f"shown turned by {record['rotation']} degrees"
    if record["video_streams"] > 1:
        number, count = record["stream"], record["video_streams"]
        yield "several video streams", f"stream {number} is used, FFmpeg's best of {count}"
    if record["discarded_packets"]:
        hidden = f"{record['discarded_packets']} of its frames are hidden by an edit list"
        yield "hidden frames", f"{hidden}; stock's decord repeats the last frame in their place"
    if record["interlaced"]:
        yield "interlaced", "its frames are used as they are, two fields in each"


def is_read_by_decord(record: Record) -> bool:
    """Returns whether the stock pipelines' decoder is known to read such a video."""
    return record["codec"] not in UNREAD_CODECS and record["container"] not in UNREAD_CONTAINERS


def drop_repeats(findings: Findings) -> list[Video]:
    """Returns the labelled videos: one line of a path in a split; none that contradict another.

    Stretches, which follow, are compared when it is known where they are.
    """
    lines: dict[str, dict[str | None, Video]] = defaultdict(dict)
    labels: dict[str, list[Video]] = defaultdict(list)
    stretches = [video for video in findings.listed if video.times and video.label >= 0]
    for video in findings.listed:
        if video.label >= 0 and not video.times:
            labels[video.path].append(video)
    for path, videos in labels.items():
        if findings.multi_label:
            for video in videos:  # a label on each line
                same = [other.labels for other in videos if other.split == video.split]
                video.labels = tuple(sorted({label for labels in same for label in labels}))
        elif len({video.label for video in videos}) > 1:
            others = ", ".join(f"{video.where} says {video.label!r}" for video in videos)
            message = f"{path!r} has several labels: {others}; --multi-label takes them: left out"
            findings.report("contradicting labels", videos[0].where, message)
            continue
        for video in videos:
            first = lines[path].setdefault(video.split, video)
            if first is not video and not findings.multi_label:
                message = f"{path!r} is listed at {first.where} already: left out"
                findings.report("duplicate", video.where, message)
    return [*(video for of_path in lines.values() for video in of_path.values()), *stretches]


def group_contents(videos: list[Video]) -> dict[str, str]:
    """Returns for each content the smallest content that shows the same video."""
    records = {video.record["hash"]: video.record for video in videos}
    shape = (NUM_THUMBNAILS, *THUMBNAIL_SHAPE)
    # A video of fewer frames has fewer thumbnails: only its bytes are compared.
    whole = [c for c in sorted(records) if len(records[c]["thumbnails"]) == np.prod(shape)]
    data = b"".join(records[content]["thumbnails"] for content in whole)
    thumbnails = np.frombuffer(data, np.uint8).reshape(-1, *shape)
    seconds = np.array([length_of(records[content]) for content in whole])
    smallest = group(len(whole), find_near_copies(thumbnails, seconds))
    same = {content: whole[index] for content, index in zip(whole, smallest, strict=True)}
    return {content: same.get(content, content) for content in records}


def check_copies(findings: Findings, groups: dict[str, str], *, keep_leaks: bool) -> None:
    """Reports videos that are the same: leaks between splits, copies within one."""
    members: dict[str, list[Video]] = defaultdict(list)
    for video in findings.videos:
        members[groups[video.record["hash"]]].append(video)
    for videos in members.values():
        first = min(videos, key=lambda video: video.split != "train")
        for video in videos:
            if video is first or (video.path, video.split) == (first.path, first.split):
                continue  # another stretch of it
            is_same_file = video.record["hash"] == first.record["hash"]
            how = "byte for byte" if is_same_file else "encoded differently"
            pair = f"the same video as {first.path} ({how})"
            if video.split != first.split:
                message = f"{video.path} in {video.split}: {pair}, in {first.split} ({first.where})"
                findings.report("leak", video.where, message, fatal=not keep_leaks)
            elif video.labels != first.labels:
                names = findings.classes[video.label], findings.classes[first.label]
                message = f"{pair}, but class {names[0]!r} and not {names[1]!r}"
                findings.report("copy of another class", video.path, message)
            else:
                findings.report("copy", video.path, f"{pair}: counts twice in {video.split}")


def check_classes(findings: Findings, settings: Settings) -> None:
    """Reports classes and splits without videos, imbalance, and too small a training set."""
    classes, report = findings.classes, findings.report
    if not classes:
        if not findings.fatal:  # it is not the labels that are at fault
            message = (
                "no video has a class: each folder below the source is one, or a list or table "
                "gives a path and a label on each line"
            )
            report("no labelled video", "", message, fatal=True)
        return
    counts = Counter(
        (video.split or "train", label) for video in findings.videos for label in video.labels
    )
    for split, what in (("train", "training"), ("val", "validation")):
        empty = [name for label, name in enumerate(classes) if not counts[split, label]]
        if len(empty) == len(classes):
            report(f"no {what} video", "", f"no usable {what} video", fatal=True)
            continue
        for name in empty:
            report(f"class without {what} video", "", f"class {name!r} has no {what} video")
    if len(classes) == 1:
        message = (
            f"{classes[0]!r} is the only class: any model is right on all videos; give a source "
            "whose folders or labels are the classes"
        )
        report("one class", "", message)
    train = [count for (split, _), count in counts.items() if split == "train"]
    if train and sum(train) < settings.batch_size:
        message = f"{sum(train)} training videos, fewer than a batch of {settings.batch_size}"
        report("smaller than a batch", "", message)
    if train and max(train) >= HIGH_IMBALANCE * min(train):
        message = (
            f"the largest class has {max(train)} training videos, the smallest {min(train)}: "
            'add dict(type="class_balance") to the overrides of the config'
        )
        report("imbalance", "", message)
