"""Writes answers as the pre-annotations of labelling tools, so that people correct them.

Label Studio's tasks with predictions (labelstud.io/guide/predictions), CVAT's XML for images 1.1,
whose tags are of frames, and the folders of FiftyOne's VideoClassificationDirectoryTree.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree import ElementTree

from ..errors import UserError
from ..files import Row, write_atomically, write_json
from ..video.files import split_name
from ..video.times import FrameTimes, ask_frame_times

CONTROL, CHOICES, VIDEO = "actions", "label", "video"  # names in Label Studio's interface
UNLABELED = "_unlabeled"  # FiftyOne's folder of videos without a label


class Answer(NamedTuple):
    """A label, where in a video it counts in seconds (None: everywhere), and its score."""

    label: str
    stretch: tuple[float, float] | None
    score: float


class Tool(NamedTuple):
    """How the answers are written for a tool, and what `--out` ends in then."""

    write: Callable[[Path, Sequence[Row]], str | None]
    suffixes: tuple[str, ...]
    default_top_k: int = 1  # of single labels; of several those count that reach their thresholds


def answers_of(row: Row) -> list[Answer]:
    """Returns the answers of a row: segments, or the labels of the whole video or stretch."""
    if "segments" in row:
        return [
            Answer(one["label"], (one["start"], one["end"]), one["score"])
            for one in row["segments"]
        ]
    stretch = split_name(row["video"])[1]
    return [Answer(one["label"], stretch, one["score"]) for one in row.get("predictions", [])]


def write_label_studio(path: Path, rows: Sequence[Row]) -> None:
    """Writes a task for each video that could be read.

    `data.video` is the path for Label Studio's storage of local files; `data.fps` is for
    `frameRate="$fps"` of its `Video` tag, without which it would count other frames.
    """
    tasks: list[dict[str, Any]] = []
    for video, answers, times in _by_video(rows):
        results: list[dict[str, Any]] = []
        for number, one in enumerate(answers):
            control, kind, ranges = CHOICES, "choices", {}
            if one.stretch is not None:
                start, end = (round(seconds * times.fps) for seconds in one.stretch)
                ranges = {"ranges": [{"start": start + 1, "end": end}]}
                control, kind = CONTROL, "timelinelabels"
            shared = dict(id=f"answer{len(tasks)}.{number}", to_name=VIDEO, score=one.score)
            value = {**ranges, kind: [one.label]}
            results.append(dict(from_name=control, type=kind, value=value, **shared))
        data = {VIDEO: f"/data/local-files/?d={video}", "fps": round(times.fps, 6)}
        tasks.append({"data": data, "predictions": [{"result": results}]})
    write_json(path, tasks)


def write_cvat(path: Path, rows: Sequence[Row]) -> str | None:
    """Writes a file for each video, which CVAT imports into its task; of several with its name.

    Returns which files these are, where they are not `path`.
    """
    found = list(_by_video(rows))
    if len({Path(video).stem for video, *_ in found}) < len(found):
        raise UserError(f"--for cvat: two videos of one name would be one file beside {path}")
    for video, answers, times in found:
        root = ElementTree.Element("annotations")
        ElementTree.SubElement(root, "version").text = "1.1"
        task = ElementTree.SubElement(ElementTree.SubElement(root, "meta"), "task")
        ElementTree.SubElement(task, "source").text = Path(video).name
        labels: dict[int, list[str]] = {}
        for one in answers:
            start, end = one.stretch or (0.0, times.duration)
            first, last = (int(times.seconds.searchsorted(t - 1e-3)) for t in (start, end))
            for frame in range(first, last):
                labels.setdefault(frame, []).append(one.label)
        for frame, names in sorted(labels.items()):
            about = {"id": str(frame), "name": f"frame_{frame:06d}"}
            image = ElementTree.SubElement(root, "image", about)
            for name in names:
                ElementTree.SubElement(image, "tag", {"label": name, "source": "auto"})
        ElementTree.indent(root)
        name = path.name if len(found) == 1 else f"{path.stem}-{Path(video).stem}.xml"
        data = ElementTree.tostring(root, "utf-8", xml_declaration=True)
        write_atomically(data, path.with_name(name))
    several = f"{path.with_stem(f'{path.stem}-VIDEO')} for each of {len(found)} videos"
    return None if len(found) == 1 else several


def write_fiftyone(path: Path, rows: Sequence[Row]) -> None:
    """Writes a folder for each label, with links to the videos whose best label it is.

    A video that could not be read is in none; one of which no label reaches its threshold is in
    that of the unlabelled.

    Raises:
        UserError: answers for windows, which this layout has no place for; two videos of one name
            and label; a folder that has videos already.
    """
    sources: dict[Path, str] = {}
    for row in rows:
        if "segments" in row:
            raise UserError("--for fiftyone: a video has one folder: leave --window out")
        if "error" in row:
            continue
        best = next((one.label for one in answers_of(row)), UNLABELED)
        folder = "_" if best in (".", "..") else best.replace("/", "_")
        target = path / folder / Path(row["video"]).name
        if (other := sources.setdefault(target, row["video"])) != row["video"]:
            raise UserError(f"--for fiftyone: {other} and {row['video']} would both be {target}")
    for target, video in sources.items():
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            target.symlink_to(os.path.abspath(video))  # noqa: PTH100
        except OSError as error:
            raise UserError(f"--out {path}: cannot link {target}: {error.strerror}") from None


def _by_video(rows: Sequence[Row]) -> Iterator[tuple[str, list[Answer], FrameTimes]]:
    """Yields each video that could be read, all answers for it, and when its frames are shown."""
    found: dict[str, list[Answer]] = {}
    for row in rows:
        if "error" not in row:
            found.setdefault(split_name(row["video"])[0], []).extend(answers_of(row))
    return ((video, answers, ask_frame_times(video)) for video, answers in found.items())


TOOLS = {
    "label-studio": Tool(write_label_studio, (".json",)),
    "cvat": Tool(write_cvat, (".xml",)),
    "fiftyone": Tool(write_fiftyone, ("",)),
}
