"""The engine in the stock Runner's test loop."""

import logging
from pathlib import Path
from typing import Any

from ..compat.mm import HOOKS, Hook, is_model_wrapper
from ..engine.engine import Engine, cache_dir_of

logger = logging.getLogger("mmact_tiny")


@HOOKS.register_module()
class EngineHook(Hook):
    """Computes the scores of a test with an `Engine`, in the place of `model.test_step`.

    Args:
        precision: `fp32`, `bf16`, `fp16` or `auto`.
        engine: `torch`, `openvino` or `auto`.
    """

    def __init__(self, precision: str = "fp32", engine: str = "torch") -> None:
        self.precision = precision
        self.engine = engine

    def before_test(self, runner: Any) -> None:
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        checkpoint = runner._load_from
        local = checkpoint is not None and "://" not in str(checkpoint)
        engine = Engine(
            model.eval(),
            precision=self.precision,
            engine=self.engine,
            cache_dir=cache_dir_of(Path(checkpoint)) if local else None,
        )
        model.test_step = engine.test_step
        logger.info("engine: %s", engine)
