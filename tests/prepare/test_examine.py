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

from mmact_tiny.prepare.convert import convert
from mmact_tiny.prepare.examine import examine
from mmact_tiny.prepare.faults import find_fault, find_warnings, is_read_by_decord

DECODED_BY = {"libx264": "h264", "libx265": "hevc", "libvpx-vp9": "vp9", "libsvtav1": "av1"}


@pytest.mark.parametrize("codec, suffix", FORMATS)
def test_describes_a_sound_video(tmp_path: Path, codec: str, suffix: str) -> None:
    record = examine(str(write_video(tmp_path / f"a{suffix}", codec=codec)))
    assert find_fault(record, min_frames=24) is None
    assert find_warnings(record) == []
    assert (record["frames"], record["width"], record["height"]) == (24, 96, 72)
    assert record["codec"] == DECODED_BY.get(codec, codec)
    assert record["fps"] == 12
    assert record["duration_seconds"] == pytest.approx(2.0, abs=0.01)
    assert len(record["thumbnails"]) == 8 * 8 * 9
    assert is_read_by_decord(record) == (codec != "libsvtav1")


def broken(tmp_path: Path, fault: str) -> Path:
    mp4 = tmp_path / "a.mp4"
    match fault:
        case "empty":
            mp4.touch()
        case "text":
            mp4.write_text("not a video\n" * 100)
        case "playlist":
            mp4.write_text("#EXTM3U\n#EXTINF:10,\nhttp://127.0.0.1:9/a.ts\n")
        case "audio":
            write_audio(mp4)
        case "truncated mp4":
            truncate(write_video(mp4))
        case "truncated faststart":
            truncate(write_video(mp4, container_options={"movflags": "faststart"}))
        case "truncated mkv":
            return truncate(write_video(tmp_path / "a.mkv"))
        case "truncated webm":
            return truncate(write_video(tmp_path / "a.webm", codec="libvpx-vp9"))
        case "truncated avi":
            return truncate(write_video(tmp_path / "a.avi", codec="mjpeg"))
        case "overwritten":
            data = bytearray(write_video(mp4, frames=60, options={"g": "60"}).read_bytes())
            third = len(data) // 3
            data[third : 2 * third] = np.random.default_rng(0).bytes(third)
            mp4.write_bytes(data)
        case "one frame":
            write_video(mp4, frames=1)
        case "two sizes":
            return write_two_sizes(tmp_path / "a.mkv")
        case "header says 90":
            return claim_frames(write_video(tmp_path / "a.avi", codec="mjpeg"), 90)
    return mp4


@pytest.mark.parametrize(
    "fault, reason",
    [
        ("empty", "unreadable: the file is empty"),
        ("text", "unreadable: Invalid data found when processing input"),
        ("playlist", "unreadable"),
        ("audio", "no video stream"),
        ("truncated mp4", "unreadable: Invalid data found when processing input"),
        ("truncated faststart", "truncated: the header says 24 frames"),
        ("truncated mkv", "truncated: the header says 2.0 s"),
        ("truncated webm", "truncated: the header says 2.0 s"),
        ("truncated avi", "truncated: the header says 24 frames"),
        ("overwritten", "damaged"),
        ("one frame", "too few frames: 1, at least 3 are sampled"),
        ("two sizes", "variable size: frames of 2 sizes"),
        ("header says 90", "truncated: the header says 90 frames, 24 are there"),
    ],
)
def test_finds_faults(tmp_path: Path, fault: str, reason: str) -> None:
    found = find_fault(examine(str(broken(tmp_path, fault))), min_frames=3)
    assert str(found).startswith(reason)


def test_a_small_disagreement_with_the_header_is_a_warning(tmp_path: Path) -> None:
    path = claim_frames(write_video(tmp_path / "a.avi", codec="mjpeg"), 25)
    record = examine(str(path))
    assert find_fault(record, min_frames=3) is None
    assert [str(w) for w in find_warnings(record)] == [
        "frame count: the header says 25, 24 were decoded"
    ]


def test_rotation_is_a_warning(tmp_path: Path) -> None:
    record = examine(str(rotate(write_video(tmp_path / "a.mp4"), 90)))
    assert find_fault(record, min_frames=3) is None
    assert [warning.kind for warning in find_warnings(record)] == ["rotated"]
    assert record["rotation"] == -90


def test_decord_turns_rotated_videos_upright_as_convert_does(tmp_path: Path) -> None:
    decord = pytest.importorskip("decord")
    path = rotate(write_video(tmp_path / "a.mp4", height=80), 90)
    target = tmp_path / "b.mp4"
    assert convert(str(path), target) == 24
    by_decord = decord.VideoReader(str(path))[5].asnumpy().astype(int)
    assert by_decord.shape == (96, 80, 3)
    with av.open(target) as container:
        converted = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)][5]
    assert np.abs(by_decord - converted).mean() < 8  # encoded twice


def test_keyframe_spacing_is_the_longest(tmp_path: Path) -> None:
    options = {"g": "10", "sc_threshold": "0"}
    record = examine(str(write_video(tmp_path / "a.mp4", options=options)))
    assert record["keyframe_spacing"] == 10


def test_known_contents_are_not_decoded(tmp_path: Path) -> None:
    path = str(write_video(tmp_path / "a.mp4"))
    content = examine(path)["hash"]
    assert examine(path, known_hashes=[content]) == {"hash": content, "error": None}


def test_a_video_of_tiny_frames_is_described(tmp_path: Path) -> None:
    record = examine(str(write_video(tmp_path / "a.avi", codec="mjpeg", width=4, height=4)))
    assert record["error"] is None and record["frames"] == 24
