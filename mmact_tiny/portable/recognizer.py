"""Recognizes videos with an `.onnx` file of ours: ONNX Runtime, no PyTorch, MMEngine, MMAction2."""

import importlib.util
import json
import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from .. import hardware
from ..checkpoints.load import labels_of, open_regular
from ..errors import UserError
from ..pipeline import describe_protocol
from ..recognizer import Recognizer
from ..video.isolated import VIDEO_SECONDS, GuardedReader
from .views import Views, views_shape

FORMAT = "1"  # of the metadata, raised when what they mean changes
INPUT, SCORES, VIEW_SCORES = "frames", "scores", "view_scores"
MAX_BYTES = 2 << 30  # of a file: more is in no protocol buffer
# Between the network's scores and those made of its views'; int8 may have averaged in 8 bits.
MOST_DIFFERENCE, MOST_INT8 = 1e-3, 0.1
CHUNK_PIXELS = 25 * 224 * 224  # of the views in one run, as the engine's on a CPU
# The fastest first. TensorRT is taken where its own package is there too: it compiles for minutes.
PROVIDERS = {
    "TensorrtExecutionProvider": dict(trt_engine_cache_enable=True),
    "CUDAExecutionProvider": dict(use_tf32=0),
    "CPUExecutionProvider": {},
}
AFTER: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "": lambda scores: scores,
    "softmax": lambda scores: _softmax(scores),
    "sigmoid": lambda scores: 1 / (1 + np.exp(-scores)),
}


def _softmax(scores: np.ndarray) -> np.ndarray:
    powers = np.exp(scores - scores.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


class OnnxEngine:
    """An open `.onnx` file: computes scores, and says what is in it beside the network.

    Args:
        path: The file, which has all weights in it.

    Raises:
        UserError: ONNX Runtime is not installed or cannot run the file, or it is none that
            `tools/export.py` wrote.
    """

    name = "onnx"

    def __init__(self, path: Path) -> None:
        self.path = path
        self.before_chunk: Callable[[], None] = lambda: None  # may raise, to give a video up
        self._session = open_session(path)
        try:
            known = self._session.get_modelmeta().custom_metadata_map
        except UnicodeDecodeError:
            known = {}
        if known.get("mmact_tiny") != FORMAT:
            wrote = "python tools/export.py --format onnx"
            raise UserError(
                f"{path}: its metadata has mmact_tiny={known.get('mmact_tiny')!r}, expected "
                f"{FORMAT!r}: a file that this version of `{wrote}` wrote"
            )
        try:
            self.classes: list[str] = json.loads(known["classes"])
            self.thresholds: list[float] | None = json.loads(known["thresholds"])
            self.protocols: dict[str, list[dict[str, Any]]] = json.loads(known["protocols"])
            self.model, self.precision = known["model"], known["precision"]
            self._after, self._group = AFTER[known["after"]], int(known["group"])
            self._check()
        except UserError as error:
            raise UserError(f"{path}: {error}") from None
        except (LookupError, TypeError, ValueError, AttributeError, RecursionError) as error:
            what = f"{type(error).__name__}: {error}"
            raise UserError(f"{path}: its metadata is broken ({what}): export it again") from None

    def __str__(self) -> str:
        provider = self._session.get_providers()[0].removesuffix("ExecutionProvider")
        return f"{self.name} ({provider}), {self.precision}"

    def _check(self) -> None:
        """Raises a UserError where the metadata and the network do not go together."""
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        shapes = {value.name: value.shape for value in [*inputs, *outputs]}
        names = [[value.name for value in values] for values in (inputs, outputs)]
        if names != [[INPUT], [SCORES, VIEW_SCORES]] or inputs[0].type != "tensor(uint8)":
            raise UserError(f"it takes {names[0]} and gives {names[1]}, unlike what was exported")
        counts = {shapes[name][-1] for name in (SCORES, VIEW_SCORES)}
        if counts != {len(self.classes)}:
            raise UserError(
                f"its metadata names {len(self.classes)} classes, the network scores {counts}"
            )
        self._check_classes()
        if not self.protocols or self._group < 1:
            raise ValueError("no protocol" if self._group > 0 else f"group={self._group}")
        for name, steps in self.protocols.items():
            views, *shape = views_shape(steps)
            takes = shapes[INPUT][2:]
            same = len(takes) == 4 and all(
                isinstance(b, str) or a == b for a, b in zip([*shape, 3], takes, strict=True)
            )
            if not same or views % self._group:
                raise UserError(
                    f"protocol {name} of its metadata makes {views} views of {shape} (frames, "
                    f"height, width), the network takes {takes}, {self._group} views together"
                )

    def _check_classes(self) -> None:
        """Raises a UserError where these are no names, or no scores that labels can reach."""
        names, thresholds = self.classes, self.thresholds
        if type(names) is not list or not all(type(name) is str for name in names):
            raise UserError(f"classes={str(names)[:100]} of its metadata: expected a list of names")
        bad = [name for name, count in Counter(names).items() if count > 1 or not name.strip()]
        if bad:
            raise UserError(f"classes of its metadata: {bad[0]!r} is empty or twice there")
        if thresholds is None:
            return
        if type(thresholds) is not list or len(thresholds) != len(names):
            raise UserError(
                f"thresholds={str(thresholds)[:100]}: expected {len(names)}, one a class"
            )
        wrong = [one for one in thresholds if type(one) not in (int, float) or not 0 <= one <= 1]
        if wrong:
            raise UserError(f"threshold {wrong[0]} of its metadata: expected a score, 0 to 1")

    def has_room(self, views: np.ndarray, num_videos: int) -> bool:
        """Returns whether one more video with as many views fits in one run."""
        return len(views) * (num_videos + 1) <= self._chunk_size(views)

    def _chunk_size(self, views: np.ndarray) -> int:
        return max(1, CHUNK_PIXELS // views[0, 0].size // self._group) * self._group

    def scores(self, videos: Sequence[np.ndarray]) -> np.ndarray:
        """Returns the scores of videos, shape (videos, classes).

        Args:
            videos: Views of one shape, as `Views` gives them.
        """
        stacked = stack(videos)
        size, num_views = self._chunk_size(videos[0]), stacked.shape[1]
        if num_views <= size:
            return self._run(stacked)[0]
        parts = [
            self._run(stacked[:, start : start + size])[1] for start in range(0, num_views, size)
        ]
        return self._after(np.concatenate(parts, axis=1).mean(axis=1))

    def _run(self, frames: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns the scores of videos, and those of their views, which make the same."""
        self.before_chunk()
        given = {INPUT: np.ascontiguousarray(frames)}
        try:
            scores, of_views = self._session.run([SCORES, VIEW_SCORES], given)
        except Exception as error:  # of many kinds, all ONNX Runtime's own
            raise UserError(f"{self.path}: {_reason(error)}") from None
        difference = np.abs(self._after(of_views.mean(axis=1)) - scores).max()
        if difference > (MOST_INT8 if self.precision == "int8" else MOST_DIFFERENCE):
            raise UserError(
                f"{self.path}: what its metadata has for `after` makes other scores than its "
                f"network, by {difference:.2g}: export it again"
            )
        return scores, of_views


def stack(videos: Sequence[np.ndarray]) -> np.ndarray:
    """Returns the views of videos as the network takes them: (videos, views, T, H, W, 3)."""
    stacked = np.moveaxis(np.stack(videos), 2, -1)
    return np.ascontiguousarray(stacked[:, :, None] if stacked.ndim == 5 else stacked)


def open_session(path: Path) -> Any:
    """Returns ONNX Runtime's session of a file, on the fastest device that is there.

    Raises:
        UserError: it is not installed, or cannot run the file: no such one, too large, none of
            ONNX, or one whose weights lie outside of its folder.
    """
    with open_regular(path) as file:
        if os.fstat(file.fileno()).st_size > MAX_BYTES:
            raise UserError(f"{path} is larger than the 2 GiB that one ONNX file can have")
    if importlib.util.find_spec("onnxruntime") is None:
        raise UserError(f"{path} needs ONNX Runtime: pip install 'mmact-tiny[onnx]'")
    import onnxruntime

    onnxruntime.set_default_logger_severity(4)  # what fails is raised, too
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = num_threads()
    # A thread that waits by turning takes the core from the process that decodes the next video.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    chosen = providers(onnxruntime.get_available_providers())
    if chosen[0] != "CPUExecutionProvider":
        onnxruntime.preload_dlls()  # CUDA's, of NVIDIA's packages
    try:
        return onnxruntime.InferenceSession(
            path, options, [(name, PROVIDERS[name]) for name in chosen]
        )
    except Exception as error:  # of many kinds, all ONNX Runtime's own
        raise UserError(f"{path} cannot be run: {_reason(error)}") from None


def num_threads(environ: Mapping[str, str] = os.environ) -> int:
    """Returns with how many threads PyTorch would compute."""
    given = environ.get("OMP_NUM_THREADS", "")
    return int(given) if given.isdecimal() and int(given) else hardware.num_usable_cores()


def providers(available: Sequence[str], environ: Mapping[str, str] = os.environ) -> list[str]:
    """Returns which of ONNX Runtime's providers to use, the fastest first."""
    chosen = [name for name in PROVIDERS if name in available]
    if environ.get("CUDA_VISIBLE_DEVICES") == "":  # as `--device cpu` has it
        chosen = chosen[-1:]
    if importlib.util.find_spec("tensorrt") is None:
        chosen = [name for name in chosen if not name.startswith("Tensorrt")]
    return chosen


def _reason(error: Exception) -> str:
    """Returns what ONNX Runtime says, in a line, without its places in the source."""
    return " ".join(str(error).split())[:300]


class OnnxRecognizer(Recognizer):
    """What `Recognizer` is, of an `.onnx` file, whose arguments these are.

    The file has its config, and one precision, engine and decoder: they are `auto`, `packets` or
    its own.

    Raises:
        UserError: the file cannot be used (see `OnnxEngine`), or does not have what is asked for.
    """

    def __init__(
        self,
        checkpoint: str | Path | None = None,
        *,
        config: str | Path | None = None,
        label_map: str | Path | None = None,
        protocol: str = "full",
        precision: str = "auto",
        engine: str = "auto",
        decoder: str = "packets",
        video_seconds: float = VIDEO_SECONDS,
    ) -> None:
        self.checkpoint = Path(checkpoint or "").expanduser()
        self._engine = OnnxEngine(self.checkpoint)
        own, protocols = self._engine.precision, self._engine.protocols
        given = dict(config=config, precision=precision, engine=engine, decoder=decoder)
        has = dict(config=(None,), precision=("auto", own), engine=("auto",), decoder=("packets",))
        for name, value in [*given.items(), ("protocol", protocol)]:
            allowed = has.get(name, tuple(protocols))
            if value not in allowed:
                raise UserError(
                    f"{name} {value}: an .onnx file runs in ONNX Runtime as it is, and "
                    f"{self.checkpoint} has {' or '.join(map(str, allowed))}"
                )
        self.cfg: Any = {}
        self.kind = f"{self._engine.model}, as ONNX"
        self.steps = protocols[protocol]
        self.protocol = describe_protocol(protocol, self.steps)
        self.thresholds = None
        if self._engine.thresholds is not None:
            self.thresholds = np.array(self._engine.thresholds, dtype=np.float32)
        classes = self._engine.classes
        loaded = dict(meta=dict(dataset_meta=dict(classes=classes)))
        self.labels = labels_of(loaded, self.checkpoint, label_map, len(classes))
        self.compose = Views
        self._pipeline = GuardedReader(Views(self.steps), video_seconds)

    @cached_property
    def engine(self) -> Any:
        return self._engine

    def _compute(self, samples: list[dict]) -> list[np.ndarray]:
        return list(self.engine.scores([sample["inputs"] for sample in samples]))
