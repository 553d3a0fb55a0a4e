from pathlib import Path

import numpy as np
import pytest
from video_files import encode_again, write_video

from mmact_tiny.prepare.examine import examine
from mmact_tiny.prepare.splits import find_near_copies, group


def thumbnails_of(*paths: Path) -> tuple[np.ndarray, np.ndarray]:
    """Returns the thumbnails and lengths of videos, as `find_near_copies` takes them."""
    records = [examine(str(path)) for path in paths]
    data = b"".join(record["thumbnails"] for record in records)
    seconds = np.array([record["duration_seconds"] for record in records])
    return np.frombuffer(data, np.uint8).reshape(-1, 8, 8, 9), seconds


@pytest.mark.parametrize("codec, suffix", [("mjpeg", ".avi"), ("libvpx-vp9", ".webm")])
def test_a_video_encoded_again_is_found(tmp_path: Path, codec: str, suffix: str) -> None:
    first = write_video(tmp_path / "a.mp4", seed=1)
    other = write_video(tmp_path / "b.mp4", seed=2)
    again = encode_again(first, tmp_path / f"c{suffix}", codec=codec)
    assert find_near_copies(*thumbnails_of(first, other, again)).tolist() == [[0, 2]]


def test_sixty_different_videos_are_different(tmp_path: Path) -> None:
    paths = [write_video(tmp_path / f"{seed}.mp4", seed=seed, frames=12) for seed in range(60)]
    assert find_near_copies(*thumbnails_of(*paths)).tolist() == []


def moving(shift: float) -> np.ndarray:
    """Returns thumbnails of one scene in which a bright spot moves, from another place on."""
    y, x = np.mgrid[:8, :9]
    scene = 40 + 15 * x + 3 * y
    spots = [80 * np.exp(-((x - (t + shift) % 9) ** 2) / 2) for t in range(8)]
    return (scene + np.array(spots)).clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize(
    "second, seconds, is_copy",
    [
        (moving(0), 2.0, True),
        (moving(0), 2.05, True),
        (moving(0), 3.0, False),  # of another length
        (moving(4.5), 2.0, False),  # another take of the scene
        (np.clip(moving(0) * 0.8 + 10, 0, 255).astype(np.uint8), 2.0, True),  # darker
        (255 - moving(0), 2.0, False),
    ],
)
def test_the_change_over_time_decides(second: np.ndarray, seconds: float, is_copy: bool) -> None:
    pairs = find_near_copies(np.stack([moving(0), second]), np.array([2.0, seconds]))
    assert len(pairs) == is_copy


@pytest.mark.parametrize("difference, is_copy", [(0, True), (8, False)])
def test_where_nothing_moves_the_pictures_have_to_agree(difference: int, is_copy: bool) -> None:
    still = np.repeat(np.random.default_rng(0).integers(0, 200, (1, 8, 9)), 8, axis=0)
    both = np.stack([still, still + difference]).astype(np.uint8)
    assert len(find_near_copies(both, np.array([2.0, 2.0]))) == is_copy


def test_groups_are_named_by_their_smallest() -> None:
    assert group(6, np.array([[4, 5], [1, 4], [0, 2]])).tolist() == [0, 1, 0, 3, 1, 1]
