"""Computes a test's scores with the engine of inference, in the stock Runner's test loop."""

import logging
from pathlib import Path

from ..compat import HOOKS, Hook, Runner
from ..engine.engine import Engine, cache_dir_of
from ._mmengine import checkpoint_of, model_of

logger = logging.getLogger("mmact_tiny")


@HOOKS.register_module()
class EngineHook(Hook):
    """Computes the scores of a test with an `Engine`, in the place of `model.test_step`."""

    def __init__(self, precision: str = "fp32", engine: str = "torch") -> None:
        self.precision, self.engine = precision, engine

    def before_test(self, runner: Runner) -> None:
        model, checkpoint = model_of(runner), checkpoint_of(runner)
        local = checkpoint is not None and "://" not in str(checkpoint)
        engine = Engine(
            model.eval(),
            precision=self.precision,
            engine=self.engine,
            cache_dir=cache_dir_of(Path(str(checkpoint))) if local else None,
        )
        model.test_step = engine.test_step
        logger.info("engine: %s", engine)
