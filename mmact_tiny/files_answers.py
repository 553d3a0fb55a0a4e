"""Files of answers: a JSON list, JSON Lines, or a CSV table, whole or not at all."""

import csv
import io
import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from .files_atomic import write_atomically

Row = dict[str, Any]


def write_answers(
    path: Path, rows: Sequence[Row], columns: Sequence[str], table: Callable[[Row], Iterable[Row]]
) -> None:
    """Writes a row for each video, in the format that the file's name ends in.

    Names that are not UTF-8 are written with the bytes that they have on the disk.

    Args:
        path: `.csv`, `.jsonl`, or anything else for JSON.
        rows: One for each video.
        columns: Of the CSV.
        table: Returns the lines that a row has there.

    Raises:
        UserError: the file cannot be written; what was there is as before.
    """
    if path.suffix == ".csv":
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, columns)
        writer.writeheader()
        for row in rows:
            writer.writerows(table(row))
        content = text.getvalue()
    elif path.suffix == ".jsonl":
        content = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    else:
        content = json.dumps(list(rows), indent=1, ensure_ascii=False) + "\n"
    write_atomically(content.encode("utf-8", "surrogateescape"), path)
