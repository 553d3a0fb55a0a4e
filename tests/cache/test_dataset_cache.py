"""The clip cache through the tools: filled by prepare_data.py and train.py, bounded, cleared."""

import shutil
from pathlib import Path

import pytest
from conftest import ROOT

from mmact_tiny.cache.cache import ClipCache
from mmact_tiny.errors import EXIT_OK
from tools import prepare_data, train

TINY = ROOT / "data" / "tiny"


@pytest.fixture(autouse=True)
def cache_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = tmp_path / "clips"
    monkeypatch.setenv("MMACT_TINY_CACHE", str(root))
    return root


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two classes of three clips each."""
    for name in ("bouncing_ball", "waving_flag"):
        (tmp_path / "videos" / name).mkdir(parents=True)
        for index in (1, 2, 3):
            shutil.copy(TINY / "train" / f"{name}{index}.mp4", tmp_path / "videos" / name)
    return tmp_path / "videos"


def test_preparation_fills_bounds_and_clears_the_cache(folder, tmp_path, cache_root, capsys):
    arguments = [str(folder), "--out", str(tmp_path / "data"), "--cache"]
    assert prepare_data.main(arguments) == EXIT_OK
    assert f"clip cache {cache_root}: 6 clips built, 0 there already" in capsys.readouterr().out
    assert all(ClipCache().find(video) for video in folder.rglob("*.mp4"))
    assert prepare_data.main(arguments) == EXIT_OK
    assert "0 clips built, 6 there already" in capsys.readouterr().out
    assert prepare_data.main(["--clear-cache"]) == EXIT_OK
    assert not any(ClipCache().find(video) for video in folder.rglob("*.mp4"))
    assert prepare_data.main([*arguments, "--cache-size", "60K"]) == EXIT_OK
    assert "clips did not fit in --cache-size" in capsys.readouterr().out
    assert 0 < ClipCache().num_bytes() <= 60_000


def test_training_fills_the_cache_and_reads_it(folder, tmp_path, cache_root):
    data, work_dir = tmp_path / "data", tmp_path / "run"
    assert prepare_data.main([str(folder), "--out", str(data)]) == EXIT_OK
    flags = ["--epochs", "1", "--pretrained", "none", "--device", "cpu", "--cache", "fast"]
    where = ["--data", str(data), "--work-dir", str(work_dir)]
    assert train.main(["configs/tsn_tiny.py", *flags, *where]) == EXIT_OK
    assert (work_dir / "epoch_1.pth").is_file()
    # From random weights the pipeline's first Resize asks for 110 pixels.
    cache = ClipCache(short_side=110, format="fast")
    assert all(cache.find(video) for video in folder.rglob("*.mp4"))
