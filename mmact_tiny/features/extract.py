"""Computes what a frozen recognizer's last layer gets of each video, and keeps it by content."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import torch
from torch import Tensor, nn

from .. import hardware
from ..build import build_model
from ..checkpoints.config_text import config_to_json
from ..checkpoints.load import load_checkpoint, load_weights
from ..compat import (
    Compose,
    Config,
    all_gather_object,
    get_device,
    init_default_scope,
    pseudo_collate,
)
from ..engine.engine import Engine
from ..errors import UserError
from ..files import open_atomically, sha256, user_cache
from ..pipeline import Step, pipeline_of, split_datasets, with_decoder
from ..progress import Bar
from ..video.files import sample_of, split_name
from ..video.isolated import VIDEO_SECONDS, GuardedReader, ReadAhead
from .head import last_layer, takes_frames

VERSION = 1  # of the features that are kept: another one computes them anew
META_KEYS = ("frame_inds", "num_clips", "avg_fps")
Look = tuple[int, bool]  # the draw of its frames, and whether they are mirrored
Job = tuple[Path, list[Look]]  # a video, and looks of one draw
Found = tuple[np.ndarray, np.ndarray]  # features, and seconds (clips, 2)


def default_root() -> Path:
    """Returns `$MMACT_TINY_FEATURES`, else `mmact_tiny/features` in the user's cache folder."""
    return user_cache("features", "MMACT_TINY_FEATURES")


class Extractor:
    """A frozen recognizer and its validation pipeline, ready for videos.

    The features of a look are the input of the head's last linear layer, shape (units, channels),
    float32: a TSN has a unit for each frame, others for what their head averages, mostly one.
    The first look is the validation pipeline's, the second the same mirrored, where training
    mirrors too; then frames are drawn as in training, at a seed that is the number of the draw,
    each draw seen straight and mirrored. A look at the same content is always the same.

    Args:
        cfg: A config whose model and validation pipeline count.
        weights: A file of the recognizer's weights, or of its backbone's alone.
        video_seconds: Time limit for reading one video, None for the usual.
    """

    def __init__(self, cfg: Config, weights: Path, video_seconds: float | None = None) -> None:
        init_default_scope("mmaction")
        self.cfg, self.weights = cfg, weights
        self.steps = with_decoder(pipeline_of(cfg, "val"), "packets")
        self.steps[-1] = dict(self.steps[-1], meta_keys=META_KEYS)
        self._pipelines = Compose(self.steps), Compose([_drawn(step) for step in self.steps])
        self._reader = GuardedReader(
            self._read,
            video_seconds or VIDEO_SECONDS,
            num_processes=hardware.choose_num_workers()[0],
        )
        self._mirrors = _mirrors(next(split_datasets(cfg))[1].get("pipeline") or [])
        head = {key: value for key, value in cfg.model.cls_head.items() if key != "num_classes"}
        model = dict(cfg.model.to_dict(), cls_head=head, steps=self.steps, version=VERSION)
        key = f"{sha256(weights)} {config_to_json(model)}"
        self.digest = hashlib.sha256(key.encode()).hexdigest()  # of what features depend on
        self.folder = default_root() / f"{weights.stem[:40]}-{self.digest[:16]}"
        self._contents: dict[Path, str] = {}
        self._noted: list[Tensor] = []  # of each part that goes through the model at once

    def looks(self, count: int) -> list[Look]:
        """Returns the first `count` looks."""
        if not self._mirrors:
            return [(draw, False) for draw in range(count)]
        return [(number // 2, number % 2 == 1) for number in range(count)]

    def compute(self, counts: Mapping[Path, int]) -> dict[Path, str]:
        """Computes the features that are not kept yet, and returns why there are none of a video.

        The processes of a job share the videos; all of them have to call.

        Args:
            counts: How many looks at each video.
        """
        share = [*counts.items()][hardware.rank() :: hardware.world_size()]
        jobs = [job for video, count in share for job in self._missing(video, count)]
        errors: dict[Path, str] = {}
        if jobs:
            self._reader.start()  # in this thread
            with Bar("features", len(jobs), keep=True) as bar:
                samples = self._ahead(jobs)
                for job, sample in zip(jobs, samples, strict=True):
                    if isinstance(sample, UserError):
                        errors[job[0]] = str(sample)
                    else:
                        self._keep(job, sample)
                    bar.advance()
            self._reader.close()
        return {video: why for part in all_gather_object(errors) for video, why in part.items()}

    def features(self, videos: Iterable[Path]) -> Iterator[Found | UserError]:
        """Yields what `load` returns of the first look at each video, or why there is none.

        Nothing is kept.
        """
        self._reader.start()
        looks = [(0, False)]
        for sample in self._ahead((video, looks) for video in videos):
            if isinstance(sample, UserError):
                yield sample
            else:
                units, seconds = self._compute(looks, sample)
                yield units[0], seconds

    def load(self, video: Path, look: Look = (0, False)) -> Found:
        """Returns the features of a look, and the seconds (clips, 2) that its clips start and end.

        Raises:
            UserError: they were not computed, or cannot be read.
        """
        path = self._path(video, look)
        try:
            with np.load(path) as file:
                return file["units"], file["seconds"]
        except (OSError, ValueError, KeyError, EOFError, BadZipFile) as error:
            raise UserError(
                f"no features of {video}: {error}\n  if {path} is damaged, remove it"
            ) from None

    def content(self, video: Path) -> str:
        """Returns the SHA-256 of a video, or of a stretch's; where it cannot be read, its name."""
        path = Path(split_name(video)[0])
        if path not in self._contents:
            self._contents[path] = sha256(path) or str(path).replace("/", "_")
        return self._contents[path]

    @cached_property
    def engine(self) -> Engine:
        """The model in fp32, built when first needed, which notes what its last layer gets."""
        self._reader.start()  # in this thread, and before the model, of which it has no need
        model = build_model(self.cfg)
        load_weights(model, load_checkpoint(self.weights), path=self.weights, new_head=True)
        head: Any = model.cls_head
        layer = last_layer(head)
        (head.consensus if takes_frames(head) else layer).register_forward_pre_hook(self._note)
        return Engine(model.to(get_device()).eval(), precision="fp32", engine="torch")

    def _note(self, layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        noted = inputs[0].float().cpu()
        self._noted.append(noted.flatten(2) if noted.ndim > 3 else noted)

    def _path(self, video: Path, look: Look) -> Path:
        content, stretch = self.content(video), split_name(video)[1] or ()
        key = "-".join([content, *(f"{1000 * seconds:.0f}" for seconds in stretch)])
        return self.folder / content[:2] / f"{key}-{look[0]}{'m' * look[1]}.npz"

    def _missing(self, video: Path, count: int) -> Iterator[Job]:
        for _, looks in groupby(self.looks(count), key=itemgetter(0)):
            job = video, list(looks)
            if not all(self._path(video, look).is_file() for look in job[1]):
                yield job

    def _ahead(self, jobs: Iterable[Job]) -> ReadAhead[Job, dict]:
        def read(job: Job) -> dict:
            return self._reader(job[0], job[1][0][0])

        return ReadAhead(read, jobs, self._reader.num_processes)

    def _read(self, video: Path, draw: int) -> dict:
        """Returns the views of a video as the pipeline packs them, in a process for reading."""
        np.random.seed(draw)
        return self._pipelines[min(draw, 1)](sample_of(video))

    def _keep(self, job: Job, sample: dict) -> None:
        """Computes and writes the features of a draw."""
        video, looks = job
        units, seconds = self._compute(looks, sample)
        for look, each in zip(looks, units, strict=True):
            with open_atomically(self._path(video, look)) as file:
                np.savez(file, units=each, seconds=seconds)

    def _compute(self, looks: Sequence[Look], sample: dict) -> Found:
        """Returns the features of a draw, shape (looks, units, channels), and its seconds."""
        views, meta = sample["inputs"], sample["data_samples"]
        self._noted = []
        seen = [dict(sample, inputs=views.flip(-1) if mirror else views) for _, mirror in looks]
        self.engine.test_step(pseudo_collate(seen))
        noted = torch.cat(self._noted)
        units = noted.reshape(len(looks), -1, noted.shape[-1]).numpy()
        clips = np.reshape(meta.frame_inds, (meta.num_clips, -1))
        return units, np.stack([clips.min(axis=1), clips.max(axis=1) + 1], axis=1) / meta.avg_fps


def _mirrors(pipeline: Sequence[Step]) -> bool:
    """Returns whether training mirrors videos, and gives what is mirrored no other label."""
    flips = [step for step in pipeline if step["type"] == "Flip"]
    return any(step.get("flip_ratio", 0.5) for step in flips) and not any(
        step.get("flip_label_map") for step in flips
    )


def _drawn(step: Step) -> Step:
    """Returns a step that samples frames as in training, at random."""
    return dict(step, test_mode=False) if step.get("test_mode") else step
