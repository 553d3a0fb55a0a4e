"""Names what a dataset is made from: the videos that a source lists, what is found, settings."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypedDict

from ..errors import UserError

SPLITS = ("train", "val", "test")


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that the user should know.

    Attributes:
        kind: a few words, the same for all of the kind.
        where: file, or file:line.
        message: what it is and what was done about it.
        is_fatal: no dataset is written because of it.
    """

    kind: str
    where: str
    message: str
    is_fatal: bool = False

    def __str__(self) -> str:
        return f"{self.where}: {self.message}" if self.where else self.message


def count_kinds(kinds: Iterable[str]) -> dict[str, int]:
    """Returns how many there are of each kind, most first."""
    return dict(Counter(kinds).most_common())


@dataclass(frozen=True, slots=True)
class Listed:
    """A video as the source lists it.

    Attributes:
        path: absolute, symbolic links kept.
        name: its path below `videos/` in a dataset, before encoding; one for one path.
        label: the class's name or number, as written.
        split: train, val, test, or None where the source does not say.
        where: file:line, or the folder.
    """

    path: str
    name: str
    label: str
    split: str | None
    where: str


@dataclass(slots=True)
class Source:
    """Everything that a source lists, and what is wrong with the listing."""

    layout: str
    videos: list[Listed]
    label_map: list[str] | None = None
    label_map_path: Path | None = None
    problems: list[Problem] = field(default_factory=list)


class Record(TypedDict, total=False):
    """What a pass through a video finds: always `hash` and `error`, more as far as it is read."""

    hash: str  # SHA-256 of the file, empty where it cannot be read
    error: str | None  # why the video cannot be used: `kind: detail`
    codec: str
    container: str
    width: int
    height: int
    rotation: int  # degrees, counter-clockwise, to turn it upright
    fps: float
    duration_seconds: float | None  # to the end of the last frame, None without time stamps
    frames: int  # decoded
    header_frames: int | None  # None where the container does not count them
    header_seconds: float | None  # of the stream, or else of the whole file
    packets: int
    discarded_packets: int  # cut off by an edit list
    damaged_frames: int
    num_sizes: int  # of frames
    keyframe_spacing: int  # frames, the longest way from one keyframe to the next
    end_seconds: float  # where the last packet of any stream ends
    stopped_by: str  # why the file could not be read to its end
    thumbnails: bytes  # 8 x 8 x 9, see `leaks`


def length_of(record: Record) -> float:
    """Returns a video's length in seconds."""
    return record["duration_seconds"] or record["frames"] / (record["fps"] or 25)


@dataclass(frozen=True, slots=True)
class Verdict:
    """Why a video is left out, or what is unusual about it.

    Attributes:
        kind: a few words, the same for all of the kind.
        detail: the particulars.
    """

    kind: str
    detail: str = ""

    def __str__(self) -> str:
        return f"{self.kind}: {self.detail}" if self.detail else self.kind


@dataclass(frozen=True, slots=True)
class Settings:
    """What the user can choose.

    Attributes:
        val: part of each class for validation, where the source has no validation split.
        seed: of that draw.
        min_frames: fewer make a video unusable; 3 are what TSN 1x1x3 samples.
        batch_size: fewer training videos than this are reported; 10 is the config's.
        keep_leaks: go on with the same video in training and validation.
        copy: copy the videos instead of linking to them.
        convert: write videos that decord cannot read (AV1, transport streams) as H.264.
        num_workers: processes; None: one for each core.
        seconds_per_video: time limit of one video, plus 5 s for each of its megabytes.
    """

    val: float = 0.2
    seed: int = 0
    min_frames: int = 3
    batch_size: int = 10
    keep_leaks: bool = False
    copy: bool = False
    convert: bool = True
    num_workers: int | None = None
    seconds_per_video: float = 60.0

    def __post_init__(self) -> None:
        if not 0 < self.val < 1:
            raise UserError(f"--val {self.val}: expected a part between 0 and 1, as 0.2")
        if not self.seconds_per_video > 0:
            raise UserError(
                f"--time-limit {self.seconds_per_video:g}: expected more than 0 seconds"
            )
        counts = {"min-frames": self.min_frames, "batch-size": self.batch_size}
        for flag, value in (counts | {"workers": self.num_workers}).items():
            if value is not None and value < 1:
                raise UserError(f"--{flag} {value}: expected 1 or more")


@dataclass(slots=True)
class Video:
    """A video that can be used: as listed, its class, what was found, and its split.

    `video` is its path in the dataset; `is_converted`: a file written there, not a link.
    """

    listed: Listed
    label: int
    record: Record
    split: str | None
    video: str
    is_converted: bool = False


@dataclass(slots=True)
class Findings:
    """Everything that was found about a source: what the summary tells and the dataset gets."""

    source: Source
    classes: list[str]
    videos: list[Video] = field(default_factory=list)
    quarantine: list[tuple[Listed, int, Verdict]] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    num_read: int = 0

    @property
    def fatal(self) -> list[Problem]:
        return [problem for problem in self.problems if problem.is_fatal]

    def report(self, kind: str, where: str, message: str, *, is_fatal: bool = False) -> None:
        """Adds a problem."""
        self.problems.append(Problem(kind, where, message, is_fatal))
