"""Names what MMEngine and PyTorch keep private and this package needs, in one place.

A test builds each of these objects, and fails with a release in which one has changed.
"""

import signal
import threading
from multiprocessing.process import BaseProcess
from typing import Any

from torch.utils.data import DataLoader

from ..compat import OptimWrapper, Runner, is_model_wrapper


def loop_of(runner: Runner, split: str) -> Any:
    """Returns the loop of train, val or test: built, still its config, or None."""
    return getattr(runner, f"_{split}_loop")


def is_resumed(runner: Runner) -> bool:
    """Returns whether the run goes on from a checkpoint."""
    return runner._resume


def checkpoint_of(runner: Runner) -> str | None:
    """Returns the path or address that weights are loaded from, if the config has one."""
    return runner._load_from


def has_loaded(runner: Runner) -> bool:
    """Returns whether weights were loaded."""
    return runner._has_loaded


def model_of(runner: Runner) -> Any:
    """Returns the model without the wrapper that a job of several processes puts around it."""
    return runner.model.module if is_model_wrapper(runner.model) else runner.model


def is_between_steps(wrapper: OptimWrapper) -> bool:
    """Returns whether gradients were accumulated that wait for a step of the optimizer."""
    return wrapper._inner_count % wrapper._accumulative_counts != 0


def set_max_iters(runner: Runner, begun: int) -> None:
    """Has a loop of epochs end where its epochs do.

    Stock multiplies the batches of an epoch with the epochs, which is right as long as every epoch
    had as many. The optimizer's last step, of several iterations, comes there.

    Args:
        runner: Resumed.
        begun: The iteration at which the epoch under way began, or would have.
    """
    loop = runner.train_loop
    last = begun + (loop.max_epochs - loop.epoch) * len(loop.dataloader)
    if last != loop.max_iters:
        loop._max_iters = last
        runner.optim_wrapper.initialize_count_status(runner.model, runner.iter, last)


def workers_of(iterator: Any) -> list[BaseProcess]:
    """Returns the worker processes of a DataLoader's iterator, none with num_workers=0."""
    return getattr(iterator, "_workers", [])


def is_wait(error: Exception) -> bool:
    """Returns whether a DataLoader only says that its `timeout` passed: it can be asked again."""
    return str(error).startswith("DataLoader timed out after ")


def take_signal_handler() -> Any:
    """Takes PyTorch's SIGCHLD handler away and returns it, if it is there.

    It raises wherever the main thread is when a worker ends, also in the middle of a step.
    """
    if threading.current_thread() is not threading.main_thread():
        return None
    handler = signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    return handler if callable(handler) else None


def kill_workers(loader: DataLoader, iterator: Any) -> None:
    """Ends the workers of an iterator at once; the loader's next iterator forks others."""
    for worker in workers_of(iterator):
        worker.kill()
    for worker in workers_of(iterator):
        worker.join()
    loader._iterator = None  # what persistent_workers keeps


def begin_pass(loader: DataLoader) -> Any:
    """Returns a loader's next iterator, with new workers where those that it keeps do not answer.

    They end between two passes where a cluster signals all processes of a job that it preempts.
    """
    kept: Any = loader._iterator
    try:
        return iter(loader)
    except RuntimeError:
        if kept is None:
            raise
        kill_workers(loader, kept)
        return iter(loader)


def end_kept_workers(loader: DataLoader) -> None:
    """Ends the workers that `persistent_workers` keeps; collected as garbage they may take 5 s."""
    iterator: Any = loader._iterator
    loader._iterator = None
    if iterator is not None:
        iterator._shutdown_workers()
