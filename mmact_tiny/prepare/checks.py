"""Checks of a dataset as a whole: repeated lines, copies and leaks, classes without videos."""

from collections import Counter, defaultdict

import numpy as np

from .examine import NUM_THUMBNAILS, THUMBNAIL_SHAPE
from .leaks import find_near_copies, group
from .types import SPLITS, Findings, Listed, Problem, Settings, Video, length_of

HIGH_IMBALANCE = 3.0  # times as many training videos in the largest class as in the smallest


def drop_repeats(
    labelled: list[tuple[Listed, int]], problems: list[Problem]
) -> list[tuple[Listed, int]]:
    """Keeps one line of a path in a split; none where its lines contradict each other."""
    lines: dict[str, list[tuple[Listed, int]]] = {}
    for item in labelled:
        lines.setdefault(item[0].path, []).append(item)
    kept = []
    for path, items in lines.items():
        if len({label for _, label in items}) > 1:
            others = ", ".join(f"{video.where} says {video.label!r}" for video, _ in items)
            message = f"{path!r} has several labels: {others}: left out"
            problems.append(Problem("contradicting labels", items[0][0].where, message))
            continue
        splits: dict[str | None, Listed] = {}
        for video, label in items:
            if video.split in splits:
                message = f"{path!r} is listed at {splits[video.split].where} already: left out"
                problems.append(Problem("duplicate", video.where, message))
            else:
                splits[video.split] = video
                kept.append((video, label))
    return kept


def group_contents(videos: list[Video]) -> dict[str, str]:
    """Returns for each content the smallest content that shows the same video."""
    records = {video.record["hash"]: video.record for video in videos}
    contents = sorted(records)
    groups = {content: content for content in contents}
    shape = (NUM_THUMBNAILS, *THUMBNAIL_SHAPE)
    whole = [c for c in contents if len(records[c]["thumbnails"]) == int(np.prod(shape))]
    if not whole:
        return groups  # a video of fewer frames has fewer thumbnails: only its bytes are compared
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
            pair = f"the same video as {first.listed.path} ({how})"
            where = video.listed.path
            if video.split != first.split:
                message = f"in {video.split}: {pair}, which is in {first.split}"
                findings.report("leak", where, message, is_fatal=not keep_leaks)
            elif video.label != first.label:
                names = findings.classes[video.label], findings.classes[first.label]
                message = f"{pair}, but class {names[0]!r} and not {names[1]!r}"
                findings.report("copy of another class", where, message)
            else:
                findings.report("copy", where, f"{pair}: counts twice in {video.split}")


def check_classes(findings: Findings, settings: Settings) -> None:
    """Reports classes and splits without videos, imbalance, and too small a training set."""
    if not findings.classes:
        if not findings.fatal:  # it is not the labels that are at fault
            message = (
                "no video has a class: each folder below the source is one, or a list or table "
                "gives a path and a label on each line"
            )
            findings.report("no labelled video", "", message, is_fatal=True)
        return
    counts = {split: Counter[int]() for split in SPLITS}
    for video in findings.videos:
        counts[video.split or "train"][video.label] += 1
    for split, what in (("train", "training"), ("val", "validation")):
        if not counts[split]:
            message = f"no usable {what} video"
            findings.report(f"no {what} video", "", message, is_fatal=True)
            continue
        for label, name in enumerate(findings.classes):
            if not counts[split][label]:
                message = f"class {name!r} has no {what} video"
                findings.report(f"class without {what} video", "", message)
    train = [count for count in counts["train"].values() if count]
    if len(findings.classes) == 1:
        message = f"{findings.classes[0]!r} is the only class: there is nothing to tell apart"
        findings.report("one class", "", message)
    if train and sum(train) < settings.batch_size:
        message = f"{sum(train)} training videos, fewer than a batch of {settings.batch_size}"
        findings.report("smaller than a batch", "", message)
    if train and max(train) >= HIGH_IMBALANCE * min(train):
        message = (
            f"the largest class has {max(train)} training videos, the smallest {min(train)}: "
            'add dict(type="class_balance") to the overrides of the config'
        )
        findings.report("imbalance", "", message)
