from collections import Counter

import pytest

from mmact_tiny.prepare.splits import split_videos

NAMES = [f"content{index}" for index in range(100)]
LABELS = [index % 4 for index in range(80)] + [4] * 20


@pytest.mark.parametrize(
    "count, val, expected",
    [(1, 0.2, 0), (2, 0.2, 1), (3, 0.2, 1), (10, 0.2, 2), (12, 0.2, 2), (13, 0.2, 3), (2, 0.9, 1)],
)
def test_the_share_of_a_class(count: int, val: float, expected: int) -> None:
    splits = split_videos(NAMES[:count], [0] * count, val=val)
    assert splits.count("val") == expected


def test_each_class_gives_its_share() -> None:
    splits = split_videos(NAMES, LABELS, val=0.2)
    assert Counter(zip(LABELS, splits, strict=True)) == {
        (label, split): count for label in range(5) for split, count in (("train", 16), ("val", 4))
    }


def test_order_does_not_matter_and_the_seed_does() -> None:
    split = dict(zip(NAMES, split_videos(NAMES, LABELS, val=0.2), strict=True))
    turned = split_videos(NAMES[::-1], LABELS[::-1], val=0.2)
    assert dict(zip(NAMES[::-1], turned, strict=True)) == split
    assert split_videos(NAMES, LABELS, val=0.2, seed=1) != list(split.values())


def test_added_videos_move_none() -> None:
    before = dict(zip(NAMES[:60], split_videos(NAMES[:60], LABELS[:60], val=0.2), strict=True))
    after = dict(zip(NAMES, split_videos(NAMES, LABELS, val=0.2, kept=before), strict=True))
    assert {name: after[name] for name in before} == before
    assert Counter(after.values()) == {"train": 80, "val": 20}


def test_copies_stay_together_and_do_not_flood_the_validation_split() -> None:
    splits = split_videos(NAMES[:10] * 2, [0] * 20, val=0.3)
    assert splits[:10] == splits[10:]
    assert splits.count("val") == 6
    contents = ["often"] * 50 + NAMES[:10]
    for seed in range(5):
        splits = split_videos(contents, [0] * 60, val=0.2, seed=seed)
        assert splits[0] == "train" and splits.count("val") == 10
    assert Counter(split_videos(["a"] * 9 + ["b"] * 8, [0] * 17, val=0.2)) == {"train": 9, "val": 8}
