"""When each frame is shown, against times that are known because they were written."""

from fractions import Fraction

import av
import numpy as np
import pytest
from pattern_videos import make_video
from small_recognizer import small_recognizer
from video_files import write_audio

from mmact_tiny.errors import UserError
from mmact_tiny.video.frames import ask_frame_times, decode, read_frame_times
from mmact_tiny.view.windows import score_windows

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
    assert len(times) == 50 and not times.pts
    assert times.duration == pytest.approx(2.0)
    scored = score_windows(small_recognizer(), trimmed, window=1, stride=0.5)
    assert [(one.first, one.last) for one, _ in scored] == [(0, 25), (13, 38), (25, 50)]
    assert all(isinstance(scores, np.ndarray) for _, scores in scored)


def test_what_has_no_frames_says_so(tmp_path):
    with pytest.raises(UserError, match=r"cannot read video .*sound.mp4: no video stream"):
        ask_frame_times(write_audio(tmp_path / "sound.mp4"))
    with pytest.raises(UserError, match=r"cannot read video .*: not a regular file"):
        ask_frame_times(tmp_path)
