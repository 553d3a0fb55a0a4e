from collections import Counter
from pathlib import Path

import pytest

from mmact_tiny.prepare.splits import name_groups, split_videos
from mmact_tiny.prepare.types import Findings, Video

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


@pytest.mark.parametrize(
    ("names", "groups"),
    [
        (
            ["v_Run_g01_c01.avi", "v_Run_g01_c02.avi", "v_Sit_g01_c01.avi"],
            ["v_Run_g01", "v_Run_g01", "v_Sit_g01"],
        ),
        (["v_Run_g01_c01.avi", "mine.mp4"], ["", ""]),  # not all are UCF101's
    ],
)
def test_ucf101s_groups_are_known_by_their_names(names, groups):
    findings = Findings(Path("src"))
    findings.listed = [Video(f"/src/{n}", f"Run/{n}", "Run", None, "Run") for n in names]
    name_groups(findings, None)
    assert [video.group for video in findings.listed] == groups
    assert findings.is_grouped == any(groups)


def test_a_group_counts_for_the_class_that_most_of_it_has():
    """Names and order do not matter, and more groups move none."""
    contents = [f"person{index // 4}" for index in range(40)]
    labels = [0, 1, 1, 1] * 5 + [0, 0, 0, 1] * 5
    first = split_videos(contents, labels, val=0.2)
    assert Counter(first) == {"train": 32, "val": 8}
    again = split_videos(contents[::-1], labels[::-1], val=0.2)
    assert again[::-1] == first
