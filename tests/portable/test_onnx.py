"""An `.onnx` file answers as its checkpoint does, without PyTorch; what is none is refused."""

import json
import os
import random
import subprocess
import sys
import venv
from pathlib import Path
from typing import Any

import pytest
from conftest import REAL_DATA, ROOT
from jobs import run_python
from models import check_scores

pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")
pytest.importorskip("onnxscript", reason="the extra export is not installed")

import onnx
from onnx import TensorProto, helper

from benchmarks.odd_videos import ENCODINGS, make
from mmact_tiny import Recognizer, UserError
from mmact_tiny.errors import EXIT_ERROR, EXIT_OK
from mmact_tiny.portable.recognizer import OnnxRecognizer, num_threads, providers
from mmact_tiny.view.windows import score_windows
from tools import export, infer

VIDEO = ROOT / "data/tiny/val/waving_flag1.mp4"
EXAMPLE = ROOT / "examples/recognize_onnx.py"
HEAVY = ["torch", "mmengine", "mmaction", "mmcv", "decord", "matplotlib", "onnx"]


@pytest.fixture(scope="module")
def exported(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("onnx") / "tiny.onnx"
    arguments = ["--format", "onnx", "--checkpoint", str(tiny_checkpoint), "--out", str(out)]
    assert export.main(arguments) == EXIT_OK
    return out


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Twenty: odd encodings, bundled clips, and real ones where they are."""
    folder = tmp_path_factory.mktemp("videos")
    odd = [make(one, folder) for one in random.Random(1).sample(ENCODINGS, 14)]
    real = sorted((REAL_DATA / "exercise_or_typing/val").glob("*.*"))[:3]
    bundled = sorted((ROOT / "data/tiny/val").glob("*.mp4"))
    return [*odd, *real, *bundled][:20]


@pytest.mark.parametrize(
    ("protocol", "count"),
    [("val", 20), ("full", 4), pytest.param("full", 20, marks=pytest.mark.slow)],
)
def test_the_scores_are_the_checkpoints(protocol, count, exported, tiny_checkpoint, videos):
    """Of all 250 views too, which are computed in parts."""
    videos = random.Random(3).sample(videos, count)
    mine = Recognizer(exported, protocol=protocol)
    theirs = Recognizer(tiny_checkpoint, protocol=protocol, engine="torch")
    assert (mine.protocol, mine.labels) == (theirs.protocol, theirs.labels)
    got, wanted = (list(each.score_videos(videos)) for each in (mine, theirs))
    check_scores(got, wanted, within=1e-4)


def test_windows_are_the_checkpoints(exported, tiny_checkpoint):
    found = [
        score_windows(Recognizer(path, protocol="val"), VIDEO, window=1, stride=0.5)
        for path in (exported, tiny_checkpoint)
    ]
    assert [window for window, _ in found[0]] == [window for window, _ in found[1]]
    check_scores(*([scores for _, scores in each] for each in found), within=1e-4)


LIVE = """
import sys
import numpy as np
from mmact_tiny import Recognizer
from mmact_tiny.live.frames import resize_of
from mmact_tiny.video.window import find_sampler
recognizer = Recognizer(sys.argv[1], protocol="val")
end = find_sampler(recognizer.steps, "test")[1]
assert recognizer.steps[end]["type"] == "Resize"
image = np.arange(270 * 480 * 3, dtype=np.uint8).reshape(270, 480, 3)
image = resize_of(recognizer.steps[end : end + 1], recognizer.compose)(image)
print(image.shape, image.sum())
"""


def test_frames_of_a_stream_are_resized_as_the_checkpoints(exported, tiny_checkpoint):
    """In a process of its own: MMEngine's registries are not set up by anything before."""
    one, other = (run_python("-c", LIVE, path).stdout for path in (exported, tiny_checkpoint))
    assert one.splitlines()[-1] == other.splitlines()[-1] and "(270, 480, 3)" not in one


def test_what_is_in_the_file(exported, tiny_checkpoint):
    known = known_of(exported)
    protocols = json.loads(known.pop("protocols"))
    assert protocols["val"] == [
        {"type": "PacketInit"},
        dict(type="SampleFrames", clip_len=1, frame_interval=1, num_clips=3, test_mode=True),
        {"type": "PacketDecode"},
        {"type": "Resize", "scale": [-1, 110]},
        {"type": "CenterCrop", "crop_size": 96},
        {"type": "FormatShape", "input_format": "NCHW"},
        {"type": "PackActionInputs"},
    ]
    assert {step["type"] for step in protocols["full"]} > {"TenCrop"}
    differences = json.loads(known.pop("differences"))
    assert differences.pop("videos") == 3 and max(differences.values()) < 1e-4
    sha = subprocess.run(["sha256sum", tiny_checkpoint], capture_output=True, text=True).stdout
    assert known == {
        "mmact_tiny": "1",
        "classes": '["class 0", "class 1", "class 2", "class 3"]',
        "thresholds": "null",
        "model": "Recognizer2D, MobileNetV2",
        "precision": "fp32",
        "after": "softmax",
        "group": "1",
        "checkpoint": "tiny.pth",
        "checkpoint_sha256": sha.split()[0],
    }


CODE = """
import re, sys
from pathlib import Path
from tools import infer
assert infer.main([{video!r}, *{flags!r}, "--protocol", "val"]) == 0
found = [name for name in {heavy!r} if name in sys.modules]
print(*found, re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
"""


def test_pictures_need_no_pytorch(exported, tmp_path):
    assert answer("--checkpoint", str(exported), "--render", str(tmp_path / "a.mp4"))[0] == [
        "matplotlib"
    ]


def test_regions_need_the_checkpoint(exported, capsys):
    flags = ["--checkpoint", str(exported), "--cam", "why.png"]
    assert infer.main([str(VIDEO), *flags]) == EXIT_ERROR
    told = f"error: --cam why.png: {exported} gives scores alone; expected the .pth file\n"
    assert capsys.readouterr().err == told


@pytest.mark.parametrize(
    ("start", "message"),
    [
        (
            b"\x08\x0a\x12\x07pytorch",
            "an ONNX file, it seems, for inference alone, where its name ends in .onnx",
        ),
        (b'<?xml version="1.0"?>\n<net name="Model0" version="11">', "OpenVINO's file, which its"),
        (b'<?xml version="1.0" encoding="UTF-8"?><Error>', "a web page"),
    ],
)
def test_networks_by_another_name(start, message, tmp_path, capsys):
    path = tmp_path / "model.xml"
    path.write_bytes(start)
    assert infer.main([str(VIDEO), "--checkpoint", str(path)]) == EXIT_ERROR
    error = capsys.readouterr().err
    assert f"{path} is refused: it is {message}" in error and error.count("\n") == 1


def answer(*flags: str) -> tuple[list[str], int]:
    """Returns which heavy packages a process of `infer.py` imported, and its KiB of memory."""
    code = CODE.format(video=str(VIDEO), flags=flags, heavy=HEAVY)
    *found, memory = run_python("-c", code).stdout.splitlines()[-1].split()
    return found, int(memory)


def test_it_runs_without_pytorch_in_half_the_memory(exported, tiny_checkpoint):
    found, memory = answer("--checkpoint", str(exported))
    assert found == []
    assert answer("--checkpoint", str(exported), "--window", "1")[0] == []
    theirs, more = answer("--checkpoint", str(tiny_checkpoint), "--engine", "torch")
    assert "torch" in theirs and memory < more / 2


def test_the_page_runs_without_pytorch(exported):
    pytest.importorskip("fastapi", reason="the web extra is not installed")
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "from mmact_tiny import Recognizer\n"
        "from mmact_tiny.serve import app, server\n"
        "from mmact_tiny.serve.answer import Answerer\n"
        f"recognizer = Recognizer({str(exported)!r}, protocol='val')\n"
        "answerer = Answerer(recognizer, max_seconds=60)\n"
        f"answer = answerer.answer(Path({str(VIDEO)!r}), lambda: None, pictures=True)\n"
        "site = app.Site(answerer, server.Queue(1), None, 1, [])\n"
        "print(site.describe()['model'], len(answer['pictures']), answer['views'], sep='; ')\n"
        f"print([name for name in {HEAVY[:4]!r} if name in sys.modules])\n"
    )
    said = run_python("-c", code).stdout.splitlines()[-2:]
    assert said == ["Recognizer2D, MobileNetV2, as ONNX; 3; 3", "[]"]


def said_by(exported: Path) -> str:
    best = Recognizer(exported, protocol="val").predict(VIDEO)
    return "".join(f"{label}: {score:.6f}\n" for label, score in best)


ALONE = """
import runpy, sys
allowed = {"av", "cv2", "numpy", "onnxruntime", "packaging", "flatbuffers", "google", "coloredlogs"}

class Refuse:
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        if top not in allowed and top not in sys.stdlib_module_names and top[0] != "_":
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Refuse())
sys.path[:0] = sys.argv.pop(1).split(":")
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def test_the_example_needs_four_packages(exported):
    assert len(EXAMPLE.read_text().splitlines()) <= 60
    where = str(Path(onnx.__file__).parents[1])
    command = [sys.executable, "-I", "-c", ALONE, where, EXAMPLE, exported, VIDEO]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == said_by(exported)


@pytest.mark.slow
def test_the_example_runs_where_there_is_nothing_else(exported, tmp_path):
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv/bin/python"
    packages = ["av", "opencv-python-headless", "numpy", "onnxruntime"]
    subprocess.run([python, "-I", "-m", "pip", "install", "-q", *packages], check=True)
    command = [python, "-I", EXAMPLE, exported, VIDEO]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == said_by(exported)


def network(weights: str = "", *, frames: int = 1, breaks: bool = False) -> onnx.ModelProto:
    """Returns a network of the form of ours; its weights may lie in another file."""
    weight = helper.make_tensor("w", TensorProto.FLOAT, [4], [1.0, 2.0, 3.0, 4.0])
    if weights:
        weight.ClearField("float_data")
        weight.data_location = TensorProto.EXTERNAL
        weight.external_data.add(key="location", value=weights)
    sizes = ["videos", "views", frames, 96, 96, 3]
    given = helper.make_tensor_value_info("frames", TensorProto.UINT8, sizes)
    outputs = [
        helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["videos", 4]),
        helper.make_tensor_value_info("view_scores", TensorProto.FLOAT, ["videos", "n", 4]),
    ]
    rest = helper.make_tensor("rest", TensorProto.INT64, [4], [2, 3, 4, 5])
    one = helper.make_tensor("one", TensorProto.INT64, [1], [1])
    nodes = [
        helper.make_node("Cast", ["frames"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["float", "rest"], ["mean"], keepdims=0),
        helper.make_node("Unsqueeze", ["mean", "last"], ["each"]),
        helper.make_node("Mul", ["each", "w"], ["view_scores"]),
        helper.make_node("ReduceMean", ["view_scores", "one"], ["scores"], keepdims=0),
    ]
    if breaks:
        nodes[2:4] = [helper.make_node("Reshape", ["mean", "shape"], ["view_scores"])]
    shape = helper.make_tensor("shape", TensorProto.INT64, [3], [7, 7, 4])
    last = helper.make_tensor("last", TensorProto.INT64, [1], [-1])
    graph = helper.make_graph(nodes, "network", [given], outputs, [weight, rest, one, last, shape])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def scalars() -> onnx.ModelProto:
    """Returns a network of our names whose values are single numbers."""
    names = ["frames", "scores", "view_scores"]
    kinds = [TensorProto.UINT8, TensorProto.FLOAT, TensorProto.FLOAT]
    given, *outputs = map(helper.make_tensor_value_info, names, kinds, [[]] * 3)
    nodes = [helper.make_node("Cast", names[:1], [out], to=TensorProto.FLOAT) for out in names[1:]]
    graph = helper.make_graph(nodes, "scalars", [given], outputs)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def known_of(path: Path) -> dict[str, str]:
    return {each.key: each.value for each in onnx.load(path).metadata_props}


def lie(exported: Path, model: onnx.ModelProto | None = None, **metadata: str | None) -> bytes:
    """Returns the file, or another network with its metadata, and some of them changed."""
    known = known_of(exported) | metadata
    model = onnx.load(exported) if model is None else model
    del model.metadata_props[:]
    helper.set_model_props(model, {k: v for k, v in known.items() if v is not None})
    return model.SerializeToString()


THREE = json.dumps(["a", "b", "c"])
BAD: dict[str, tuple[Any, str]] = {
    "text": (lambda _: b"hello", "cannot be run: [ONNXRuntimeError] : 7 : INVALID_PROTOBUF"),
    "nothing": (lambda _: b"", "cannot be run: "),
    "of something else": (
        lambda _: network().SerializeToString(),
        "its metadata has mmact_tiny=None, expected '1': a file that this version",
    ),
    "of a later version": (lambda f: lie(f, mmact_tiny="2"), "its metadata has mmact_tiny='2'"),
    "without classes": (lambda f: lie(f, classes=None), "metadata is broken (KeyError: 'classes')"),
    "of no JSON": (lambda f: lie(f, protocols="{"), "its metadata is broken (JSONDecodeError"),
    "a finish of its own": (lambda f: lie(f, after="os"), "its metadata is broken (KeyError: 'os'"),
    "another finish": (lambda f: lie(f, after="sigmoid"), "makes other scores than its network"),
    "no group": (lambda f: lie(f, group="0"), "its metadata is broken (ValueError: group=0)"),
    "no protocol": (lambda f: lie(f, protocols="{}"), "is broken (ValueError: no protocol)"),
    "a text as protocols": (lambda f: lie(f, protocols='"val"'), "is broken (AttributeError"),
    "a text as classes": (
        lambda f: lie(f, classes='"abcd"'),
        "classes=abcd of its metadata: expected a list of names",
    ),
    "a class twice": (
        lambda f: lie(f, classes='["a", "b", "c", "a"]'),
        "classes of its metadata: 'a' is empty or twice there",
    ),
    "a class without a name": (
        lambda f: lie(f, classes='["a", "b", "c", " "]'),
        "classes of its metadata: ' ' is empty or twice there",
    ),
    "a threshold above 1": (
        lambda f: lie(f, thresholds="[0.5, 0, 1, 1.5]"),
        "threshold 1.5 of its metadata: expected a score, 0 to 1",
    ),
    "a threshold that is no number": (
        lambda f: lie(f, thresholds="[0.5, NaN, 1, 0]"),
        "threshold nan of its metadata: expected a score, 0 to 1",
    ),
    "a text as thresholds": (lambda f: lie(f, thresholds='"half"'), "thresholds=half: expected 4"),
    "a size of its own": (
        lambda f: lie(f, protocols=known_of(f)["protocols"].replace("110", "-5")),
        "Resize of its test pipeline has scale=[-1, -5]: expected a factor, or two sides",
    ),
    "a network without sizes": (lambda f: lie(f, scalars()), "metadata is broken (IndexError"),
    "metadata of no text": (
        lambda f: lie(f, mmact_tiny="MARK").replace(b"MARK", b"\xff\xfe\xff\xfe"),
        "its metadata has mmact_tiny=None",
    ),
    "fewer classes": (
        lambda f: lie(f, classes=THREE),
        "its metadata names 3 classes, the network scores {4}",
    ),
    "fewer thresholds": (lambda f: lie(f, thresholds="[0.5]"), "thresholds=[0.5]: expected 4"),
    "more frames": (
        lambda f: lie(f, network(frames=8)),
        "makes 250 views of [1, 96, 96] (frames, height, width), the network takes",
    ),
    "other names": (
        lambda f: lie(f, helper.make_model(helper.make_graph([], "g", [], []), ir_version=9)),
        "cannot be run: ",
    ),
    "a step of its own": (
        lambda f: lie(f, protocols='{"val": [{"type": "os.system"}]}'),
        "the step os.system of its test pipeline is none of PacketInit",
    ),
    "weights elsewhere": (
        lambda f: lie(f, network("../secret.bin")),
        "External data path escapes model directory",
    ),
    "weights anywhere": (lambda f: lie(f, network("/etc/hostname")), "External data path"),
    "weights behind a link": (lambda f: lie(f, network("link.bin")), "External data path"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_is_no_file_of_ours(case, exported, tmp_path, capsys):
    write, message = BAD[case]
    path = tmp_path / "folder" / "bad.onnx"
    path.parent.mkdir()
    (tmp_path / "secret.bin").write_bytes(bytes(16))
    (path.parent / "link.bin").symlink_to(tmp_path / "secret.bin")
    path.write_bytes(write(exported))
    assert infer.main([str(VIDEO), "--checkpoint", str(path)]) == EXIT_ERROR
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1 and str(path) in error


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (dict(precision="bf16"), "precision bf16: .* has auto or fp32"),
        (dict(engine="torch"), "engine torch: .* has auto"),
        (dict(config="a.py"), "config a.py: .* has None"),
        (dict(decoder="decord"), "decoder decord: .* has packets"),
        (dict(protocol="mine"), "protocol mine: .* has full or val"),
        (dict(label_map="three.txt"), "has 3 lines; the model has 4"),
    ],
)
def test_what_the_file_does_not_have(settings, message, exported, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("three.txt").write_text("a\nb\nc\n")
    with pytest.raises(UserError, match=message):
        Recognizer(exported, **settings)


def test_a_missing_file_and_one_that_is_too_large(tmp_path):
    large = tmp_path / "large.onnx"
    with large.open("wb") as file:
        file.truncate((2 << 30) + 1)
    none = tmp_path / "none.onnx"
    for path, message in (
        (large, f"{large} is larger than the 2 GiB that one ONNX file can have"),
        (none, f"no checkpoint at {none}: check the path"),
        (tmp_path, f"checkpoint {tmp_path} is a folder, expected a file"),
    ):
        with pytest.raises(UserError, match=message):
            OnnxRecognizer(path)


def test_a_network_that_breaks_says_so(exported, tmp_path):
    path = tmp_path / "broken.onnx"
    path.write_bytes(lie(exported, network(breaks=True)))
    recognizer = Recognizer(path, protocol="val")
    with pytest.raises(UserError, match=r"broken.onnx: \[ONNXRuntimeError\]"):
        recognizer.predict(VIDEO)


def test_the_device_is_the_fastest_that_is_there(monkeypatch):
    every = ["CPUExecutionProvider", "CUDAExecutionProvider", "TensorrtExecutionProvider"]
    assert providers(every, {}) == every[1::-1]
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name)
    assert providers(every, {}) == every[::-1]
    assert providers(every, {"CUDA_VISIBLE_DEVICES": ""}) == every[:1]
    cores = len(os.sched_getaffinity(0))
    assert (num_threads({"OMP_NUM_THREADS": "3"}), num_threads({})) == (3, cores)
