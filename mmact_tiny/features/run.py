"""Runs a probe from a dataset to an ordinary run: features, choice, fit, checkpoint, results."""

import atexit
import logging
import shutil
import tempfile
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from .. import hardware
from ..annotations import read_annotations
from ..build import build_runner
from ..checkpoints.config_text import config_to_json, published_config
from ..checkpoints.load import config_of, load_checkpoint, load_weights, read_meta
from ..compat import Config, broadcast_object_list
from ..config import load_config
from ..dataset import Dataset
from ..download.zoo import list_backbones, list_published
from ..errors import UserError, as_typed
from ..evaluate import TestResult, write_result
from ..files import held, sha256, write_answers
from ..folds.divide import Division, divide_dataset, group_videos
from ..folds.run import Changes, cross_validate, dataset_of, fold_changes
from ..hooks._mmengine import model_of
from ..hooks.processes import start_processes
from ..metrics import Accuracy, VideoResult, summarize
from ..pipeline import describe_protocol, num_views, pipeline_of, set_pipeline, split_datasets
from ..runs import RESULTS, record_run, run_facts, set_aside
from ..train import check_inputs
from ..video.files import find_videos
from .extract import Extractor
from .head import has_thirds, put_into_head, set_num_clips, use_relation_head
from .neighbours import find_alike, label_next, nearest_labels
from .probe import Probe, choose, fit, parts_of

FRAMES = 8  # of a video, for a TSN whose config has fewer
CHECKPOINT = "best_probe.pth"
RANK_COLUMNS = ("video", "label", "score", "second label", "second score")
SHOWN = 5  # of the videos to label next
DATASETS = ("Kinetics-400", "ImageNet")  # whose weights are taken by themselves, in this order
logger = logging.getLogger("mmact_tiny")


class Videos(NamedTuple):
    """Videos: paths, labels, features (videos, looks, parts, channels)."""

    paths: list[Path]
    labels: np.ndarray
    features: np.ndarray


class Setting(NamedTuple):
    """What all probes of a command share: the features, what has none, and facts for records."""

    extractor: Extractor
    looks: int
    dataset: Dataset
    errors: Mapping[Path, str]
    started: float
    command: str | None


def probe(
    data_root: str | Path,
    *,
    config: str | Path | None = None,
    checkpoint: str | Path | None = None,
    looks: int = 2,
    folds: int | None = None,
    rank: str | Path | None = None,
    work_dir: str | None = None,
    launcher: str = "none",
    time_limit: float | None = None,
    options: Mapping[str, Any] | None = None,
    command: str | None = None,
) -> TestResult:
    """Fits a linear probe on a dataset's training videos, tests it, and writes it as a run.

    The run is that of a stock recognizer whose head is the probe. Whatever protocol its tests are
    asked for, they are under that of the features, the config's `val`. Returns the validation.

    Args:
        data_root: A dataset folder.
        config, checkpoint: As `choose_recognizer` has them.
        looks: How many looks at each training video, see `Extractor`.
        folds: Instead of the one probe one for each fold of training and validation videos, and
            the results of all, see `cross_validate`.
        rank: A folder of unlabelled videos, which `rank.csv` lists in the order to label them.
        work_dir: By default `work_dirs/<config stem>_probe`, of folds `..._probe_folds`.
        launcher: none, pytorch, slurm or mpi: the processes share the videos.
        time_limit, options, command: As for `evaluate.test`.

    Raises:
        UserError: no dataset or weights, one class alone, no video that can be read.
    """
    _check(looks, folds, rank)
    unlabelled = [] if rank is None else find_videos([rank])
    config, checkpoint = choose_recognizer(config, checkpoint)
    changes: dict[str, dict[str, Any]] = {
        "dataset_paths": {"data_root": str(data_root)},
        "pretrained": {"weights": checkpoint},
        "run": {"work_dir": work_dir, "launcher": launcher},
    }
    cfg = load_config(config, changes=changes, options=options)
    cfg.work_dir += "" if work_dir else "_probe" if folds is None else "_probe_folds"
    prepare(cfg)
    start_processes(cfg)
    check_inputs(cfg)
    logger.info("recognizer: %s, weights %s", config, cfg.load_from)
    started, facts = time.perf_counter(), run_facts(command)
    extractor, dataset = Extractor(cfg, Path(cfg.load_from), time_limit), dataset_of(cfg)
    train, val = listed_videos(cfg, "train"), listed_videos(cfg, "val")
    listed = {**train, **val}
    _warn_of_leaks(extractor, train, val)
    unlabelled = [] if rank is None else _without_labels(extractor, unlabelled, listed)
    counts = dict.fromkeys([*unlabelled, *val], 1) | dict.fromkeys(train, looks)
    if folds is not None:  # told before minutes of features, too
        divided = divide_dataset(dataset, folds, extractor.content)
        counts = dict.fromkeys(listed, looks)
    setting = Setting(extractor, looks, dataset, extractor.compute(counts), started, command)
    if folds is not None:
        load = partial(load_config, config, options=options)
        return _cross_validate(cfg, setting, divided, load, changes)
    facts |= _look_alikes(setting, listed, dict.fromkeys(train, 0) | dict.fromkeys(val, 1))
    result, fitted = _run(cfg, setting, listed, facts)
    return result if rank is None else _rank(cfg, setting, fitted, unlabelled, result)


def _without_labels(
    extractor: Extractor, videos: Sequence[Path], listed: Iterable[Path]
) -> list[Path]:
    """Returns the videos whose content the dataset does not list, and says how many it does.

    Raises:
        UserError: it lists all.
    """
    labelled = set(map(extractor.content, listed))
    others = [path for path in videos if extractor.content(path) not in labelled]
    if num_known := len(videos) - len(others):
        logger.info("left out: %d video(s) that have labels, or are copies of such", num_known)
    if not others:
        raise UserError(f"--rank: all of the {len(videos)} videos have labels, as {videos[0]}")
    return others


def _warn_of_leaks(extractor: Extractor, train: Iterable[Path], val: Iterable[Path]) -> None:
    """Says so where videos are both trained and validated on, by their content."""
    if hardware.rank() == 0:
        known = {extractor.content(path) for path in train}
        if leaks := [path for path in val if extractor.content(path) in known]:
            words = "*** %d validation video(s) are of training videos too, as %s: %s ***"
            logger.warning(words, len(leaks), leaks[0], "the validation accuracy is too high")


def _check(looks: int, folds: int | None, rank: str | Path | None) -> None:
    """Raises a UserError for what cannot be done, before minutes of features."""
    if looks < 1:
        raise UserError(f"--looks {looks}: expected 1 or more")
    if folds is not None and rank is not None:
        raise UserError("--rank asks one probe, --folds makes several: one after the other")
    if find_spec("sklearn") is None:
        raise UserError("a probe needs scikit-learn: pip install 'mmact-tiny[features]'")


def _cross_validate(
    cfg: Config,
    setting: Setting,
    divided: Division,
    load: Callable[..., Config],
    changes: Changes,
) -> TestResult:
    """Fits and tests a probe for each fold; the arguments of `load_config` load that of a fold."""
    paths = [setting.dataset.root / video.path for video in divided.videos]
    listed = {path: video.label for path, video in zip(paths, divided.videos, strict=True)}
    fold_of = dict(zip(paths, divided.folds.tolist(), strict=True))

    def run_fold(folder: Path) -> TestResult:
        own = load(changes=fold_changes(changes, setting.dataset, folder))
        prepare(own)
        again = setting._replace(started=time.perf_counter())
        return _run(own, again, listed_videos(own, "val"), run_facts(setting.command))[0]

    facts = _look_alikes(setting, listed, fold_of)
    return cross_validate(cfg, divided, run_fold, command=setting.command, **facts)


def _run(
    cfg: Config, setting: Setting, reported: Collection[Path], facts: Mapping[str, Any]
) -> tuple[TestResult, Probe]:
    """Fits a probe on the training list of a config, writes its run, and validates it.

    Args:
        cfg: Of the run.
        setting: Of the command.
        reported: The videos whose errors are in the result.
        facts: For the record.
    """
    found: list[Any] = [None]
    if hardware.rank() == 0:
        try:
            found = [_fit(cfg, setting)]
        except UserError as error:  # of which the other processes have to know
            found = [error]
    broadcast_object_list(found)
    if isinstance(found[0], UserError):
        raise found[0]
    fitted, cross_validated = found[0]
    write_run(cfg, fitted, setting.command)
    if hardware.rank():
        return TestResult({}, [], [], 0.0), fitted
    facts = {**facts, "cross_validated": cross_validated and asdict(cross_validated)}
    videos = load_features(setting.extractor, listed_videos(cfg, "val"), 1, setting.errors)
    errors = {video: reason for video, reason in setting.errors.items() if video in reported}
    seconds = time.perf_counter() - setting.started
    scores = fitted.scores(videos.features[:, 0])
    return _validate(cfg, videos, scores, errors, seconds, facts), fitted


def _look_alikes(
    setting: Setting, listed: Mapping[Path, int], split_of: Mapping[Path, int]
) -> dict[str, Any]:
    """Returns facts for the report: which videos look alike, and the labels of each one's nearest.

    Args:
        setting: Of the command.
        listed: The label of each video.
        split_of: The split, or fold, of each.
    """
    if hardware.rank():
        return {}
    paths, labels, features = load_features(setting.extractor, listed, 1, setting.errors)
    alike = find_alike(features[:, 0], [split_of[path] for path in paths])
    nearest = nearest_labels(features[:, 0], labels).tolist()
    return {
        "alike": [
            dict(
                videos=[paths[i], paths[j]],
                labels=[listed[paths[i]], listed[paths[j]]],
                similarity=similarity,
            )
            for i, j, similarity in alike
        ],
        "nearest": dict(zip(map(str, paths), nearest, strict=True)),
    }


def _rank(
    cfg: Config, setting: Setting, fitted: Probe, unlabelled: Sequence[Path], result: TestResult
) -> TestResult:
    """Writes the order in which to label videos; returns the result with those that have none."""
    if hardware.rank():
        return result
    listed = dict.fromkeys(unlabelled, -1)
    paths, _, features = load_features(setting.extractor, listed, 1, setting.errors)
    scores = fitted.scores(features[:, 0])
    classes = dict(split_datasets(cfg))["val"].metainfo.classes
    rows: list[dict[str, Any]] = []
    for index in label_next(features[:, 0], scores):
        best = np.argsort(-scores[index], kind="stable")[:2].tolist()
        values = [item for i in best for item in (classes[i], round(float(scores[index, i]), 4))]
        rows.append(dict(zip(RANK_COLUMNS, [str(paths[index]), *values], strict=True)))
    bad = [
        VideoResult(video=str(path), error=setting.errors[path])
        for path in unlabelled
        if path in setting.errors
    ]
    path = Path(cfg.work_dir, "rank.csv")
    write_answers(path, [*rows, *bad], [*RANK_COLUMNS, "error"], lambda row: [row])
    for row in rows[:SHOWN]:
        logger.info(
            "label next: %s (%s %.0f%%, ...)", row["video"], row["label"], 100 * row["score"]
        )
    logger.info("written: %s, %d videos", path, len(rows))
    return replace(result, errors=[*result.errors, *bad])


def choose_recognizer(
    config: str | Path | None, checkpoint: str | Path | None
) -> tuple[str | Path, str | None]:
    """Returns a config and its weights, None for those that the config finds itself.

    Without either it is the most accurate of what lies in checkpoints/ by its published name: of
    the recognizers of Kinetics-400, else of the backbones of ImageNet. The config of a checkpoint
    is that of its published name, or what it carries.

    Raises:
        UserError: there is nothing; names the command that gets weights.
    """
    if config is not None:
        return config, None if checkpoint is None else str(checkpoint)
    items = [*list_published(), *list_backbones()]
    items = [item for item in items if item.dataset in DATASETS and item.config]
    items.sort(key=lambda item: (DATASETS.index(item.dataset), -(item.top1 or 0)))
    here = [item for item in items if item.path.is_file() and "flow" not in item.model]
    if checkpoint is None and not here:
        raise UserError(
            "no weights in checkpoints/\n  get some: python tools/download.py mobilenetv2_imagenet"
        )
    path = Path(checkpoint or here[0].path)
    named: list[str | Path] = [item.config for item in items if item.path.name == path.name]
    return published_config(path) or next(iter(named), None) or _own_config(path), str(path)


def _own_config(checkpoint: Path) -> Path:
    """Writes the config that a checkpoint carries, as data, and returns the file."""
    cfg = config_of({"meta": read_meta(checkpoint)}, checkpoint, None)
    folder = tempfile.mkdtemp(prefix="mmact_tiny-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    path = Path(folder, f"{checkpoint.absolute().parent.name}.json")
    path.write_text(config_to_json(cfg.to_dict()), encoding="utf-8")
    return path


def prepare(cfg: Config) -> None:
    """Puts tests under the validation's protocol, with clips of which features have a mean.

    A TSN sees 8 frames of a video, or more. Of what averages the scores of clips, not their
    features, there is one clip.

    Raises:
        UserError: the config starts from no file of weights; its validation takes several crops.
    """
    if not cfg.get("load_from"):
        raise UserError(f"no weights for {cfg.filename}: name them with --checkpoint")
    steps = pipeline_of(cfg, "val")
    if num_views(steps)[1] > 1:
        raise UserError(f"the validation of {cfg.filename} takes several crops, a probe one")
    set_pipeline(cfg, "test", dict(split_datasets(cfg))["test"], steps)
    if has_thirds(cfg):
        set_num_clips(cfg, max(FRAMES, num_frames(cfg)), splits=("val", "test"))
    elif cfg.model.type != "Recognizer2D":
        set_num_clips(cfg, 1, splits=("val", "test"))


def num_frames(cfg: Config) -> int:
    """Returns how many clips the validation takes of a video: frames, for a TSN."""
    return num_views(pipeline_of(cfg, "val"))[0]


def listed_videos(cfg: Config, split: str) -> dict[Path, int]:
    """Returns the label of each video of a split; a UserError where it has several."""
    dataset = dict(split_datasets(cfg))[split]
    listed: dict[Path, int] = {}
    for row in read_annotations(dataset.ann_file):
        path, where = Path(dataset.data_prefix.video, row.name), f"{dataset.ann_file}:{row.line}"
        if len(row.labels) != 1:
            raise UserError(f"{where}: labels {row.label!r}: a probe has one label a video")
        if listed.setdefault(path, int(row.label)) != int(row.label):
            raise UserError(
                f"{where}: {row.name!r} has label {listed[path]} above, here {row.label}"
            )
    return listed


def load_features(
    extractor: Extractor, listed: Mapping[Path, int], looks: int, errors: Mapping[Path, str]
) -> Videos:
    """Returns what was computed of the videos that can be read; a UserError where none can."""
    paths = [path for path in listed if path not in errors]
    if not paths:
        first = next(iter(listed))
        raise UserError(f"none of {len(listed)} videos can be read; {first}: {errors[first]}")
    plan = extractor.looks(looks)
    parts = [[parts_of(extractor.load(path, look)[0]) for look in plan] for path in paths]
    return Videos(paths, np.array([listed[path] for path in paths]), np.array(parts))


def _fit(cfg: Config, setting: Setting) -> tuple[Probe, Accuracy | None]:
    """Returns the probe that the training videos choose, and its cross-validated accuracy."""
    extractor, root, listed = setting.extractor, setting.dataset.root, listed_videos(cfg, "train")
    paths, labels, features = load_features(extractor, listed, setting.looks, setting.errors)
    if len(set(labels.tolist())) < 2:
        raise UserError("the training videos are all of one class: a probe tells classes apart")
    features = features if has_thirds(cfg) else features[:, :, :1]
    names = [str(path.relative_to(root) if path.is_relative_to(root) else path) for path in paths]
    groups = group_videos(root, names, extractor.content)
    choice, cross_validated = choose(features, labels, groups)
    logger.info("probe: %s", choice)
    logger.info("%s", cross_validated or "too few videos of a class to choose by: the defaults")
    return fit(features, labels, choice, cfg.model.cls_head.num_classes), cross_validated


def write_run(cfg: Config, fitted: Probe, command: str | None) -> None:
    """Writes a work directory as training does; all processes of a job have to call."""
    if fitted.choice.pooling == "thirds":
        use_relation_head(cfg, num_frames(cfg))
    with held(cfg.work_dir) if hardware.rank() == 0 else nullcontext():
        if hardware.rank() == 0:
            set_aside(cfg.work_dir, keep=cfg.load_from)
        runner = build_runner(cfg)
        model, path = model_of(runner), cfg.load_from
        runner.logger.info(load_weights(model, load_checkpoint(path), path=path, new_head=True))
        put_into_head(model.cls_head, fitted)
        record_run(runner, command)
        runner.dump_config()
        no = dict(save_optimizer=False, save_param_scheduler=False)
        runner.save_checkpoint(cfg.work_dir, CHECKPOINT, **no)


def _validate(
    cfg: Config,
    videos: Videos,
    scores: np.ndarray,
    errors: Mapping[Path, str],
    seconds: float,
    facts: Mapping[str, Any],
) -> TestResult:
    """Returns, logs and writes what a probe makes of videos, as a test does."""
    rows = [
        VideoResult(video=str(path), label=int(label), scores=row.tolist())
        for path, label, row in zip(videos.paths, videos.labels, scores, strict=True)
    ]
    bad = [VideoResult(video=str(path), error=reason) for path, reason in errors.items()]
    folder, dataset = Path(cfg.work_dir), dict(split_datasets(cfg))["val"]
    path, dump = folder / CHECKPOINT, folder / Path(cfg.filename).name
    result = TestResult({}, summarize(scores, videos.labels), rows, seconds, bad, folder)
    for accuracy in result.accuracies:
        logger.info("%s", accuracy)
    for row in bad:
        logger.error("cannot read video %s: %s", row["video"], row["error"])
    write_result(
        folder / RESULTS,
        result,
        **dict(config=str(dump), checkpoint=str(path), checkpoint_sha256=sha256(path)),
        **dict(precision="fp32", engine="torch", ann_file=dataset.ann_file),
        protocol=describe_protocol("val", dataset.pipeline),
        classes=list(dataset.metainfo.classes),
        **facts,
    )
    logger.info("best checkpoint: %s", path)
    logger.info(as_typed("next: python tools/test.py --work-dir %s"), folder)
    return result
