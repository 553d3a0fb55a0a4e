from pathlib import Path

import av
import numpy as np
import pytest
from h264_videos import rotate
from video_files import (
    FORMATS,
    claim_frames,
    truncate,
    write_audio,
    write_two_sizes,
    write_video,
)

from benchmarks.odd_videos import ENCODINGS, make
from mmact_tiny.prepare.checks import find_faults, find_warnings, is_read_by_decord
from mmact_tiny.prepare.convert import convert
from mmact_tiny.prepare.examine import examine

DECODED_BY = {"libx264": "h264", "libx265": "hevc", "libvpx-vp9": "vp9", "libsvtav1": "av1"}


@pytest.mark.parametrize("codec, suffix", FORMATS)
def test_describes_a_sound_video(tmp_path: Path, codec: str, suffix: str) -> None:
    record = examine(str(write_video(tmp_path / f"a{suffix}", codec=codec)))
    assert list(find_faults(record, min_frames=24)) == []
    assert list(find_warnings(record)) == []
    assert (record["frames"], record["width"], record["height"]) == (24, 96, 72)
    assert record["codec"] == DECODED_BY.get(codec, codec)
    assert record["fps"] == 12
    assert record["duration_seconds"] == pytest.approx(2.0, abs=0.01)
    assert len(record["thumbnails"]) == 8 * 8 * 9
    assert is_read_by_decord(record) == (codec != "libsvtav1")


def write_text(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def overwrite(path: Path) -> Path:
    """Puts noise in the place of a video's middle third."""
    data = bytearray(write_video(path, frames=60, options={"g": "60"}).read_bytes())
    third = len(data) // 3
    data[third : 2 * third] = np.random.default_rng(0).bytes(third)
    path.write_bytes(data)
    return path


PLAYLIST = "#EXTM3U\n#EXTINF:10,\nhttp://127.0.0.1:9/a.ts\n"
INVALID = "unreadable: Invalid data found when processing input"
FASTSTART = {"movflags": "faststart"}
TRUNCATED = "truncated: the header says"
FAULTS = {
    "empty.mp4": (lambda path: write_text(path, ""), "unreadable: the file is empty"),
    "text.mp4": (lambda path: write_text(path, "not a video\n" * 100), INVALID),
    "playlist.mp4": (lambda path: write_text(path, PLAYLIST), "unreadable"),
    "sound.mp4": (write_audio, "no video stream"),
    "cut.mp4": (lambda path: truncate(write_video(path)), INVALID),
    "cut faststart.mp4": (
        lambda path: truncate(write_video(path, container_options=FASTSTART)),
        f"{TRUNCATED} 24 frames",
    ),
    "cut.mkv": (lambda path: truncate(write_video(path)), f"{TRUNCATED} 2.0 s"),
    "cut.webm": (
        lambda path: truncate(write_video(path, codec="libvpx-vp9")),
        f"{TRUNCATED} 2.0 s",
    ),
    "cut.avi": (lambda path: truncate(write_video(path, codec="mjpeg")), f"{TRUNCATED} 24 frames"),
    "overwritten.mp4": (overwrite, "damaged"),
    "one.mp4": (
        lambda path: write_video(path, frames=1),
        "too few frames: 1, at least 3 are sampled",
    ),
    "sizes.mkv": (write_two_sizes, "variable size: frames of 2 sizes"),
    "claims.avi": (
        lambda path: claim_frames(write_video(path, codec="mjpeg"), 90),
        f"{TRUNCATED} 90 frames, 24 are there",
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_finds_faults(tmp_path: Path, name: str) -> None:
    make, reason = FAULTS[name]
    found = next(find_faults(examine(str(make(tmp_path / name))), min_frames=3), None)
    assert ": ".join(found or ()).startswith(reason)


def test_what_can_be_used_all_the_same_is_a_warning(tmp_path: Path) -> None:
    more = claim_frames(write_video(tmp_path / "a.avi", codec="mjpeg"), 25)
    turned = rotate(write_video(tmp_path / "a.mp4"), 90)
    cut = make(next(e for e in ENCODINGS if e.name == "cut-mpeg2.mpg"), tmp_path)
    needed = "2 frames need what was cut off before: they do not count"
    for path, warning in (
        (more, ("frame count", "the header says 25, 24 were decoded")),
        (cut, ("cut at the start", needed)),
        (turned, ("rotated", "shown turned by -90 degrees")),
    ):
        record = examine(str(path))
        assert list(find_faults(record, min_frames=3)) == []
        assert list(find_warnings(record)) == [warning]


def test_decord_turns_rotated_videos_upright_as_convert_does(tmp_path: Path) -> None:
    decord = pytest.importorskip("decord")
    path = rotate(write_video(tmp_path / "a.mp4", height=80), 90)
    target = tmp_path / "b.mp4"
    convert(str(path), target)
    by_decord = decord.VideoReader(str(path))[5].asnumpy().astype(int)
    assert by_decord.shape == (96, 80, 3)
    with av.open(target) as container:
        converted = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert len(converted) == 24
    assert np.abs(by_decord - converted[5]).mean() < 8  # encoded twice


def test_known_contents_are_not_decoded(tmp_path: Path) -> None:
    path = str(write_video(tmp_path / "a.avi", codec="mjpeg", width=4, height=4))
    record = examine(path)
    assert (record["frames"], record["error"]) == (24, None)  # also of tiny frames
    assert record["keyframe_spacing"] == 1
    options = {"g": "10", "sc_threshold": "0"}
    spaced = examine(str(write_video(tmp_path / "a.mp4", options=options)))
    assert spaced["keyframe_spacing"] == 10  # the longest of 10, 10 and 4
    content = record["hash"]
    assert examine(path, known_hashes=[content]) == {"hash": content, "error": None}
