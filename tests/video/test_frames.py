"""Frames of PacketReader are decord's, fewer are decoded; when each is shown, as it was written."""

import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import decord
import numpy as np
import pytest
from h264_videos import mirror, rotate, write_video
from mmaction.registry import TRANSFORMS
from pattern_videos import make_video
from small_recognizer import small_recognizer
from video_files import write_audio

from mmact_tiny.errors import UserError
from mmact_tiny.pipeline import DECODERS, exact_pipeline, with_decoder
from mmact_tiny.video import packets
from mmact_tiny.video.frames import (
    DecodedReader,
    PacketReader,
    UnclearPackets,
    decode,
    open_video,
)
from mmact_tiny.video.packets import as_file
from mmact_tiny.video.times import ask_frame_times, read_frame_times
from mmact_tiny.view.windows import score_windows

INDICES = [3, 0, 17, 17, 30, 31, 59]
KINDS = {
    "B-frames": dict(),
    "constant frame rate, every frame a keyframe": dict(x264="keyint=1"),
    "variable frame rate": dict(milliseconds=(10, 200)),
    "open groups of pictures": dict(x264="open-gop=1:keyint=20:bframes=3"),
    "B-frames that others refer to": dict(x264="b-pyramid=normal:bframes=8:keyint=50"),
}


def max_difference(path: Path, indices: list[int]) -> int:
    ours = np.stack(PacketReader(path).get_batch(indices)).astype(int)
    return int(np.abs(ours - decord.VideoReader(str(path)).get_batch(indices).asnumpy()).max())


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_frames_are_decords(tmp_path, kind, suffix):
    path = write_video(tmp_path / f"video{suffix}", **KINDS[kind])
    assert len(PacketReader(path)) == len(decord.VideoReader(str(path))) == 60
    assert max_difference(path, INDICES) == 0


@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_a_rotated_video_is_upright(tmp_path, degrees):
    path = rotate(write_video(tmp_path / "video.mp4"), degrees)
    (frame,) = PacketReader(path).get_batch([5])
    assert frame.shape == ((96, 64, 3) if degrees != 180 else (64, 96, 3))
    assert max_difference(path, INDICES) == 0


@pytest.mark.parametrize(
    ("codec", "pix_fmt", "size", "most"),
    [
        ("libx264", "yuv420p10le", (96, 64), 3),
        ("ffv1", "yuv420p12le", (97, 63), 3),
        ("libvpx-vp9", "yuv420p", (96, 63), 3),
        ("libx264", "yuv422p10le", (96, 63), 0),
        ("mjpeg", "yuvj422p", (95, 33), 0),
        ("ffv1", "yuva420p", (96, 33), 3),
        ("mpeg2video", "yuv420p", (95, 63), 3),
        ("prores_ks", "yuv422p10le", (97, 64), 0),
    ],
)
def test_the_conversion_is_decords(codec, pix_fmt, size, most, tmp_path):
    """FFmpeg of now places chroma elsewhere: up to 80 of 255, 2 on average, in such videos."""
    path = tmp_path / "video.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25)
        (stream.width, stream.height), stream.pix_fmt = size, pix_fmt
        colors = np.random.default_rng(0).uniform(0, 255, (4, 9, 13, 3))
        for small in colors.astype(np.uint8):
            image = np.kron(small, np.ones((8, 8, 1), np.uint8))[: size[1], : size[0]]
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    assert max_difference(path, [0, 1, 2, 3]) <= most


@pytest.mark.parametrize("kind", ["bytes", "file", "array", "path"])
def test_a_video_in_memory_is_read_like_a_file(kind, tmp_path):
    path = write_video(tmp_path / "video.mp4", num_frames=6)
    expected = open_video(path).get_batch(range(6))
    with path.open("rb") as file:
        sources = dict(bytes=path.read_bytes(), file=file, array=np.stack(expected), path=path)
        with as_file(sources[kind]) as name:
            assert np.array_equal(open_video(name).get_batch(range(6)), expected)
            assert np.array_equal(decord.VideoReader(str(name))[:].asnumpy(), expected)
    assert Path(name).exists() == (kind == "path")


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (np.zeros((4, 8, 8, 3)), "an array of float64, shape (4, 8, 8, 3): expected uint8 RGB"),
        (np.zeros((8, 8, 3), np.uint8), "an array of uint8, shape (8, 8, 3): expected uint8 RGB"),
        (7, "int: expected a path, bytes, a binary file object, or an array (T, H, W, 3)"),
        (b"no video", "it is not a video that can be read"),
    ],
)
def test_what_is_no_video_says_what_is_expected(source, message):
    with pytest.raises(UserError) as error:
        small_recognizer().predict(source)
    assert message in str(error.value)


def test_threads_give_the_same_frames(tmp_path):
    path = write_video(tmp_path / "video.mp4")
    one, two = (PacketReader(path, num_threads=n).get_batch(INDICES) for n in (1, 2))
    assert all(np.array_equal(a, b) for a, b in zip(one, two, strict=True))


def test_only_what_the_frames_need_is_decoded(tmp_path, monkeypatch):
    decoded, feed = [], PacketReader._feed

    def note(self: PacketReader, packet: av.Packet, *others: Any) -> None:
        decoded.append(packet.pts)
        feed(self, packet, *others)

    monkeypatch.setattr(PacketReader, "_feed", note)
    path = write_video(tmp_path / "video.mp4", x264="keyint=20:min-keyint=20:scenecut=0:bframes=0")
    for indices, num_packets in {(0,): 1, (20, 0): 2, (45,): 6, (5, 45): 12}.items():
        decoded.clear()
        PacketReader(path).get_batch(indices)
        assert len(decoded) == num_packets


def test_a_file_too_large_for_memory_goes_to_decord(tmp_path, monkeypatch):
    path = write_video(tmp_path / "video.mp4")
    monkeypatch.setattr(packets, "MAX_PACKET_BYTES", path.stat().st_size // 2)
    with pytest.raises(UnclearPackets, match="MB of packets"):
        PacketReader(path)
    opened = TRANSFORMS.build(dict(type="PacketInit"))(dict(filename=str(path)))
    assert isinstance(opened["video_reader"], decord.VideoReader)
    opened = TRANSFORMS.build(dict(type="PacketInit"))(dict(filename=str(mirror(path))))
    assert isinstance(opened["video_reader"], DecodedReader) and opened["total_frames"] == 60


def test_a_frame_asked_for_twice_is_two(tmp_path):
    """Flip turns each in place; stock's decoder gives each its own memory."""
    path = write_video(tmp_path / "video.mp4", num_frames=4)
    results = []
    for decoder in DECODERS:
        sample = dict(filename=str(path), frame_inds=np.array([1, 1, 3]), modality="RGB")
        steps = with_decoder([dict(type="DecordInit"), dict(type="DecordDecode")], decoder)
        for step in (*steps, dict(type="Flip", flip_ratio=1)):
            sample = TRANSFORMS.build(step)(sample)
        results.append(np.stack(sample["imgs"]))
    assert np.array_equal(*results) and not np.array_equal(results[0][0], results[0][2])


def test_without_decord_such_files_are_decoded_from_their_start(tmp_path, monkeypatch):
    path = write_video(tmp_path / "video.mp4")
    monkeypatch.setattr(packets, "MAX_PACKET_BYTES", path.stat().st_size // 2)
    expected = decord.VideoReader(str(path)).get_batch(INDICES).asnumpy()
    monkeypatch.setitem(sys.modules, "decord", None)
    steps = [TRANSFORMS.build(dict(type=name)) for name in ("PacketInit", "PacketDecode")]
    opened = steps[0](dict(filename=str(path)))
    found = steps[1]({**opened, "frame_inds": np.array(INDICES)})["imgs"]
    assert opened["total_frames"] == 60 and np.array_equal(found, expected)
    (tmp_path / "broken.mp4").write_bytes(path.read_bytes()[:200])
    with pytest.raises((ValueError, av.FFmpegError)):
        steps[0](dict(filename=str(tmp_path / "broken.mp4")))


def test_a_frame_that_does_not_come_is_not_guessed(tmp_path):
    path = write_video(tmp_path / "video.mp4", x264="intra-refresh=1:keyint=25")
    with pytest.raises(UnclearPackets):
        PacketReader(path).get_batch([30, 59])


def test_the_transforms_take_the_place_of_decords(tmp_path):
    stock = [dict(type="DecordInit"), dict(type="DecordDecode")]
    path = write_video(tmp_path / "video.mp4", x264="intra-refresh=1:keyint=25")
    good = write_video(tmp_path / "good.mp4")
    for video in (good, path):  # decord goes astray where it jumps in the second
        results, whole = [], decord.VideoReader(str(video)).get_batch(range(60)).asnumpy()
        for steps in (stock, with_decoder(stock, "packets")):
            sample = dict(filename=str(video), frame_inds=np.array([[30], [2]]))
            for step in steps:
                sample = TRANSFORMS.build(step)(sample)
            results.append(sample)
        ours, theirs = results[1], results[0]
        assert ours["total_frames"] == theirs["total_frames"] == 60
        assert ours["avg_fps"] == theirs["avg_fps"] == 25
        assert ours["img_shape"] == theirs["img_shape"] == (64, 96)
        assert np.array_equal(np.stack(ours["imgs"]), whole[[30, 2]])
        assert np.array_equal(ours["imgs"], theirs["imgs"]) == (video == good)


def test_with_decoder_changes_decords_steps_alone():
    stock = [dict(type="DecordInit", io_backend="disk"), dict(type="DecordDecode")]
    ours = with_decoder([*stock, dict(type="TenCrop", crop_size=224)], "packets")
    assert ours == [
        dict(type="PacketInit", io_backend="disk"),
        dict(type="PacketDecode"),
        dict(type="TenCrop", crop_size=224),
    ]
    checked = [dict(type="CheckedDecordInit", io_backend="disk"), dict(type="DecordDecode")]
    assert with_decoder(ours[:2], "decord") == with_decoder(stock, "decord") == checked
    assert exact_pipeline(ours[:2]) == exact_pipeline(checked) == stock
    assert with_decoder(ours, "packets") == with_decoder(ours[:2], "packets") + ours[2:] == ours
    others = [dict(type="PyAVInit"), dict(type="PyAVDecode", multi_thread=True)]
    assert with_decoder(others, "packets") == [dict(type="PacketInit"), dict(type="PacketDecode")]
    efficient = [dict(type="DecordInit"), dict(type="DecordDecode", mode="efficient")]
    assert with_decoder(efficient, "packets") == [dict(type="CheckedDecordInit"), efficient[1]]


def test_real_videos_have_decords_frames(real_data):
    for path in (
        real_data / "arm_wrestling.mp4",
        real_data / "exercise_or_typing/val/typing48.mp4",
    ):
        last = len(PacketReader(path)) - 1
        assert max_difference(path, [last // 4, last // 2, last]) == 0


SIZE = (96, 64)


@pytest.mark.parametrize(
    ("name", "pts", "expected", "duration"),
    [
        ("steady.mp4", None, [0.0, 0.04, 0.08, 0.12], 0.16),
        ("varying.mp4", [0, 1, 5, 50], [0.0, 0.04, 0.2, 2.0], 2.04),
        ("late.mkv", [25, 26, 27, 30], [0.0, 0.04, 0.08, 0.2], 0.24),
        ("without.h264", None, [0.0, 0.04, 0.08, 0.12], 0.16),
    ],
)
def test_times(name, pts, expected, duration, tmp_path):
    options = {"bf": "0"}  # with B-frames MP4 tells the last frame's length by decoding order
    video = make_video(tmp_path / name, size=SIZE, num_frames=4, pts=pts, options=options)
    times = read_frame_times(video)
    assert len(times) == 4 and bool(times.pts) == (name != "without.h264")
    assert np.abs(times.seconds - expected).max() < 2e-3
    assert times.duration == pytest.approx(duration, abs=2e-3)
    assert [frame.pts for _, frame in decode(video)] == (times.pts or [None] * 4)


def test_frames_that_an_edit_list_hides_do_not_count(tmp_path):
    """A phone's trimmed video: ten frames before its time 0, which players do not show."""
    one_keyframe = {"bf": "0", "g": "250", "sc_threshold": "0"}
    whole = make_video(tmp_path / "v.mp4", size=SIZE, num_frames=60, options=one_keyframe)
    trimmed = tmp_path / "trimmed.mp4"
    with av.open(str(whole)) as source, av.open(str(trimmed), "w") as sink:
        stream = source.streams.video[0]
        target = sink.add_stream_from_template(stream)
        offset = round(Fraction(10, 25) / stream.time_base)
        for packet in source.demux(stream):
            if packet.dts is not None:
                packet.pts, packet.dts = packet.pts - offset, packet.dts - offset
                packet.stream = target
                sink.mux(packet)
    times = read_frame_times(trimmed)
    assert len(times) == len(times.pts) == len(PacketReader(trimmed)) == 50
    shown = PacketReader(trimmed).get_batch([0, 49])
    assert np.array_equal(shown, PacketReader(whole).get_batch([10, 59]))
    assert times.duration == pytest.approx(2.0)
    scored = score_windows(small_recognizer(), trimmed, window=1, stride=0.5)
    assert [(one.first, one.last) for one, _ in scored] == [(0, 25), (13, 38), (25, 50)]
    assert all(isinstance(scores, np.ndarray) for _, scores in scored)


def test_what_has_no_frames_says_so(tmp_path):
    with pytest.raises(UserError, match=r"cannot read video .*sound.mp4: no video stream"):
        ask_frame_times(write_audio(tmp_path / "sound.mp4"))
    with pytest.raises(UserError, match=r"cannot read video .*: not a regular file"):
        ask_frame_times(tmp_path)
