"""Writes the dataset that docs/prepare_data.md describes: lists, label map, tables, videos.

Stock `VideoDataset` splits lines on spaces, so names are percent-encoded where they have any.
"""

import csv
import filecmp
import io
import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256
from pathlib import Path, PurePosixPath
from typing import Any

from ..annotations.lists import COLUMNS, GROUPS
from ..errors import UserError
from ..files import open_atomically, write_atomically, write_json
from .types import SPLITS, Findings, Video

VERSION = 1
RECORDED = ("width", "height", "rotation", "codec", "keyframe_spacing")
_MAX_NAME_BYTES = 200  # file systems allow 255
_ENCODED = set("%\"'`\\:*?<>|&;$#,")


def encode_name(name: str) -> str:
    """Returns a path with spaces, quotes, control and shell characters as %XX; two never collide.

    Letters of any language stay. Bytes that are not UTF-8 become %XX as well.
    """
    return "/".join(_encode_part(part) for part in PurePosixPath(name).parts)


def _encode_part(part: str) -> str:
    encoded = "".join(
        c
        if c not in _ENCODED and c.isprintable() and not c.isspace()
        else "".join(f"%{byte:02X}" for byte in os.fsencode(c))
        for c in part
    )
    if len(os.fsencode(encoded)) <= _MAX_NAME_BYTES:
        return encoded
    stem, suffix = os.path.splitext(encoded)  # noqa: PTH122
    digest = sha256(os.fsencode(part)).hexdigest()[:16]
    return stem.encode()[: _MAX_NAME_BYTES - 50].decode(errors="ignore") + f"-{digest}{suffix[:20]}"


def write_dataset(out: Path, findings: Findings, about: Mapping[str, Any], *, copy: bool) -> None:
    """Writes the dataset; `dataset.json`, which is `about` it, last; each file whole or not at all.

    Videos of an earlier run that are not in it any more are taken away.
    """
    videos, classes = findings.videos, findings.classes
    earlier = {row["video"] for row in read_videos_table(out)}
    for video in {video.place: video for video in videos}.values():
        if not video.is_converted:  # else it is there already
            _place_video(video.path, out / video.place, copy=copy)
    for name in earlier - {video.place for video in videos}:
        (out / name).unlink(missing_ok=True)
    for split in SPLITS:
        _write_list(out, split, [video for video in videos if video.split == split])
    _write_groups(out, findings)
    _write_text(out / "label_map.txt", "".join(f"{name}\n" for name in classes))
    rows = [_columns(video, ";".join(classes[n] for n in video.labels)) for video in videos]
    write_table(out / "videos.csv", list(rows[0]), (row.values() for row in rows))
    write_json(out / "dataset.json", {"version": VERSION} | dict(about))


def joined(video: Video, between: str) -> str:
    """Returns the numbers of a video's classes in a text."""
    return between.join(map(str, video.labels))


def _write_list(out: Path, split: str, videos: Sequence[Video]) -> None:
    """Writes the list of a split, a CSV where there are stretches; takes an earlier one away."""
    text, table = out / f"{split}.txt", out / f"{split}.csv"
    if any(video.end is not None for video in videos):
        write_table(table, COLUMNS, ((v.place, v.start, v.end, joined(v, ";")) for v in videos))
        text.unlink(missing_ok=True)
        return
    table.unlink(missing_ok=True)
    if videos:
        _write_text(text, "".join(f"{video.place} {joined(video, ' ')}\n" for video in videos))
    else:
        text.unlink(missing_ok=True)


def _write_groups(out: Path, findings: Findings) -> None:
    """Writes which group each video is of, where there are others than the videos themselves."""
    path = out / GROUPS
    if not findings.is_grouped and not findings.has_stretches:
        path.unlink(missing_ok=True)
        return
    groups = {video.place: video.group or video.place for video in findings.videos}
    write_table(path, ("path", "group"), groups.items())


def _columns(video: Video, label_name: str) -> dict[str, object]:
    """Returns what `videos.csv` says of a video."""
    record: Mapping[str, Any] = video.record
    return {
        "video": video.place,
        "split": video.split,
        "label": joined(video, ";"),
        "class": label_name,
        "source": video.path,
        "content": record["hash"],
        "frames": record["frames"],
        "fps": round(record["fps"], 3),
        "seconds": round(video.seconds, 3),
        **({} if video.end is None else {"start": video.start, "end": video.end}),
        **{name: record[name] for name in RECORDED},
        "bytes": Path(video.path).stat().st_size,
        "converted": "h264" if video.is_converted else "",
    }


def read_videos_table(out: Path) -> list[dict[str, str]]:
    """Returns the rows of a dataset's `videos.csv`; none where there is none."""
    path = out / "videos.csv"
    if not path.exists():
        return []
    with path.open(encoding="utf-8", errors="surrogateescape", newline="") as file:
        return list(csv.DictReader(file))


def _place_video(source: str, target: Path, *, copy: bool) -> None:
    """Puts a video in its place as a symbolic link, or as a copy; leaves what is right already."""
    is_link = target.is_symlink()
    if copy:
        if is_link or not target.is_file() or not filecmp.cmp(source, target):
            with open_atomically(target) as file, open(source, "rb") as original:  # noqa: PTH123
                shutil.copyfileobj(original, file)
            shutil.copystat(source, target)
    elif not is_link or os.readlink(target) != source:  # noqa: PTH115
        target.parent.mkdir(parents=True, exist_ok=True)
        target.unlink(missing_ok=True)
        try:
            target.symlink_to(source)
        except OSError as error:
            folder = f"{target.parent} takes no symbolic links"
            raise UserError(f"{folder} ({error.strerror}); add --copy") from None


def write_table(path: Path, columns: Sequence[str], rows: Iterable[Iterable[object]]) -> None:
    """Writes a CSV file, whole or not at all."""
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows([columns, *rows])
    _write_text(path, text.getvalue())


def _write_text(path: Path, text: str) -> None:
    write_atomically(text.encode("utf-8", "surrogateescape"), path)
