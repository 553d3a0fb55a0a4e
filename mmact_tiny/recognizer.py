"""Recognizes videos: one video in, the best labels with their scores out."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from . import compat, hardware, log, runs
from .build import build_model
from .checkpoints.load import (
    checkpoint_thresholds,
    config_of,
    labels_of,
    load_checkpoint,
    load_weights,
)
from .errors import UserError, need_room
from .pipeline import describe_protocol, pipeline_of, with_decoder
from .video.files import sample_of
from .video.isolated import VIDEO_SECONDS, GuardedReader, ReadAhead, blame
from .video.packets import Source, as_file

if TYPE_CHECKING:
    from PIL.Image import Image

    from .engine.engine import Engine

K400_WEIGHTS = "tsn_imagenet-pretrained-r50_8xb32-1x1x3-100e_kinetics400-rgb_*.pth"


class Recognizer:
    """A trained recognizer and its test protocol, ready for videos.

    Args:
        checkpoint: A file of ours, which carries its config and classes (`.onnx`: see `portable`);
            by default the best of the newest run, else the Kinetics-400 weights in checkpoints/.
        config: The config, where the checkpoint carries none.
        label_map: File whose line i names class i, instead of the names in the checkpoint.
        protocol: `full` (25 clips x 10 crops with TSN) or `val` (3 clips, center crop).
        precision: `fp32`, whose scores are stock's within 1e-5; `bf16`; `fp16`, on a GPU; `int8`,
            on a CPU, after `quantize`; or `auto`, the fastest of the device's own, whose scores
            are within about 0.01.
        engine: `torch`, `openvino` (a CPU) or `auto`: see `engine.engine.Engine`.
        decoder: `packets` or `decord`; same frames where decord reads a video right.
        video_seconds: Time limit for reading one video, which cannot be read if it takes longer.

    Raises:
        UserError: no checkpoint, one that is broken, or a label map of another length.
    """

    def __new__(cls, checkpoint: str | Path | None = None, **_: Any) -> "Recognizer":
        if cls is Recognizer and Path(checkpoint or "").suffix == ".onnx":
            need_room("portable", str(checkpoint))
            cls = import_module("mmact_tiny.portable.recognizer").OnnxRecognizer
        return super().__new__(cls)

    def __init__(
        self,
        checkpoint: str | Path | None = None,
        *,
        config: str | Path | None = None,
        label_map: str | Path | None = None,
        protocol: str = "full",
        precision: str = "fp32",
        engine: str = "auto",
        decoder: str = "packets",
        video_seconds: float = VIDEO_SECONDS,
    ) -> None:
        log.keep_stock_log_off()
        self.checkpoint = Path(checkpoint) if checkpoint is not None else default_checkpoint()
        self._loaded = load_checkpoint(self.checkpoint)
        self._choices = dict(precision=precision, engine=engine)
        self.cfg = config_of(self._loaded, self.checkpoint, config)
        compat.init_default_scope("mmaction")
        self.kind = "{type}, {backbone.type}".format(**self.cfg.model)
        pipeline = pipeline_of(self.cfg, protocol)
        self.protocol = describe_protocol(protocol, pipeline)
        num_classes = self.cfg.model.cls_head.num_classes
        self.thresholds: np.ndarray | None = None  # of each label, where a video has several
        if self.cfg.model.cls_head.get("multi_class"):
            found = checkpoint_thresholds(self._loaded) or [0.5] * num_classes
            self.thresholds = np.array(found, dtype=np.float32)
        self.labels = labels_of(self._loaded, self.checkpoint, label_map, num_classes)
        self.steps = with_decoder(pipeline, decoder)
        self.compose: Callable[[Sequence[Any]], Callable[[dict], dict]] = compat.Compose
        self._pipeline = GuardedReader(self.compose(self.steps), video_seconds)

    @cached_property
    def engine(self) -> "Engine":
        """The engine with the model, built when first asked for: while the first video is read.

        Raises:
            UserError: weights that do not fit the model, or an engine that cannot run it.
        """
        from .engine.engine import Engine, cache_dir_of

        model = build_model(self.cfg)
        load_weights(model, self._loaded, path=self.checkpoint)
        self._loaded = {}
        cache_dir = cache_dir_of(self.checkpoint)
        return Engine(model.to(compat.get_device()).eval(), **self._choices, cache_dir=cache_dir)

    def predict(self, video: Source, k: int = 5) -> list[tuple[str, float]]:
        """Returns the k best `(label, score)` of a video, best first, or all of fewer.

        It is a path, bytes, a binary file object, or an array (T, H, W, 3) of uint8 RGB.

        Raises:
            UserError: the video cannot be read; k is below 1.
        """
        return self.top_k(self.scores(video), k)

    def show(self, video: Source, k: int = 5) -> "Image":
        """Returns a picture of a video's frames and its k best labels, which a notebook displays.

        Raises:
            UserError: as `predict`; the room `view` was deleted.
        """
        need_room("view", "show")
        return import_module("mmact_tiny.view.show").draw_answer(self, video, k)

    def scores(self, video: Source) -> np.ndarray:
        """Returns the scores of all classes, shape (classes,), float32, which sum to 1.

        Those of several labels are each from 0 to 1 by itself.

        Raises:
            UserError: the video cannot be read.
        """
        (scores,) = self.score_videos([video])
        if isinstance(scores, UserError):
            raise scores
        return scores

    def score_videos(self, videos: Iterable[Source]) -> Iterator[np.ndarray | UserError]:
        """Yields the scores of each video in order; a UserError for one that cannot be read.

        The next videos are decoded while the device computes, the first from this call on, and
        several share a batch where they have few views.
        """
        return self.score_samples(self.read_videos(videos))

    def read_videos(self, videos: Iterable[Source]) -> Iterable[dict | UserError]:
        """Gives the views of each video as the pipeline packs them, or why there are none."""
        if not isinstance(videos, Sequence) or len(videos) != 1:
            self._pipeline.num_processes = hardware.choose_num_workers()[0]
        self._pipeline.start()  # in this thread, and before the model, of which it has no need
        return ReadAhead(self._read, videos, self._pipeline.num_processes)

    def score_samples(
        self, samples: Iterable[dict | UserError]
    ) -> Iterator[np.ndarray | UserError]:
        """Yields the scores of samples as the pipeline packs them; a UserError goes through."""
        group: list[dict | UserError] = []
        for sample in samples:
            group.append(sample)
            readable = [sample for sample in group if isinstance(sample, dict)]
            if not readable or self.engine.has_room(readable[0]["inputs"], len(readable)):
                continue
            yield from self._score(group)
            group = []
        yield from self._score(group)

    def _score(self, group: Sequence[dict | UserError]) -> Iterator[np.ndarray | UserError]:
        """Yields what `score_videos` does, for decoded videos, in one batch where shapes agree."""
        samples = [sample for sample in group if isinstance(sample, dict)]
        same = len({tuple(sample["inputs"].shape) for sample in samples}) == 1
        batches = [samples] if same else [[sample] for sample in samples]
        results = iter([scores for batch in batches for scores in self._compute(batch)])
        for sample in group:
            yield sample if isinstance(sample, UserError) else next(results)

    def _compute(self, samples: list[dict]) -> list[np.ndarray]:
        """Returns the scores of samples whose views have one shape."""
        found = self.engine.test_step(compat.pseudo_collate(samples))
        scores = [one.pred_score.float().cpu() for one in found]
        return [(one if self.thresholds is None else one.sigmoid()).numpy() for one in scores]

    def _read(self, video: Source) -> dict:
        """Returns the views of a video as the pipeline packs them."""
        try:
            with as_file(video) as path:
                return self._pipeline(sample_of(path))
        except UserError as error:
            name = video if isinstance(video, str | Path) else f"in {type(video).__name__}"
            raise UserError(blame(name, error)) from error

    def top_k(self, scores: np.ndarray, k: int) -> list[tuple[str, float]]:
        """Returns the k best `(label, score)`, best first.

        Of a recognizer of several labels they are those that reach their thresholds: perhaps none.
        """
        if k < 1:
            raise UserError(f"top-k {k}: expected 1 or more")
        order = np.argsort(-scores, kind="stable")[:k]
        if self.thresholds is not None:
            order = order[scores[order] >= self.thresholds[order]]
        return [(self.labels[index], float(scores[index])) for index in order]


def default_checkpoint() -> Path:
    """Returns the best checkpoint of the newest run, else the K400 weights in checkpoints/.

    Raises:
        UserError: there is neither; names the commands that make one.
    """
    run = runs.newest_run()
    if run is not None:
        return run.checkpoint
    found = sorted(Path("checkpoints").glob(K400_WEIGHTS))
    if found:
        return found[-1]
    raise UserError(
        "no trained run in work_dirs/ and no weights in checkpoints/\n"
        "  train: python tools/train.py configs/tsn_tiny.py\n"
        "  or get the Kinetics-400 weights: python tools/download.py tsn_r50_k400"
    )
