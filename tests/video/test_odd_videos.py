"""All tools read the same frames of odd encodings, upright and in time, as FFmpeg does."""

import random
import shutil

import pytest

from benchmarks.odd_videos import ENCODINGS, TOOLS, by_decord, by_ffmpeg, compare
from mmact_tiny.video.frames import decord_differs

A_DOZEN = {encoding.name for encoding in random.Random(0).sample(ENCODINGS, 12)}
TS, HIDDEN = "an MPEG transport stream", "frames that are hidden, or cut off from others"
SEVERAL, MIRRORED = "several video streams", "mirrored"
DECORD = {  # what stock's decoder makes of those that FFmpeg reads otherwise, and why it is refused
    **{name: ("other frames", TS) for name in ("b-frames.ts", "mpeg2.ts")},
    **{name: ("ok", TS) for name in ("h264.ts", "h264.mts", "varied.ts", "late.ts")},
    **{name: ("30 frames", HIDDEN) for name in ("trimmed.mp4", "mirrored-and-trimmed.mp4")},
    "cut-mpeg2.ts": ("26 frames", TS),
    **{name: ("26 frames", HIDDEN) for name in ("cut-mpeg2.mpg", "cut-hevc.mkv")},
    "cut-h264.mkv": ("27 frames", HIDDEN),
    **{
        f"turned-{turn}.mp4": ("not upright", MIRRORED)
        for turn in ("hflip", "vflip", "transposed", "across")
    },
    "mirrored-10-bits.mov": ("not upright", MIRRORED),
    **{name: ("not upright", SEVERAL) for name in ("small-first.mp4", "small-after.mkv")},
    "preview-first.mov": ("2 frames", SEVERAL),
    "still-first.mov": ("1 frames", SEVERAL),
    **{f"still-first{suffix}": ("ok", SEVERAL) for suffix in (".mkv", ".asf", ".avi")},
    **{f"cover-{place}.mkv": ("ok", SEVERAL) for place in ("before", "after")},
    **{f"av1{name}": ("error", "") for name in (".mp4", ".webm", "-cover-first.mp4")},
    **{name: ("error", "") for name in ("h264-without-times.h264", "mjpeg.mjpeg", "gif.gif")},
    **{name: ("error", "") for name in ("picture.wmv", "picture.asf")},
}


def test_there_are_enough_and_each_has_its_name():
    assert len({encoding.name for encoding in ENCODINGS}) == len(ENCODINGS) == 100
    seen = [seen for seen, _ in DECORD.values() if seen != "ok"]
    assert (seen.count("error"), len(seen)) == (8, 25)  # as docs/prepare_data.md has it


@pytest.mark.parametrize("encoding", ENCODINGS, ids=lambda encoding: encoding.name)
def test_all_tools_read_what_was_written(encoding, tmp_path):
    found = compare(encoding, tmp_path, [*TOOLS, by_decord])
    seen_by_decord = found.pop("decord")
    assert set(found.values()) == {"ok"} and len(found) == 7, found
    seen = seen_by_decord.split(":")[0].split(",")[0]
    why = decord_differs(tmp_path / encoding.name)
    assert (seen, why) == DECORD.get(encoding.name, ("ok", ""))


@pytest.mark.skipif(not shutil.which("ffmpeg"), reason="there is no command ffmpeg")
@pytest.mark.parametrize(
    "encoding",
    [pytest.param(e, marks=[] if e.name in A_DOZEN else pytest.mark.slow) for e in ENCODINGS],
    ids=lambda encoding: encoding.name,
)
def test_ffmpegs_command_reads_the_same(encoding, tmp_path):
    expected = "not upright" if encoding.turn == "45" else "ok"  # it leans the picture
    assert compare(encoding, tmp_path, [by_ffmpeg]) == {"ffmpeg": expected}
