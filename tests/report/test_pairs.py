"""Whether one of two runs is better: published examples of test and interval, and what is said."""

from typing import Any

import pytest
from run_folders import scored

from mmact_tiny.report.pairs import (
    answers_of,
    compare_answers,
    compare_first,
    mcnemar,
    paired_interval,
)


@pytest.mark.parametrize(
    ("table", "chance", "interval"),
    [
        # Both, only one, only other, neither; scipy.stats.binomtest gives the p-values.
        # Altman et al. 2000, "Statistics with Confidence", table 6.2: 0.011 to 0.226.
        ((14, 5, 0, 22), 0.0625, (-0.226, -0.011)),
        # Bentur et al. 2009, as in Fagerland, Lydersen and Laake 2014: -0.507 to -0.026.
        ((1, 1, 7, 12), 0.0703125, (0.026, 0.507)),
        ((33, 1, 6, 0), 0.125, (-0.0099, 0.2686)),
        ((60, 3, 17, 20), 0.0025768, (0.0538, 0.2243)),
        ((10, 0, 0, 0), 1.0, (-0.278, 0.278)),
    ],
)
def test_published_examples(table: Any, chance: float, interval: tuple[float, float]) -> None:
    assert mcnemar(*table[1:3]) == pytest.approx(chance, rel=1e-4)
    assert paired_interval(*table) == pytest.approx(interval, abs=5e-4)
    swapped = paired_interval(table[0], table[2], table[1], table[3])
    assert swapped == pytest.approx((-interval[1], -interval[0]), abs=5e-4)


def answers(right: str, label: str = "walk", first: int = 0) -> dict[str, tuple[str, bool]]:
    """Returns a video for each letter, y where the run is right."""
    return {f"/{first + place}.mp4": (label, letter == "y") for place, letter in enumerate(right)}


B_OF_7 = "B is right on 6 videos that A gets wrong, A on 1; by chance that happens in 12.5% of "
DIFFERENT = "The tests have different videos: compared are the {} in common, of {} and {}."


@pytest.mark.parametrize(
    ("one", "other", "said"),
    [
        (
            answers("y" * 33 + "nnnnnn" + "y"),
            answers("y" * 33 + "yyyyyy" + "n"),
            [
                B_OF_7 + "cases: not shown.",
                "Top-1 of B minus that of A: +12.5% (95% interval -1.0% to +26.9%; 40 videos).",
            ],
        ),
        (
            answers("yyyyyyy" + "n"),
            answers("nnnnnnn" + "n"),
            [
                "A is right on 7 videos that B gets wrong, B on 0; by chance that happens in 1.6% "
                "of cases: A is better.",
                "Top-1 of B minus that of A: -87.5% (95% interval -97.8% to -40.1%; 8 videos).",
            ],
        ),
        (
            answers("yyn"),
            answers("yy", first=1) | answers("y", "run", first=0),
            [
                "Left out: 1 that have another label in each run.",
                "B is right on 1 video that A gets wrong, A on 0; by chance that happens in 100.0% "
                "of cases: not shown.",
            ],
        ),
        (
            answers("yn"),
            answers("yny"),
            [
                DIFFERENT.format(2, 2, 3),
                "A and B are right on the same videos: no difference is seen.",
            ],
        ),
        (
            answers("y"),
            answers("y", first=9),
            [DIFFERENT.format(0, 1, 1), "No video is in both tests: nothing can be compared."],
        ),
    ],
)
def test_what_is_said(one: dict, other: dict, said: list[str]) -> None:
    found = compare_answers(("A", "B"), one, other)["said"]
    assert found[: len(said)] == said


def test_answers_are_by_video_and_class_name() -> None:
    rows = [scored("a.mp4", 0, 0.9, 0.1), scored("b.mp4", 1, 0.9, 0.1), dict(video="c", error="x")]
    one = dict(videos=rows, classes=["walk", "run"])
    found = answers_of(one)
    assert [*found.values()] == [("walk", True), ("run", False)]
    assert all(path.startswith("/") for path in found)
    turned = [scored("a.mp4", 1, 0.1, 0.9), scored("b.mp4", 0, 0.1, 0.9)]
    other = dict(videos=turned, classes=["run", "walk"])
    assert answers_of(other) == found, "the same answers, the classes in another order"
    several = dict(one, videos=[dict(rows[0], label=[0, 1])])
    results = [one, other, dict(other, classes=["x", "y"]), None, several]
    pair, *others = compare_first(["A", "B", "C", "D", "E"], results)
    lacks = "A and {0} are not compared: no test of {0} has scores of videos with one label each."
    assert pair["videos"] == 2 and [one["said"] for one in others] == [
        ["A and C are not compared: their classes have different names."],
        [lacks.format("D")],
        [lacks.format("E")],
    ]
    (pair,) = compare_first(["A", "B"], [None, None])
    assert "no test of A nor of B has scores" in pair["said"][0]
