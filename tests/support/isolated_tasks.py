"""What the tests have worker processes do."""

import os
import signal
import time
from pathlib import Path
from typing import Any


def probe_or_fail(path: str, **kwargs: Any) -> dict[str, Any]:
    """Probes a video, unless its name says to crash or to hang."""
    name = Path(path).name
    if "crash" in name:
        os.kill(os.getpid(), signal.SIGSEGV)
    if "hang" in name:
        time.sleep(60)
    from mmact_tiny.prepare.examine import probe

    return probe(path, **kwargs)


def double(value: int) -> int:
    """Returns twice the value; crashes on 3, hangs on 5, raises on 7, prints on 9."""
    if value == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    if value == 5:
        time.sleep(60)
    if value == 7:
        raise ValueError("seven")
    if value == 9:
        print("noise on the standard output", flush=True)
        os.write(1, b"more of it\n")
    return 2 * value
