"""Divides videos into training and validation, and finds those that have to stay together.

Stretches of a video stay together, those of a group, and the same video under two names: byte for
byte, or encoded again.

A video is compared by eight thumbnails of 9 x 8 pixels, at the same fractions of its length. Their
difference hashes (is a pixel brighter than the one to its right?) find the candidates, as
encodings at any size, rate and quality agree in nearly all of the 64 bits. Two takes of one
scene agree in many of them as well, so the change over time has to agree too.

Found are other codecs, qualities, sizes and frame rates; not found are mirrored, cropped
or cut videos.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path

import numpy as np

from ..errors import UserError
from .types import Findings, Video

# UCF101's names: the clips of a group are cut from one video, see its README.
UCF101 = re.compile(r"(v_\w+_g\d+)_c\d+\.\w+")
# Measured on 40 filmed videos, each encoded twice more (H.264 crf 36 at 144 lines, MJPEG at 15
# frames/s and 120 lines), and on pairs of 2-second pieces of each: copies have 0 to 9 bits and
# a correlation of 0.95 or more in nearly all pairs; pieces of one scene reach 0.83, others 0.51.
MAX_DISTANCE = 14.0  # bits of 64, mean over the thumbnails
MIN_CORRELATION = 0.85  # of the thumbnails' change over time
STILL = 1.0  # mean change over time, of 255: where nothing moves the pictures have to agree
STILL_DISTANCE = 1.0
STILL_DIFFERENCE = 1.0  # of 255
LENGTH_TOLERANCE = 0.05
_NEIGHBOURS = 64  # of a video among those that share a part of a hash
_CHUNK = 4096  # pairs compared at once: 40 MB


def find_near_copies(thumbnails: np.ndarray, seconds: np.ndarray) -> np.ndarray:
    """Returns the pairs i < j of videos that are the same: int64, shape (pairs, 2).

    Args:
        thumbnails: brightness, uint8, shape (videos, 8 thumbnails, 8 rows, 9 columns).
        seconds: length of each video.
    """
    bits = thumbnails[..., :-1] > thumbnails[..., 1:]  # the difference hash: 64 bits
    hashes = np.packbits(bits.reshape(*bits.shape[:2], 64), axis=-1).view(np.uint64)[..., 0]
    pairs = _candidates(hashes, seconds)
    chunks = np.split(pairs, range(_CHUNK, len(pairs), _CHUNK))
    return np.concatenate([chunk[_agree(chunk, hashes, thumbnails)] for chunk in chunks])


def group(count: int, pairs: np.ndarray) -> np.ndarray:
    """Returns for each of `count` items the smallest item that pairs connect it with."""
    smallest, before = np.arange(count), None
    while before is None or (smallest != before).any():
        before = smallest.copy()
        for one, other in (pairs.T, pairs.T[::-1]):
            np.minimum.at(smallest, one, smallest[other])
    return smallest


def _candidates(hashes: np.ndarray, seconds: np.ndarray) -> np.ndarray:
    """Returns the pairs of like length and hashes: int64, shape (pairs, 2), in order.

    Compared are those that share 16 bits of a hash at one place: of 32 such parts, a video encoded
    again has some unchanged. Where very many share one (black, white), each meets the next 64.
    """
    count = len(hashes)
    found = np.empty(0, np.int64)
    for part in hashes.view(np.uint16).T:
        order = np.argsort(part, kind="stable")
        in_order = part[order]
        columns = [found]
        for step in range(1, min(_NEIGHBOURS, count - 1) + 1):
            same = np.flatnonzero(in_order[step:] == in_order[:-step])
            if not len(same):
                break
            first, second = order[same], order[same + step]  # a stable sort: first < second
            lengths = np.stack([seconds[first], seconds[second]])
            tolerance = np.maximum(lengths.max(0) * LENGTH_TOLERANCE, 0.1)
            close = np.ptp(lengths, axis=0) <= tolerance
            first, second = first[close], second[close]
            close = _distance(hashes[first], hashes[second]) <= MAX_DISTANCE
            columns.append(first[close] * count + second[close])
        found = np.unique(np.concatenate(columns))
    return np.stack([found // max(count, 1), found % max(count, 1)], axis=1)


_BITS = np.unpackbits(np.arange(1 << 16, dtype=np.uint16).view(np.uint8)).reshape(-1, 16)
_BITS = _BITS.sum(1, dtype=np.uint8)  # set in each 16-bit number


def _distance(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Returns the bits that differ, mean over the thumbnails, of pairs of (pairs, 8) hashes."""
    different = (first ^ second).view(np.uint16)
    return _BITS[different].sum(1, dtype=np.uint16) / first.shape[1]


def _agree(pairs: np.ndarray, hashes: np.ndarray, thumbnails: np.ndarray) -> np.ndarray:
    """Returns which of the pairs show the same video."""
    distance = _distance(hashes[pairs[:, 0]], hashes[pairs[:, 1]])
    values = thumbnails.reshape(*hashes.shape, 72)[pairs.T].astype(np.float32)
    difference = np.abs(values[0] - values[1]).mean((1, 2))
    change = values - values.mean(2, keepdims=True)
    strength = np.abs(change).mean((2, 3)).max(0)
    norms = np.sqrt((change**2).sum((2, 3))).prod(0)
    correlation = change.prod(0).sum((1, 2)) / np.maximum(norms, 1e-6)
    return np.where(
        strength < STILL,
        (distance <= STILL_DISTANCE) & (difference <= STILL_DIFFERENCE),
        (distance <= MAX_DISTANCE) & (correlation >= MIN_CORRELATION),
    )


def name_groups(findings: Findings, rule: str | None) -> None:
    """Sets the group of each listed video, where there is a rule or the names are UCF101's.

    Args:
        findings: Their `listed` videos have the group of a column already.
        rule: `folder`, a column of the list, or a pattern somewhere in a video's path, of which
            the groups in parentheses count, or else all of it.

    Raises:
        UserError: a pattern that is none, or that no video fits; a single group.
    """
    videos = findings.listed
    if rule is None:
        found = [UCF101.fullmatch(Path(video.name).name) for video in videos]
        if not videos or not all(found):
            return _refuse_one_group(videos, "all are of one video")
        names = [match[1] for match in found if match]
    elif rule == "folder":
        names = [str(Path(video.path).parent) for video in videos]
    elif any(video.group for video in videos):
        names = [video.group for video in videos]
    else:
        names = [_by_pattern(rule, video) for video in videos]
        if not any(names):
            first = videos[0].name if videos else "there is none"
            why = f"no column of that name, and no video's path has such a part, as {first}"
            raise UserError(f"--group {rule}: {why}")
    findings.is_grouped = True
    for video, name in zip(videos, names, strict=True):
        video.group = name
        if not name:
            message = f"--group {rule} finds no group in {video.name}: it is one of its own"
            findings.report("no group", video.where, message)
    _refuse_one_group(videos, f"--group {rule}" if rule else "UCF101's names")


def _refuse_one_group(videos: Sequence[Video], why: str) -> None:
    """Raises a UserError where all samples have to be in one split, and there should be two."""
    groups = {video.group or video.path for video in videos}
    if len(videos) > len(groups) == 1 and all(video.split != "val" for video in videos):
        fix = "add others, choose another --group, or list which samples are for validation"
        message = f"{why}: {len(videos)} samples in one group, {groups.pop()!r}"
        raise UserError(f"{message}, which stays in one split, so none is for validation: {fix}")


def _by_pattern(rule: str, video: Video) -> str:
    try:
        match = re.search(rule, video.name)
    except re.error as error:
        raise UserError(f"--group {rule}: not a pattern: {error}") from None
    return "/".join(part or "" for part in (match.groups() or (match[0],))) if match else ""


def merge_groups(videos: list[Video], copies: dict[str, str]) -> dict[str, str]:
    """Returns for each content the smallest one that it has to share a split with.

    Args:
        videos: Those that can be used; stretches of one video have its content.
        copies: The same by what they show alone, of `checks.group_contents`.
    """
    members: dict[str, list[str]] = defaultdict(list)
    for video in videos:
        if video.group:
            members[video.group].append(copies[video.record["hash"]])
    contents = sorted(set(copies.values()))
    place = {content: index for index, content in enumerate(contents)}
    pairs = [sorted((place[of[0]], place[one])) for of in members.values() for one in of[1:]]
    smallest = group(len(contents), np.array(pairs, dtype=int).reshape(-1, 2))
    return {content: contents[smallest[place[first]]] for content, first in copies.items()}


def check_groups(findings: Findings, *, keep_leaks: bool) -> None:
    """Reports groups that the source has in two splits."""
    first: dict[str, Video] = {}
    for video in findings.videos:
        known = first.setdefault(video.group, video)
        if video.group and known.split != video.split:
            message = (
                f"group {video.group!r} is in {known.split} ({known.where}) and {video.split}: "
                "move it to one split, or leave the splits out"
            )
            findings.report("group in two splits", video.where, message, fatal=not keep_leaks)


def split_videos(
    contents: Sequence[str],
    labels: Sequence[int],
    *,
    val: float,
    seed: int = 0,
    kept: Mapping[str, str] | None = None,
) -> list[str]:
    """Returns `train` or `val` for every video.

    Of a class's n videos, `round(val * n)` are for validation: at least one where there are two,
    never all. They are taken by a hash of seed and content, lowest first; neither names nor
    order matter. Copies stay together, and more of them than are missing are passed over. A
    content that was divided before keeps its split, and new ones make up what is then missing,
    so that adding videos moves none.

    Args:
        contents: what identifies a video; equal contents (copies, a group) get the same split.
        labels: the class of each video; that of a content is the most frequent of its videos.
        val: the part of each class for validation, from 0 to 1.
        seed: another one draws other videos.
        kept: earlier splits by content.
    """
    kept = kept or {}
    votes: dict[str, Counter[int]] = defaultdict(Counter)
    for content, label in zip(contents, labels, strict=True):
        votes[content][label] += 1
    class_of = {one: min(of, key=lambda label: (-of[label], label)) for one, of in votes.items()}
    by_class: dict[int, Counter[str]] = defaultdict(Counter)
    for content in contents:
        by_class[class_of[content]][content] += 1
    chosen: dict[str, str] = {}
    for copies in by_class.values():
        chosen |= _split_class(copies, val, seed, kept)
    return [chosen[content] for content in contents]


def _split_class(
    copies: Counter[str], val: float, seed: int, kept: Mapping[str, str]
) -> dict[str, str]:
    splits = {content: kept[content] for content in copies if content in kept}
    total = copies.total()
    share = min(max(int(val * total + 0.5), 1), total - 1)
    missing = share - sum(copies[content] for content in splits if splits[content] == "val")
    draw = {c: sha256(f"{seed} {c}".encode()).hexdigest() for c in copies if c not in splits}
    for content in sorted(draw, key=draw.__getitem__):
        splits[content] = "val" if copies[content] <= missing else "train"
        missing -= copies[content] if splits[content] == "val" else 0
    if "val" not in splits.values() and len(draw) > 1:  # each has more copies than the share
        splits[min(draw, key=lambda content: (copies[content], draw[content]))] = "val"
    return splits
