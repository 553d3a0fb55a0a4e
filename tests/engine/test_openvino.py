"""OpenVINO's scores are stock's; its export is kept as long as the weights are the same."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from models import SETTINGS, build, check_scores, scores_of, stock_scores, views

from mmact_tiny.engine import openvino
from mmact_tiny.engine.engine import Engine
from mmact_tiny.engine.openvino import exported_path, fingerprint, keep, why_not
from mmact_tiny.errors import UserError

pytest.importorskip("openvino", reason="the openvino extra is not installed")


@pytest.fixture
def exports(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Has an entry for each export."""
    made: list[int] = []
    export = openvino.export
    monkeypatch.setattr(openvino, "export", lambda *args: made.append(1) or export(*args))
    return made


@pytest.mark.parametrize("settings", SETTINGS)
def test_fp32_scores_are_stocks(settings: str) -> None:
    model = build("TSN", **SETTINGS[settings])
    engine = Engine(model, engine="auto")
    assert str(engine) == "openvino, fp32"
    engine._chunk_pixels = 2 * 48 * 48  # several forward passes
    for size in (48, 64):
        check_scores(
            scores_of(engine.test_step(views(3, num_videos=2, size=size))),
            stock_scores(model, views(3, num_videos=2, size=size)),
        )


def test_an_export_serves_every_precision_until_the_weights_change(
    tmp_path: Path, exports: list[int]
) -> None:
    model = build("TSN")
    expected = stock_scores(model, views(3, num_videos=2))
    for precision, within in (("fp32", 1e-5), ("bf16", 0.02), ("fp32", 1e-5)):
        engine = Engine(model, precision=precision, engine="openvino", cache_dir=tmp_path)
        got = scores_of(engine.test_step(views(3, num_videos=2)))
        check_scores(got, expected, within=within)
    assert len(exports) == 1
    kept = {f"openvino-{fingerprint(model)}.{end}" for end in ("bin", "xml")}
    assert {path.name for path in tmp_path.iterdir()} == kept
    with torch.no_grad():
        next(model.backbone.parameters()).mul_(2)
    Engine(model, engine="openvino", cache_dir=tmp_path)
    assert len(exports) == 2
    kept = {f"openvino-{fingerprint(model)}.{end}" for end in ("bin", "xml")}
    assert {path.name for path in tmp_path.iterdir()} == kept


def test_other_settings_are_another_export() -> None:
    prints = {fingerprint(build("TSN", **settings)) for settings in SETTINGS.values()}
    model = build("TSN")
    prints.add(fingerprint(model))  # the same as the first
    model.cls_head.avg_pool = None
    prints.add(fingerprint(model))
    model.data_preprocessor.mean += 1
    prints.add(fingerprint(model))
    model.data_preprocessor.to_rgb = True
    prints.add(fingerprint(model))
    model.backbone.layer1[0].conv1.conv.stride = (2, 2)
    prints.add(fingerprint(model))
    assert len(prints) == len(SETTINGS) + 4


def test_a_damaged_export_is_made_again(
    tmp_path: Path, exports: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    model = build("TSN")
    path = exported_path(model, tmp_path)
    Engine(model, engine="openvino", cache_dir=tmp_path)
    path.write_text("rubbish")
    Engine(model, engine="openvino", cache_dir=tmp_path)
    assert f"exporting again: cannot read {path}" in caplog.text
    path.with_suffix(".bin").unlink()
    Engine(model, engine="openvino", cache_dir=tmp_path)
    assert len(exports) == 3


def test_an_int8_model_goes_with_its_weights(tmp_path: Path) -> None:
    model = build("TSN")
    other = tmp_path / "openvino-0123-int8.xml"
    own = exported_path(model, tmp_path, int8=True)
    for path in (other, own, tmp_path / "notes.txt"):
        path.touch()
    assert own.name == f"openvino-{fingerprint(model)}-int8.xml"
    keep(openvino.export(model), exported_path(model, tmp_path))
    assert not other.exists() and own.exists() and (tmp_path / "notes.txt").exists()


def test_an_export_that_cannot_be_kept_is_used(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    Engine(build("TSN"), engine="openvino", cache_dir=tmp_path / "file")
    assert "the exported model is not kept: " in caplog.text


def test_a_missing_int8_model_names_the_tool(tmp_path: Path) -> None:
    model = build("TSN")
    with pytest.raises(UserError, match=r"not a local file\n  make it .* tools/quantize.py"):
        Engine(model, precision="int8", engine="openvino")
    with pytest.raises(UserError, match=f"no int8 model of these weights in {tmp_path}\n"):
        Engine(model, precision="int8", engine="auto", cache_dir=tmp_path)
    exported_path(model, tmp_path, int8=True).write_text("rubbish")
    with pytest.raises(UserError, match=f"int8: cannot read {tmp_path}/openvino-"):
        Engine(model, precision="int8", engine="auto", cache_dir=tmp_path)


def test_a_gpu_is_not_for_it() -> None:
    assert why_not(torch.device("cuda"), 1) == "it runs on a CPU, not on cuda"
    assert why_not(torch.device("cpu"), 1) is None
    assert why_not(torch.device("cpu"), None) is not None


def test_a_signal_is_survived_after_several_engines() -> None:
    code = (
        "import signal\n"
        "from models import build\n"
        "from mmact_tiny.engine.engine import Engine\n"
        "engine = Engine(build('TSN'), engine='openvino')\n"
        "engine = Engine(build('TSN'), engine='openvino')\n"
        "del engine\n"
        "signal.signal(signal.SIGINT, lambda *_: print('interrupted', flush=True))\n"
        "signal.raise_signal(signal.SIGINT)\n"
    )
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, env=environ)
    assert (done.stdout, done.returncode) == ("interrupted\n", 0), done.stderr


def test_no_telemetry_is_sent() -> None:
    code = (
        "from mmact_tiny.engine.openvino import import_openvino; import_openvino()\n"
        "from openvino.tools.ovc import convert_impl, telemetry_utils\n"
        "print(convert_impl.tm.__name__, telemetry_utils.tm.__name__)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["openvino.tools.ovc.telemetry_stub"] * 2
