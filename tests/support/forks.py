"""Calls functions in forks of this process."""

import gc
import multiprocessing
from collections.abc import Callable
from typing import Any

FORK = multiprocessing.get_context("fork")


def start(call: Callable[..., object], *arguments: Any) -> multiprocessing.process.BaseProcess:
    """Starts a call; who ends before it, ends it."""
    process = FORK.Process(target=_call, args=(call, *arguments), daemon=True)
    process.start()
    return process


def _call(call: Callable[..., object], *arguments: Any) -> None:
    gc.freeze()  # to free what this process had, as a video's reader, would wait for its threads
    call(*arguments)
