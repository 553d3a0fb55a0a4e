"""Has a process find out once what MMEngine does for every run: facts, and the text of a config.

Each is the real one: a short job has yapf format the same config fifteen times, and starts a
compiler to name its version. For the tests, and for the process that small jobs are forked of.
"""

import functools
import sys
from typing import Any

from mmact_tiny.compat import Config, Runner

config: Any = sys.modules[Config.__module__]
runner: Any = sys.modules[Runner.__module__]

stock = config.FormatCode
kept = functools.lru_cache(64)(lambda text, style: stock(text, style_config=dict(style)))
config.FormatCode = lambda text, style_config: kept(text, tuple(style_config.items()))

runner.collect_env = functools.cache(runner.collect_env)
