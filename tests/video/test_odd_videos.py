"""All tools read the same frames of odd encodings, upright and in time; the rest is marked slow."""

import random

import pytest

from benchmarks.odd_videos import ENCODINGS, TOOLS, by_decord, compare

ALWAYS = {"turned-hflip.mp4", "mirrored-and-trimmed.mp4", "preview-first.mov", "late.mkv"}
ALWAYS |= {"audio-first-4-frames.mp4", "av1-cover-first.mp4", "nameless", "interlaced.mp4"}
ALWAYS |= {"one-frame.mp4", "small-after.mkv", "turned-45.mp4"}
CHOSEN = ALWAYS | {e.name for e in random.Random(0).sample(ENCODINGS, 8)}
SLOW = [
    pytest.param(encoding, marks=[] if encoding.name in CHOSEN else pytest.mark.slow)
    for encoding in ENCODINGS
]
DECORD = {  # what stock's decoder makes of some
    "turned-hflip.mp4": "not upright",
    "mirrored-and-trimmed.mp4": "30 frames",
    "trimmed.mp4": "30 frames",
    "b-frames.ts": "other frames",
    "late.mkv": "ok",
}


def test_there_are_many():
    assert len({encoding.name for encoding in ENCODINGS}) == len(ENCODINGS) >= 60


@pytest.mark.parametrize("encoding", SLOW, ids=lambda encoding: encoding.name)
def test_all_tools_read_what_was_written(encoding, tmp_path):
    found = compare(encoding, tmp_path, [*TOOLS, by_decord])
    seen_by_decord = found.pop("decord")
    assert set(found.values()) == {"ok"}, found
    assert seen_by_decord == DECORD.get(encoding.name, seen_by_decord)
