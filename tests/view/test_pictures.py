"""Grad-CAM by the package is Grad-CAM by hand, and draws what the network saw."""

import importlib.util

import numpy as np
import pytest
import torch
from conftest import ROOT
from models import build, images
from PIL import Image

from mmact_tiny.errors import EXIT_ERROR, EXIT_OK, UserError
from mmact_tiny.view.cam import class_activations, draw_cam
from tools import infer as infer_tool

needs_grad_cam = pytest.mark.skipif(
    importlib.util.find_spec("pytorch_grad_cam") is None, reason="the cam extra is not installed"
)


@needs_grad_cam
@pytest.mark.parametrize(("name", "count"), [("TSN", 4), ("MobileNet", 9)])  # 8 in a pass
def test_activations_are_those_of_the_paper(name, count):
    """Selvaraju et al. 2017, equations 1 and 2: ReLU of the maps, weighted by mean gradients."""
    model = build(name)
    inputs = images(count, size=64, seed=1) / 64 - 2
    maps, scores = class_activations(model, inputs, label=2)
    assert maps.shape == (count, 64, 64) and scores.shape == (count,)
    assert np.ptp(scores) > 0.05
    features = model.backbone(inputs).detach().requires_grad_()
    logits = model.cls_head.fc_cls(features.mean((2, 3)))
    logits[:, 2].sum().backward()
    weights = features.grad.mean((2, 3), keepdim=True)
    expected = (weights * features).sum(1).relu().detach()
    assert np.abs(scores - logits.softmax(1)[:, 2].detach().numpy()).max() < 1e-5
    for one, raw in zip(maps, expected, strict=True):
        enlarged = torch.nn.functional.interpolate(raw[None, None], size=(64, 64), mode="bilinear")
        scaled = (enlarged - enlarged.min()) / (enlarged.max() - enlarged.min() + 1e-7)
        assert np.abs(one - scaled[0, 0].numpy()).max() < 1e-3


@needs_grad_cam
def test_frozen_stages_are_seen_through():
    model = build("TSN")
    for parameter in model.backbone.parameters():
        parameter.requires_grad_(False)
    maps, _ = class_activations(model, torch.randn(2, 3, 64, 64), label=0)
    assert maps.max() > 0.5 and all(p.grad is None for p in model.backbone.parameters())


def test_a_missing_extra_is_told_before_any_work(monkeypatch, capsys):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    video = str(next((ROOT / "data/tiny/val").glob("*.mp4")))
    flags = [video, "--checkpoint", "gone.pth", "--cam", "why.png"]
    assert infer_tool.main(flags) == EXIT_ERROR
    assert "pip install 'mmact-tiny[cam]'" in capsys.readouterr().err


@needs_grad_cam
def test_the_picture_has_each_frame_and_its_overlay(tiny_checkpoint, tmp_path):
    """Of ten crops the centre: `full` draws the pictures of its 25 clips, `val` those of its 3."""
    video = next((ROOT / "data/tiny/val").glob("*.mp4"))
    out = tmp_path / "why.png"
    flags = ["--checkpoint", str(tiny_checkpoint), "--engine", "torch", "--cam", str(out)]
    for protocol, columns, rows in (("val", 6, 1), ("full", 8, 7)):  # 2 pictures a clip
        assert infer_tool.main([str(video), *flags, "--protocol", protocol]) == EXIT_OK
        width, height = Image.open(out).size
        assert columns * 224 < width < (columns + 1) * 224
        assert rows * 224 < height < (rows + 1) * 270


@needs_grad_cam
def test_a_model_that_mixes_frames_is_refused():
    from small_recognizer import small_recognizer

    recognizer = small_recognizer(name="TSM")
    with pytest.raises(UserError, match=r"of single frames .TSN., not Recognizer2D with ResNetTSM"):
        draw_cam(recognizer, "video.mp4", ("class 1", 0.5), "why.png")
