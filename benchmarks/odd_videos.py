"""Prints how every tool reads encodings of one film: stream, frames, orientation, times.

    python benchmarks/odd_videos.py [--only WORD] [--folder FOLDER]

Each file is made on the spot. A frame tells its number by five black or white fields, and which
way up it is by three coloured corners, so what a tool read is seen in its pixels. Beside the tools
stand FFmpeg's command line, where there is one, and stock's decord.
"""

import argparse
import os
import shutil
import struct
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any

import av
import decord
import numpy as np

from mmact_tiny.cache.clip import ClipReader
from mmact_tiny.cache.encode import write_clip
from mmact_tiny.compat import Compose, init_default_scope
from mmact_tiny.prepare.checks import find_faults
from mmact_tiny.prepare.examine import examine
from mmact_tiny.video.files import best_stream, sample_of
from mmact_tiny.video.frames import open_video
from mmact_tiny.video.isolated import GuardedReader
from mmact_tiny.video.packets import as_file
from mmact_tiny.video.times import read_frame_times
from mmact_tiny.view.render import render_video
from mmact_tiny.view.windows import Cell, WindowViews, cut_windows

CORNERS = {(0, 0): (230, 20, 20), (0, 1): (20, 200, 20), (1, 0): (20, 20, 230)}
OPENER, DECODER = dict(type="PacketInit"), dict(type="PacketDecode")
SAMPLER = dict(type="SampleFrames", clip_len=1, frame_interval=1, num_clips=3, test_mode=True)
PACK = [dict(type="FormatShape", input_format="NCHW"), dict(type="PackActionInputs")]
# The display matrix (a, b, c, d), and how the stored picture is made from the one that is shown.
TURNS: dict[str, tuple[tuple[float, ...], Callable[[np.ndarray], np.ndarray]]] = {
    "none": ((1, 0, 0, 1), lambda x: x),
    "90": ((0, 1, -1, 0), lambda x: np.rot90(x, 1)),
    "180": ((-1, 0, 0, -1), lambda x: np.rot90(x, 2)),
    "270": ((0, -1, 1, 0), lambda x: np.rot90(x, -1)),
    "hflip": ((-1, 0, 0, 1), np.fliplr),
    "vflip": ((1, 0, 0, -1), np.flipud),
    "transposed": ((0, 1, 1, 0), lambda x: x.swapaxes(0, 1)),
    "across": ((0, -1, -1, 0), lambda x: np.rot90(x, 2).swapaxes(0, 1)),
    "45": ((0.7071, 0.7071, -0.7071, 0.7071), lambda x: x),  # as stored
}


@dataclass(frozen=True)
class Encoding:
    """A file that is made: its name says what is odd about it."""

    name: str  # with the suffix
    codec: str = "libx264"
    pix_fmt: str = "yuv420p"
    size: tuple[int, int] = (160, 128)  # as shown
    frames: int = 24
    turn: str = "none"
    ticks: tuple[int, ...] = ()  # when each frame is shown, in 1/25 s; else steadily
    start: float = 0.0  # seconds
    hidden: int = 0  # frames before time 0, which an edit list hides
    cut: int = 0  # frames to the second keyframe, which are cut off before the file
    before: tuple[str, ...] = ()  # streams before the video: audio, small, or see `STILLS`
    after: tuple[str, ...] = ()
    options: dict[str, str] = field(default_factory=dict)
    format: str | None = None  # of the container, where the suffix does not say
    interlaced: bool = False
    picture: bool = (
        False  # a cover among the metadata: FFmpeg makes a stream of it, ASF's the first
    )

    @property
    def times(self) -> np.ndarray:
        ticks = self.ticks or range(self.frames)
        return (np.array(ticks[: self.frames]) - ticks[0]) / 25


def h264(name: str, **more: Any) -> Encoding:
    return Encoding(name, options={"preset": "ultrafast", "crf": "12", "g": "12"}, **more)


# Streams of pictures: how many, and whether they are marked as attached.
STILLS = {"cover": (1, True), "still": (1, False), "preview": (2, False)}
ASF_DESCRIPTION = bytes.fromhex("40a4d0d207e3d21197f000a0c95ea850")  # Extended Content Description
B_FRAMES = {"x264-params": "bframes=3:b-pyramid=normal:open-gop=1:keyint=10", "crf": "12"}
OPEN = {"b": "4M", "bf": "2", "g": "10"}  # mpeg2video's groups of pictures are open
OPEN_HEVC = {"x265-params": "open-gop=1:keyint=8:b-adapt=0:scenecut=0:log-level=none"}
OPEN_H264 = {"x264-params": "open-gop=1:keyint=8:b-adapt=0:scenecut=0:bframes=3"}
VARIED = (0, 1, 2, 5, 6, 9, 10, 11, 15, 16, 17, 18, 25, 26, 30, 31, 32, 33, 34, 40, 41, 42, 43, 60)
ENCODINGS = [
    *(h264(f"h264{suffix}") for suffix in (".mp4", ".mov", ".mkv", ".flv", ".m4v", ".3gp", ".f4v")),
    *(h264(f"h264{suffix}") for suffix in (".ts", ".mts", ".avi", ".asf", ".nut")),
    h264("h264-without-times.h264"),
    h264("nameless", format="mp4"),
    h264("nameless.unknown", format="matroska"),
    *(Encoding(f"b-frames{s}", options=B_FRAMES) for s in (".mp4", ".mkv", ".avi", ".ts")),
    Encoding("intra-refresh.mp4", options={"x264-params": "intra-refresh=1:keyint=12"}),
    Encoding("hevc.mp4", "libx265", options={"x265-params": "log-level=none", "crf": "12"}),
    Encoding("vp8.webm", "libvpx", options={"crf": "4", "b": "2M"}),
    Encoding("vp9.webm", "libvpx-vp9", options={"crf": "12", "cpu-used": "8"}),
    *(Encoding(f"av1{s}", "libsvtav1", options={"preset": "12"}) for s in (".mp4", ".webm")),
    *(Encoding(f"mpeg4{s}", "mpeg4", options={"q": "2"}) for s in (".avi", ".mp4", ".mkv")),
    Encoding("mpeg4-b-frames.avi", "mpeg4", options={"bf": "2", "b": "2M"}),
    *(Encoding(f"mpeg2{s}", "mpeg2video", options={"b": "4M"}) for s in (".mpg", ".vob", ".ts")),
    Encoding("mpeg1.mpg", "mpeg1video", options={"b": "4M"}),
    *(Encoding(f"wmv2{s}", "wmv2", options={"b": "4M"}) for s in (".wmv", ".asf", ".avi")),
    *(Encoding(f"mjpeg{s}", "mjpeg", "yuvj420p") for s in (".avi", ".mov", ".mkv", ".mjpeg")),
    Encoding("flv1.flv", "flv", options={"b": "4M"}),
    Encoding("h263.3gp", "h263", size=(176, 144), options={"b": "2M"}),
    Encoding("gif.gif", "gif", "rgb8"),
    Encoding("ffv1.mkv", "ffv1"),
    Encoding("prores.mov", "prores_ks", "yuv422p10le"),
    *(Encoding(f"rgb-{c}.mov", c, "rgb24") for c in ("qtrle", "png")),
    Encoding("dnxhd.mov", "dnxhd", "yuv422p", (1280, 720), options={"b": "90M"}),
    *(h264(f"h264-{f}.mp4", pix_fmt=f) for f in ("yuv422p", "yuv444p", "yuv420p10le", "yuvj420p")),
    Encoding("hevc-10.mov", "libx265", "yuv420p10le", options={"x265-params": "log-level=none"}),
    *(h264(f"turned-{turn}.mp4", turn=turn) for turn in TURNS if turn != "none"),
    h264("mirrored-10-bits.mov", turn="hflip", pix_fmt="yuv420p10le"),
    h264("mirrored-and-trimmed.mp4", turn="hflip", hidden=6),
    h264("trimmed.mp4", hidden=6),
    *(h264(f"varied{s}", ticks=VARIED) for s in (".mp4", ".mkv", ".ts")),
    *(h264(f"late{s}", start=10) for s in (".mkv", ".mp4", ".ts", ".flv")),
    *(Encoding(f"cut-mpeg2{s}", "mpeg2video", cut=12, options=OPEN) for s in (".ts", ".mpg")),
    Encoding("cut-h264.mkv", cut=8, options=OPEN_H264),
    Encoding("cut-hevc.mkv", "libx265", cut=8, options=OPEN_HEVC),
    h264("audio-first.mp4", before=("audio",)),
    h264("audio-first-4-frames.mp4", before=("audio",), frames=4),
    h264("audio-after.mkv", after=("audio",)),
    h264("preview-first.mov", before=("preview",)),
    h264("small-first.mp4", before=("small",)),
    h264("small-after.mkv", after=("small",)),
    h264("cover-first.mp4", before=("cover",)),
    Encoding("av1-cover-first.mp4", "libsvtav1", before=("cover",), options={"preset": "12"}),
    *(h264(f"cover-{place}.mkv", **{place: ("cover",)}) for place in ("before", "after")),
    *(h264(f"still-first{s}", before=("still",)) for s in (".mkv", ".asf", ".mov", ".avi")),
    h264("attached.mkv", picture=True),
    *(Encoding(f"picture{s}", "wmv2", options={"b": "4M"}, picture=True) for s in (".wmv", ".asf")),
    h264("interlaced.mp4", interlaced=True),
    Encoding("interlaced.mpg", "mpeg2video", interlaced=True, options={"b": "4M"}),
    h264("one-frame.mp4", frames=1),
    h264("two-frames.mkv", frames=2),
    *(Encoding(f"odd-{w}x{h}.mkv", "ffv1", size=(w, h)) for w, h in ((161, 128), (160, 127))),
    Encoding("odd-161x127.webm", "libvpx-vp9", size=(161, 127), options={"crf": "12"}),
    Encoding("odd-turned.mp4", "mpeg4", size=(127, 161), turn="90", options={"q": "2"}),
]


def draw(index: int, width: int, height: int) -> np.ndarray:
    """Returns frame `index` as it is shown, uint8 RGB."""
    image = np.full((height, width, 3), 128, np.uint8)
    for (row, column), color in CORNERS.items():
        y, x = row * (height - height // 4), column * (width - width // 4)
        image[y : y + height // 4, x : x + width // 4] = color
    for bit in range(5):
        left, right = (round(width * (bit + part) / 5) for part in (0, 1))
        image[height * 2 // 5 : height * 3 // 5, left:right] = 255 * (index >> bit & 1)
    return image


def read(image: np.ndarray) -> int:
    """Returns the number of a frame, -1 where it is not upright."""
    height, width = image.shape[:2]
    for (row, column), color in CORNERS.items():
        y, x = round(height * (0.12 + 0.76 * row)), round(width * (0.12 + 0.76 * column))
        if np.abs(image[y - 2 : y + 3, x - 2 : x + 3].mean((0, 1)) - color).max() > 90:
            return -1
    fields = [image[height // 2, round(width * (bit + 0.5) / 5)].mean() > 128 for bit in range(5)]
    return sum(1 << bit for bit, is_white in enumerate(fields) if is_white)


def make(encoding: Encoding, folder: Path) -> Path:
    """Writes a file; returns its path."""
    path = folder / encoding.name
    matrix, store = TURNS[encoding.turn]
    with av.open(str(path), "w", format=encoding.format) as sink:
        others = [(kind, _add(sink, kind)) for kind in encoding.before]
        stream: Any = sink.add_stream(encoding.codec, rate=25, options=encoding.options)
        others += [(kind, _add(sink, kind)) for kind in encoding.after]
        if encoding.before or encoding.after:
            stream.disposition = av.stream.Disposition.default
        stored = store(draw(0, *encoding.size))
        stream.height, stream.width = stored.shape[:2]
        stream.pix_fmt = encoding.pix_fmt
        if encoding.interlaced:
            stream.codec_context.flags |= av.codec.context.Flags.interlaced_dct
        if matrix != TURNS["none"][0]:
            a, b, c, d = (round(value * 65536) for value in matrix)
            stream.set_display_matrix([a, b, 0, c, d, 0, 0, 0, 1 << 30])
        packets: list[Any] = []
        earlier = encoding.hidden + encoding.cut
        ticks = encoding.ticks or range(encoding.frames + earlier)
        for number in range(encoding.frames + earlier):
            image = store(draw((number - earlier) % 32, *encoding.size))
            image = np.ascontiguousarray(image)
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = ticks[number], Fraction(1, 25)
            packets += stream.encode(frame)
        packets += stream.encode(None)
        if encoding.cut:
            del packets[: [number for number, p in enumerate(packets) if p.is_keyframe][1]]
        if encoding.picture and path.suffix == ".mkv":
            sink.add_attachment("cover.jpg", "image/jpeg", _jpeg())
        for kind, other in others:
            _fill(sink, kind, other)
        for packet in packets:
            shift = Fraction(encoding.start).limit_denominator(100) - Fraction(encoding.hidden, 25)
            if shift:
                packet.pts += round(shift / packet.time_base)
                packet.dts += round(shift / packet.time_base)
            sink.mux(packet)
    if encoding.picture and path.suffix != ".mkv":
        _put_asf_picture(path, _jpeg())
    return path


def _jpeg() -> bytes:
    frame = av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), np.uint8), format="rgb24")
    codec: Any = av.CodecContext.create("mjpeg", "w")
    codec.width, codec.height, codec.pix_fmt, codec.time_base = 64, 48, "yuvj420p", Fraction(1, 25)
    return b"".join(bytes(p) for p in [*codec.encode(frame.reformat(format="yuvj420p"))])


def _put_asf_picture(path: Path, picture: bytes) -> None:
    """Puts a WM/Picture before all that an ASF header has, section 3.11 of the specification."""
    name, words = ("WM/Picture\0".encode("utf-16-le"), "image/jpeg\0\0".encode("utf-16-le"))
    value = struct.pack("<BI", 3, len(picture)) + words + picture
    body = struct.pack("<HH", 1, len(name)) + name + struct.pack("<HH", 1, len(value)) + value
    added = ASF_DESCRIPTION + struct.pack("<Q", 24 + len(body)) + body
    data = path.read_bytes()
    size, count = struct.unpack_from("<QI", data, 16)
    head = data[:16] + struct.pack("<QI", size + len(added), count + 1) + data[28:30]
    path.write_bytes(head + added + data[30:])


def _add(sink: Any, kind: str) -> Any:
    if kind == "audio":
        return sink.add_stream("aac", rate=44100)
    still = kind in STILLS
    stream = sink.add_stream("mjpeg" if still else "libx264", rate=25)
    stream.width, stream.height, stream.pix_fmt = 64, 48, "yuvj420p" if still else "yuv420p"
    attached = still and STILLS[kind][1]
    stream.disposition = av.stream.Disposition.attached_pic if attached else 0
    return stream


def _fill(sink: Any, kind: str, stream: Any) -> None:
    if kind == "audio":
        for number in range(40):
            sound = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
            sound.sample_rate, sound.pts = 44100, number * 1024
            sink.mux(stream.encode(sound))
    else:
        for number in range(STILLS.get(kind, (24,))[0]):
            image = np.full((48, 64, 3), 40 * (number % 2), np.uint8)
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, 25)
            sink.mux(stream.encode(frame))
    sink.mux(stream.encode(None))


def by_prepare(path: Path, encoding: Encoding) -> str:
    record = examine(str(path))
    if faults := list(find_faults(record, min_frames=1)):
        return ": ".join(faults[0])
    return _differs([*range(record["frames"])], encoding.frames)


def by_packets(path: Path, encoding: Encoding) -> str:
    opened = Compose([OPENER])(dict(filename=str(path)))
    opened["frame_inds"] = np.arange(opened["total_frames"])
    return _differs(map(read, Compose([DECODER])(opened)["imgs"]), encoding.frames)


def by_test(path: Path, encoding: Encoding) -> str:
    resize = dict(type="Resize", scale=(-1, 100))
    steps = Compose([OPENER, SAMPLER, DECODER, resize, *PACK])
    sample = dict(filename=str(path), label=-1, start_index=0, modality="RGB")
    return _sampled(steps(sample)["inputs"], encoding)


@cache
def _infer_reader() -> GuardedReader:
    """Returns what `Recognizer` reads videos with: a process of its own."""
    return GuardedReader(Compose([OPENER, SAMPLER, DECODER, *PACK]))


def by_infer(path: Path, encoding: Encoding) -> str:
    with as_file(path) as name:
        return _sampled(_infer_reader()(sample_of(name))["inputs"], encoding)


def by_cache(path: Path, encoding: Encoding) -> str:
    with (path.parent / "entry.mp4").open("w+b") as file:
        info = write_clip(path, file, source="0" * 64, short_side=100, format="small")
    reader = ClipReader(path.parent / "entry.mp4", info)
    pictures = reader.get_batch(list(range(len(reader)))).asnumpy()
    return _differs(map(read, pictures), encoding.frames)


def by_windows(path: Path, encoding: Encoding) -> str:
    times = read_frame_times(path)
    if len(times) != encoding.frames:
        return f"{len(times)} frames"
    if late := _late(times.seconds, encoding):
        return late
    windows = cut_windows(times, window=60, stride=60)
    views = WindowViews(path, times, windows, [OPENER, SAMPLER, DECODER, *PACK], Compose)
    return _sampled(views(0)["inputs"], encoding)


def by_render(path: Path, encoding: Encoding) -> str:
    out = path.parent / "rendered.mp4"
    render_video(path, out, [Cell(0.0, float("inf"), [])])
    with av.open(str(out)) as container:
        shown = [(f.time, f.to_ndarray(format="rgb24")) for f in container.decode(video=0)]
    numbers = _differs((read(image) for _, image in shown), encoding.frames)
    return numbers if numbers != "ok" else _late(np.array([t for t, _ in shown]), encoding) or "ok"


def by_ffmpeg(path: Path, encoding: Encoding) -> str:
    """Reads with FFmpeg's command line: its autorotation, its times in a second output."""
    (width, height), listed = encoding.size, path.parent / "times.txt"
    with av.open(str(path)) as container:
        each = f"-map 0:{best_stream(container).index} -vsync passthrough -enc_time_base -1"
    command = f"ffmpeg -v error -y -i {path} {each} -f rawvideo -pix_fmt rgb24 -"
    command += f" {each} -f framecrc {listed}"
    done = subprocess.run(command.split(), capture_output=True, timeout=60)
    pictures = np.frombuffer(done.stdout, np.uint8)
    if pictures.size % (width * height * 3):
        return "another size"
    found = _differs(map(read, pictures.reshape(-1, height, width, 3)), encoding.frames)
    lines = listed.read_text().splitlines()
    unit = next(Fraction(line.split()[-1]) for line in lines if line.startswith("#tb 0:"))
    times = [int(line.split(",")[2]) * unit for line in lines if line[0] != "#"]
    return _late(np.array(times, float), encoding) or found if found == "ok" else found


def by_decord(path: Path, encoding: Encoding) -> str:
    reader = decord.VideoReader(str(path), num_threads=1)
    pictures = reader.get_batch(range(len(reader))).asnumpy()
    found = _differs(map(read, pictures), encoding.frames)
    if found != "ok":
        return found
    ours = np.stack(open_video(path).get_batch(range(len(reader))))
    most = np.abs(ours.astype(int) - pictures).max()
    return f"ok, to {most} of 255 from ours" if most else "ok"


TOOLS = (by_prepare, by_packets, by_test, by_infer, by_cache, by_windows, by_render)


def _differs(numbers: Any, count: int) -> str:
    found = list(numbers)
    if found == list(range(count)):
        return "ok"
    if len(found) != count:
        return f"{len(found)} frames"
    return "not upright" if -1 in found else "other frames"


def _late(seconds: np.ndarray, encoding: Encoding) -> str:
    """Returns how far times are off, by more than half a frame, or nothing."""
    off = np.abs(seconds - seconds[0] - encoding.times).max()
    return f"times to {off:.2f} s off" if off > 0.021 else ""


def _sampled(inputs: Any, encoding: Encoding) -> str:
    expected = Compose([SAMPLER])(dict(total_frames=encoding.frames, start_index=0))["frame_inds"]
    found = [read(image) for image in inputs.numpy().transpose(0, 2, 3, 1)]
    return "ok" if found == expected.ravel().tolist() else f"frames {found}"


def compare(encoding: Encoding, folder: Path, tools: Sequence[Any] = TOOLS) -> dict[str, str]:
    """Returns for each tool `ok`, or how what it read differs from what was written."""
    init_default_scope("mmaction")
    path, found = make(encoding, folder), {}
    for tool in tools:
        name = tool.__name__.removeprefix("by_")
        try:
            found[name] = tool(path, encoding)
        except Exception as error:  # whatever a decoder throws
            found[name] = f"error: {str(error).splitlines()[0][-60:]}"
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """Prints the table; returns 1 where a tool of ours reads something else than was written."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="encodings with this word in their name")
    parser.add_argument("--folder", type=Path, help="where the files stay")
    args = parser.parse_args(argv)
    others = [by_ffmpeg, by_decord] if shutil.which("ffmpeg") else [by_decord]
    chosen = [encoding for encoding in ENCODINGS if args.only in encoding.name]
    wrong = 0
    with tempfile.TemporaryDirectory() as temporary:
        for number, encoding in enumerate(chosen):
            folder = args.folder or Path(temporary)
            folder.mkdir(parents=True, exist_ok=True)
            found = compare(encoding, folder, [*TOOLS, *others])
            if not number:
                print("| file |", " | ".join(found), "|\n|", " --- |" * (len(found) + 1))
            print(f"| {encoding.name} |", " | ".join(found.values()), "|", flush=True)
            wrong += any(found[t.__name__.removeprefix("by_")] != "ok" for t in TOOLS)
    print(f"\n{len(chosen)} encodings, {wrong} read otherwise than written")
    return int(wrong > 0)


if __name__ == "__main__":
    os.environ.setdefault("SVT_LOG", "1")
    sys.exit(main())
