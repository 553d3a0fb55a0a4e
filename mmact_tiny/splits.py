"""Divides videos into training and validation where the source does not."""

from collections import defaultdict
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

    Within a class, the contents are ranked by a hash of seed and content; the first
    `round(val * n)` of its n contents are for validation: at least one where there are two, and
    never all. Neither names nor order matter. A content that was divided before keeps its
    split, and new ones make up what is then missing of the class's share, so that adding videos
    moves none.

    Args:
        contents: what identifies a video; equal contents (copies) get the same split.
        labels: the class of each video; that of a content is the class of its first video.
        val: the part of each class for validation, from 0 to 1.
        seed: another one draws other videos.
        kept: earlier splits by content.
    """
    kept = kept or {}
    by_class: dict[int, dict[str, None]] = defaultdict(dict)
    seen = set()
    for content, label in zip(contents, labels, strict=True):
        if content not in seen:
            seen.add(content)
            by_class[label][content] = None
    chosen: dict[str, str] = {}
    for members in by_class.values():
        chosen |= _split_class(list(members), val, seed, kept)
    return [chosen[content] for content in contents]


def _split_class(
    contents: list[str], val: float, seed: int, kept: Mapping[str, str]
) -> dict[str, str]:
    splits = {content: kept[content] for content in contents if content in kept}
    share = int(val * len(contents) + 0.5)
    if val > 0 and len(contents) > 1:
        share = min(max(share, 1), len(contents) - 1)
    new = sorted((rank(content, seed), content) for content in contents if content not in splits)
    missing = share - sum(split == "val" for split in splits.values())
    for position, (_, content) in enumerate(new):
        splits[content] = "val" if position < missing else "train"
    return splits


def rank(content: str, seed: int) -> str:
    """Returns where a content stands in the draw: a hash, compared as text."""
    return sha256(f"{seed} {content}".encode()).hexdigest()
