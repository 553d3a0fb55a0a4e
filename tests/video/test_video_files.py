"""Videos are found by name or content, and what is wrong with one is said in a line."""

import pytest

from mmact_tiny.errors import UserError
from mmact_tiny.video.files import find_videos, is_video_file, reason_of, sample_of


def test_videos_of_files_and_folders(tmp_path):
    for name in ("b.mp4", "a.MKV", "notes.txt", "sub/c.webm"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert [path.name for path in find_videos([tmp_path])] == ["a.MKV", "b.mp4", "c.webm"]
    assert len(find_videos([tmp_path, tmp_path / "b.mp4"])) == 3  # each once
    assert find_videos([tmp_path / "notes.txt"]) == [tmp_path / "notes.txt"]
    with pytest.raises(UserError, match="no video file"):
        find_videos([tmp_path / "gone.mp4"])
    with pytest.raises(UserError, match="an empty name"):
        find_videos([""])
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="no video in"):
        find_videos([tmp_path / "empty"])


def test_stretches_that_are_not_taken_are_told(tmp_path, caplog):
    for name in ("a.mp4", "train.csv", "val.csv", "videos.csv"):
        (tmp_path / name).touch()
    find_videos([tmp_path])
    assert caplog.messages[-1] == (
        f"{tmp_path}: whole videos, not the stretches in train.csv, val.csv; "
        "for a row each, name the list itself"
    )


@pytest.mark.parametrize(
    ("video", "opened"),
    [
        ("rtsp://cam/1", "rtsp://cam/1"),
        ("https://example.org/a.mp4", "https://example.org/a.mp4"),
        ("0", "/dev/video0"),
    ],
)
def test_a_stream_is_told_from_a_file(video, opened):
    with pytest.raises(UserError) as error:
        find_videos([video])
    assert str(error.value) == (
        f"{video} is no file; a stream or a camera is watched live, alone: "
        f"python tools/infer.py {opened} --window 2"
    )


def test_what_decord_says_comes_without_its_stack():
    error = RuntimeError("[12:00:01] /src/video_reader.cc:83: ERROR opening: x\nStack trace:\n 0")
    assert reason_of(error) == "ERROR opening: x"
    assert reason_of(ValueError("\n")) == "ValueError"


def test_what_might_never_give_anything_is_not_opened(tmp_path):
    (tmp_path / "a.mp4").touch()
    assert sample_of(tmp_path / "a.mp4")["filename"] == str(tmp_path / "a.mp4")
    with pytest.raises(UserError, match=r"^no such file$"):
        sample_of(tmp_path / "gone.mp4")
    with pytest.raises(UserError, match=r"^not a regular file$"):
        sample_of(tmp_path)


@pytest.mark.parametrize(
    ("name", "start", "expected"),
    [
        ("clip", b"\0\0\0\x20ftypisom", True),
        ("photo", b"\0\0\0\x20ftypheic", False),
        ("clip.insv", b"\0\0\0\x20ftypavc1", True),
        ("VIDEO.DAT", b"RIFF\0\0\0\0CDXA", False),
        ("clip.QT", b"\0\0\0\x08wide", True),
        ("clip.mpe", b"no video", False),
        ("clip.y4m", b"YUV4MPEG2 W8 H8", True),
        ("clip.part", b"\x1aE\xdf\xa3", True),
        ("sound", b"RIFF\0\0\0\0WAVE", False),
        ("film", b"RIFF\0\0\0\0AVI LIST", True),
        ("stream", b"G" + bytes(187) + b"G" + bytes(187) + b"G" + bytes(187) * 3, False),
        ("stream", (b"G" + bytes(187)) * 5, True),
        ("camera", (bytes(4) + b"G" + bytes(187)) * 5, True),
        ("notes.txt", b"\0\0\0\x20ftypisom", False),
        ("README", b"Good evening", False),
        ("empty", b"", False),
        *(
            (f"a{suffix}", b"", True)
            for suffix in (".GIF", ".asf", ".vob", ".f4v", ".3gp", ".mts", ".h265")
        ),
    ],
)
def test_a_video_is_known_by_its_name_or_how_it_begins(name, start, expected, tmp_path):
    (tmp_path / name).write_bytes(start)
    assert is_video_file(str(tmp_path / name)) is expected
