"""Runs a probe from a dataset to an ordinary run: features, choice, fit, checkpoint, results."""

import logging
import time
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from .. import hardware
from ..build import build_runner
from ..checkpoints.config_text import published_config
from ..checkpoints.load import load_checkpoint, load_weights
from ..compat import Config, broadcast_object_list
from ..config import load_config
from ..dataset import read_annotations
from ..download.zoo import list_backbones, list_published
from ..errors import UserError, as_typed
from ..evaluate import TestResult, write_result
from ..files import held, sha256
from ..hooks._mmengine import model_of
from ..hooks.processes import start_processes
from ..metrics import Accuracy, VideoResult, summarize
from ..pipeline import describe_protocol, num_views, pipeline_of, set_pipeline, split_datasets
from ..runs import RESULTS, record_run, run_facts, set_aside
from ..train import check_inputs
from .extract import Extractor
from .head import has_thirds, put_into_head, set_num_clips, use_relation_head
from .probe import Probe, choose, fit, parts_of

FRAMES = 8  # of a video, for a TSN whose config has fewer
CHECKPOINT = "best_probe.pth"
DATASETS = ("Kinetics-400", "ImageNet")  # whose weights are taken by themselves, in this order
logger = logging.getLogger("mmact_tiny")


class Videos(NamedTuple):
    """Videos: hashes of their contents, labels, features (videos, looks, parts, channels)."""

    paths: list[Path]
    contents: list[str]
    labels: np.ndarray
    features: np.ndarray


def probe(
    data_root: str | Path,
    *,
    config: str | Path | None = None,
    checkpoint: str | Path | None = None,
    looks: int = 2,
    folds: int = 5,
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
        folds: Of the cross-validation that chooses the probe.
        work_dir: By default `work_dirs/<config stem>_probe`.
        launcher: none, pytorch, slurm or mpi: the processes share the videos.
        time_limit, options, command: As for `evaluate.test`.

    Raises:
        UserError: no dataset or weights, one class alone, no video that can be read.
    """
    if looks < 1 or folds < 2:
        raise UserError(f"--looks {looks} --folds {folds}: expected 1 and 2, or more")
    if find_spec("sklearn") is None:  # told before minutes of features
        raise UserError("a probe needs scikit-learn: pip install 'mmact-tiny[features]'")
    config, checkpoint = choose_recognizer(config, checkpoint)
    settings: dict[str, dict[str, Any]] = {
        "dataset_paths": {"data_root": str(data_root)},
        "pretrained": {"weights": checkpoint},
        "run": {"work_dir": work_dir, "launcher": launcher},
    }
    cfg = load_config(config, changes=settings, options=options)
    cfg.work_dir += "" if work_dir else "_probe"
    prepare(cfg)
    check_inputs(cfg)
    logger.info("recognizer: %s, weights %s", config, cfg.load_from)
    start_processes(launcher)
    started, facts, main = time.perf_counter(), run_facts(command), hardware.rank() == 0
    extractor = Extractor(cfg, Path(cfg.load_from), time_limit)
    train, val = listed_videos(cfg, "train"), listed_videos(cfg, "val")
    errors = extractor.compute(dict.fromkeys(val, 1) | dict.fromkeys(train, looks))
    found: list[Any] = [None]
    if main:
        try:
            found = [_fit(cfg, load_features(extractor, train, looks, errors), folds)]
        except UserError as error:  # of which the other processes have to know
            found = [error]
    broadcast_object_list(found)
    if isinstance(found[0], UserError):
        raise found[0]
    fitted, cross_validated = found[0]
    write_run(cfg, fitted, command)
    if not main:
        return TestResult({}, [], [], 0.0)
    facts["cross_validated"] = cross_validated and asdict(cross_validated)
    videos = load_features(extractor, val, 1, errors)
    seconds = time.perf_counter() - started
    return _validate(cfg, videos, fitted.scores(videos.features[:, 0]), errors, seconds, facts)


def choose_recognizer(
    config: str | Path | None, checkpoint: str | Path | None
) -> tuple[str | Path, str | None]:
    """Returns a config and its weights, None for those that the config finds itself.

    Without either it is the most accurate of what lies in checkpoints/ by its published name: of
    the recognizers of Kinetics-400, else of the backbones of ImageNet. The config of a checkpoint
    is that of its published name, or what a run has dumped beside it.

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
    dumps = sorted(path.parent.glob("*.py"), key=lambda dump: dump.stat().st_mtime)
    found = published_config(path) or next(iter([*named, *dumps[::-1]]), None)
    if found is None:
        raise UserError(f"which recognizer is {path} of? name its config with --config")
    return found, str(path)


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
    """Returns the label of each video of a split."""
    dataset = dict(split_datasets(cfg))[split]
    rows = read_annotations(dataset.ann_file)
    return {Path(dataset.data_prefix.video, row.path): int(row.label) for row in rows}


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
    contents = [extractor.content(path) for path in paths]
    return Videos(paths, contents, np.array([listed[path] for path in paths]), np.array(parts))


def _fit(cfg: Config, train: Videos, folds: int) -> tuple[Probe, Accuracy | None]:
    """Returns the probe that the training videos choose, and its cross-validated accuracy."""
    if len(set(train.labels)) < 2:
        raise UserError("the training videos are all of one class: a probe tells classes apart")
    features = train.features if has_thirds(cfg) else train.features[:, :, :1]
    choice, cross_validated = choose(features, train.labels, train.contents, folds=folds)
    logger.info("probe: %s", choice)
    logger.info("%s", cross_validated or "too few videos of a class to choose by: the defaults")
    return fit(features, train.labels, choice, cfg.model.cls_head.num_classes), cross_validated


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
