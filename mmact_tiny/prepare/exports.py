"""Reads what labelling tools export: whole videos and stretches of them, with their labels.

Each reader returns None for a file that is not of its tool, and raises a `NotUnderstood` for one
of its tool that it does not know. A video is looked for by the path that the export has, then by
its name, then by the name without what an upload puts before it.
"""

import json
import logging
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import pairwise
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit
from xml.etree import ElementTree

from ..video.files import is_video
from .types import Entry, NotUnderstood, Page, Times

LABEL_STUDIO = r'"(timelinelabels|was_cancelled|annotation_id|completions)"'
DEFAULT_RATE = 24.0  # of Label Studio's Video tag
logger = logging.getLogger("mmact_tiny")
_UPLOADED = re.compile(r"[0-9a-f]{8}-(?=.)")  # before the name of a file in Label Studio
_META = ("id", "annotator", "annotation_id", "created_at", "updated_at", "lead_time", "file_upload")
_RATES = ("fps", "frame_rate", "frameRate", "framerate")  # what tasks call what `frameRate` reads


def names_of(path: str) -> tuple[str, ...]:
    """Returns the names to look for a video by, of a path or an address in an export."""
    address = urlsplit(path.replace("\\", "/"))
    shown = parse_qs(address.query).get("d", [address.path])[0]  # /data/local-files/?d=...
    shown = unquote(shown) if address.scheme or address.query else shown
    name = PurePosixPath(shown).name
    bare = _UPLOADED.sub("", name, count=1) if _UPLOADED.match(name) else name
    return tuple(dict.fromkeys((shown.lstrip("/"), name, bare, bare.replace("_", " "))))


def one_tier(page: Page, tiers: Iterable[str], what: str) -> str | None:
    """Returns the tier that is read: the one that the user names, or the only one there is.

    Raises:
        NotUnderstood: there are several and none is named, or the one named is not there.
    """
    found = sorted(set(tiers))
    if page.tier is not None and page.tier not in found:
        raise NotUnderstood(1, f"no {what} {page.tier!r} with labels: --tier takes {found}")
    if page.tier is None and len(found) > 1:
        raise NotUnderstood(1, f"labels of several {what}s, {', '.join(found)}: name one by --tier")
    return page.tier or next(iter(found), None)


def read_label_studio(page: Page, match: re.Match[str]) -> list[Entry] | None:
    """Reads JSON or JSON-MIN of Label Studio 1.0 or later.

    Of `TimelineLabels` a range is of frames, counted from 1, the last one included
    (labelstud.io/tags/timelinelabels); there are `frameRate` of them a second, by default 24
    (labelstud.io/tags/video), which the file has only where a task's data has it. `Choices` are of
    the whole video. Regions within frames are passed over.
    """
    try:
        tasks = json.loads(page.text)
    except ValueError as error:
        raise NotUnderstood(getattr(error, "lineno", 1), f"no JSON: {error}") from None
    tasks = tasks if isinstance(tasks, list) else [tasks]
    if not all(isinstance(task, dict) for task in tasks):
        return None
    if any("completions" in task for task in tasks):
        raise NotUnderstood(1, "of Label Studio before 1.0: export it from 1.0 or later")
    found = [(task, list(_label_studio_results(task))) for task in tasks]
    tier = one_tier(page, (one[0] for _, results in found for one in results), "control")
    entries, place, rates = [], 0, set()
    for task, results in found:
        data = task.get("data", task)
        video = next((v for v in data.values() if isinstance(v, str) and _is_video(v, page)), "")
        place = max(place, page.text.find(json.dumps(video)[1:-1], place))
        line = page.text.count("\n", 0, place) + 1
        rate = next((_rate(data[key]) for key in _RATES if key in data), None)
        for control, value in results:
            if control == tier:
                labels, times = _label_studio_value(value, rate or DEFAULT_RATE)
                rates |= {rate} if times and times.in_frames else set()
                text = f"task {task.get('id')}: {json.dumps(value, ensure_ascii=False)}"
                entries.append(Entry(line, names_of(video), ";".join(labels), "", text, times))
    if not entries:
        raise NotUnderstood(1, "no video in it has a label: label some, and export again")
    if None in rates:
        words = "Label Studio counts frames at 24 a second where its Video tag names no frameRate: "
        logger.warning("%swhere it names another, say so by --frame-rate", words)
    return entries


def _label_studio_results(task: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yields the control and the value of each label of a task that is not cancelled."""
    if "data" not in task:  # JSON-MIN
        for control, value in task.items():
            for one in value if isinstance(value, list) else [value]:
                if isinstance(one, dict):
                    yield control, one
                elif isinstance(one, str) and control not in _META and not _is_path(one):
                    yield control, {"choices": [one]}
        return
    kept = [a for a in task.get("annotations") or [] if not a.get("was_cancelled")]
    for annotation in [a for a in kept if a.get("ground_truth")] or kept:
        for result in annotation.get("result") or []:
            value = result.get("value") or {}
            if _label_studio_value(value, None)[0]:
                yield str(result.get("from_name")), value


def _label_studio_value(
    value: dict[str, Any], rate: float | None
) -> tuple[Sequence[str], Times | None]:
    """Returns the labels of a value, and of which stretch; no labels where it is no such value."""
    if "timelinelabels" in value:
        first = (value.get("ranges") or [{}])[0]
        start, end = first.get("start"), first.get("end")
        start = str(start - 1) if isinstance(start, int) else str(start)
        return value["timelinelabels"], Times(start, str(end), True, rate)
    if "labels" in value and {"start", "end"} <= set(value) and "sequence" not in value:
        return value["labels"], Times(str(value["start"]), str(value["end"]))
    return [str(choice) for choice in value.get("choices", ())], None


def _is_path(text: str) -> bool:
    return is_video(urlsplit(text).path) or "/" in text


def _is_video(text: str, page: Page) -> bool:
    names = names_of(text)
    return is_video(names[-1]) or any(map(page.find, names))


def _rate(value: object) -> float:
    with suppress(TypeError, ValueError):
        if 0 < float(value) < 1000:  # type: ignore[arg-type]
            return float(value)  # type: ignore[arg-type]
    raise NotUnderstood(1, f"frame rate {value!r} in it: expected frames a second, as 24")


def _xml(page: Page) -> ElementTree.Element:
    try:
        return ElementTree.fromstring(page.text.lstrip("\ufeff").encode())
    except ElementTree.ParseError as error:
        raise NotUnderstood(error.position[0], f"no XML: {error}") from None


def read_cvat(page: Page, match: re.Match[str]) -> list[Entry] | None:
    """Reads `CVAT for video 1.1` and `CVAT for images 1.1` (docs.cvat.ai: XML annotation format).

    A tag is of one frame, and tags of neighbouring frames are one stretch; a track is one wherever
    it is not `outside`. Frames count from 0, in the video. The shape of a track is passed over.
    """
    root = _xml(page)
    version = root.findtext("version")
    if version != "1.1":
        raise NotUnderstood(1, f"version {version} of CVAT's XML: expected 1.1, as CVAT 2 exports")
    rule = re.search(r"\d+", root.findtext(".//frame_filter") or "1")
    step = int(rule[0]) if rule else 1
    videos = {task.findtext("id"): _cvat_source(task) for task in root.iter("task")}
    only = _cvat_source(root)
    frames: dict[tuple[str, str], list[int]] = {}
    stretches: list[tuple[str, str, int, int]] = []
    for parent in [root, *root.iter("image")]:
        for tag in parent.findall("tag"):
            task, frame = tag.get("task_id") or parent.get("task_id"), tag.get("frame")
            key = videos.get(task, only), tag.get("label", "")
            frames.setdefault(key, []).append(_frame(frame or parent.get("id") or "0"))
    for track in root.iter("track"):
        marks = {_frame(s.get("frame", "")): s.get("outside") != "1" for s in track}
        key = videos.get(track.get("task_id"), only), track.get("label", "")
        stretches += [(*key, *one) for one in _cvat_parts(marks, step)]
    for key, numbers in frames.items():
        stretches += [(*key, *one) for one in _runs(sorted(set(numbers)), step)]
    if not stretches:
        raise NotUnderstood(1, "no tag and no track in it: label some frames, and export again")
    entries = []
    for video, label, start, end in stretches:
        text, times = f"{label} from frame {start} of {video}", Times(str(start), str(end), True)
        entries.append(Entry(1, names_of(video), label, "", text, times))
    return entries


def _frame(text: str) -> int:
    if not text.isdecimal():
        raise NotUnderstood(1, f"frame {text!r} in it: expected a number from 0 on")
    return int(text)


def _cvat_source(task: ElementTree.Element) -> str:
    return next((e.text or "" for e in task.iter("source")), "") or next(
        (e.text or "" for e in task.iter("name")), ""
    )


def _cvat_parts(marks: dict[int, bool], step: int) -> Iterator[tuple[int, int]]:
    """Yields the first frame and the first after each part of a track that is shown.

    Args:
        marks: Whether it is there at each of its keyframes; in between it is as at the last one.
        step: From one frame of the task to the next.
    """
    start = None
    for frame, is_shown in [*sorted(marks.items()), (max(marks, default=0) + step, False)]:
        if is_shown and start is None:
            start = frame
        elif not is_shown and start is not None:
            yield start, frame
            start = None


def _runs(numbers: list[int], step: int) -> Iterator[tuple[int, int]]:
    """Yields the first and the first number after each run of numbers `step` or less apart."""
    gaps = (i for i, (a, b) in enumerate(pairwise(numbers), 1) if b - a > step)
    borders = [0, *gaps, len(numbers)]
    for first, last in pairwise(borders):
        yield numbers[first], numbers[last - 1] + step


def read_elan(page: Page, match: re.Match[str]) -> list[Entry] | None:
    """Reads ELAN's EAF (mpi.nl/tools/elan: EAF_Annotation_Format_3.0_and_ELAN.pdf).

    An annotation's value is the label; the times are milliseconds of the first video's clock,
    which begins `TIME_ORIGIN` later than that of the annotations.
    """
    root = _xml(page)
    header = root.find("HEADER")
    units = "" if header is None else header.get("TIME_UNITS", "milliseconds")
    if header is None or units != "milliseconds":
        raise NotUnderstood(1, f"times in {units or 'no HEADER'}: expected milliseconds")
    media = [
        (one.get("RELATIVE_MEDIA_URL") or one.get("MEDIA_URL") or "", one)
        for one in header.iter("MEDIA_DESCRIPTOR")
    ]
    path, video = next((one for one in media if is_video(names_of(one[0])[-1])), ("", header))
    origin = int(video.get("TIME_ORIGIN", "0"))
    slots = {s.get("TIME_SLOT_ID"): s.get("TIME_VALUE") for s in root.iter("TIME_SLOT")}
    tiers = {
        str(tier.get("TIER_ID")): [*tier.iter("ALIGNABLE_ANNOTATION")] for tier in root.iter("TIER")
    }
    name = one_tier(page, (name for name, found in tiers.items() if found), "tier")
    if name is None:
        raise NotUnderstood(1, "no annotation in it has times of its own: annotate, and save again")
    entries = []
    for one in tiers[name]:
        ends = [slots.get(one.get(f"TIME_SLOT_REF{n}")) for n in (1, 2)]
        seconds = [str((int(t) + origin) / 1000) if t and t.isdecimal() else str(t) for t in ends]
        label = (one.findtext("ANNOTATION_VALUE") or "").strip()
        text = f"annotation {one.get('ANNOTATION_ID')}, {label!r}"
        line = page.text.count("\n", 0, page.text.find(f'"{one.get("ANNOTATION_ID")}"')) + 1
        entries.append(Entry(line, names_of(path), label, "", text, Times(seconds[0], seconds[1])))
    return entries


def read_via(page: Page, match: re.Match[str]) -> list[Entry] | None:
    """Reads the CSV of VIA 3 (its own first lines say what its columns are).

    A row with two temporal coordinates is a stretch, of the label that its metadata names: an
    option of the attribute, or its text. Rows of a still frame or a region are passed over.
    """
    found = re.search(r"# ATTRIBUTES? = (\{.*\})", page.text)
    stretches: list[tuple[int, str, list[float], dict[str, Any]]] = []
    try:
        attributes = json.loads(found[1]) if found else {}
        for line, cells in page.rows(","):
            files, _, times, region, metadata = (json.loads(cell) for cell in cells[1:])
            if len(times) == 2 and not region:
                stretches.append((line, files[0], times, metadata))
    except (ValueError, LookupError, TypeError):
        raise NotUnderstood(1, "not the columns of VIA 3: export it from version 3") from None
    names = {key: str(about.get("aname", key)) for key, about in attributes.items()}
    used = (names.get(key, key) for *_, metadata in stretches for key in metadata)
    tier = one_tier(page, used, "attribute")
    entries = []
    for line, video, times, metadata in stretches:
        for key, value in metadata.items():
            if names.get(key, key) == tier:
                options = attributes.get(key, {}).get("options") or {}
                labels = [options.get(one, one) for one in str(value).split(",")]
                text = f"{video} {times}"
                where = Times(str(times[0]), str(times[1]))
                entries.append(Entry(line, names_of(video), ";".join(labels), "", text, where))
    if not entries:
        raise NotUnderstood(1, "no stretch in it has a label: label some, and export again")
    return entries
