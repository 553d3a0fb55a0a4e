"""Checks of a dataset as a whole: repeated lines, copies and leaks, classes without videos."""

from collections import Counter, defaultdict

import numpy as np

from .examine import NUM_THUMBNAILS, THUMBNAIL_SHAPE
from .leaks import find_near_copies, group
from .types import SPLITS, Findings, Settings, Video, length_of

HIGH_IMBALANCE = 3.0  # times as many training videos in the largest class as in the smallest


def drop_repeats(findings: Findings) -> list[Video]:
    """Returns the labelled videos: one line of a path in a split; none that contradict another."""
    lines: dict[str, list[Video]] = defaultdict(list)
    for video in findings.listed:
        if video.label >= 0:
            lines[video.path].append(video)
    kept: list[Video] = []
    for path, videos in lines.items():
        if len({video.label for video in videos}) > 1:
            others = ", ".join(f"{video.where} says {video.label!r}" for video in videos)
            message = f"{path!r} has several labels: {others}: left out"
            findings.report("contradicting labels", videos[0].where, message)
            continue
        splits: dict[str | None, Video] = {}
        for video in videos:
            first = splits.setdefault(video.split, video)
            if first is not video:
                message = f"{path!r} is listed at {first.where} already: left out"
                findings.report("duplicate", video.where, message)
        kept += splits.values()
    return kept


def group_contents(videos: list[Video]) -> dict[str, str]:
    """Returns for each content the smallest content that shows the same video."""
    records = {video.record["hash"]: video.record for video in videos}
    groups = {content: content for content in records}
    shape = (NUM_THUMBNAILS, *THUMBNAIL_SHAPE)
    # A video of fewer frames has fewer thumbnails: only its bytes are compared.
    whole = [c for c in sorted(records) if len(records[c]["thumbnails"]) == np.prod(shape)]
    data = b"".join(records[content]["thumbnails"] for content in whole)
    thumbnails = np.frombuffer(data, np.uint8).reshape(-1, *shape)
    seconds = np.array([length_of(records[content]) for content in whole])
    pairs = find_near_copies(thumbnails, seconds)
    for content, smallest in zip(whole, group(len(whole), pairs), strict=True):
        groups[content] = whole[smallest]
    return groups


def check_copies(findings: Findings, groups: dict[str, str], *, keep_leaks: bool) -> None:
    """Reports videos that are the same: leaks between splits, copies within one."""
    members: dict[str, list[Video]] = defaultdict(list)
    for video in findings.videos:
        members[groups[video.record["hash"]]].append(video)
    for videos in members.values():
        first = min(videos, key=lambda video: video.split != "train")
        for video in videos:
            if video is first:
                continue
            same_bytes = video.record["hash"] == first.record["hash"]
            how = "byte for byte" if same_bytes else "encoded differently"
            pair = f"the same video as {first.path} ({how})"
            if video.split != first.split:
                message = f"in {video.split}: {pair}, which is in {first.split}"
                findings.report("leak", video.path, message, fatal=not keep_leaks)
            elif video.label != first.label:
                names = findings.classes[video.label], findings.classes[first.label]
                message = f"{pair}, but class {names[0]!r} and not {names[1]!r}"
                findings.report("copy of another class", video.path, message)
            else:
                findings.report("copy", video.path, f"{pair}: counts twice in {video.split}")


def check_classes(findings: Findings, settings: Settings) -> None:
    """Reports classes and splits without videos, imbalance, and too small a training set."""
    if not findings.classes:
        if not findings.fatal:  # it is not the labels that are at fault
            message = (
                "no video has a class: each folder below the source is one, or a list or table "
                "gives a path and a label on each line"
            )
            findings.report("no labelled video", "", message, fatal=True)
        return
    counts = {split: Counter[int]() for split in SPLITS}
    for video in findings.videos:
        counts[video.split or "train"][video.label] += 1
    for split, what in (("train", "training"), ("val", "validation")):
        if not counts[split]:
            findings.report(f"no {what} video", "", f"no usable {what} video", fatal=True)
            continue
        for label, name in enumerate(findings.classes):
            if not counts[split][label]:
                message = f"class {name!r} has no {what} video"
                findings.report(f"class without {what} video", "", message)
    if len(findings.classes) == 1:
        message = f"{findings.classes[0]!r} is the only class: there is nothing to tell apart"
        findings.report("one class", "", message)
    train = counts["train"].values()
    if train and sum(train) < settings.batch_size:
        message = f"{sum(train)} training videos, fewer than a batch of {settings.batch_size}"
        findings.report("smaller than a batch", "", message)
    if train and max(train) >= HIGH_IMBALANCE * min(train):
        message = (
            f"the largest class has {max(train)} training videos, the smallest {min(train)}: "
            'add dict(type="class_balance") to the overrides of the config'
        )
        findings.report("imbalance", "", message)
