"""`tools/quantize.py`: the int8 model that it makes is found, and scores nearly as fp32 does."""

import contextlib
import importlib.util
import io
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import ROOT
from small_recognizer import write_checkpoint

from mmact_tiny.errors import EXIT_ERROR, EXIT_OK
from mmact_tiny.export import int8 as module
from tools import infer, quantize, test

CLIPS = ROOT / "data" / "tiny" / "val"
INSTALLED = all(importlib.util.find_spec(name) for name in ("openvino", "nncf"))
needs_nncf = pytest.mark.skipif(not INSTALLED, reason="the int8 extra is not installed")


BACKBONE = dict(depth=18, num_stages=2, strides=(1, 2), dilations=(1, 1), out_indices=(1,))


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small ResNet of random weights, whose scores differ from clip to clip."""
    path = tmp_path_factory.mktemp("run") / "small.pth"
    return write_checkpoint(path, dict(type="ResNet", **BACKBONE), in_channels=128)


@pytest.fixture(scope="module")
def printed(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """What the tool prints about the bundled validation clips and a file that is no video."""
    folder = tmp_path_factory.mktemp("videos")
    shutil.copytree(CLIPS, folder / "val")
    (folder / "no.mp4").write_text("not a video")
    text = io.StringIO()
    with contextlib.redirect_stdout(text):
        assert quantize.main([str(folder), "--checkpoint", str(checkpoint)]) == EXIT_OK
    return text.getvalue()


def scores(checkpoint: Path, out: Path, *flags: str) -> np.ndarray:
    """Returns the scores that `tools/infer.py` gives the bundled validation clips, by class."""
    words = [str(CLIPS), "--checkpoint", str(checkpoint), "--out", str(out), "--protocol", "val"]
    assert infer.main([*words, "--engine", "openvino", *flags]) == EXIT_OK
    rows = [
        sorted((p["label"], p["score"]) for p in row["predictions"])
        for row in json.loads(out.read_text())
    ]
    return np.array([[score for _, score in row] for row in rows])


@needs_nncf
def test_it_says_what_it_made_and_how_near_it_is(checkpoint: Path, printed: str) -> None:
    left_out, calibrated, compared, written, following = printed.splitlines()[-5:]
    assert "no.mp4" in left_out and left_out.startswith("left out: cannot read video ")
    num = len(list(CLIPS.glob("*.mp4")))
    assert calibrated == f"calibrated on {3 * num} views of {num} videos"
    assert f"the same best label for {num} of {num} videos" in compared
    path = Path(written.removeprefix("written: "))
    assert path.is_file() and path.parent == checkpoint.with_suffix(".openvino")
    assert following == (
        f"next: python tools/infer.py VIDEO --checkpoint {checkpoint} --precision int8"
    )


@needs_nncf
def test_inference_with_it_is_near_to_fp32(checkpoint: Path, printed: str, tmp_path: Path) -> None:
    exact = scores(checkpoint, tmp_path / "fp32.json", "--precision", "fp32")
    fast = scores(checkpoint, tmp_path / "int8.json", "--precision", "int8")
    difference = np.abs(fast - exact).max()
    assert 1e-5 < difference < 0.1 < np.ptp(exact, axis=0).max() / 5
    told = float(printed.split("largest difference from fp32 ")[1].split(",")[0])
    assert told == pytest.approx(difference, abs=1e-4)


@needs_nncf
def test_a_test_takes_it(checkpoint: Path, printed: str, tmp_path: Path) -> None:
    out = tmp_path / "test.json"
    words = ["configs/tsn_tiny.py", str(checkpoint), "--protocol", "val", "--out", str(out)]
    small = [f"model.backbone.{key}={value}" for key, value in BACKBONE.items()]
    small = [option if ".depth" in option else f"+{option}" for option in small]
    small += ["model.cls_head.in_channels=128"]
    flags = ["--precision", "int8", "--work-dir", str(tmp_path), "--cfg-options", *small]
    assert test.main([*words, *flags]) == EXIT_OK
    record = json.loads(out.read_text())
    assert (record["precision"], record["engine"]) == ("int8", "openvino")
    expected = scores(checkpoint, tmp_path / "int8.json", "--precision", "int8")
    got = {Path(row["video"]).name: row["scores"] for row in record["videos"]}
    named = [got[path.name] for path in sorted(CLIPS.glob("*.mp4"))]
    np.testing.assert_allclose(named, expected, atol=1e-5)


def refused(capsys: pytest.CaptureFixture[str], main: Any, *words: object) -> str:
    assert main([str(word) for word in words]) == EXIT_ERROR
    return capsys.readouterr().err


def test_what_cannot_be_done_is_said(
    checkpoint: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clip = sorted(CLIPS.glob("*.mp4"))[0]
    rubbish = tmp_path / "rubbish.mp4"
    rubbish.write_text("not a video")
    other = shutil.copy(checkpoint, tmp_path / "other.pth")
    if not INSTALLED:
        assert "pip install 'mmact-tiny[int8]'" in refused(capsys, quantize.main, clip)
        return
    error = refused(capsys, infer.main, clip, "--checkpoint", other, "--precision", "int8")
    assert "no int8 model of these weights" in error and "python tools/quantize.py" in error
    torch_engine = ("--precision", "int8", "--engine", "torch")
    error = refused(capsys, infer.main, clip, "--checkpoint", other, *torch_engine)
    assert "int8 needs the engine openvino, not torch" in error
    error = refused(capsys, quantize.main, rubbish, "--checkpoint", other)
    assert "no video to quantize with" in error and "rubbish.mp4" in error
    monkeypatch.setattr(module.importlib.util, "find_spec", lambda name: None)
    assert "pip install 'mmact-tiny[int8]'" in refused(capsys, quantize.main, clip)
