"""Writes a recognizer as one `.onnx` file, or as OpenVINO's IR: uint8 frames in, scores out.

Colour order, normalization and the averaging over views are in the network; its metadata say how
frames are chosen and cut (docs/export.md). What is written is compared, on real frames, with the
engine and with stock's `test_step`.
"""

import importlib.util
import json
import logging
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from math import lcm
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from .. import compat, progress
from ..annotations import read_annotations
from ..build import build_model
from ..checkpoints.config_text import PACKAGE, PROJECT
from ..checkpoints.load import load_checkpoint, load_weights
from ..engine.engine import frames_together, takes_clips
from ..engine.openvino import core, import_openvino
from ..errors import UserError
from ..files import sha256, write_atomically, writing_to
from ..pipeline import PROTOCOLS, Step, pipeline_of, with_decoder
from ..portable.recognizer import FORMAT, INPUT, MAX_BYTES, SCORES, VIEW_SCORES, OnnxEngine, stack
from ..portable.views import Views, views_shape
from ..recognizer import Recognizer
from ..video.files import find_videos, reason_of, sample_of
from ..video.isolated import GuardedReader
from .int8 import calibrate, choose_videos

TOLERANCE = 1e-4  # of a score in fp32
NUM_COMPARED = 3  # videos of each protocol
MAX_FRAMES = 48  # of the views of a video that are compared: stock has them in memory at once
SCOPE = "_scope_"  # MMEngine adds it to what comes from a base config of MMAction2
SUFFIXES = {"onnx": ".onnx", "openvino": ".xml"}
PACKAGES = {"onnx": ("onnxruntime", "onnxscript"), "openvino": ("onnxscript", "openvino")}
Scores = Callable[[Sequence[np.ndarray]], np.ndarray]  # of videos, from their views
logger = logging.getLogger("mmact_tiny")


@dataclass(frozen=True)
class Differences:
    """The largest differences of a score from the engine's and from stock's, on real videos."""

    videos: int
    engine: float
    stock: float


@dataclass(frozen=True)
class Written:
    """A file that was written, what is in it, and how near its scores are."""

    path: Path
    num_bytes: int
    num_classes: int
    differences: Differences


def export_network(
    checkpoint: str | Path | None = None,
    out: str | Path | None = None,
    *,
    target: str = "onnx",
    int8: bool = False,
    videos: Sequence[str | Path] = (),
) -> Written:
    """Writes a checkpoint as an `.onnx` file, or as OpenVINO's `.xml` and `.bin`.

    Args:
        checkpoint: By default the best of the newest run.
        out: By default the checkpoint's own name with the target's ending.
        target: `onnx` or `openvino`.
        int8: Whether it is quantized, with the ranges seen on `videos`.
        videos: Real ones, and folders of them, to compare on; by default the run's validation
            videos, else the bundled clips.

    Raises:
        UserError: the extra is not installed, the model or its pipelines cannot be exported, or
            scores in fp32 differ by more than `TOLERANCE`; nothing is written then.
    """
    for name in (*PACKAGES[target], *["nncf"] * int8):
        if importlib.util.find_spec(name) is None:
            extra = {"nncf": "int8", "openvino": "openvino"}.get(name, "export")
            raise UserError(f"--format {target} needs {name}: pip install 'mmact-tiny[{extra}]'")
    recognizer = Recognizer(checkpoint, precision="fp32", engine="torch")
    out = recognizer.checkpoint.with_suffix(SUFFIXES[target]) if out is None else Path(out)
    if out.suffix != SUFFIXES[target] or out.is_dir():
        raise UserError(f"--out {out}: expected the name of a file that ends in {SUFFIXES[target]}")
    found = find_videos(videos) if videos else usual_videos(recognizer.cfg)
    pipelines = {
        name: with_decoder(pipeline_of(recognizer.cfg, name), "packets") for name in PROTOCOLS
    }
    own = {name: portable_steps(steps) for name, steps in pipelines.items()}
    shapes = [views_shape(steps)[1:] for steps in own.values()]
    stock = build_model(recognizer.cfg)
    load_weights(stock, load_checkpoint(recognizer.checkpoint), path=recognizer.checkpoint)
    network = Network(stock, several_labels=recognizer.thresholds is not None).eval()
    metadata = describe(recognizer, network) | {
        "protocols": json.dumps(own),
        "precision": "int8" if int8 else "fp32",
    }
    graph = to_onnx(network, shapes)
    if target == "openvino":
        graph = to_ir(graph)
    if int8:
        graph = quantize(graph, own["val"], found)
    views = {name: read(pipelines[name], own[name], found) for name in PROTOCOLS}
    with opened(graph, metadata) as scores:
        differences = compare(recognizer, stock, scores, views, network.group, exact=not int8)
    num_bytes = write(graph, metadata | {"differences": json.dumps(asdict(differences))}, out)
    return Written(out, num_bytes, len(recognizer.labels), differences)


def usual_videos(cfg: Any) -> list[Path]:
    """Returns the validation videos of a config that are on this machine, else bundled clips."""
    dataset = (cfg.get("val_dataloader") or {}).get("dataset", {})
    folder = Path(dataset.get("data_prefix", {}).get("video", ""))
    ann_file = dataset.get("ann_file") or ""
    listed = read_annotations(ann_file) if Path(ann_file).is_file() else []
    found = [Path(folder, one.name) for one in listed if (folder / one.path).is_file()]
    clips = PROJECT / "data" / "tiny" / "val"
    return found or find_videos([clips if clips.is_dir() else PACKAGE / "clips"])


def portable_steps(steps: Sequence[Step]) -> list[Step]:
    """Returns a pipeline as the metadata have it: plain, without what only MMAction2 needs."""
    bare = ("PacketInit", "PacketDecode", "PackActionInputs")
    plain = [
        {k: v for k, v in step.items() if k == "type" or (step["type"] not in bare and k != SCOPE)}
        for step in steps
    ]
    return json.loads(json.dumps(plain))


def describe(recognizer: Recognizer, network: "Network") -> dict[str, str]:
    """Returns the metadata of a file but for its pipelines and precision."""
    thresholds = None if recognizer.thresholds is None else recognizer.thresholds.tolist()
    return {
        "mmact_tiny": FORMAT,
        "classes": json.dumps(recognizer.labels),
        "thresholds": json.dumps(thresholds),
        "model": recognizer.kind,
        "after": network.after,
        "group": str(network.group),
        "checkpoint": recognizer.checkpoint.name,
        "checkpoint_sha256": sha256(recognizer.checkpoint) or "",
    }


class Network(nn.Module):
    """What is exported: uint8 frames (videos, views, frames, height, width, RGB) to scores.

    It gives the scores of videos, (videos, classes), and those of views before they are averaged,
    (videos, groups, classes); a group is one view, or as many as the backbone or the head takes
    together. `after` is what makes scores of the average.

    Args:
        model: The recognizer, on the CPU.
        several_labels: Whether its scores are those of labels each by itself.

    Raises:
        UserError: a model of which it is not known how it joins views.
    """

    def __init__(self, model: Any, *, several_labels: bool) -> None:
        super().__init__()
        self.model, head = model, model.cls_head
        together, self._clips = frames_together(model), takes_clips(model)
        if together is None and not self._clips:
            kinds = f"{type(model).__name__} with {type(model.backbone).__name__}"
            raise UserError(f"{kinds} is not exported: only stock knows how it joins views")
        if model.test_cfg:
            model.test_cfg.pop("max_testing_views", None)  # a loop, of rounds as views need
        if hasattr(head, "_init_new_cls"):  # of TPN: made at the first test, which is no tracing
            with torch.no_grad():
                head._init_new_cls()
            self.made, head.new_cls = head.new_cls, None
            head._init_new_cls = lambda: setattr(head, "new_cls", self.made)
        self._whole = self._clips or bool((model.test_cfg or {}).get("fcn_test"))
        segments = 1 if self._whole else getattr(head, "num_segments", None)
        self.group = lcm(together or 1, segments or 1)
        # What TSN's head does before it makes scores is linear in the views.
        joins, softmax = segments is None, head.average_clips == "prob"
        if head.average_clips is None or (several_labels and softmax):
            how = f"average_clips={head.average_clips!r}"
            raise UserError(f"{type(head).__name__} with {how} is not exported")
        self._softmax_first = softmax and not joins
        self.after = "sigmoid" if several_labels else "softmax" if softmax and joins else ""

    def forward(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        preprocessor: Any = self.model.data_preprocessor
        images = frames.flatten(0, 1).movedim(-1, 1).float()
        if not self._clips:
            images = images.squeeze(2)
        if preprocessor.to_rgb:
            images = images[:, [2, 1, 0]]
        if preprocessor._enable_normalize:
            images = (images - preprocessor.mean) / preprocessor.std
        settings: dict[str, Any] = dict(num_segs=1)
        if self._whole:
            features, settings = self.model.extract_feat(images[None], test_mode=True)
        else:
            features, _ = self.model.extract_feat(images[None], stage="backbone")
        views = self.model.cls_head(features, **settings).unflatten(0, (frames.shape[0], -1))
        views = views.softmax(-1) if self._softmax_first else views
        mean = views.mean(1)
        finished = {"softmax": mean.softmax(-1), "sigmoid": mean.sigmoid(), "": mean}
        return finished[self.after], views


def to_onnx(network: Network, shapes: Sequence[tuple[int, int, int]]) -> Any:
    """Returns the ONNX model of a network, `onnx.ModelProto`.

    Videos and views may be any number; of frames, height and width those that differ.

    Args:
        network: On the CPU.
        shapes: Frames, height and width of the views that it will be given.

    Raises:
        UserError: torch cannot export it, or it has more than 2 GiB.
    """
    most = 1 << 20  # torch.export wants a bound where sizes are multiplied
    views = torch.export.Dim("views" if network.group == 1 else "groups", min=1, max=most)
    dynamic = {0: torch.export.Dim("videos", min=1, max=most), 1: network.group * views}
    for axis, name in enumerate(("frames", "height", "width")):
        if len({shape[axis] for shape in shapes}) > 1:
            dynamic[2 + axis] = torch.export.Dim(name, min=1, max=most)
    example = torch.zeros(2, 2 * network.group, *shapes[0], 3, dtype=torch.uint8)
    try:
        with quiet():
            program = torch.onnx.export(
                network,
                (example,),
                dynamo=True,
                optimize=True,
                verbose=False,
                input_names=[INPUT],
                output_names=[SCORES, VIEW_SCORES],
                dynamic_shapes=(dynamic,),
            )
            graph = program.model_proto  # type: ignore[union-attr]
    except Exception as error:  # of any kind: torch traces the code of others
        reason = reason_of(RuntimeError(str(error).rpartition("## Exception summary")[2]))
        kinds = f"{type(network.model).__name__} with {type(network.model.backbone).__name__}"
        raise UserError(f"torch does not export {kinds}: {reason}") from error
    if graph.ByteSize() > MAX_BYTES:
        raise UserError("the network has more than the 2 GiB that one ONNX file can have")
    return graph


@contextmanager
def quiet() -> Iterator[None]:
    """Holds the exporters' own words back."""
    disabled = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)


def to_ir(graph: Any) -> Any:
    """Returns OpenVINO's model of one of ONNX."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.onnx")
        path.write_bytes(graph.SerializeToString())
        return import_openvino().convert_model(path)


def quantize(graph: Any, steps: Sequence[Step], videos: Sequence[Path]) -> Any:
    """Returns a model, of either kind, in int8, with the ranges seen on videos."""
    chosen = choose_videos(videos)
    logger.info("int8: calibrating on %d videos, %s and so on", len(chosen), chosen[0])
    items = []
    with closing(GuardedReader(Views(steps))) as reader:
        for video in progress.track(chosen, "reading", len(chosen)):
            try:
                items.append({INPUT: stack([reader(sample_of(video))["inputs"]])})
            except UserError as error:
                logger.warning("left out: %s: %s", video, error)
    if not items:
        raise UserError("no video to quantize with can be read: name some, --videos DIR")
    with quiet():
        return calibrate(graph, items)


def read(pipeline: Sequence[Step], own: Sequence[Step], videos: Sequence[Path]) -> dict[str, Any]:
    """Returns the views of some videos as MMAction2 packs them, by the video's name.

    Raises:
        UserError: no video can be read, or ours are not the same.
    """
    both = compat.Compose(pipeline), Views(own)
    reader = GuardedReader(lambda sample: [run(sample) for run in both])
    found: dict[str, Any] = {}
    for video in videos:
        try:
            packed, ours = reader(sample_of(video))
        except UserError as error:
            logger.warning("not compared: %s: %s", video, error)
            continue
        if not np.array_equal(packed["inputs"].numpy(), ours["inputs"]):
            raise UserError(f"the views of {video} are not MMAction2's: please report it")
        found[str(video)] = packed
        if len(found) == NUM_COMPARED:
            break
    reader.close()
    if not found:
        raise UserError("no video to compare on can be read: name some, --videos DIR")
    return found


@contextmanager
def opened(graph: Any, metadata: dict[str, str]) -> Iterator[Scores]:
    """Gives what computes scores with a model of either kind, on the CPU."""
    if hasattr(graph, "set_rt_info"):
        compiled = core().compile_model(graph, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        yield lambda videos: compiled({INPUT: stack(videos)})[SCORES]
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.onnx")
        write(graph, metadata, path)
        yield OnnxEngine(path).scores


def compare(
    recognizer: Recognizer,
    stock: Any,
    scores: Scores,
    views: dict[str, dict[str, Any]],
    group: int,
    *,
    exact: bool,
) -> Differences:
    """Returns how far the scores of an export are from the engine's and from stock's.

    Args:
        recognizer: Of the checkpoint.
        stock: Its model as MMAction2 builds it.
        scores: What is compared.
        views: What the pipelines pack, by protocol and video; the first views count.
        group: How many views go together.
        exact: Whether a larger difference than `TOLERANCE` is an error.

    Raises:
        UserError: a larger one; says where.
    """
    largest, steps = [0.0, 0.0], (recognizer.engine.test_step, stock.test_step)
    for protocol, of_protocol in views.items():
        for video, packed in of_protocol.items():
            inputs = packed["inputs"]
            frames = inputs.shape[2] if inputs.ndim == 5 else 1
            count = max(1, MAX_FRAMES // frames // group) * group
            data = compat.pseudo_collate([dict(packed, inputs=inputs[:count])])
            got = scores([inputs[:count].numpy()])[0]
            for number, (name, test_step) in enumerate(
                zip(("engine", "stock"), steps, strict=True)
            ):
                with torch.inference_mode():
                    wanted = test_step(data)[0].pred_score
                wanted = wanted if recognizer.thresholds is None else wanted.sigmoid()
                difference = np.abs(wanted.numpy() - got)
                largest[number] = max(largest[number], float(difference.max()))
                if exact and not difference.max() <= TOLERANCE:
                    where = f"{recognizer.labels[difference.argmax()]!r} in {video}, {protocol}"
                    raise UserError(
                        f"not written: a score differs by {difference.max():.1e} from {name}: "
                        f"that of {where}"
                    )
    return Differences(len({*views["full"], *views["val"]}), *largest)


def write(graph: Any, metadata: dict[str, str], out: Path) -> int:
    """Writes a model of either kind with metadata; returns how many bytes that are.

    Raises:
        UserError: it cannot be written.
    """
    if hasattr(graph, "set_rt_info"):
        for name, value in metadata.items():
            graph.set_rt_info(value, ["mmact_tiny", name])
        with writing_to(out), tempfile.TemporaryDirectory(dir=out.parent) as folder:
            fresh = Path(folder, out.name)
            import_openvino().save_model(graph, fresh, compress_to_fp16=False)
            files = [fresh.with_suffix(".bin"), fresh]
            num_bytes = sum(file.stat().st_size for file in files)
            for file in files:
                file.replace(out.with_suffix(file.suffix))
        return num_bytes
    from onnx.helper import set_model_props

    set_model_props(graph, metadata)
    write_atomically(data := graph.SerializeToString(), out)
    return len(data)
