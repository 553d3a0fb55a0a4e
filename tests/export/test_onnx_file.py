"""What is exported has stock's scores, for every family of recognizers; or it is said why not."""

import copy
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")
pytest.importorskip("onnxscript", reason="the extra export is not installed")

import onnxruntime
import torch
from conftest import ROOT
from families import FAMILIES, build_family, family_views
from models import build, check_scores, stock_scores
from small_recognizer import write_checkpoint

from mmact_tiny import Recognizer, UserError
from mmact_tiny.errors import EXIT_ERROR, EXIT_OK
from mmact_tiny.export import onnx_file
from mmact_tiny.export.onnx_file import Network, to_onnx
from mmact_tiny.portable.recognizer import stack
from tools import export

CLIPS = ROOT / "data/tiny/val"
ROUGH = {"TSM, MobileNetV2": 5e-5}  # random weights that amplify rounding
QUICK = ("TSM", "SlowOnly", "VideoMAE")  # 2-D, 3-D, a transformer
RESNET = dict(type="ResNet", depth=18, num_stages=2, strides=(1, 2), dilations=(1, 1))


def scores_of(graph: Any, frames: np.ndarray) -> list[np.ndarray]:
    """Returns the scores of videos and of views, by ONNX Runtime."""
    session = onnxruntime.InferenceSession(graph.SerializeToString())
    return session.run(["scores", "view_scores"], {"frames": frames})


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=[] if n in QUICK else pytest.mark.slow) for n in FAMILIES],
)
def test_scores_of_a_family_are_stocks(name: str) -> None:
    """Of two videos of three views, and of one of one, by the same file."""
    model, videos = build_family(name), family_views(name, num_videos=2, num_views=3)
    alone = [{key: [each[i]] for key, each in videos.items()} for i in range(2)]
    expected = np.concatenate([stock_scores(model, one) for one in alone])
    network = Network(model, several_labels=False).eval()
    frames = stack([views.numpy() for views in videos["inputs"]])
    if name == "TANet":  # its kernels are another for each video
        with pytest.raises(UserError, match=r"torch does not export Recognizer2D with TANet: \S"):
            to_onnx(network, [frames.shape[2:5]])
        return
    graph = to_onnx(network, [frames.shape[2:5]])
    check_scores(scores_of(graph, frames)[0], expected, within=ROUGH.get(name, 1e-5))
    one = family_views(name, num_videos=1, num_views=1)
    frames = stack([one["inputs"][0].numpy()])
    got, views = scores_of(graph, frames)
    assert got.shape == (1, 7) and views.shape == (1, frames.shape[1] // network.group, 7)
    np.testing.assert_allclose(
        got, stock_scores(build_family(name), one), atol=ROUGH.get(name, 1e-5)
    )


def test_protocols_of_other_sizes_make_the_size_free() -> None:
    graph = to_onnx(Network(build_family("SlowOnly"), several_labels=False).eval(),
                    [(4, 32, 32), (4, 48, 40)])  # fmt: skip
    dims = graph.graph.input[0].type.tensor_type.shape.dim
    assert [one.dim_param or one.dim_value for one in dims] == [
        *("videos", "views", 4, "height", "width", 3)
    ]
    for shape in ((1, 1, 4, 48, 40, 3), (2, 2, 4, 40, 56, 3)):
        assert scores_of(graph, np.zeros(shape, np.uint8))[0].shape == (shape[0], 7)


def test_how_views_are_averaged() -> None:
    model = build("TSN")
    assert Network(model, several_labels=False).after == "softmax"  # of what was averaged
    assert Network(build_family("SlowOnly"), several_labels=False).after == ""
    model.cls_head.average_clips = "score"
    assert Network(model, several_labels=True).after == "sigmoid"
    frames = torch.randint(0, 256, (2, 3, 1, 48, 48, 3), dtype=torch.uint8)
    data = dict(inputs=list(frames[:, :, 0].movedim(-1, 2)))
    with torch.no_grad():
        scores, views = Network(model, several_labels=True).eval()(frames)
    data["data_samples"] = family_views("TSN", num_videos=2, num_views=1)["data_samples"]
    expected = torch.tensor(stock_scores(model, data)).sigmoid()
    np.testing.assert_allclose(scores, expected, atol=1e-6)
    np.testing.assert_allclose(views.mean(1).sigmoid(), expected, atol=1e-6)


def test_what_only_stock_can_do_is_refused() -> None:
    model = build("TSN")
    model.cls_head.average_clips = None
    with pytest.raises(UserError, match="TSNHead with average_clips=None is not exported"):
        Network(model, several_labels=False)
    model = copy.deepcopy(build_family("TPN, TSM"))
    model.test_cfg = None
    with pytest.raises(UserError, match="Recognizer2D with ResNetTSM is not exported"):
        Network(model, several_labels=False)


@pytest.fixture(scope="module")
def resnet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("resnet") / "small.pth"
    return write_checkpoint(path, dict(RESNET, out_indices=(1,)), in_channels=128)


@pytest.mark.parametrize(
    ("target", "flags"),
    [
        ("onnx", ["--int8"]),
        pytest.param("openvino", [], marks=pytest.mark.slow),
        pytest.param("openvino", ["--int8"], marks=pytest.mark.slow),
    ],
)
def test_int8_and_openvino(
    target: str, flags: list[str], resnet: Path, tmp_path: Path, capsys: Any
) -> None:
    for package in ("openvino", "nncf"):
        pytest.importorskip(package, reason="the extra int8 is not installed")
    out = tmp_path / f"model{onnx_file.SUFFIXES[target]}"
    clips = shutil.copytree(CLIPS, tmp_path / "clips")
    (clips / "a.mp4").write_text("no video")
    words = [str(resnet), "--format", target, "--out", str(out), "--videos", str(clips), *flags]
    assert export.main(words) == EXIT_OK
    said = capsys.readouterr().out
    assert said.count(f"left out: {clips / 'a.mp4'}: ") == len(flags)
    told = float(said.split("on 3 videos: ")[1].split()[0])
    assert told < (0.1 if flags else 1e-4)
    if target == "openvino":
        import openvino

        model = openvino.Core().read_model(out)
        assert model.get_rt_info(["mmact_tiny", "precision"]).value == ("int8" if flags else "fp32")
        return
    quantized = Recognizer(out, protocol="val")
    assert str(quantized.engine) == "onnx (CPU), int8" and out.stat().st_size < 1.2e6
    exact = Recognizer(resnet, protocol="val", engine="torch").scores(CLIPS / "waving_flag1.mp4")
    assert 1e-5 < np.abs(quantized.scores(CLIPS / "waving_flag1.mp4") - exact).max() < 0.1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--int8"], "--int8 and --videos: expected --format onnx or openvino"),
        (["--format", "onnx", "--out", "a.xml"], "ends in .onnx"),
        (["--format", "onnx", "--out", "folder.onnx"], "expected the name of a file"),
        (["--format", "openvino", "--out", "a.onnx"], "ends in .xml"),
        (["--format", "onnx", "--videos", "none"], "no video file none"),
        (["--format", "onnx", "--videos", "text.mp4"], "no video to compare on can be read"),
    ],
)
def test_what_is_refused(
    words: list[str], message: str, resnet: Path, tmp_path: Path, monkeypatch: Any, capsys: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(onnx_file, "to_onnx", lambda *_: None)
    Path("folder.onnx").mkdir()
    Path("text.mp4").write_text("no video")
    assert export.main([str(resnet), *words]) == EXIT_ERROR
    assert message in capsys.readouterr().err.splitlines()[-1]


def test_a_difference_is_an_error_that_says_where(
    resnet: Path, tmp_path: Path, monkeypatch: Any, capsys: Any
) -> None:
    monkeypatch.setattr(onnx_file, "TOLERANCE", 0.0)
    words = [str(resnet), "--format", "onnx", "--out", str(tmp_path / "a.onnx")]
    assert export.main([*words, "--videos", str(CLIPS)]) == EXIT_ERROR
    error = capsys.readouterr().err
    assert "not written: a score differs by " in error and "that of 'class " in error
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert export.main([*words, "--int8"]) == EXIT_ERROR
    assert "needs onnxruntime: pip install 'mmact-tiny[export]'" in capsys.readouterr().err
