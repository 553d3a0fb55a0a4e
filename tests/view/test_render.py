"""The labelled video, decoded again: its frames, times, size and sound."""

from pathlib import Path

import av
import numpy as np
import pytest
from jobs import full_disk
from pattern_videos import make_video, pattern, psnr
from sound_videos import add_tone
from terminals import left_to_see, on_terminal

from mmact_tiny.errors import UserError
from mmact_tiny.view import render
from mmact_tiny.view.render import draw_bars, render_video
from mmact_tiny.view.windows import Cell

ONE = [Cell(0.0, float("inf"), [("walking the dog", 0.75), ("typing", 0.2), ("sitting", 0.05)])]
THREE = [
    Cell(0.0, 0.3, [("walk", 0.9), ("type", 0.1)]),
    Cell(0.3, 0.6, []),
    Cell(0.6, 0.96, [("type", 0.6), ("walk", 0.4)]),
]


def frames_of(path: Path) -> tuple[list[float], list[np.ndarray]]:
    """Returns the times from the first frame on, in seconds, and the frames, upright RGB."""
    with av.open(str(path)) as container:
        frames = list(container.decode(video=0))
    images = [np.rot90(f.to_ndarray(format="rgb24"), f.rotation // 90) for f in frames]
    return [float((f.pts - frames[0].pts) * f.time_base) for f in frames], images


def silent(folder: Path) -> Path:
    return make_video(folder / "silent.mp4", size=(320, 240), options={"bf": "0"})


def sound_of(path: Path) -> tuple[list[str], np.ndarray]:
    """Returns the names of the sound codecs, and the samples of the first track."""
    with av.open(str(path)) as container:
        names = [stream.codec_context.name for stream in container.streams.audio]
        if not names:
            return [], np.zeros(0)
        return names, np.concatenate(
            [frame.to_ndarray().astype(float)[0] for frame in container.decode(audio=0)]
        )


# stored size, rotation -> size of the labelled video
SIZES = {
    "landscape": ((640, 360), 0, (640, 360)),
    "portrait": ((360, 640), 0, (360, 640)),
    "turned by the phone": ((640, 360), 90, (360, 640)),
    "upside down": ((640, 360), 180, (640, 360)),
    "turned the other way": ((640, 360), 270, (360, 640)),
    "tiny is enlarged": ((64, 48), 0, (320, 240)),
    "wide": ((960, 120), 0, (1920, 240)),
}


@pytest.mark.parametrize("case", SIZES)
def test_size_and_orientation(case, tmp_path):
    stored, rotation, expected = SIZES[case]
    video = make_video(tmp_path / "v.mp4", size=stored, num_frames=8, rotation=rotation)
    render_video(video, tmp_path / "out.mp4", ONE)
    times, images = frames_of(tmp_path / "out.mp4")
    assert times == frames_of(video)[0] and len(times) == 8
    assert images[0].shape[1::-1] == expected
    factor = max(expected) // max(stored)
    for index, image in enumerate(images):
        source = np.rot90(pattern(index, *stored), rotation // -90)
        source = np.kron(source, np.ones((factor, factor, 1)))
        low = slice(expected[1] * 2 // 3, None)  # below the bars
        assert psnr(image[low], source[low]) > 26


@pytest.mark.parametrize("size", [(321, 241), (322, 241), (321, 242)])
def test_odd_sizes_gain_a_column_or_row(size, tmp_path):
    options = {"pix_fmt": "yuv444p"}  # which has odd sizes, as 4:2:0 in H.264 has not
    video = make_video(tmp_path / "v.mkv", size=size, num_frames=3, **options)
    render_video(video, tmp_path / "out.mp4", ONE)
    _, images = frames_of(tmp_path / "out.mp4")
    assert images[0].shape == (242, 322, 3)
    width, height = size
    kept = images[2][:height, :width]
    assert psnr(kept[120:], pattern(2, width, height)[120:]) > 26
    assert psnr(images[2][120:, -1], images[2][120:, -2].astype(float)) > 26


def test_times_of_a_variable_frame_rate_stay(tmp_path):
    pts = [0, 1, 2, 7, 8, 20, 21, 22, 40]
    video = make_video(tmp_path / "v.mp4", size=(320, 240), num_frames=9, pts=pts, fps=25)
    render_video(video, tmp_path / "out.mp4", ONE)
    assert frames_of(tmp_path / "out.mp4")[0] == [n / 25 for n in pts]


# codec of the sound, container, seconds -> codec in the MP4
SOUNDS = {
    "aac": ("aac", ".mp4", 0.96, "aac"),
    "longer than the pictures": ("aac", ".mp4", 3.0, "aac"),
    "shorter than the pictures": ("aac", ".mp4", 0.3, "aac"),
    "mp3": ("libmp3lame", ".mkv", 0.96, "mp3"),
    "flac": ("flac", ".mkv", 0.96, "flac"),
    "wav": ("pcm_s16le", ".mkv", 0.96, "aac"),
    "transport stream": ("aac", ".ts", 0.96, "aac"),
}


@pytest.mark.parametrize("case", SOUNDS)
def test_sound_is_kept(case, tmp_path):
    codec, suffix, seconds, expected = SOUNDS[case]
    video = add_tone(silent(tmp_path), tmp_path / f"v{suffix}", codec=codec, seconds=seconds)
    render_video(video, tmp_path / "out.mp4", ONE)
    (name,), samples = sound_of(tmp_path / "out.mp4")
    _, before = sound_of(video)
    assert name.startswith(expected)
    assert abs(len(samples) - len(before)) <= 2048  # an encoder's frame before and after
    if codec == "aac":
        assert np.array_equal(samples[: len(before)], before[: len(samples)])
    assert len(frames_of(tmp_path / "out.mp4")[0]) == 24
    spectrum = np.abs(np.fft.rfft(samples[2048:12288]))
    assert abs(spectrum.argmax() * 44100 / 10240 - 440) < 5


def test_pictures_and_sound_stay_together(tmp_path):
    """A transport stream counts from 1.4 seconds; both tracks begin as far apart as they did."""
    video = add_tone(silent(tmp_path), tmp_path / "v.ts", seconds=0.96)
    render_video(video, tmp_path / "out.mp4", ONE)
    apart = []
    for path in (video, tmp_path / "out.mp4"):
        with av.open(str(path)) as container:
            times: dict[str, list[float]] = {"audio": [], "video": []}
            for packet in container.demux():
                if packet.pts is not None:
                    times[packet.stream.type].append(float(packet.pts * packet.time_base))
        apart.append(times["audio"][0] - times["video"][0])
    assert apart[1] == pytest.approx(apart[0], abs=0.002)


def test_bars_and_track_change_with_time(tmp_path):
    video = make_video(tmp_path / "v.mp4", size=(640, 360), options={"crf": "10"})
    render_video(video, tmp_path / "out.mp4", THREE)
    _, images = frames_of(tmp_path / "out.mp4")
    blue, orange = (86, 180, 233), (230, 159, 0)

    def near(pixel: np.ndarray, color: tuple[int, ...]) -> bool:
        return bool(np.abs(pixel.astype(int) - color).max() < 60)

    top = 14  # the first bar
    assert near(images[2][top, 25], blue) and near(images[20][top, 25], orange)
    assert psnr(images[10][:60], pattern(10, 640, 360)[:60]) > 26  # no answer: no bars
    bottom = 356  # the track: walk, nothing, type
    for image in images[3:5]:
        assert near(image[bottom, 190], blue) and near(image[bottom, 630], orange)
        assert not near(image[bottom, 300], blue) and not near(image[bottom, 300], orange)
    for index in (0, 6, 12, 23):  # the play head is white, where the time is
        x = round(index / 24 * 639)
        assert images[index][bottom, x].min() > 170


def test_bars_are_as_long_as_their_scores():
    rows = [("typing", 1.0, "#0000ff"), ("walking", 0.5, "#00ff00"), ("none", 0.0, "#ff0000")]
    panel = draw_bars(rows, size=16, width=300)
    assert panel.shape == (3 * 24 + 10, 12 * 16 + 10, 4)
    lengths = []
    for number, channel in enumerate((2, 1, 0)):
        line = panel[5 + 24 * number + 1, :, channel]  # above the letters
        lengths.append(int((line > 150).sum()))
    assert lengths == [192, 96, 0]


@pytest.mark.parametrize("width", [40, 64, 300, 4000])
def test_a_panel_is_never_wider_than_its_room(width):
    rows = [("playing squash or racquetball" * 3, 0.7, "#0000ff")]
    assert draw_bars(rows, size=12, width=width).shape[1] <= width


def test_a_render_that_is_stopped_leaves_nothing(tmp_path, monkeypatch):
    video = make_video(tmp_path / "v.mp4", size=(320, 240))
    calls = []

    def draw(self: render.Overlay, picture: np.ndarray, seconds: float) -> None:
        calls.append(seconds)
        if len(calls) == 10:
            raise KeyboardInterrupt

    monkeypatch.setattr(render.Overlay, "draw", draw)
    with pytest.raises(KeyboardInterrupt):
        render_video(video, tmp_path / "out.mp4", ONE)
    assert [path.name for path in tmp_path.iterdir()] == ["v.mp4"]


def test_a_disk_that_is_full_keeps_the_old_file(tmp_path):
    noise = make_video(tmp_path / "v.mp4", size=(640, 480), num_frames=60)
    out = tmp_path / "out.mp4"
    out.write_bytes(b"old")
    message = r"no space to write .*out.mp4: .*unharmed"
    with full_disk(20_000), pytest.raises(UserError, match=message):
        render_video(noise, out, ONE)
    assert out.read_bytes() == b"old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.mp4", "v.mp4"]
    with pytest.raises(UserError, match="cannot write"):
        render_video(noise, out / "x.mp4", ONE)


def test_a_damaged_middle_is_left_out(tmp_path, caplog):
    video = make_video(tmp_path / "v.mkv", size=(320, 240), num_frames=60, options={"g": "10"})
    data = bytearray(video.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 3000] = bytes(3000)
    video.write_bytes(data)
    render_video(video, tmp_path / "out.mp4", ONE)
    assert 20 < len(frames_of(tmp_path / "out.mp4")[0]) <= 60
    assert f"damaged part(s) of {video} left out" in caplog.text


def test_a_bar_tells_how_far_it_is(tmp_path):
    video, out = make_video(tmp_path / "video.mp4", size=(160, 120)), tmp_path / "out.mp4"
    count = len(frames_of(video)[1])
    written, status = on_terminal(lambda: render_video(video, out, ONE), columns=100)
    assert status == 0 and f"{count}/{count}  0:00 left" in written and " frames/s" in written
    assert left_to_see(written) == [] and len(frames_of(out)[1]) == count


def test_a_video_without_frames(tmp_path):
    broken = tmp_path / "v.mp4"
    broken.write_bytes(b"no video" * 100)
    with pytest.raises(UserError, match=r"cannot read video .*Invalid data"):
        render_video(broken, tmp_path / "out.mp4", ONE)
    assert [path.name for path in tmp_path.iterdir()] == ["v.mp4"]


def test_every_sound_track_is_kept(tmp_path):
    one = add_tone(silent(tmp_path), tmp_path / "one.mkv", codec="aac", seconds=0.96)
    two = tmp_path / "two.mkv"
    with av.open(str(one)) as source, av.open(str(two), "w") as sink:
        sound = source.streams.audio[0]
        targets = {stream: sink.add_stream_from_template(stream) for stream in source.streams}
        again = sink.add_stream_from_template(sound)
        for packet in source.demux():
            if packet.dts is not None:
                stream = packet.stream
                packet.stream = targets[stream]
                sink.mux(packet)
                if stream is sound:
                    packet.stream = again
                    sink.mux(packet)
    render_video(two, tmp_path / "out.mp4", ONE)
    assert sound_of(tmp_path / "out.mp4")[0] == ["aac", "aac"]


def test_sound_that_steps_back_in_time_is_dropped_there(tmp_path):
    """MP4 refuses it; the rest of the sound and all pictures stay."""
    whole = add_tone(silent(tmp_path), tmp_path / "whole.ts", seconds=0.96)
    data = whole.read_bytes()
    (tmp_path / "twice.ts").write_bytes(data + data)  # begins again in the middle
    render_video(tmp_path / "twice.ts", tmp_path / "out.mp4", ONE)
    assert len(frames_of(tmp_path / "out.mp4")[0]) == 48
    assert len(sound_of(tmp_path / "out.mp4")[1]) >= 0.9 * 44100
