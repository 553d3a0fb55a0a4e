"""What a preparation is made of: the settings, the usable videos, and what was found wrong."""

from dataclasses import dataclass, field

from ..errors import UserError
from ..video.files import Listed, Source
from .examine import Record
from .examine_all import SECONDS_PER_VIDEO
from .faults import Fault
from .problems import Problem


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
    seconds_per_video: float = SECONDS_PER_VIDEO

    def __post_init__(self) -> None:
        if not 0 < self.val < 1:
            raise UserError(f"--val {self.val}: expected a part between 0 and 1, as 0.2")
        for name in ("min_frames", "batch_size", "num_workers"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UserError(f"--{name.replace('_', '-')} {value}: expected 1 or more")


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
class Preparation:
    """What a run comes to, for the summary."""

    source: Source
    classes: list[str]
    videos: list[Video] = field(default_factory=list)
    quarantine: list[tuple[Listed, int, Fault]] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    num_listed: int = 0
    num_read: int = 0

    @property
    def fatal(self) -> list[Problem]:
        return [problem for problem in self.problems if problem.is_fatal]

    def report(self, kind: str, where: str, message: str, *, is_fatal: bool = False) -> None:
        """Adds a problem."""
        self.problems.append(Problem(kind, where, message, is_fatal))
