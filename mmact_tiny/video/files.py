"""Tells videos by name or content and finds them; tells their stream and which way up they are.

It imports no more than it needs, for what only lists files; PyAV and NumPy come late.
"""

import logging
import mimetypes
import os
import re
import traceback
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ..errors import UserError
from ..files import printable

if TYPE_CHECKING:
    import av
    import numpy as np

logger = logging.getLogger("mmact_tiny")
_MORE_ROWS = {"420": "422", "410": "411"}  # pixel formats; the second's chroma has all rows
VIDEO_SUFFIXES = frozenset(
    (
        *(".264", ".265", ".h264", ".h265", ".hevc"),  # no container: nothing else tells them
        *(".3g2", ".3gp", ".asf", ".avi", ".divx", ".dv", ".f4v", ".flv", ".gif", ".m2t", ".m2ts"),
        *(".m2v", ".m4v", ".mjpeg", ".mjpg", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts"),
        *(".mxf", ".nut", ".ogm", ".ogv", ".rm", ".rmvb", ".ts", ".vob", ".webm", ".wmv"),
    )
)
# How the files of the usual containers begin, by place; FFmpeg's probes of the formats have them.
# A file is not opened with FFmpeg to say what it is: that takes milliseconds and may crash.
_SIGNATURES = (
    *((4, box) for box in (b"ftyp", b"moov", b"mdat", b"wide")),  # MP4, MOV, 3GP
    *((0, b"\x1aE\xdf\xa3"), (0, b"GIF8"), (0, b"OggS"), (0, b"FLV\x01"), (0, b"DKIF")),
    *((8, b"AVI "), (0, b"0&\xb2u\x8ef\xcf\x11"), (0, b".RMF"), (0, b"nut/multimedia")),  # ASF
    (0, b"YUV4MPEG2 "),
    *((0, b"\x00\x00\x01\xba"), (0, b"\x00\x00\x01\xb3"), (0, b"\x06\x0e+4")),  # MPEG, MXF
)
_PACKETS = ((0, 188), (4, 192))  # MPEG-TS, M2TS: where the first one begins, bytes from one on
_NO_VIDEOS = (b"heic", b"heix", b"hevc", b"mif1", b"msf1", b"avif", b"M4A ", b"M4B ")  # or sound
STRETCH_LISTS = {"train.csv", "val.csv", "test.csv"}  # of a dataset, see `annotations`
ARCHIVES = (".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".zst", ".7z", ".rar")
OTHER_FILES = "not videos by name or content"
SYSTEM_FOLDERS = {"__MACOSX", "$RECYCLE.BIN", "System Volume Information", "@eaDir", "lost+found"}
_STRETCH = re.compile(r"(?P<path>.+) \[(?P<start>\d+(\.\d+)?) s to (?P<end>\d+(\.\d+)?) s\]", re.S)
_DECORD_PLACE = re.compile(r"^\[[\d:]+\] \S+:\d+: ")


def is_video(name: str) -> bool:
    """Returns whether a file's name ends like a video's."""
    return os.path.splitext(name)[1].lower() in VIDEO_SUFFIXES  # noqa: PTH122


def is_video_file(path: str) -> bool:
    """Returns whether a file is a video by its name, or by how it begins where that says nothing.

    What one really holds, `prepare` finds out.
    """
    if is_video(path):
        return True
    kind = mimetypes.guess_type(path)[0]
    if not (kind or "video/").startswith("video/") or not os.path.isfile(path):  # noqa: PTH113
        return False
    try:
        with open(path, "rb") as file:  # noqa: PTH123
            start = file.read(1024)
    except OSError:
        return False
    if start[4:8] == b"ftyp" and start[8:12] in _NO_VIDEOS:
        return False
    return any(start.startswith(signature, place) for place, signature in _SIGNATURES) or any(
        len(start) > 4 * size and all(byte == 0x47 for byte in start[first::size])
        for first, size in _PACKETS
    )


class Walk:
    """Finds the videos below folders in one way for all tools, and counts what it leaves out.

    Symbolic links are followed, but not to a folder around the link (a loop) nor to one below
    `root` that is reached without it. Hidden files, `._x.mp4` and `__MACOSX` are left out.
    """

    def __init__(self, root: Path, skip: Path | None = None) -> None:
        self.root, self.skip = root, skip
        self.left_out: Counter[str] = Counter()  # files and folders by reason
        self._examples: dict[str, Counter[str]] = defaultdict(Counter)
        self._real_root = os.path.realpath(root)
        self._seen: set[str] = set()  # folders outside of the root
        self._children: dict[Path, tuple[list[Path], list[Path]]] = {}

    def videos(self, folder: Path | None = None) -> Iterator[Path]:
        """Yields the videos below `folder` in order; by default below the root."""
        start = folder or self.root
        todo = [(str(start), os.path.realpath(start))]
        while todo:
            folders, videos = self._entries(*todo.pop(), self._is_new)
            yield from map(Path, videos)
            todo += reversed(folders)

    def children(self, folder: Path) -> tuple[list[Path], list[Path]]:
        """Returns the folders and the videos of one folder; also links to folders elsewhere."""
        if folder not in self._children:

            def is_new(link: str, real: str, parent: str) -> bool:
                folder, _, name = real.rpartition(os.sep)
                if folder != parent or _reason_to_pass(name):
                    return True
                self._leave("links to folders of the same source", link)
                return False

            found = self._entries(str(folder), os.path.realpath(folder), is_new)
            self._children[folder] = [Path(path) for path, _ in found[0]], list(map(Path, found[1]))
        return self._children[folder]

    def _entries(
        self, folder: str, real: str, is_new: Callable[[str, str, str], bool]
    ) -> tuple[list[tuple[str, str]], list[str]]:
        """Returns the folders, each with its real path, and the videos of a folder in order."""
        folders, videos = [], []
        try:
            with os.scandir(folder) as entries:
                found = sorted(entries, key=lambda entry: entry.name)
        except OSError:
            self._leave("folders that cannot be read", folder)
            return [], []
        for entry in found:
            if reason := _reason_to_pass(entry.name):
                self._leave(reason, entry.path)
            elif entry.is_dir():
                is_link = entry.is_symlink()
                target = os.path.realpath(entry.path) if is_link else f"{real}{os.sep}{entry.name}"
                if is_link and any(_is_below(place, target) for place in (real, self._real_root)):
                    self._leave("links in a circle", entry.path)
                elif entry.path != str(self.skip) and (
                    not (is_link or not _is_below(real, self._real_root))
                    or is_new(entry.path, target, real)
                ):
                    if is_video(entry.name):
                        self._leave("folders named like videos, searched as folders", entry.path)
                    folders.append((entry.path, target))
            elif is_video_file(entry.path):
                videos.append(entry.path)
            else:
                is_archive = entry.name.lower().endswith(ARCHIVES)
                kind = "archives, not unpacked" if is_archive else OTHER_FILES
                self._leave(kind, entry.path)
        return folders, videos

    def _is_new(self, link: str, real: str, parent: str) -> bool:
        """Returns whether a folder by a link, or below one, is reached in no other way."""
        inside = Path(os.path.relpath(real, self._real_root)).parts
        if inside[0] != ".." and not any(map(_reason_to_pass, inside)):
            self._leave("links to folders of the same source", link)
            return False
        if real in self._seen:
            self._leave("links to a folder seen before", link)
            return False
        self._seen.add(real)
        return True

    def _leave(self, reason: str, path: str) -> None:
        self.left_out[reason] += 1
        examples = self._examples[reason]
        shown = self._shown(reason, path)
        if shown in examples or len(examples) < 5:
            examples[shown] += 1

    def _shown(self, reason: str, path: str) -> str:
        suffix = os.path.splitext(path)[1].lower() or "no suffix"  # noqa: PTH122
        return suffix if reason == OTHER_FILES else os.path.relpath(path, self.root)

    def take_back(self, files: Iterable[Path]) -> None:
        """Counts files no longer that are read as lists."""
        for file in files:
            self.left_out[OTHER_FILES] -= 1
            self._examples[OTHER_FILES][self._shown(OTHER_FILES, str(file))] -= 1
        self.left_out = +self.left_out

    def told(self) -> str:
        """Returns how many files and folders were left out for which reason, or nothing."""
        return "; ".join(
            f"{count} {reason} ({', '.join(+self._examples[reason])})"
            for reason, count in self.left_out.items()
        )

    def say(self) -> None:
        """Says what was left out, and that lists of stretches were not read."""
        if self.left_out:
            logger.info("left out below %s: %s", printable(str(self.root)), printable(self.told()))
        say_stretches(self.root, [name for name in STRETCH_LISTS if (self.root / name).is_file()])


def say_stretches(folder: str | Path, files: Iterable[str]) -> None:
    """Says so where a folder, whose videos are taken whole, has a dataset's lists of stretches."""
    if lists := sorted(STRETCH_LISTS & {file.rpartition("/")[2] for file in files}):
        words = "%s: whole videos, not the stretches in %s; for a row each, name the list itself"
        logger.warning(words, printable(str(folder)), ", ".join(lists))


def _reason_to_pass(name: str) -> str | None:
    if name in SYSTEM_FOLDERS:
        return "of the system"
    return "hidden" if name.startswith(".") and name not in (".", "..") else None


def _is_below(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip(os.sep) + os.sep)


def walk_videos(folder: Path) -> Iterator[Path]:
    """Yields the video files below a folder in order, as `Walk` finds them."""
    return Walk(folder).videos()


def refuse_archive(path: Path) -> None:
    """Raises:
    UserError: the path is an archive.
    """
    if path.name.lower().endswith(ARCHIVES) and path.is_file():
        raise UserError(f"{path} is an archive: unpack it, and give the folder")


def find_videos(paths: Sequence[str | Path]) -> list[Path]:
    """Returns the files named, and the videos below each folder, sorted; each once.

    Raises:
        UserError: a path that does not exist, or a folder without a video.
    """
    videos: list[Path] = []
    for text in map(str, paths):
        path = Path(text)
        if not text:
            raise UserError("an empty name of a video: give a file or a folder; `.` is this one")
        refuse_archive(path)
        if ("://" in text or text.isdigit()) and not path.exists():
            raise UserError(
                f"{text} is no file; a stream or a camera is watched live, alone: python "
                f"tools/infer.py {'/dev/video' * text.isdigit()}{text} --window 2"
            )
        if path.is_dir():
            walk = Walk(path)
            found = sorted(walk.videos())
            walk.say()
            if not found:
                suffixes = " ".join(sorted(VIDEO_SUFFIXES))
                raise UserError(f"no video in {path}; looked for {suffixes}")
            videos.extend(found)
        elif path.exists() or Path(split_name(text)[0]).exists():
            videos.append(path)
        else:
            raise UserError(f"no video file {path}")
    return list(dict.fromkeys(videos))


def stretch_name(video: str | Path, start: float, end: float) -> str:
    """Returns the name of a stretch, `video.mp4 [12.0 s to 15.5 s]`, which all tools read.

    Seconds count from the first frame; they are rounded to milliseconds.
    """
    first, last = (f"{seconds:.3f}".rstrip("0") for seconds in (start, end))
    first, last = (text + "0" if text.endswith(".") else text for text in (first, last))
    return f"{video} [{first} s to {last} s]"


def split_name(name: str | Path) -> tuple[str, tuple[float, float] | None]:
    """Returns a video's path and, for the name of a stretch, its start and end in seconds."""
    found = _STRETCH.fullmatch(str(name))
    if found is None or os.path.exists(name):  # noqa: PTH110
        return str(name), None
    return found["path"], (float(found["start"]), float(found["end"]))


def sample_of(video: str | Path) -> dict[str, Any]:
    """Returns what a test pipeline starts from, for one video, or a stretch, without a label.

    Raises:
        UserError: no such file; or no regular one, as a pipe, which might never give anything.
    """
    path = Path(split_name(video)[0])
    if not path.is_file():
        raise UserError("not a regular file" if path.exists() else "no such file")
    return dict(filename=str(video), label=-1, start_index=0, modality="RGB")


def reason_of(error: BaseException) -> str:
    """Returns an error in a line; decord's begin with time and place, and end with a stack."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return _DECORD_PLACE.sub("", lines[0])[:300] if lines else type(error).__name__


# What calls the steps of a pipeline: MMEngine, a dataset of MMAction2's behind decoding,
# `view.sampling` and `portable.views`. The names of their variables: the step, and the sample.
STEPPERS = {
    "Compose.__call__": ("t", "data"),
    "RepeatAugDataset.prepare_data": ("transform", "data_info_"),
    "run_transforms": ("transform", "results"),
    "Views.__call__": ("step", "sample"),
}


def failing_step(error: BaseException) -> tuple[Any, Any] | None:
    """Returns the pipeline's step that raised an error, and the sample as far as it had come.

    They are the variables of the innermost function of `STEPPERS` that the error passed, if any.
    """
    found = None
    for frame, _ in traceback.walk_tb(error.__traceback__):
        step, sample = STEPPERS.get(frame.f_code.co_qualname, ("", ""))
        if {step, sample} <= frame.f_locals.keys():  # torchvision has a `Compose` too
            found = frame.f_locals[step], frame.f_locals[sample]
    return found


def explain(error: BaseException) -> tuple[str, bool]:
    """Returns an error in a line, and whether a transform failed on a video that was read.

    Decoding puts the frames into the sample as `imgs`: what fails before is blamed on the file.
    """
    step, sample = failing_step(error) or (None, {})
    if not isinstance(sample, dict) or "imgs" not in sample:
        return reason_of(error), False
    name = step["type"] if isinstance(step, dict) else type(step).__name__
    return f"{name} failed ({type(error).__name__}: {reason_of(error)})", True


def no_views(video: object, reason: object, *, of: str = "", after_decoding: bool) -> str:
    """Returns why there is nothing of a video to look at, with the one that is to blame."""
    if not after_decoding:
        return f"cannot read video {video}: {reason}"
    return f"the {of}pipeline fails on {video}, which can be read: {reason}"


def shown_streams(container: Any) -> list[Any]:
    """Returns the video streams, attached pictures left out."""
    import av

    cover = av.stream.Disposition.attached_pic
    return [stream for stream in container.streams.video if not stream.disposition & cover]


def best_stream(container: Any) -> Any:
    """Returns the video stream that FFmpeg calls the best, but never an attached picture.

    Raises:
        UserError: there is none, or no decoder for it.
    """
    import av

    default = av.stream.Disposition.default
    shown, best = shown_streams(container), container.streams.best("video")
    if best not in shown:  # a cover that is marked as the default
        best = max(shown, key=lambda s: (s.disposition & default, s.bit_rate or 0), default=None)
    if best is None:
        raise UserError("no video stream")
    if best.codec_context is None:
        raise UserError("a codec that FFmpeg does not know")
    return best


class Orientation(NamedTuple):
    """How a stored picture is turned to be shown: x and y change places, then axes are reversed."""

    transposed: bool = False
    bottom_up: bool = False
    right_to_left: bool = False

    @property
    def is_mirrored(self) -> bool:
        """Whether no rotation does it. Decord rotates all the same, so its frames are others."""
        return (self.transposed + self.bottom_up + self.right_to_left) % 2 == 1

    def turn(self, picture: "np.ndarray") -> "np.ndarray":
        """Returns a view of a picture, its rows and columns first, as it is shown."""
        picture = picture.swapaxes(0, 1) if self.transposed else picture
        return picture[:: -1 if self.bottom_up else 1, :: -1 if self.right_to_left else 1]


def orientation_of(frame: "av.VideoFrame") -> Orientation:
    """Returns how a frame is turned, from its display matrix; as stored where it has none.

    The matrix maps (x, y) to (ax + cy, bx + dy); it is a, b, 0, c, d, 0 and a last row. Quarter
    turns and mirrors have a and d alone, or b and c. Of another angle nothing is turned: players
    and decord do so too, FFmpeg's command line alone leans the picture in black corners.
    """
    try:
        data: Any = frame.side_data.get("DISPLAYMATRIX")
    except ValueError:  # beside it is something that PyAV does not know
        return {90: Orientation(True, True), -90: Orientation(True, False, True)}.get(
            frame.rotation, Orientation(False, *2 * [abs(frame.rotation) == 180])
        )
    if data is None:
        return Orientation()
    import numpy as np

    a, b, _, c, d, *_ = np.frombuffer(data, np.int32).tolist()
    if max(abs(b), abs(c)) * 60 < min(abs(a), abs(d)):  # below a degree, as FFmpeg has it
        return Orientation(False, d < 0, a < 0)
    if max(abs(a), abs(d)) * 60 < min(abs(b), abs(c)):
        return Orientation(True, b < 0, c < 0)
    return Orientation()


def upright(frame: "av.VideoFrame") -> "np.ndarray":
    """Returns a frame as it is shown, uint8 RGB, shape (height, width, 3).

    The conversion is decord's. FFmpeg 4, which is in decord 0.6.0, takes interlaced pictures for
    whole ones and chroma for centered. Where chroma has half the rows, and the picture an odd
    number of them or more than 8 bits, `yuv2packed1` (libswscale/output.c) takes one row of
    chroma or the mean of two.
    """
    import numpy as np

    orientation = orientation_of(frame)
    if _needs_own_conversion(frame, orientation):
        frame, orientation = _as_ffmpeg_4(frame, orientation)
    return np.ascontiguousarray(orientation.turn(frame.to_ndarray(format="rgb24")))


def _needs_own_conversion(frame: "av.VideoFrame", orientation: Orientation) -> bool:
    name = frame.format.name
    rows = frame.width if orientation.transposed else frame.height
    plain = name in ("yuv420p", "yuvj420p") and rows % 2 == 0 and not frame.interlaced_frame
    return name.startswith("yuv") and len(frame.planes) > 2 and not plain


def _as_ffmpeg_4(
    frame: "av.VideoFrame", orientation: Orientation
) -> tuple["av.VideoFrame", Orientation]:
    """Returns a frame that FFmpeg of now converts as FFmpeg 4 does, and how it is still turned."""
    import av
    import numpy as np

    name, bits = frame.format.name, frame.format.components[0].bits
    dtype = np.dtype("u1" if bits <= 8 else ">u2" if name.endswith("be") else "<u2")
    planes = [_pixels(plane, dtype) for plane in frame.planes]
    halved = next((layout for layout in _MORE_ROWS if layout in name), None)
    if halved or "444" in name:  # the others are turned after the conversion
        planes, orientation = [orientation.turn(plane) for plane in planes], Orientation()
    height, width = planes[0].shape
    if halved and (bits > 8 or height % 2 or halved == "410"):
        planes[1:3] = [_with_rows(plane, height) for plane in planes[1:3]]
        name = name.replace(halved, _MORE_ROWS[halved])
    made = av.VideoFrame(width, height, name)
    made.colorspace, made.color_range = frame.colorspace, frame.color_range
    for plane, pixels in zip(made.planes, planes, strict=True):
        _pixels(plane, dtype)[:] = pixels
    return made, orientation


def _pixels(plane: Any, dtype: "np.dtype") -> "np.ndarray":
    import numpy as np

    rows = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)[: plane.height]
    return rows.view(dtype)[:, : plane.width]


def _with_rows(chroma: "np.ndarray", height: int) -> "np.ndarray":
    """Returns chroma with a row for each of luma, by the rule of FFmpeg 4's `yuv2packed1`.

    `initFilter` of libswscale/utils.c places the rows, with weights of 12 bits.
    """
    import numpy as np

    count = len(chroma)
    step = ((count << 16) + (height >> 1)) // height
    place = (step * (2 * np.arange(height) + 1) - (1 << 16)) / (1 << 17)
    first = place.astype(int).clip(0, max(count - 2, 0))
    weight = np.round((place - first) * 4096)
    second = np.minimum(first + (weight >= 2048), count - 1)
    mean = (chroma[first].astype(np.uint32) + chroma[second] + 1) // 2
    return mean.astype(chroma.dtype)
