"""Events of scores: smoothing, two thresholds, borders; and the file that they are appended to."""

import json

import numpy as np
import pytest
from jobs import full_disk

from mmact_tiny.errors import UserError
from mmact_tiny.live.events import Events, Lines, Smoothing

LABELS = ["nothing", "running", "typing"]
# the scores of running and typing window by window: label, start, end and score of each event
ONE_AT_A_TIME = {
    "reaches the threshold, and keeps three quarters of it": (
        [(0.5, 0), (0.6, 0), (0.5, 0), (0.46, 0), (0.44, 0), (0.59, 0)],
        [("running", 1.5, 4.5, 0.52)],
    ),
    "another is better, but not by a third": (
        [(0.6, 0.2), (0.5, 0.6), (0.5, 0.66), (0.49, 0.66), (0.1, 0.7)],
        [("running", 0, 3.5, 0.533333), ("typing", 3.5, 6, 0.68)],
    ),
    "the background's stretch is none": ([(0.1, 0.1), (0.2, 0.1), (0.1, 0.2)], []),
    "the background ends one": (
        [(0.6, 0.2), (0.1, 0.1), (0.1, 0.8)],
        [("running", 0, 1.5, 0.6), ("typing", 2.5, 4, 0.8)],
    ),
}
SEVERAL = {
    "each by itself": (
        [(0.6, 0.9), (0.9, 0.5), (0.2, 0.5), (0.2, 0.2)],
        [("running", 0, 2.5, 0.75), ("typing", 0, 3.5, 0.633333)],
    ),
}


def events_of(events, scores):
    """Returns the events of windows of 2 s, each a second after the other."""
    found = []
    for number, (running, typing) in enumerate(scores):
        row = np.array([1 - running - typing, running, typing])
        found += events.add(number, number + 2, number + 1, row)
    found += events.close()
    return [(e["label"], e["start"], e["end"], round(e["score"], 6)) for e in found]


@pytest.mark.parametrize("name", ONE_AT_A_TIME)
def test_events_of_labels_that_exclude_each_other(name):
    scores, expected = ONE_AT_A_TIME[name]
    assert events_of(Events(LABELS, 0.6, background="nothing"), scores) == expected


@pytest.mark.parametrize("name", SEVERAL)
def test_events_of_several_labels_at_a_time(name):
    scores, expected = SEVERAL[name]
    thresholds = np.array([2, 0.6, 0.6])
    assert events_of(Events(LABELS, thresholds, one_at_a_time=False), scores) == expected


def test_a_gap_ends_events_and_none_overlap():
    events = Events(LABELS, 0.6)
    assert events.add(0, 2, 1, np.array([0, 0.8, 0.2])) == []
    assert events.close() == [dict(label="running", start=0, end=2, score=0.8)]
    assert events.add(1, 3, 2, np.array([0, 0.7, 0.3])) == []
    assert events.close() == [dict(label="running", start=2, end=3, score=0.7)]


def test_smoothing_is_the_mean_of_the_last_windows():
    smoothing = Smoothing(2)
    rows = [(1, [0, 1]), (2, [1, 0]), (4, [1, 0])]
    found = [smoothing.add(middle, np.array(scores)) for middle, scores in rows]
    assert [(middle, scores.tolist()) for middle, scores in found] == [
        (1, [0, 1]), (1.5, [0.5, 0.5]), (3, [1, 0])
    ]  # fmt: skip
    smoothing.clear()
    assert smoothing.add(9, np.array([0, 1]))[0] == 9


def test_a_background_that_is_no_class():
    with pytest.raises(UserError, match="--background nothin: no class; did you mean 'nothing'"):
        Events(LABELS, 0.6, background="nothin")


def test_lines_are_whole(tmp_path):
    """What was there stays, a line that was cut too, and a full disk leaves no half of one."""
    path = tmp_path / "new" / "events.jsonl"
    path.parent.mkdir()
    path.write_text('{"label": "cut o')
    lines = Lines(path)
    lines.add(dict(label="雨", score=float("nan")))
    whole = path.read_bytes()
    assert whole == '{"label": "cut o\n{"label": "雨", "score": null}\n'.encode()
    with full_disk(len(whole) + 20), pytest.raises(UserError, match=r"cannot write .*events.jsonl"):
        lines.add(dict(label="a label of more than twenty characters"))
    assert path.read_bytes() == whole
    lines.add(dict(label="after"))
    lines.close()
    assert json.loads(path.read_text().splitlines()[-1]) == {"label": "after"}
