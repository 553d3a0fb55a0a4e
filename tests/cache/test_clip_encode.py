"""An entry has the frames that the stock pipeline makes of the source: number, order, size."""

from fractions import Fraction
from pathlib import Path
from typing import Any

import decord
import mmcv
import numpy as np
import pytest
from conftest import ROOT
from jobs import run_python
from pattern_videos import count_decoded, make_video, psnr
from video_files import truncate, write_audio

from mmact_tiny.cache.clip import ClipInfo, ClipReader, read_record
from mmact_tiny.cache.encode import ClipError, scaled_size, write_clip


def encode(video: Path, entry: Path, format: str = "small", short_side: int = 256) -> ClipInfo:
    with entry.open("w+b") as file:
        return write_clip(video, file, source="hash", short_side=short_side, format=format)


def stock_frames(video: Path, short_side: int = 256) -> np.ndarray:
    """Decodes every frame with decord and scales it as Resize(scale=(-1, short_side)) does."""
    reader = decord.VideoReader(str(video))
    height, width = reader[0].shape[:2]
    size = mmcv.rescale_size((width, height), (np.inf, short_side))
    return np.stack([mmcv.imresize(reader[i].asnumpy(), size) for i in range(len(reader))])


@pytest.mark.parametrize(
    ("source", "short_side", "scaled"),
    [
        ((640, 360), 256, (455, 256)),
        ((360, 640), 256, (256, 455)),
        ((1270, 720), 256, (452, 256)),
        ((720, 900), 256, (256, 320)),
        ((1280, 720), 320, (569, 320)),
        ((256, 256), 256, (256, 256)),
        ((320, 240), 256, (320, 240)),  # smaller: kept, Resize enlarges it
        ((171, 97), 256, (171, 97)),
    ],
)
def test_sizes_are_those_of_resize(source, short_side, scaled):
    assert scaled_size(*source, short_side) == scaled
    if min(source) >= short_side:
        assert mmcv.rescale_size(source, (np.inf, short_side)) == scaled


SOURCES: dict[str, dict[str, Any]] = {
    "landscape, odd width": dict(),
    "portrait, odd height": dict(size=(360, 640)),
    "1270 wide": dict(size=(1270, 720), num_frames=12),
    "30000/1001 fps": dict(fps=Fraction(30000, 1001)),
    "uneven rate": dict(pts=[i * 2 if i < 12 else 24 + i for i in range(24)], fps=50),
    "B-frames, open GOPs": dict(options={"bf": "3", "g": "12", "x264-params": "open-gop=1"}),
    "4:4:4": dict(pix_fmt="yuv444p"),
    "4:2:2, 10 bits": dict(pix_fmt="yuv422p10le"),
    "full range": dict(codec="mjpeg", pix_fmt="yuvj420p", options={"qmin": "2", "qmax": "2"}),
    "MPEG-4 part 2": dict(codec="mpeg4", options={"qmin": "2", "qmax": "2"}),
    "HEVC": dict(codec="libx265", num_frames=12, options={"x265-params": "log-level=none"}),
    "rotated by 90": dict(rotation=90),
    "rotated by 180": dict(rotation=180),
    "rotated by 270": dict(rotation=270),
    "one frame": dict(num_frames=1),
}


@pytest.mark.parametrize("format", ["small", "fast"])
@pytest.mark.parametrize("name", SOURCES)
def test_frames_are_those_of_the_stock_pipeline(name, format, tmp_path):
    video = make_video(tmp_path / "source.mp4", **SOURCES[name])
    info = encode(video, tmp_path / "entry.mp4", format)
    expected = stock_frames(video)
    frames = ClipReader(tmp_path / "entry.mp4", info).get_batch(range(len(expected))).asnumpy()
    assert frames.shape == expected.shape
    assert np.all(np.diff(frames.mean(axis=(1, 2, 3))) > 1)  # 4 steps of brightness, less clipping
    assert psnr(frames, expected) > 38
    # libswscale's conversion of 4:2:0 is darker by about 1 of 255 than those of other formats.
    assert abs(np.mean(frames.astype(float) - expected)) < 1.6
    assert info.fps == pytest.approx(decord.VideoReader(str(video)).get_avg_fps(), rel=1e-4)


@pytest.mark.parametrize("format", ["small", "fast"])
def test_stock_decoders_read_an_entry(format, tmp_path):
    video = make_video(tmp_path / "source.mp4")
    encode(video, tmp_path / "entry.mp4", format)
    reader = decord.VideoReader(str(tmp_path / "entry.mp4"))
    frames = reader.get_batch([0, 17, 23]).asnumpy()
    assert len(reader) == 24
    assert frames.shape == (3, 256, 456 if format == "small" else 455, 3)
    assert psnr(frames[:, :, :455], stock_frames(video)[[0, 17, 23]]) > 38


def test_a_video_that_decord_cannot_read_is_cached(tmp_path):
    make = "import sys; from pathlib import Path; from pattern_videos import make_video\n"
    make += "make_video(Path(sys.argv[1]), codec='libsvtav1', options={'preset': '12'})"
    video = tmp_path / "av1.mp4"  # in a process of its own: the encoder's library is decord's too
    run_python("-c", make, video, cwd=ROOT / "tests/support")
    with pytest.raises(decord.DECORDError):
        decord.VideoReader(str(video))
    info = encode(video, tmp_path / "entry.mp4")
    frames = ClipReader(tmp_path / "entry.mp4", info).get_batch(range(24)).asnumpy()
    assert (info.width, info.height, info.fps) == (455, 256, 25)
    assert np.all(np.diff(frames.mean(axis=(1, 2, 3))) > 1)


def test_real_videos(real_data, tmp_path):
    for name in ("train/typing1.mp4", "val/doing_exercises44.mp4"):
        video = real_data / "exercise_or_typing" / name
        info = encode(video, tmp_path / "entry.mp4")
        expected = stock_frames(video)
        wanted = range(0, len(expected), 10)
        frames = ClipReader(tmp_path / "entry.mp4", info).get_batch(wanted).asnumpy()
        assert info.num_frames == len(expected)
        assert psnr(frames, expected[wanted]) > 36
        assert abs(np.mean(frames.astype(float) - expected[wanted])) < 0.4  # 1.2 by way of RGB


def test_a_few_frames_are_decoded_for_each_that_is_read(tmp_path, monkeypatch):
    video = make_video(tmp_path / "source.mp4", options={"g": "250"})
    for format, most in (("small", 4), ("fast", 1)):
        info = encode(video, tmp_path / "entry.mp4", format)
        with monkeypatch.context() as patch:
            decoded = count_decoded(patch)
            for index in range(24):
                del decoded[:]
                ClipReader(tmp_path / "entry.mp4", info).get_batch([index])
                assert len(decoded) == index % most + 1
            del decoded[:]
            ClipReader(tmp_path / "entry.mp4", info).get_batch(np.arange(24))
            assert len(decoded) == 24


def test_indices_in_any_order(tmp_path):
    info = encode(make_video(tmp_path / "source.mp4"), tmp_path / "entry.mp4")
    reader = ClipReader(tmp_path / "entry.mp4", info)
    every = reader.get_batch(range(24)).asnumpy()
    wanted = [21, 2, 2, 0, 23, 20, 3]
    assert np.array_equal(reader.get_batch(wanted).asnumpy(), every[wanted])
    with pytest.raises(IndexError, match="no frame 24 of 24"):
        reader.get_batch([0, 24])


def test_the_record_is_checked(tmp_path):
    entry = tmp_path / "entry.mp4"
    info = encode(make_video(tmp_path / "source.mp4"), entry)
    assert read_record(entry) == info
    whole = entry.read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 1
    for content, message in (
        (b"", "empty"),
        (whole[:-1], "the last byte is gone"),
        (whole[: len(whole) // 2], "half is gone"),
        (whole[100:], "the start is gone"),
        (whole.replace(b'"version": 1', b'"version": 9'), "of another version"),
        (whole.replace(b'"fps"', b'"FPS"'), "other fields"),
        (bytes(flipped), "a bit of the video is another"),
    ):
        entry.write_bytes(content)
        assert read_record(entry) is None, message


def test_what_cannot_be_cached(tmp_path):
    text = tmp_path / "text.mp4"
    text.write_text("not a video")
    cut = truncate(make_video(tmp_path / "cut.mp4"))  # the index is at the end
    sound = write_audio(tmp_path / "sound.mp4")
    for video in (text, cut, sound, tmp_path / "missing.mp4"):
        with pytest.raises(ClipError, match=video.name):
            encode(video, tmp_path / "entry.mp4")
