"""The views that are made without MMAction2 are the ones that its test pipelines make."""

import json

import numpy as np
import pytest
from mmaction.registry import TRANSFORMS
from mmengine.registry import init_default_scope

from mmact_tiny.checkpoints.config_text import read_config, stock_configs
from mmact_tiny.errors import UserError
from mmact_tiny.export.onnx_file import portable_steps
from mmact_tiny.pipeline import PROTOCOLS, pipeline_of, with_decoder
from mmact_tiny.portable.views import Views, views_shape

TEST = dict(test_mode=True)
SAMPLERS = [
    dict(type="SampleFrames", clip_len=1, frame_interval=1, num_clips=25, **TEST),
    dict(type="SampleFrames", clip_len=1, num_clips=8, twice_sample=True, **TEST),
    dict(type="SampleFrames", clip_len=8, frame_interval=8, num_clips=1, **TEST),
    dict(type="SampleFrames", clip_len=32, frame_interval=2, num_clips=10, **TEST),
    dict(type="SampleFrames", clip_len=4, frame_interval=3, num_clips=2, twice_sample=True, **TEST),
    dict(type="SampleFrames", clip_len=16, frame_interval=4, num_clips=5, target_fps=29.97, **TEST),
    dict(type="SampleFrames", clip_len=8, num_clips=3, out_of_bound_opt="repeat_last", **TEST),
    dict(type="UniformSample", clip_len=16, num_clips=4, **TEST),
    dict(type="UniformSample", clip_len=8, **TEST),
    dict(type="DenseSampleFrames", clip_len=1, num_clips=8, **TEST),
    dict(type="DenseSampleFrames", clip_len=32, frame_interval=2, num_clips=1, **TEST),
    dict(type="DenseSampleFrames", clip_len=4, num_clips=3, num_sample_positions=4, **TEST),
]
SHORT = dict(type="Resize", scale=[-1, 40])
CUTS = [
    [SHORT, dict(type="CenterCrop", crop_size=32)],
    [SHORT, dict(type="ThreeCrop", crop_size=40)],
    [SHORT, dict(type="TenCrop", crop_size=[36, 31])],
    [dict(type="Resize", scale=[50, 34], keep_ratio=False), dict(type="TenCrop", crop_size=32)],
    [dict(type="Resize", scale=[60, 40]), dict(type="CenterCrop", crop_size=24)],
    [dict(type="Resize", scale=0.5, interpolation="bicubic"), dict(type="CenterCrop", crop_size=9)],
]


def stock(step: dict) -> object:
    """Returns MMAction2's transform of a step as JSON has it."""
    init_default_scope("mmaction")
    return TRANSFORMS.build({k: tuple(v) if isinstance(v, list) else v for k, v in step.items()})


@pytest.mark.parametrize("step", SAMPLERS, ids=lambda step: json.dumps(step))
def test_the_frames_are_stocks(step):
    theirs, ours = stock(step), Views([step])
    for total in (*range(1, 140), 299, 300, 1001):
        for fps in (30.0, 24.0, 0.0, 59.94):
            sample = dict(total_frames=total, start_index=0, avg_fps=fps)
            wanted = theirs(dict(sample))
            got = ours(sample)
            assert got["frame_inds"].tolist() == wanted["frame_inds"].tolist(), (total, fps)
            assert (got["clip_len"], got["num_clips"]) == (wanted["clip_len"], wanted["num_clips"])


@pytest.mark.parametrize("steps", CUTS, ids=lambda steps: json.dumps(steps))
@pytest.mark.parametrize("layout", ["NCHW", "NCTHW"])
def test_the_pixels_are_stocks(steps, layout):
    generator = np.random.default_rng(0)
    steps = [*steps, dict(type="FormatShape", input_format=layout), dict(type="PackActionInputs")]
    for size in ((72, 96), (97, 61), (40, 40), (41, 300)):
        images = list(generator.integers(0, 256, (6, *size, 3), dtype=np.uint8))
        sample = dict(num_clips=3, clip_len=2, imgs=images, img_shape=size, original_shape=size)
        wanted, error = dict(sample), None
        try:
            for step in steps:
                wanted = stock(step)(wanted)
        except AssertionError as refused:  # ThreeCrop of what has no side of its size
            error = refused
        if error:
            with pytest.raises(ValueError, match="differs from the crop's"):
                Views(steps)(sample)
            continue
        got = Views(steps)(sample)["inputs"]
        assert got.dtype == np.uint8 and np.array_equal(got, wanted["inputs"].numpy()), size


def test_which_pipelines_of_the_zoo_are_known():
    """All but those that read folders of frames, and one config that shifts colours in a test."""
    known, refused = 0, set()
    for path in sorted((stock_configs() / "recognition").rglob("*.py")):
        cfg = read_config(path)
        for protocol in PROTOCOLS:
            try:
                steps = pipeline_of(cfg, protocol)
            except (UserError, AttributeError):  # no such split, or several datasets
                continue
            try:
                views_shape(portable_steps(with_decoder(steps, "packets")))
                known += 1
            except UserError as error:
                refused.add(str(error).split(" of its")[0])
    assert known == 197
    assert refused == {"the step RawFrameDecode", "the step ColorJitter"}


FULL = [
    dict(type="PacketInit"),
    dict(type="SampleFrames", clip_len=4, num_clips=2, **TEST),
    dict(type="PacketDecode"),
    dict(type="ThreeCrop", crop_size=[20, 30]),
    dict(type="FormatShape", input_format="NCTHW"),
    dict(type="PackActionInputs"),
]


def changed(number: int, **settings: object) -> list[dict]:
    return [step | settings if i == number else step for i, step in enumerate(FULL)]


def resized(**settings: object) -> list[dict]:
    return [*FULL[:3], dict(type="Resize", **settings), *FULL[3:]]


def test_the_shape_of_the_views():
    for settings in (dict(scale=[-1, 20]), dict(scale=[30, 20], keep_ratio=False), dict(scale=0.5)):
        assert views_shape(resized(**settings)) == (6, 4, 30, 20)
    assert views_shape(FULL) == (6, 4, 30, 20)
    assert views_shape(changed(4, input_format="NCHW")) == (24, 1, 30, 20)


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        (changed(0, type="os.system"), "the step os.system of its test pipeline is none of"),
        (changed(1, jitter=1), "SampleFrames of its test pipeline got an unexpected keyword"),
        (changed(1, test_mode=False), "draws at random: expected test_mode=True"),
        (changed(1, num_clips=10**6), "makes 3000000 views of 4 frames"),
        (changed(1, num_clips="3"), "has num_clips='3': expected a whole number, 1 to 1000000"),
        (changed(1, num_clips=-1), "SampleFrames of its test pipeline has num_clips=-1: expected"),
        (changed(1, num_clips=True), "has num_clips=True: expected a whole number"),
        (changed(1, clip_len=0), "has clip_len=0: expected a whole number"),
        (changed(1, frame_interval=0), "has frame_interval=0: expected a whole number"),
        (changed(1, target_fps=0), "has target_fps=0: expected frames a second"),
        (changed(1, out_of_bound_opt="none"), "'none': expected loop or repeat_last"),
        (changed(3, crop_size=5000), "has crop_size=5000: expected one or two sides, 1 to 4096"),
        (changed(3, crop_size=[20, 0]), r"has crop_size=\[20, 0\]: expected one or two sides"),
        (changed(4, input_format="NHWC"), "has input_format='NHWC': expected NCHW or NCTHW"),
        (resized(scale=-5), "Resize of its test pipeline has scale=-5: expected a factor, or two"),
        (resized(scale=[-1, -1]), r"has scale=\[-1, -1\]: expected a factor, or two sides"),
        (resized(scale=[-1, 40], interpolation="best"), "'best': expected nearest or bilinear or"),
        (resized(scale=[-1, 16]), r"cuts 20 x 30 pixels, resized to \[-1, 16\]"),
        (resized(scale=[28, 28]), r"cuts 20 x 30 pixels, resized to \[28, 28\]"),
        (resized(scale=[-1, 40], keep_ratio=False), r"cuts .*, resized to \[-1, 40\]"),
        ([dict(type="PacketInit"), dict(type="SampleFrames", **TEST)], "missing a required"),
        (FULL[1:], "expected PacketInit, Sample, PacketDecode, Crop, FormatShape"),
        (FULL[:3] + FULL[4:], "expected PacketInit"),
        ([], "expected PacketInit"),
    ],
)
def test_what_is_no_pipeline(steps, message):
    with pytest.raises(UserError, match=message):
        views_shape(steps)
