"""MMEngine and PyTorch have each private name that the hooks use: on objects built for real."""

import signal
from collections.abc import Iterator

import pytest
import torch
from mmengine.dataset import Compose
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.runner import EpochBasedTrainLoop, Runner
from torch.utils.data import DataLoader, Dataset
from torch.utils.data._utils import signal_handling

from mmact_tiny.hooks import _mmengine
from mmact_tiny.video.files import failing_step


class Slow(Dataset):
    """Waits for ever at its last item."""

    def __len__(self) -> int:
        return 3

    def __getitem__(self, index: int) -> torch.Tensor:
        if index == 2:
            torch.multiprocessing.Event().wait()
        return torch.tensor(index)


class Line(BaseModel):
    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)

    def forward(self, inputs: torch.Tensor, mode: str = "tensor") -> dict:
        return dict(loss=self.layer(inputs).sum())


class Note(Hook):
    """Notes before each iteration whether gradients wait for a step."""

    def __init__(self) -> None:
        self.noted: list[bool] = []

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch=None) -> None:
        self.noted.append(_mmengine.is_between_steps(runner.optim_wrapper))


def test_a_runner(tmp_path):
    note = Note()
    runner = Runner(
        model=Line(),
        work_dir=str(tmp_path),
        train_dataloader=DataLoader([(torch.ones(1),)] * 5),  # type: ignore[arg-type]
        train_cfg=dict(by_epoch=True, max_epochs=1),
        optim_wrapper=dict(optimizer=dict(type="SGD", lr=0.01), accumulative_counts=2),
        default_hooks=dict(checkpoint=None),
        custom_hooks=[note],
        experiment_name="private_names",
        default_scope="mmaction",  # a Runner leaves its scope behind
    )
    assert _mmengine.loop_of(runner, "train") == dict(by_epoch=True, max_epochs=1)
    assert [_mmengine.loop_of(runner, split) for split in ("val", "test")] == [None, None]
    runner.train()
    assert isinstance(_mmengine.loop_of(runner, "train"), EpochBasedTrainLoop)
    assert note.noted == [False, True, False, True, False]
    assert _mmengine.model_of(runner) is runner.model
    assert _mmengine.is_resumed(runner) is False and _mmengine.has_loaded(runner) is False
    assert _mmengine.checkpoint_of(runner) is None
    runner.save_checkpoint(str(tmp_path), "a.pth", by_epoch=False)
    runner._load_from, runner._has_loaded = str(tmp_path / "a.pth"), False
    runner.load_or_resume()
    assert _mmengine.has_loaded(runner)
    assert _mmengine.checkpoint_of(runner) == str(tmp_path / "a.pth")


def patient(iterator: Iterator[torch.Tensor]) -> int:
    """Returns the next number, however long a busy machine takes."""
    while True:
        try:
            return int(next(iterator))
        except RuntimeError as error:
            assert _mmengine.is_wait(error)


def test_a_loader(monkeypatch):
    before = signal.getsignal(signal.SIGCHLD)
    # PyTorch sets its handler once a process, and another test may have taken it away.
    monkeypatch.setattr(signal_handling, "_SIGCHLD_handler_set", False)
    loader = DataLoader(Slow(), num_workers=1, timeout=0.2, persistent_workers=True)
    iterator = iter(loader)
    handler = _mmengine.take_signal_handler()  # it would raise at the first kill
    assert callable(handler) and _mmengine.take_signal_handler() is None
    (worker,) = _mmengine.workers_of(iterator)
    assert [patient(iterator) for _ in range(2)] == [0, 1]
    for _ in range(2):  # it can be asked again
        with pytest.raises(RuntimeError) as waited:
            next(iterator)
        assert _mmengine.is_wait(waited.value)
    worker.kill()
    worker.join()
    with pytest.raises(RuntimeError) as died:
        next(iterator)
    assert not _mmengine.is_wait(died.value)
    _mmengine.kill_workers(loader, iterator)
    (other,) = _mmengine.workers_of(iter(loader))
    assert other.is_alive() and other.pid != worker.pid
    other.kill()  # it is, or will be, at the last item
    _mmengine.end_kept_workers(loader)
    assert not other.is_alive()
    _mmengine.end_kept_workers(loader)
    signal.signal(signal.SIGCHLD, before)
    assert _mmengine.workers_of(iter(DataLoader(Slow()))) == []


def test_a_pipeline():
    def decode(sample: dict) -> dict:
        return dict(sample, imgs=[0])

    def fail(sample: dict) -> dict:
        raise KeyError(sample["wanted"])

    for steps, failing in (([decode, fail], fail), ([Compose([decode, fail])], fail)):
        with pytest.raises(KeyError) as caught:
            Compose(steps)(dict(wanted="x"))
        assert failing_step(caught.value) == (failing, dict(wanted="x", imgs=[0]))
    assert failing_step(KeyError("x")) is None
