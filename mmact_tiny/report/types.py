"""Defines what `report.json` says of runs: the names of its values and their types."""

from typing import Any, Required, TypedDict

from ..metrics import VideoResult

Settings = dict[str, Any]  # a dumped config, read as data
Scalars = dict[str, Any]  # `x`, epochs or iterations done, and the values logged there, by name


class Log(TypedDict):
    """The scalars of a training, joined over its resumes."""

    train: list[Scalars]
    val: list[Scalars]  # with top-1's 95% interval, `low` and `high`, where its videos are counted
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
    log: str  # of a training, the name of its folder
    resumed: bool
    seed: int | None


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


class Test(Facts, total=False):
    """What `evaluate.write_result` notes of a test, and what the scores say, if any can be used."""

    checkpoint: str
    checkpoint_sha256: str | None
    protocol: str
    ann_file: str
    classes: list[str]
    accuracies: Required[list[dict[str, Any]]]  # of `metrics.Accuracy`
    num_videos: Required[int]  # with scores
    unreadable: Required[list[VideoResult]]  # the others
    by_class: list[dict[str, Any]]
    confusion: dict[str, Any]
    reliability: dict[str, Any] | None  # None where the scores are no probabilities
    num_wrong: int
    hard_pairs: list[dict[str, Any]]  # of `labels.hard_pairs`
    suspects: list[dict[str, Any]]  # of `labels.suspects`
    alike: list[dict[str, Any]]  # of a probe: `videos` that look alike, their `labels`, similarity
    folds: list[dict[str, Any]]  # of a cross-validation: `name`, and the accuracy's values
    groups: str  # what its folds keep together
    wrong: list[dict[str, Any]]
    unsure: list[dict[str, Any]]


class Run(TypedDict):
    """All that a report says of a run."""

    folder: str
    name: str
    starts: list[Facts]  # the training processes, from the last that resumed no other one
    log: Log
    timing: Timing
    checkpoint: dict[str, Any] | None  # the best, else the last: `name`, `bytes`, `sha256`
    bad_videos: list[dict[str, Any]]  # `video`, `split`, `reason`, `times`
    notes: list[str]  # what could not be read
    data: Data
    config: dict[str, Any]  # from `compare.stock_difference`, and the `optimizer`
    max_epochs: int | None
    batch_size: int | None
    weights: dict[str, str | None]  # `from` where training started, and their `sha256`
    seed: int | None
    best: dict[str, Any] | None  # from `records.best_validation`
    test: Test | None
    remarks: list[str]  # what a reader has to know before the figures
