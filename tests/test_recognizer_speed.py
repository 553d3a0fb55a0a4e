"""Guards of speed that need no clock: passes, decoded packets and bytes for each video."""

from pathlib import Path

import numpy as np
import pytest
import torch
from h264_videos import write_video
from small_recognizer import small_recognizer

from mmact_tiny.recognizer import Recognizer
from mmact_tiny.video.files import sample_of


@pytest.fixture
def recognizer() -> Recognizer:
    """7 classes, 3 views, random weights."""
    return small_recognizer()


def test_several_videos_share_a_forward_pass(recognizer: Recognizer, tmp_path: Path) -> None:
    videos = [write_video(tmp_path / f"{i}.mp4", num_frames=9, seed=i) for i in range(5)]
    one_by_one = [recognizer.scores(video) for video in videos]
    assert recognizer.engine.num_forwards == 5
    together = list(recognizer.score_videos(videos))
    assert recognizer.engine.num_forwards == 6
    assert np.abs(np.stack(one_by_one) - np.stack(together)).max() < 1e-5


def test_a_broken_video_keeps_its_place(recognizer: Recognizer, tmp_path: Path) -> None:
    good = write_video(tmp_path / "good.mp4", num_frames=9)
    answers = list(recognizer.score_videos([good, tmp_path / "missing.mp4", good]))
    assert isinstance(answers[0], np.ndarray) and isinstance(answers[2], np.ndarray)
    assert str(answers[1]) == f"cannot read video {tmp_path / 'missing.mp4'}: no such file"


def test_views_stay_uint8_until_their_chunk(
    recognizer: Recognizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mmact_tiny.engine import engine

    views = recognizer._pipeline(sample_of(write_video(tmp_path / "video.mp4")))["inputs"]
    assert views.dtype == torch.uint8 and views.nbytes == 3 * 3 * 48 * 48
    sizes = []
    normalize = engine.normalize
    monkeypatch.setattr(
        engine, "normalize", lambda chunk, p: sizes.append(len(chunk)) or normalize(chunk, p)
    )
    recognizer.engine._chunk_pixels = 48 * 48
    recognizer.scores(tmp_path / "video.mp4")
    assert sizes == [1, 1, 1]  # never more in float32 than a chunk
