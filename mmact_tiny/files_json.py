"""JSON files that every reader takes: whole, without nan, with names as the disk has them."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .errors import UserError
from .files_atomic import write_atomically


def write_json(value: Any, path: str | Path) -> None:
    """Writes plain values atomically; numbers that are not finite become null.

    A file name that is no UTF-8 is written as the escapes that Python reads back.

    Raises:
        UserError: the file cannot be written.
    """
    text = json.dumps(finite(value), indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    write_atomically(text.encode("utf-8", "backslashreplace"), path)


def read_json(path: str | Path) -> Any:
    """Returns what a JSON file holds, None where there is no such file.

    Raises:
        UserError: it cannot be read, or is no JSON.
    """
    try:
        return finite(json.loads(Path(path).read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"cannot read {path}: {error}") from None


def read_json_lines(path: str | Path) -> list[dict[str, Any]]:
    """Returns the objects of a log with one on each line; a line that was cut off is left out."""
    rows = []
    try:
        lines = Path(path).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
    for line in lines:
        try:
            row = finite(json.loads(line))
        except (ValueError, RecursionError):
            continue
        if isinstance(row, dict):
            rows.append(row)
    return rows


def finite(value: Any) -> Any:
    """Returns plain values with None in the place of nan and infinities."""
    if isinstance(value, Mapping):
        return {str(key): finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return str(value) if isinstance(value, Path) else value
