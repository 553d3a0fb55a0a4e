"""The pictures that a pipeline hands on, of the bundled clips."""

import base64
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from conftest import ROOT
from mmengine.registry import DefaultScope
from run_folders import PIPELINE

from mmact_tiny.report.frames import read_frames

CLIP = str(sorted((ROOT / "data" / "tiny" / "val").glob("*.mp4"))[0])
VAL = [
    *PIPELINE[:1],
    dict(type="SampleFrames", clip_len=1, frame_interval=1, num_clips=3, test_mode=True),
    *PIPELINE[2:4],
    dict(type="CenterCrop", crop_size=96),
    *PIPELINE[5:],
]


def config(pipeline: list[dict], **more: Any) -> dict[str, Any]:
    return dict(test_dataloader=dict(dataset=dict(pipeline=pipeline)), **more)


@pytest.mark.parametrize("scope", ["mmengine", "mmaction"])
def test_the_frames_of_the_val_protocol_as_the_network_saw_them(scope: str) -> None:
    """In any default scope: a Runner leaves one behind that may know no transform of MMAction2."""
    with DefaultScope.overwrite_default_scope(scope):
        video = read_frames(config(VAL), [CLIP])[CLIP]
    assert (video["num_sampled"], video["crops"]) == (3, 1)
    total = video["num_frames"]
    # The middle of each third, as SampleFrames has it in test mode.
    assert [frame["index"] for frame in video["frames"]] == [
        int(total / 3 * (i + 0.5)) for i in range(3)
    ]
    assert {(frame["width"], frame["height"]) for frame in video["frames"]} == {(96, 96)}


def test_eight_of_25_frames_whole_where_ten_crops_follow() -> None:
    video = read_frames(config(PIPELINE), [CLIP])[CLIP]
    assert (video["num_sampled"], video["crops"], len(video["frames"])) == (25, 10, 8)
    indices = [frame["index"] for frame in video["frames"]]
    assert indices == sorted(indices)
    # 144 x 176, resized to 110 x 134, then to the height of a picture.
    assert {(frame["width"], frame["height"]) for frame in video["frames"]} == {(92, 112)}


def test_a_picture_is_the_frame_in_its_colours() -> None:
    frame = read_frames(config(VAL), [CLIP])[CLIP]["frames"][1]
    import cv2

    data = np.frombuffer(base64.b64decode(frame["jpeg"]), np.uint8)
    shown = cv2.imdecode(data, cv2.IMREAD_COLOR)[..., ::-1].astype(float)
    with av.open(CLIP) as container:
        decoded = [image.to_ndarray(format="rgb24") for image in container.decode(video=0)]
    whole = decoded[frame["index"]]
    height, width = whole.shape[:2]
    scale = 110 / min(height, width)
    small = cv2.resize(whole, (round(width * scale), round(height * scale))).astype(float)
    top, left = ((side - 96) // 2 for side in small.shape[:2])
    assert np.abs(shown - small[top : top + 96, left : left + 96]).mean() < 12


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        (None, "the config of the test is not there"),
        ({}, "the config has no test pipeline"),
        (config([dict(type="NoSuchTransform"), *VAL]), "cannot be built here"),
        (config([dict(type="subprocess.Popen"), *VAL]), "is refused"),
        (config(VAL, custom_imports=dict(imports=["os"])), "is refused"),
    ],
)
def test_a_pipeline_that_cannot_be_built_is_said_for_each_video(wanted: Any, words: str) -> None:
    (video,) = read_frames(wanted, [CLIP]).values()
    assert words in video["error"]


def test_a_bad_video_costs_its_own_frames_only(tmp_path: Path) -> None:
    broken, gone = str(tmp_path / "broken.mp4"), str(tmp_path / "gone.mp4")
    Path(broken).write_bytes(b"not a video")
    shown = read_frames(config(VAL), [broken, gone, "", CLIP])
    assert [video for video in shown if "error" not in shown[video]] == [CLIP]
    assert "no such file" in shown[gone]["error"]
