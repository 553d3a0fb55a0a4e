"""The bundled clips: what is committed is what the code renders, and colour does not tell."""

from pathlib import Path

import av
import numpy as np
import pytest
from conftest import ROOT

from mmact_tiny.errors import EXIT_ERROR
from tools import render_tiny
from tools.render_tiny import ACTIONS, FPS, NUM_CLIPS, SEED, clip_rng, encode_clip, render_clip

TINY = ROOT / "data" / "tiny"
NAMES = ["bouncing ball", "falling rain", "rising bubbles", "waving flag"]


def decode(path: Path) -> np.ndarray:
    """Returns every frame, (frames, h, w, 3) RGB."""
    with av.open(str(path)) as container:
        return np.stack([f.to_ndarray(format="rgb24") for f in container.decode(video=0)])


def annotations(split: str) -> list[tuple[str, int]]:
    lines = (TINY / f"{split}.txt").read_text().splitlines()
    return [(name, int(label)) for name, label in (line.split(" ") for line in lines)]


@pytest.fixture(scope="module")
def clips() -> dict[str, list[tuple[np.ndarray, int]]]:
    """The committed clips, decoded once: (frames, label) by split."""
    return {
        split: [(decode(TINY / split / name), label) for name, label in annotations(split)]
        for split in NUM_CLIPS
    }


def test_layout():
    assert (TINY / "label_map.txt").read_text().splitlines() == NAMES == list(ACTIONS)
    for split, num_clips in (("train", 10), ("val", 4)):
        listed = annotations(split)
        assert sorted(label for _, label in listed) == sorted([0, 1, 2, 3] * num_clips)
        assert {name for name, _ in listed} == {p.name for p in (TINY / split).iterdir()}
        assert all(name.startswith(NAMES[label].replace(" ", "_")) for name, label in listed)
    assert sum(path.stat().st_size for path in TINY.rglob("*.mp4")) < 1_100_000


def test_each_clip_is_a_short_h264_video_with_motion(clips):
    for split in NUM_CLIPS:
        for (name, _), (frames, _) in zip(annotations(split), clips[split], strict=True):
            with av.open(str(TINY / split / name)) as container:
                assert container.streams.video[0].codec_context.name == "h264"
            num_frames, *size = frames.shape[:3]
            assert 2 <= num_frames / FPS <= 4, name
            assert min(size) >= 112, name
            moved = np.abs(frames[num_frames // 3].astype(int) - frames[0]).max(-1) > 40
            assert moved.mean() > 0.02, name  # of the pixels


def test_no_validation_clip_is_a_training_clip(clips):
    openings = [frames[0] for split in NUM_CLIPS for frames, _ in clips[split]]
    for i, first in enumerate(openings):
        for second in openings[:i]:
            same_size = first.shape == second.shape
            assert not same_size or np.abs(first.astype(int) - second).mean() > 5


def test_rendering_twice_gives_the_same_bytes(tmp_path):
    for name in ("first.mp4", "second.mp4"):
        encode_clip(tmp_path / name, render_clip(1, clip_rng(SEED, "val", 0)))
    assert (tmp_path / "first.mp4").read_bytes() == (tmp_path / "second.mp4").read_bytes()


@pytest.mark.parametrize("label", range(4))
def test_committed_clip_is_what_the_code_renders(label, clips, tmp_path):
    path = tmp_path / "fresh.mp4"
    encode_clip(path, render_clip(label, clip_rng(SEED, "val", 3)))
    committed, fresh = clips["val"][4 * label + 3][0], decode(path)
    assert committed.shape == fresh.shape
    # another x264 may choose other bits for the same picture, another seed is 30 or more away
    assert np.abs(committed.astype(int) - fresh).mean() < 3


@pytest.mark.parametrize("features", ["mean", "mean and deviation"])
def test_colour_does_not_give_the_class_away(features, clips):
    """A nearest-class-mean classifier of the clip's colour stays near the 25% of a guess."""

    def describe(frames: np.ndarray) -> np.ndarray:
        pixels = frames[::5].reshape(-1, 3) / 255
        mean = pixels.mean(0)
        return mean if features == "mean" else np.concatenate([mean, pixels.std(0)])

    x = {split: np.stack([describe(frames) for frames, _ in clips[split]]) for split in clips}
    y = {split: np.array([label for _, label in clips[split]]) for split in clips}
    centers = np.stack([x["train"][y["train"] == label].mean(0) for label in range(4)])
    distance = np.linalg.norm(x["val"][:, None] - centers, axis=-1)
    assert (distance.argmin(1) == y["val"]).mean() < 0.5


def test_tool_renders_the_dataset(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(render_tiny, "NUM_CLIPS", {"train": 1, "val": 1})
    assert render_tiny.main(["--out", str(tmp_path), "--seed", "7"]) == 0
    assert "8 clips in" in capsys.readouterr().out
    (tmp_path / "file").touch()
    assert render_tiny.main(["--out", str(tmp_path / "file")]) == EXIT_ERROR
    assert f"cannot write {tmp_path}/file: Not a directory" in capsys.readouterr().err
    assert (tmp_path / "label_map.txt").read_text() == (TINY / "label_map.txt").read_text()
    for split in ("train", "val"):
        lines = (tmp_path / f"{split}.txt").read_text().splitlines()
        assert lines == [f"{name.replace(' ', '_')}1.mp4 {i}" for i, name in enumerate(NAMES)]
        assert all(len(decode(tmp_path / split / line.split()[0])) >= 30 for line in lines)
    drawn, other = (decode(tmp_path / split / "waving_flag1.mp4") for split in ("train", "val"))
    assert drawn.shape != other.shape or np.abs(drawn.astype(int) - other).mean() > 5
