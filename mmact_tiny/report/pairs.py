"""Says whether one of two runs is better: on the same videos, with chance and an interval."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..metrics import wilson_interval
from .scores import split_rows

SHOWN = 0.05  # what happens by chance in fewer cases than these is taken for shown
Answers = Mapping[str, tuple[str, bool]]  # of each video: its class, and whether the run is right


def answers_of(results: Mapping[str, Any] | None) -> Answers:
    """Returns what a test answered for each video that has scores, by its absolute path."""
    rows, _ = split_rows(results["videos"]) if results else ([], [])
    names = list((results or {}).get("classes") or [])
    found = {}
    for row in rows:
        label = row["label"]
        if not isinstance(label, int):  # several: no answer is right or wrong as a whole
            continue
        best = int(np.argsort(row["scores"])[-1])  # of ties, as `metrics.summarize` has them
        named = names[label] if len(names) == len(row["scores"]) else label
        found[str(Path(row["video"]).absolute())] = str(named), best == label
    return found


def compare_answers(names: tuple[str, str], one: Answers, other: Answers) -> dict[str, Any]:
    """Returns whether the other run is better than the one, on the videos that both have.

    Returns:
        `said`: sentences; of videos in common also `videos`, `only_one` and `only_other` (those
        that one of them alone is right on), `chance` (the p-value of McNemar's exact test: of so
        many that only one is right on, how often equals would divide as unevenly), `difference`
        of the accuracies, other minus one, and `low` and `high` of its 95% interval.
    """
    both = [video for video in one if video in other]
    common = [video for video in both if one[video][0] == other[video][0]]
    said = []
    if len(both) < max(len(one), len(other)):
        said.append(
            f"The tests have different videos: compared are the {len(both)} in common, of "
            f"{len(one)} and {len(other)}."
        )
    if len(common) < len(both):
        said.append(f"Left out: {len(both) - len(common)} that have another label in each run.")
    if not common:
        return {"said": [*said, "No video is in both tests: nothing can be compared."]}
    pairs = np.array([(one[video][1], other[video][1]) for video in common])
    table = [int((pairs == pair).all(axis=1).sum()) for pair in ((1, 1), (1, 0), (0, 1), (0, 0))]
    _, only_one, only_other, _ = table
    chance = mcnemar(only_one, only_other)
    low, high = paired_interval(*table)
    difference = (only_other - only_one) / len(common)
    said += [
        _verdict(names, only_one, only_other, chance),
        f"Top-1 of {names[1]} minus that of {names[0]}: {difference:+.1%} (95% interval "
        f"{low:+.1%} to {high:+.1%}; {len(common)} videos).",
    ]
    counts = dict(videos=len(common), only_one=only_one, only_other=only_other)
    return counts | dict(chance=chance, difference=difference, low=low, high=high, said=said)


def _verdict(names: tuple[str, str], only_one: int, only_other: int, chance: float) -> str:
    """Returns the counts, what chance makes of them, and what follows, in a sentence."""
    if not only_one and not only_other:
        return f"{names[0]} and {names[1]} are right on the same videos: no difference is seen."
    more, fewer = names[::-1] if only_other >= only_one else names
    counts = max(only_one, only_other), min(only_one, only_other)
    verdict = f"{more} is better" if chance < SHOWN else "not shown"
    return (
        f"{more} is right on {counts[0]} {'video' if counts[0] == 1 else 'videos'} that {fewer} "
        f"gets wrong, {fewer} on {counts[1]}; by chance that happens in {chance:.1%} of cases: "
        f"{verdict}."
    )


def mcnemar(only_one: int, only_other: int) -> float:
    """Returns the two-sided p-value of McNemar's exact test: the sign test of what differs.

    McNemar 1947, "Note on the sampling error of the difference between correlated proportions or
    percentages"; exact, as a binomial test at one half.
    """
    from scipy.stats import binomtest

    differ = only_one + only_other
    return float(binomtest(only_one, differ).pvalue) if differ else 1.0


def paired_interval(both: int, only_one: int, only_other: int, neither: int) -> tuple[float, float]:
    """Returns the 95% interval of a difference of paired proportions, other minus one.

    Method 10 of Newcombe 1998, "Improved confidence intervals for the difference between binomial
    proportions based on paired data": from Wilson's intervals and the correlation of the pairs.

    Args:
        both, only_one, only_other, neither: How many pairs are right in these.
    """
    n = both + only_one + only_other + neither
    p1, p2 = (both + only_other) / n, (both + only_one) / n
    (low1, high1), (low2, high2) = wilson_interval(p1, n), wilson_interval(p2, n)
    margins = p1 * (1 - p1) * p2 * (1 - p2) * n**4
    excess: float = both * neither - only_one * only_other
    excess = max(excess - n / 2, 0) if excess > 0 else excess  # his correction for continuity
    phi = excess / math.sqrt(margins) if margins > 0 else 0.0

    def reach(one: float, other: float) -> float:
        return math.sqrt(max(one**2 - 2 * phi * one * other + other**2, 0.0))

    return (
        p1 - p2 - reach(p1 - low1, high2 - p2),
        p1 - p2 + reach(high1 - p1, p2 - low2),
    )


def compare_first(names: Sequence[str], results: Sequence[Any]) -> list[dict[str, Any]]:
    """Returns the comparison of the first run with each other one, or why there is none."""
    answers = [answers_of(one) for one in results]
    classes = [set((one or {}).get("classes") or []) for one in results]
    without = [name for name, found in zip(names, answers, strict=True) if not found]
    compared: list[dict[str, Any]] = []
    for name, found, own in zip(names[1:], answers[1:], classes[1:], strict=True):
        why = "their classes have different names" if own != classes[0] else None
        if lacking := [one for one in (names[0], name) if one in without]:
            why = f"no test of {' nor of '.join(lacking)} has scores of videos with one label each"
        if why:
            compared.append({"said": [f"{names[0]} and {name} are not compared: {why}."]})
        else:
            compared.append(compare_answers((names[0], name), answers[0], found))
    return compared
