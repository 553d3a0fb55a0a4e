"""Has a process find out once what MMEngine does for every run: facts, and the text of a config.

Each is the real one: a short job has yapf format the same config fifteen times, and starts a
compiler to name its version. For the tests, and for the process that small jobs are forked of.
"""

import functools
import re
import sys
from typing import Any

from mmact_tiny.compat import Config, Runner

config: Any = sys.modules[Config.__module__]
runner: Any = sys.modules[Runner.__module__]
stock = config.FormatCode


@functools.lru_cache(4096)
def formatted(statement: str, style: tuple[tuple[str, Any], ...]) -> str:
    """Returns one assignment of a config as yapf formats it; most are the same in every run."""
    return stock(statement, style_config=dict(style))[0]


def format_code(text: str, style_config: dict[str, Any]) -> tuple[str, bool]:
    """Returns what yapf makes of a config's text, which is a list of assignments, and True."""
    style = tuple(style_config.items())
    parts = filter(None, re.split(r"^(?=\w)", text, flags=re.M))
    return "".join(formatted(part, style) for part in parts), True


config.FormatCode = format_code
runner.collect_env = functools.cache(runner.collect_env)
