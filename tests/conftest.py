"""Where the tests find data, and what every test starts from."""

import gc
import importlib
import multiprocessing
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mmact_tiny import log

# Read when PyTorch is imported. Processes test side by side, and two whose threads wait for each
# other on the same cores take four times as long.
os.environ.setdefault("OMP_NUM_THREADS", "1")

ROOT = Path(__file__).resolve().parent.parent
REAL_DATA = Path(os.environ.get("MMACT_TINY_DATA", ROOT.parent / "shared" / "data"))
STOCK = "mmaction::recognition/tsn/tsn_imagenet-pretrained-r50_8xb32-1x1x3-100e_kinetics400-rgb.py"

OPTIONAL_ROOMS = (
    *("doctor", "export", "features", "live", "portable"),
    *("prepare", "report", "scale", "serve", "view"),
)

# By time; started last, one of them would keep a core busy while the other has nothing left.
LONGEST_FILES = tuple(
    f"test_{name}.py"
    for name in (
        *("zoo_families", "several_processes", "families", "documents", "openvino", "resume"),
        *("end_to_end", "odd_videos", "describe", "terminal", "server"),
    )
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Puts the longest files first, in that order; the others stay as they are."""
    place = {name: index for index, name in enumerate(LONGEST_FILES)}
    items.sort(key=lambda item: place.get(item.path.name, len(place)))


def pytest_collection_finish() -> None:
    """Spares the collector what was imported: MMEngine has it run for every dataset."""
    importlib.import_module("benchmarks.told_once")
    gc.freeze()


def pytest_unconfigure() -> None:
    """Ends the processes that failed tests left: Python would wait for them."""
    for process in multiprocessing.active_children():
        process.kill()


@pytest.fixture(autouse=True)
def _in_project_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    """Configs name `data/tiny`, relative to the project's folder."""
    monkeypatch.chdir(ROOT)


@pytest.fixture(autouse=True)
def _quiet_logger() -> Iterator[None]:
    """Takes back what a tool set up for its own process: handlers, level, no propagation."""
    yield
    log.take_back()


@pytest.fixture
def dead_workers_noticed_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch looks after 5 s without a batch."""
    from torch.utils.data.dataloader import _MultiProcessingDataLoaderIter as Workers

    monkeypatch.setattr(Workers._try_get_data, "__defaults__", (0.2,))


@pytest.fixture
def real_data() -> Path:
    """The folder of real videos; skips where it is not."""
    if not (REAL_DATA / "exercise_or_typing").is_dir():
        pytest.skip(f"no real videos in {REAL_DATA} (MMACT_TINY_DATA names the folder)")
    return REAL_DATA


@pytest.fixture
def toy_dataset(tmp_path: Path) -> Path:
    """A dataset folder of empty files: 6 training and 4 validation videos of 3 classes."""
    root = tmp_path / "toy"
    for split, count in (("train", 6), ("val", 4)):
        (root / split).mkdir(parents=True)
        lines = []
        for index in range(count):
            (root / split / f"{index}.mp4").touch()
            lines.append(f"{index}.mp4 {index % 3}\n")
        (root / f"{split}.txt").write_text("".join(lines))
    (root / "label_map.txt").write_text("walk\nrun\njump high\n")
    return root


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A running server of the page, a `web_site.Served`."""
    from web_site import serving

    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        with serving(tmp_path_factory.mktemp("site")) as served:
            yield served


@pytest.fixture
def leaves_nothing(served: Any) -> Iterator[None]:
    """After the test no upload is left on that server, no job, and nobody holds a place."""
    from web_site import wait_until

    yield
    wait_until(lambda: served.is_clean() and all(job.done() for job in served.site.queue.jobs))


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of a small recognizer of four classes, with random weights."""
    from small_recognizer import write_checkpoint

    return write_checkpoint(tmp_path_factory.mktemp("checkpoint") / "tiny.pth")


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The config of a small training job, beside its clips."""
    from benchmarks import small_job

    return small_job.write_job(tmp_path_factory.mktemp("job"))
