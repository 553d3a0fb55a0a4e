"""Broken, odd and hostile files are read or refused in a line; nothing hangs, nothing crashes."""

import sys
import time
from pathlib import Path
from typing import Any

import pytest
from bad_inputs import NAMES, READABLE, TABLE, UNREADABLE, is_root, mutants, write_clip
from jobs import PIPELINE

from mmact_tiny import compat
from mmact_tiny.errors import UserError
from mmact_tiny.video.isolated import GuardedReader

compat.repair()

LIMIT_SECONDS = 60


@pytest.fixture(scope="module")
def reader() -> Any:
    import mmaction.datasets  # noqa: F401
    from mmengine.dataset import Compose
    from mmengine.registry import init_default_scope

    init_default_scope("mmaction")
    guarded = GuardedReader(Compose(PIPELINE), LIMIT_SECONDS)
    yield guarded
    guarded.close()


def read(reader: GuardedReader, path: Path) -> str:
    """Returns what became of a file: `readable`, or the reason."""
    from mmact_tiny.video.files import sample_of

    try:
        data = reader(sample_of(path))
    except UserError as error:
        return str(error)
    assert tuple(data["inputs"].shape) == (2, 3, 32, 32)
    return READABLE


def test_the_content_of_what_is_no_video_is_not_printed(tmp_path, capfd):
    """decord logs it as the name of a file; escape sequences would reach the terminal."""
    compat.import_transforms()
    from mmaction.datasets.transforms import DecordInit

    video = tmp_path / "video.mp4"
    video.write_bytes(b"\x1b[31mrubbish" * 1000)
    with pytest.raises(RuntimeError, match=r"^it is not a video that can be read$"):
        DecordInit()(dict(filename=str(video)))
    print("still there", file=sys.stderr)
    assert capfd.readouterr().err == "still there\n"


@pytest.mark.parametrize("name", TABLE)
def test_every_input_is_read_or_refused_in_a_line(reader, tmp_path, name):
    if name == "no permission" and is_root():
        pytest.skip("root may read everything")
    write, expected = TABLE[name]
    path = tmp_path / "clip.mp4"
    write(path)
    began = time.monotonic()
    found = read(reader, path)
    assert time.monotonic() - began < LIMIT_SECONDS
    assert "\n" not in found
    if expected == READABLE:
        assert found == READABLE
    elif expected == UNREADABLE:
        assert found != READABLE


@pytest.mark.parametrize("name", NAMES)
def test_odd_names_are_read(reader, tmp_path, name):
    assert read(reader, write_clip(tmp_path / name)) == READABLE


def check_mutants(reader: GuardedReader, folder: Path, clip: Path, count: int) -> dict[str, int]:
    """Returns how many mutants were readable and not; each of them has to come to an end."""
    counts = {READABLE: 0, UNREADABLE: 0}
    for number, data in enumerate(mutants(clip.read_bytes(), count)):
        path = folder / f"{number}.mp4"
        path.write_bytes(data)
        found = read(reader, path)
        assert "timed out" not in found
        counts[READABLE if found == READABLE else UNREADABLE] += 1
        path.unlink()
    return counts


def test_clips_with_flipped_bytes(reader, tmp_path):
    clip = write_clip(tmp_path / "clip.mp4")
    counts = check_mutants(reader, tmp_path, clip, 20)
    assert sum(counts.values()) == 20 and counts[READABLE] and counts[UNREADABLE]


@pytest.mark.slow
def test_500_mutants_of_a_real_video(reader, tmp_path, real_data):
    videos = (real_data / "exercise_or_typing" / "train").glob("*.mp4")
    clip = min(videos, key=lambda path: path.stat().st_size)
    counts = check_mutants(reader, tmp_path, clip, 500)
    print(f"500 mutants of {clip.name}: {counts}")
    assert sum(counts.values()) == 500
