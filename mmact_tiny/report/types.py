"""Defines what `report.json` says of runs: the names of its values and their types."""

from typing import Any, NamedTuple, NotRequired, Required, TypedDict

from ..metrics import VideoResult

Settings = dict[str, Any]  # a dumped config, read as data
Scalars = dict[str, Any]  # `x`, epochs or iterations done, and the values logged there, by name


class Log(TypedDict):
    """The scalars of a training, joined over its resumes."""

    train: list[Scalars]
    val: list[Scalars]
    unit: str  # of `x`: epoch or iteration


class Timing(TypedDict):
    """The seconds of a training by its parts, `hooks.timing.PARTS`."""

    epochs: list[dict[str, float]]  # the epoch, and the seconds of each part
    total: dict[str, float]
    seconds: float
    verdict: str | None  # what bounds an epoch, in words


class Facts(TypedDict, total=False):
    """What a process noted about itself, see `runs.run_facts`; old runs noted fewer."""

    command: str | None
    started: str
    num_processes: int
    python: str
    device: str
    machine: dict[str, Any]
    packages: dict[str, str]


class Start(Facts, total=False):
    """A process that trained."""

    log: Required[str]  # the name of its folder
    resumed: Required[bool]
    seed: int | None


class Checkpoint(TypedDict):
    """The best checkpoint of a run, else its last."""

    name: str
    bytes: int
    sha256: str | None


class SplitCount(TypedDict, total=False):
    """What an annotation file lists; without a readable one there is an `error`."""

    file: Required[str]
    videos: int
    missing: int  # videos that are not on this disk
    counts: dict[int, int]  # videos by label
    error: str


class Data(TypedDict):
    """What the lists of a config hold today."""

    classes: list[str]
    splits: dict[str, SplitCount]
    by_class: list[dict[str, Any]]  # the class's `name`, and its videos in each split


class StockDifference(TypedDict):
    """How a config differs from the stock ones that it started from, or why that is not known."""

    base: list[str]
    rows: list[dict[str, str]]  # `key`, and the values as text: `stock`, `ours`
    note: str | None
    optimizer: Settings | None


class Best(TypedDict):
    """The epoch of the best validation; an interval where its videos are counted."""

    metric: str
    value: float
    at: float
    videos: int | None
    low: NotRequired[float]
    high: NotRequired[float]


class Results(Facts, total=False):
    """What `evaluate.write_result` notes of a test, as far as it is read here."""

    checkpoint: str
    checkpoint_sha256: str | None
    protocol: str
    ann_file: str
    classes: list[str]
    accuracies: Required[list[dict[str, Any]]]  # of `metrics.Accuracy`
    videos: list[VideoResult]


class Reliability(TypedDict):
    """How far the score of the first label is the chance that it is right."""

    bins: list[dict[str, float]]  # `from`, `to`, `videos`, `score`, `accuracy`, `low`, `high`
    ece: float  # expected calibration error
    mean_score: float
    accuracy: float
    by_chance: dict[str, float]  # `mean` and `high` of the error that perfect scores show
    few: bool  # too few videos to tell


class Test(Results, total=False):
    """A test without its `videos`, and what their scores say, if any can be used."""

    num_videos: Required[int]
    unreadable: Required[list[VideoResult]]
    by_class: list[dict[str, Any]]
    confusion: dict[str, Any]
    reliability: Reliability | None  # None where the scores are no probabilities
    num_wrong: int
    wrong: list[dict[str, Any]]
    unsure: list[dict[str, Any]]


class Records(TypedDict):
    """What a run left in its folder."""

    folder: str
    name: str
    starts: list[Start]  # the training processes, from the last that resumed no other one
    log: Log
    timing: Timing
    checkpoint: Checkpoint | None
    bad_videos: list[dict[str, Any]]  # `video`, `split`, `reason`, `times`
    notes: list[str]  # what could not be read


class Dumps(NamedTuple):
    """Files of a run that a report does not show as they are; None where there is none."""

    config: Settings | None  # else the test's
    test_config: Settings | None
    results: Results | None


class Run(Records):
    """All that a report says of a run."""

    data: Data
    config: StockDifference
    max_epochs: int | None
    batch_size: int | None
    weights: dict[str, str | None]  # `from` where training started, and their `sha256`
    seed: int | None
    best: Best | None
    test: Test | None
    remarks: list[str]  # what a reader has to know before the figures


class Comparison(TypedDict):
    """Several runs side by side."""

    names: list[str]
    differences: list[dict[str, Any]]  # `key` of the config, `values` as text, one for each run
    warnings: list[str]  # why the runs, or some of them, cannot be compared


class Report(TypedDict):
    """The whole of `report.json`."""

    generated: str
    runs: list[Run]
    comparison: Comparison | None
