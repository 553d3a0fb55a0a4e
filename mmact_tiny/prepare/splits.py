"""Divides videos into training and validation where the source does not."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from hashlib import sha256


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
        contents: what identifies a video; equal contents (copies) get the same split.
        labels: the class of each video; that of a content is the class of its first video.
        val: the part of each class for validation, from 0 to 1.
        seed: another one draws other videos.
        kept: earlier splits by content.
    """
    kept = kept or {}
    class_of = dict(zip(contents[::-1], labels[::-1], strict=True))  # the first one's
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
