"""The engine's scores are stock's, whatever the chunks, in fewer and smaller forward passes."""

import copy
import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from mmaction.registry import MODELS
from mmaction.structures import ActionDataSample
from mmengine.registry import init_default_scope

from mmact_tiny.engine.engine import (
    Engine,
    choose_precision,
    fold_batchnorm,
    frames_together,
)
from mmact_tiny.engine.openvino import cache_dir_of, fingerprint, why_not
from mmact_tiny.errors import UserError

PREPROCESSOR = dict(
    type="ActionDataPreprocessor",
    mean=[123.675, 116.28, 103.53],
    std=[58.395, 57.12, 57.375],
    format_shape="NCHW",
)
HEADS = {
    "TSN": dict(type="TSNHead", in_channels=2048),
    "TSM": dict(type="TSMHead", in_channels=2048, num_segments=4),
    "TANet": dict(type="TSMHead", in_channels=2048, num_segments=4, is_shift=False),
    "MobileNet": dict(type="TSNHead", in_channels=1280),
}
BACKBONES = {
    "TSN": dict(type="ResNet", depth=50),
    "TSM": dict(type="ResNetTSM", depth=50, num_segments=4, shift_div=8),
    "TANet": dict(type="TANet", depth=50, num_segments=4),
    "MobileNet": dict(type="MobileNetV2"),
}
needs_openvino = pytest.mark.skipif(
    importlib.util.find_spec("openvino") is None, reason="the openvino extra is not installed"
)


def build(name: str, **settings: Any) -> torch.nn.Module:
    """Returns a recognizer of 7 classes with random weights and BatchNorm statistics."""
    init_default_scope("mmaction")
    torch.manual_seed(0)
    backbone = dict(pretrained=None, norm_eval=False, **BACKBONES[name])
    head = dict(num_classes=7, average_clips="prob", **HEADS[name])
    preprocessor = dict(PREPROCESSOR, **settings)
    model = MODELS.build(
        dict(type="Recognizer2D", backbone=backbone, cls_head=head, data_preprocessor=preprocessor)
    )
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.8, 1.2)
            torch.nn.init.uniform_(module.weight, 0.5, 1)
    torch.nn.init.normal_(model.cls_head.fc_cls.weight, std=0.05)
    return model.eval()


def views(num_views: int, *, num_videos: int = 1, size: int = 48) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(num_views)
    shape = (num_views, 3, size, size)
    return dict(
        inputs=[
            torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
            for _ in range(num_videos)
        ],
        data_samples=[ActionDataSample() for _ in range(num_videos)],
    )


def scores(samples: list[Any]) -> torch.Tensor:
    return torch.stack([sample.pred_score for sample in samples])


def stock_scores(model: torch.nn.Module, data: dict[str, Any]) -> torch.Tensor:
    with torch.inference_mode():
        return scores(copy.deepcopy(model).test_step(data))


@pytest.mark.parametrize(
    ("name", "num_videos", "num_views", "num_forwards"),
    [
        ("TSN", 1, 10, 3),  # chunks of 4, 4 and 2
        ("TSN", 2, 10, 6),
        ("TSN", 5, 2, 3),  # two videos in a forward pass
        ("MobileNet", 1, 6, 2),
        ("TSM", 2, 8, 4),
        ("TANet", 1, 8, 2),
    ],
)
def test_fp32_scores_are_stocks(
    name: str, num_videos: int, num_views: int, num_forwards: int
) -> None:
    model = build(name)
    expected = stock_scores(model, views(num_views, num_videos=num_videos))
    engine = Engine(model, precision="fp32", engine="torch")
    engine._chunk_pixels = 4 * 48 * 48
    got = scores(engine.test_step(views(num_views, num_videos=num_videos)))
    assert got.shape == (num_videos, 7)
    assert expected.max() < 0.9  # not saturated: a difference would show
    torch.testing.assert_close(got, expected, atol=1e-5, rtol=0)
    assert engine.num_forwards == num_forwards


def test_bf16_scores_are_close_and_name_the_same_class() -> None:
    model = build("TSN")
    expected = stock_scores(model, views(5, num_videos=3))
    got = scores(Engine(model, precision="bf16").test_step(views(5, num_videos=3)))
    assert got.dtype == torch.float32
    torch.testing.assert_close(got, expected, atol=0.02, rtol=0)
    assert got.argmax(1).tolist() == expected.argmax(1).tolist()


def test_channel_order_is_the_preprocessors() -> None:
    model = build("TSN", to_rgb=True)
    expected = stock_scores(model, views(2))
    assert not torch.allclose(expected, stock_scores(build("TSN"), views(2)), atol=1e-4)
    got = scores(Engine(model).test_step(views(2)))
    torch.testing.assert_close(got, expected, atol=1e-5, rtol=0)


def test_what_is_not_known_goes_through_stocks_test_step() -> None:
    model = build("TSN")
    expected = stock_scores(model, views(3))
    model.test_cfg = dict(fcn_test=False, max_testing_views=None)
    assert frames_together(model) == 1
    subclass = type("Mine", (type(model),), {})
    model.__class__ = subclass
    assert frames_together(model) is None
    engine = Engine(model, precision="bf16", engine="auto")
    assert str(engine) == "stock, fp32"
    torch.testing.assert_close(scores(engine.test_step(views(3))), expected, atol=0, rtol=0)


@pytest.mark.parametrize("name, together", [("TSN", 1), ("MobileNet", 1), ("TSM", 4), ("TANet", 4)])
def test_frames_that_are_mixed_stay_together(name: str, together: int) -> None:
    assert frames_together(build(name)) == together


def test_folding_leaves_no_batchnorm_in_a_resnet() -> None:
    model = build("TSN")
    fold_batchnorm(model.backbone)
    assert not [m for m in model.modules() if isinstance(m, torch.nn.BatchNorm2d)]


def test_precisions_and_engines_are_checked() -> None:
    cpu = torch.device("cpu")
    with pytest.raises(UserError, match="expected auto, fp32, bf16, fp16, int8"):
        choose_precision("int4", cpu)
    with pytest.raises(UserError, match="fp16 needs a CUDA device"):
        choose_precision("fp16", cpu)
    with pytest.raises(UserError, match="engine 'tensorrt': expected one of auto"):
        Engine(build("MobileNet"), engine="tensorrt")
    with pytest.raises(UserError, match="takes each frame by itself"):
        Engine(build("TSM"), engine="openvino")
    with pytest.raises(UserError, match="int8 needs the engine openvino, not torch"):
        Engine(build("MobileNet"), precision="int8", engine="torch")


def test_a_missing_openvino_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    reason = why_not(torch.device("cpu"), 1)
    assert reason is not None and "pip install 'mmact-tiny[openvino]'" in reason
    model = build("MobileNet")
    with pytest.raises(UserError, match="not installed"):
        Engine(model, engine="openvino")
    assert Engine(model, engine="auto").name == "torch"


@needs_openvino
def test_openvino_scores_are_stocks_and_the_export_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mmact_tiny.engine.openvino as openvino_engine

    model = build("MobileNet")
    expected = stock_scores(model, views(3, num_videos=2))
    exports = []
    export = openvino_engine.export
    monkeypatch.setattr(openvino_engine, "export", lambda model: exports.append(1) or export(model))
    for precision, tolerance in (("fp32", 1e-5), ("bf16", 0.02)):
        engine = Engine(model, precision=precision, engine="openvino", cache_dir=tmp_path)
        got = scores(engine.test_step(views(3, num_videos=2)))
        torch.testing.assert_close(got, expected, atol=tolerance, rtol=0)
    assert len(exports) == 1
    kept = sorted(path.name for path in tmp_path.iterdir())
    assert kept == [f"openvino-{fingerprint(model)}.{end}" for end in ("bin", "xml")]
    with torch.no_grad():
        next(model.backbone.parameters()).mul_(2)
    Engine(model, engine="openvino", cache_dir=tmp_path)  # other weights: exported again
    assert len(exports) == 2
    assert sorted(path.name for path in tmp_path.iterdir()) != kept
    assert len(list(tmp_path.iterdir())) == 2


@needs_openvino
def test_a_signal_is_survived_after_several_openvino_engines() -> None:
    code = (
        "import signal\n"
        "from test_engine import Engine, build\n"
        "engine = Engine(build('MobileNet'), engine='openvino')\n"
        "engine = Engine(build('MobileNet'), engine='openvino')\n"
        "del engine\n"
        "signal.signal(signal.SIGINT, lambda *_: print('interrupted', flush=True))\n"
        "signal.raise_signal(signal.SIGINT)\n"
    )
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, env=environ)
    assert (done.stdout, done.returncode) == ("interrupted\n", 0), done.stderr


@needs_openvino
def test_openvino_sends_no_telemetry() -> None:
    code = (
        "from mmact_tiny.engine.openvino import import_openvino; import_openvino()\n"
        "from openvino.tools.ovc import convert_impl, telemetry_utils\n"
        "print(convert_impl.tm.__name__, telemetry_utils.tm.__name__)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["openvino.tools.ovc.telemetry_stub"] * 2


def test_the_export_is_kept_beside_the_checkpoint(tmp_path: Path) -> None:
    assert cache_dir_of(tmp_path / "epoch_1.pth") == tmp_path / "epoch_1.openvino"
