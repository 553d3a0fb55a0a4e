"""Names what a dataset is made from: lists, the videos that they name, what is found, settings."""

import csv
import io
import json
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple, TypedDict

from ..errors import UserError
from ..hardware import num_usable_cores
from ..video.files import stretch_name

SPLITS = ("train", "val", "test")
_WORDS = {  # without accents, in the languages of those who name folders in their own
    "train": "train training trn entrenamiento entrainement treino treinamento addestramento "
    "обучение 训练 训练集 訓練 訓練集 훈련",
    "val": "val valid validate validation dev eval evaluation validierung validacion validacao "
    "validazione валидация 验证 验证集 驗證 驗證集 検証 검증",
    "test": "test testing tst prueba pruebas teste тест 测试 测试集 測試 測試集 テスト 테스트",
}
_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|[^\W\d_A-Za-z]+")
_COMPANION = re.compile(r"(lists?|sets?|splits?|data(set)?|videos?|clips?|files?|labels?)\d*$")
# Why a video is left out, or what is unusual about it: a few words, and the particulars.
Verdict = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that the user should know."""

    kind: str  # a few words, the same for all of the kind
    where: str  # file, or file:line
    message: str  # what it is and what was done about it
    fatal: bool = False  # no dataset is written because of it

    def __str__(self) -> str:
        return f"{self.where}: {self.message}" if self.where else self.message


Row = tuple[int, list[str]]  # number of the line, cells


class Times(NamedTuple):
    """Where a stretch begins and ends, as the list has it: text that is yet to be checked."""

    start: str  # seconds from the first frame; or the index of a frame, counted from 0
    end: str  # the first frame after it
    in_frames: bool = False
    rate: float | None = None  # frames a second that were counted with; None: the video's own


class Entry(NamedTuple):
    """What a line says about a video."""

    line: int  # from 1
    refs: tuple[str, ...]  # path or id; further ones are other names of the same video
    label: str  # a name or a number; empty where there is none
    split: str = ""  # as written
    text: str = ""  # the line, or what is wrong with it
    times: Times | None = None  # of a stretch of the video
    group: str = ""  # of the column that --group names
    tier: str = ""  # of an export that may have several
    fault: str = ""  # why it says nothing, in words


class NotUnderstood(Exception):
    """A file that should list videos and does not.

    Args:
        line: Of the file, counted from 1.
        why: In words.
        unlabelled: It does not only for want of labels.
        names_videos: It has names of videos that are there.
    """

    def __init__(
        self, line: int, why: str, *, unlabelled: bool = False, names_videos: bool = False
    ) -> None:
        super().__init__(why)
        self.line, self.unlabelled, self.names_videos = line, unlabelled, names_videos


@dataclass(frozen=True, slots=True)
class Page:
    """A file that may be a list."""

    file: Path
    text: str
    find: Callable[[str], bool]  # whether there is a video of this path or id
    tier: str | None = None  # the one that is read of a tool's export with several
    group: str | None = None  # a column
    multi_label: bool = False  # a video may have several

    def lines(self) -> Iterator[tuple[int, str]]:
        """Yields the lines that are neither empty nor comments, with their numbers from 1."""
        for number, line in enumerate(map(str.strip, self.text.split("\n")), 1):
            if line and not line.startswith(("#", "//")):
                yield number, line

    def rows(self, delimiter: str) -> list[Row]:
        """Returns the same as cells.

        Raises:
            NotUnderstood: a quote is not closed, and would take in the lines that follow.
        """
        text = io.StringIO(self.text + "\n#")  # a comment, where no quote takes it in
        reader = csv.reader(text, delimiter=delimiter, skipinitialspace=True)
        rows: list[Row] = []
        try:
            for row in reader:
                begin = rows[-1][0] + 1 if rows else 1
                rows.append((reader.line_num, [bare(cell) for cell in row]))
        except csv.Error:
            why = f"a cell of more than {csv.field_size_limit()} characters: is a quote not closed?"
            raise NotUnderstood(rows[-1][0] + 1 if rows else 1, why) from None
        if rows[-1][1] != ["#"]:
            raise NotUnderstood(begin, "a quote that is not closed")
        return [(line, row) for line, row in rows if any(row) and not row[0].startswith("#")]


def parse_json(text: str) -> Any:
    """Returns what JSON holds.

    Raises:
        NotUnderstood: it is none, or nested too deeply.
    """
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        line = getattr(error, "lineno", 1)
        raise NotUnderstood(line, f"no JSON: {error}; expected a whole export") from None


def bare(cell: str) -> str:
    """Returns a cell without the space and the quotes around it."""
    cell = cell.strip()
    return cell[1:-1] if len(cell) > 1 and cell[0] == cell[-1] and cell[0] in "\"'" else cell


class Record(TypedDict, total=False):
    """What a pass through a video finds: always `hash` and `error`, more as far as it is read."""

    hash: str  # SHA-256 of the file, empty where it cannot be read
    error: str | None  # why the video cannot be used: `kind: detail`
    codec: str
    container: str
    width: int
    height: int
    video_streams: int  # covers too
    stream: int  # the index of the one that was decoded
    rotation: int  # degrees, counter-clockwise, to turn it upright
    mirrored: bool  # by its display matrix
    interlaced: bool
    fps: float
    duration_seconds: float | None  # to the end of the last frame, None without time stamps
    frames: int  # decoded
    header_frames: int | None  # None where the container does not count them
    header_seconds: float | None  # of the stream, or else of the whole file
    packets: int
    discarded_packets: int  # cut off by an edit list
    leading_packets: int  # shown before the first keyframe, of use where it is not cut off before
    damaged_frames: int
    num_sizes: int  # of frames
    keyframe_spacing: int  # frames, the longest way from one keyframe to the next
    start_seconds: float  # where the first packet of any stream begins, by the file's clock
    end_seconds: float  # where the last packet of any stream ends, from there
    stopped_by: str  # why the file could not be read to its end
    thumbnails: bytes  # 8 x 8 x 9, see `splits`


def _plain(text: str) -> str:
    """Returns text without accents."""
    return "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))


_SPLITS = {_plain(word): split for split, words in _WORDS.items() for word in words.split()}


def split_word(word: str) -> str | None:
    """Returns the split that a word is: train of `Training`, `trainlist`, `训练`."""
    lower = _plain(word).lower()
    return _SPLITS.get(lower) or _SPLITS.get(_COMPANION.sub("", lower))


def _splits_in(words: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(split for split in map(split_word, words) if split))


def split_of(name: str) -> str | None:
    """Returns the one split that a file's name speaks of: val for `kinetics_tiny_val_video`."""
    splits = _splits_in(_WORD.findall(_plain(name)))
    return splits[0] if len(splits) == 1 else None


def _words_of_folder(name: str) -> list[str]:
    return re.split(r"[_\- ]+", re.sub(r"[_-]?\d+p?$", "", name))


@lru_cache(maxsize=4096)
def splits_of_folder(name: str) -> tuple[str, ...]:
    """Returns the splits that a folder's first and last word say, between `_`, `-` or spaces."""
    words = _words_of_folder(name)
    return tuple(_splits_in((words[0], words[-1])))


def is_split_alone(name: str) -> bool:
    """Returns whether a folder's name says a split and nothing else: not as `training_dog`."""
    words = _words_of_folder(name)
    return bool(_splits_in(words)) and all(
        split_word(word) or not _COMPANION.sub("", word.lower()) for word in words
    )


def length_of(record: Record) -> float:
    """Returns a video's length in seconds."""
    return record["duration_seconds"] or record["frames"] / (record["fps"] or 25)


@dataclass(slots=True)
class Video:
    """A video as the source lists it, and what becomes of it."""

    path: str  # absolute, symbolic links kept
    name: str  # its path below `videos/` in a dataset, before encoding; one for one path
    written: str  # the label, a name or a number, as the source has it
    split: str | None  # train, val, test, or None where the source does not say
    where: str  # file:line, or the folder
    labels: tuple[int, ...] = ()  # its classes, none where one of them is unknown
    record: Record = field(default_factory=Record)
    fault: Verdict | None = None  # why it cannot be used
    place: str = ""  # its path in the dataset
    is_converted: bool = False  # what is there is a file of its own, not a link
    times: Times | None = None  # of a stretch, as the source has them
    start: float = 0.0  # seconds from the first frame, checked
    end: float | None = None  # None for the whole video
    group: str = ""  # videos of one group are in one split; as the source has it

    @property
    def label(self) -> int:
        """The class, of several the first; -1 where it has none."""
        return next(iter(self.labels), -1)

    @property
    def seconds(self) -> float:
        """How long the video or the stretch is."""
        return (self.end or length_of(self.record)) - self.start

    @property
    def shown(self) -> str:
        """The path, or the name of the stretch."""
        return self.path if self.end is None else stretch_name(self.path, self.start, self.end)


@dataclass(slots=True)
class Findings:
    """Everything that was found about a source: what the summary tells and the dataset gets."""

    root: Path  # the folder that the source's paths are relative to
    skip: Path | None = None  # a folder below it to pass over, where the dataset is written
    layout: str = "class folders"  # or `split class folders`, `lists`, `table`, a format's name
    listed: list[Video] = field(default_factory=list)  # by the source
    label_map: list[str] | None = None  # line i names class i; None without such a file
    first_label: int | None = None  # the number of its first class, where the file has numbers
    classes: list[str] = field(default_factory=list)
    videos: list[Video] = field(default_factory=list)  # those that can be used
    problems: list[Problem] = field(default_factory=list)  # all else that is to be said
    left_out: Counter[str] = field(default_factory=Counter)  # files and folders, by reason
    left_out_told: str = ""  # the same in words
    num_read: int = 0  # videos decoded, and not known from an earlier run
    multi_label: bool = False  # a video may have several labels, written with semicolons
    is_drawn: bool = False  # the source names no validation videos
    is_grouped: bool = False  # by more than what the videos show

    @property
    def has_stretches(self) -> bool:
        return any(video.end is not None for video in self.videos)

    @property
    def quarantine(self) -> list[tuple[Video, Verdict]]:
        return [(video, video.fault) for video in self.listed if video.fault]

    @property
    def fatal(self) -> list[Problem]:
        return [problem for problem in self.problems if problem.fatal]

    def report(self, kind: str, where: str, message: str, *, fatal: bool = False) -> None:
        """Adds a problem."""
        self.problems.append(Problem(kind, where, message, fatal))


# Calls a function for each `(path, arguments, time limit in seconds)`, guarded against what crashes
# or hangs, and yields `(path, result or Lost)` as they are done. Functions, arguments and results
# can be pickled, and what is called may run on another machine that has the same folders.
CallEach = Callable[
    [Callable[..., Any], Iterable[tuple[str, tuple[Any, ...], float]]], Iterator[tuple[str, Any]]
]


@dataclass(frozen=True, slots=True)
class Settings:
    """What the user can choose."""

    videos: str | Path | None = None  # where the videos of a list are; None: beside it
    split: int | None = None  # of an official list that has several; None: the first
    tier: str | None = None  # of a labelling tool's export that has several
    frame_rate: float | None = None  # that a tool counted frames with; None: the video's own
    multi_label: bool = False  # a video may have several
    background: str | None = None  # the label of what no stretch of a video has
    group: str | None = None  # a pattern, a column, or `folder`
    val: float = 0.2  # part of each class for validation, where the source has no such split
    seed: int = 0  # of that draw
    min_frames: int = 3  # fewer make a video unusable; 3 are what TSN 1x1x3 samples
    batch_size: int = 10  # fewer training videos are reported; 10 is the config's
    keep_leaks: bool = False  # go on with the same video in training and validation
    copy: bool = False  # copy the videos instead of linking to them
    convert: bool = True  # write videos that decord cannot read (AV1, MPEG-TS) as H.264
    num_workers: int | None = None  # processes; None: one for each core
    seconds_per_video: float = 60.0  # time limit, plus 5 s for each megabyte of a video
    call_each: CallEach | None = None  # reads and converts; None: in processes of this machine

    def num_processes(self, num_videos: int) -> int:
        """Returns how many processes read so many videos."""
        return min(self.num_workers or num_usable_cores(), num_videos)

    def __post_init__(self) -> None:
        if not 0 < self.val < 1:
            raise UserError(f"--val {self.val}: expected a part between 0 and 1, as 0.2")
        if self.frame_rate is not None and not 0 < self.frame_rate < 1000:
            raise UserError(f"--frame-rate {self.frame_rate:g}: expected frames a second, as 24")
        if not self.seconds_per_video > 0:
            limit = f"--time-limit {self.seconds_per_video:g}"
            raise UserError(f"{limit}: expected more than 0 seconds")
        counts = {"min-frames": self.min_frames, "batch-size": self.batch_size}
        for flag, value in (counts | {"workers": self.num_workers}).items():
            if value is not None and value < 1:
                raise UserError(f"--{flag} {value}: expected 1 or more")
