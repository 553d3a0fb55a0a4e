"""Writes and reads rows as Parquet, all parts with the same columns."""

from collections.abc import Iterable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, BinaryIO

from ..errors import UserError
from ..files import Row, open_atomically


def need() -> None:
    """Raises a UserError where pyarrow is not installed."""
    if find_spec("pyarrow") is None:
        raise UserError("--parquet needs pyarrow: pip install 'mmact-tiny[parquet]'")


def _schema(windows: bool) -> Any:
    """Returns the columns of rows of whole videos, or of windows."""
    import pyarrow as pa

    text, number = pa.string(), pa.float64()
    best = pa.list_(pa.struct(dict(label=text, score=number)))
    whole = dict(video=text, predictions=best, error=text)
    span = dict(start=number, end=number)
    if windows:
        whole = {**dict.fromkeys(("duration", "window", "stride"), number), **whole}
        del whole["predictions"]
        whole["windows"] = pa.list_(pa.struct(dict(**span, predictions=best, error=text)))
        whole["segments"] = pa.list_(pa.struct(dict(**span, label=text, score=number)))
    return pa.schema(whole)


def write_rows(path: Path, rows: Iterable[Row], windows: bool) -> None:
    """Writes rows, of windows or whole videos; names that are not UTF-8 with escapes."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    with open_atomically(path) as file:
        plain = [{key: _escaped(value) for key, value in row.items()} for row in rows]
        pq.write_table(pa.Table.from_pylist(plain, _schema(windows)), file)


def read_rows(file: BinaryIO, videos: Sequence[str]) -> list[Row]:
    """Returns the rows of a file, with the names as they are in `videos`.

    Raises:
        ValueError: it is broken; pyarrow's own error is one.
    """
    import pyarrow.parquet as pq

    rows = [_without_none(row) for row in pq.read_table(file).to_pylist()]
    names = {_escaped(video): video for video in videos}
    return [{**row, "video": names.get(row["video"])} for row in rows]


def num_rows(file: BinaryIO) -> int:
    """Returns how many rows a file has; 0 where it is broken."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.ParquetFile(file).metadata.num_rows
    except pa.ArrowInvalid:
        return 0


def _without_none(value: Any) -> Any:
    """Returns a value without the fields that Parquet has and a row lacks."""
    if isinstance(value, Mapping):
        return {key: _without_none(item) for key, item in value.items() if item is not None}
    return [_without_none(item) for item in value] if isinstance(value, list) else value


def _escaped(value: Any) -> Any:
    return value.encode("utf-8", "backslashreplace").decode() if isinstance(value, str) else value
