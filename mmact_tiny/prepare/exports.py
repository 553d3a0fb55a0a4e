"""Reads what labelling tools export: whole videos and stretches of them, with their labels.

Each reader returns None for a file that is not of its tool, and raises a `NotUnderstood` for one
of its tool that it does not know. An item that is not as its tool writes it costs only itself: its
entry says why. A video is looked for by the path that the export has, then by its name, then by
the name without what an upload puts before it.
"""

import json
import logging
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from itertools import pairwise
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit
from xml.etree import ElementTree
from xml.parsers import expat

from ..video.files import is_video
from .types import Entry, NotUnderstood, Page, Times, parse_json

LABEL_STUDIO = r'"(timelinelabels|was_cancelled|annotation_id|completions)"'
DEFAULT_RATE = 24.0  # of Label Studio's Video tag
ELAN_FORMATS = r"2\.\d|3\.0"  # of the schemas that ELAN 3 to 6 write
VIA_COLUMNS = "metadata_id,file_list,flags,temporal_coordinates,spatial_coordinates,metadata"
VIA_TEXT = 1  # _VIA_ATTRIBUTE_TYPE: text; the others are a choice among options
# Of other tools, or of other files of these: what they are known by, and what to do.
FOREIGN = (
    (r'"vid_list"', "a project of VIA 3: export it from there as CSV"),
    (r"region_shape_attributes|_via_img_metadata", "of VIA 2, which labels pictures: use VIA 3"),
    (r'"(tracked_shapes|label_id)"', "of CVAT, but not its XML: export `CVAT for video 1.1`"),
    (r'"categories"\s*:', "of COCO's format, which has labels of pictures"),
    (r"<annotation\b", "of Pascal VOC's format, which has labels of pictures"),
    (r'"(data_row|dataRow)', "of Labelbox"),
    (r'"behaviors_conf"', "of BORIS"),
)
NO_LABEL = "it has no label of a video or of a stretch of one"
READ = "Label Studio 1, CVAT 1.1, ELAN, VIA 3, or a CSV with path,start,end,label"
logger = logging.getLogger("mmact_tiny")
_UPLOADED = re.compile(r"[0-9a-f]{8}-(?=.)")  # before the name of a file in Label Studio
_META = ("id", "annotator", "annotation_id", "created_at", "updated_at", "lead_time", "file_upload")
_KINDS = ("timelinelabels", "choices", "labels")  # results of a video or of stretches
_RATES = ("fps", "frame_rate", "frameRate", "framerate")  # what tasks call what `frameRate` reads
_LINE = "line of the file"  # no name that XML may have: where an element begins
# What Python raises where foreign data has another structure than the one that is read.
_OTHER_STRUCTURE = (AttributeError, LookupError, TypeError, ValueError)


def names_of(path: str) -> tuple[str, ...]:
    """Returns the names to look for a video by, of a path or an address in an export."""
    path = path.replace("\\", "/")
    try:
        address = urlsplit(path)
    except ValueError:  # brackets that are no IPv6 address
        return (path.lstrip("/"), PurePosixPath(path).name)
    shown = parse_qs(address.query).get("d", [address.path])[0]  # /data/local-files/?d=...
    shown = unquote(shown) if address.scheme or address.query else shown
    name = PurePosixPath(shown).name
    bare = _UPLOADED.sub("", name, count=1) if _UPLOADED.match(name) else name
    return tuple(dict.fromkeys((shown.lstrip("/"), name, bare, bare.replace("_", " "))))


def name_foreign(text: str) -> str:
    """Returns of which other tool a file is, and the fix; nothing where it cannot be told."""
    known = next((what for pattern, what in FOREIGN if re.search(pattern, text)), "")
    return f"{known}; expected {READ}" if known else ""


def _read_item(
    line: int, text: str, read: Callable[[], Iterable[Entry]], tier: str = ""
) -> Iterator[Entry]:
    """Yields the entries of one item of an export, or one that says why there are none."""
    try:
        for one in list(read()):
            yield one._replace(line=line, text=one.text or text)
    except NotUnderstood as error:
        yield Entry(line, ("",), "", text=text, tier=tier, fault=str(error))
    except _OTHER_STRUCTURE:
        why = "not as the tool writes it"
        yield Entry(line, ("",), "", text=text, tier=tier, fault=why)


def _of_one_tier(page: Page, entries: Sequence[Entry], what: str) -> list[Entry]:
    """Returns the entries of the tier that the user names, or of the only one there is.

    Raises:
        NotUnderstood: there are several and none is named, the one named is not there, or no entry
            is of use.
    """
    found = sorted({one.tier for one in entries if one.tier})
    if page.tier is not None and page.tier not in found:
        raise NotUnderstood(1, f"no {what} {page.tier!r} with labels: --tier takes {found}")
    if page.tier is None and len(found) > 1:
        raise NotUnderstood(1, f"labels of several {what}s, {', '.join(found)}: name one by --tier")
    kept = [one for one in entries if one.tier in ("", page.tier or found[0])] if found else entries
    if all(one.fault == NO_LABEL for one in kept):
        raise NotUnderstood(1, "no label in it: label some stretches or videos, and export again")
    if all(one.fault for one in kept):
        raise NotUnderstood(kept[0].line, f"{kept[0].text[:100]}: {kept[0].fault}")
    return list(kept)


def read_label_studio(page: Page, match: re.Match[str]) -> list[Entry] | None:
    """Reads JSON or JSON-MIN of Label Studio 1.0 or later.

    Of `TimelineLabels` a range is of frames, counted from 1, the last one included
    (labelstud.io/tags/timelinelabels); there are `frameRate` of them a second, by default 24
    (labelstud.io/tags/video), which the file has only where a task's data has it. `Choices` are of
    the whole video. Regions within frames are passed over.
    """
    tasks = parse_json(page.text)
    tasks = tasks if isinstance(tasks, list) else [tasks]
    if not any(isinstance(task, dict) for task in tasks):
        return None
    if any(isinstance(task, dict) and "completions" in task for task in tasks):
        raise NotUnderstood(1, "of Label Studio before 1.0: export it from 1.0 or later")
    entries: list[Entry] = []
    line, place, is_named = 1, 0, True
    for number, task in enumerate(tasks, 1):
        data = _data_of(task)
        video = next((v for v in data.values() if isinstance(v, str) and _is_video(v, page)), "")
        written = json.dumps(video, ensure_ascii=page.text.isascii())[1:-1]
        found = page.text.find(written, place)
        line, place = line + page.text.count("\n", place, max(found, place)), max(found, place)
        name = f"task {task.get('id', number)}" if data else f"item {number}"
        of_task = [*_read_item(line, name, partial(_task_entries, task, names_of(video), line))]
        entries += of_task or [Entry(line, ("",), "", text=name, fault=NO_LABEL)]
        in_frames = any(one.times and one.times.in_frames for one in of_task)
        is_named &= not in_frames or not data.keys().isdisjoint(_RATES)
    if not is_named:
        words = "Label Studio counts frames at 24 a second where its Video tag names no frameRate: "
        logger.warning("%swhere it names another, say so by --frame-rate", words)
    return _of_one_tier(page, entries, "control")


def _data_of(task: Any) -> dict[str, Any]:
    """Returns what a task is about; nothing where it is no task."""
    data = task.get("data", task) if isinstance(task, dict) else {}
    return data if isinstance(data, dict) else {}


def _task_entries(task: dict[str, Any], refs: tuple[str, ...], line: int) -> Iterator[Entry]:
    rate = next((_rate(_data_of(task)[key]) for key in _RATES if key in _data_of(task)), None)
    for control, kind, value in _label_studio_results(task):
        text = f"task {task.get('id')}: {json.dumps(value, ensure_ascii=False)}"
        read = partial(_value_entries, control, kind, value, rate or DEFAULT_RATE)
        for one in _read_item(line, text, read):
            yield one._replace(refs=refs, tier=control)


def _label_studio_results(task: dict[str, Any]) -> Iterator[tuple[str, str, Any]]:
    """Yields control, type and value of each result of a task that is not cancelled."""
    if "data" not in task:  # JSON-MIN
        for control, value in task.items():
            for one in value if isinstance(value, list) else [value]:
                if isinstance(one, dict):
                    yield control, next((kind for kind in _KINDS if kind in one), ""), one
                elif isinstance(one, str) and control not in _META and not _is_path(one):
                    yield control, "choices", {"choices": [one]}
        return
    kept = [a for a in task.get("annotations") or [] if not a.get("was_cancelled")]
    for annotation in [a for a in kept if a.get("ground_truth")] or kept:
        for result in annotation.get("result") or []:
            if result.get("type") in _KINDS:  # not a region within frames, a rating, a relation
                yield str(result.get("from_name") or ""), result["type"], result["value"]


def _value_entries(control: str, kind: str, value: dict[str, Any], rate: float) -> Iterator[Entry]:
    """Yields what a value says of a video or a stretch of it; nothing where it is no such value."""
    if not control:
        raise NotUnderstood(1, "a result without from_name, the control that it is of")
    if not kind or "sequence" in value:  # of a region within frames
        return
    times: list[Times | None] = [None]
    if kind == "timelinelabels" or "ranges" in value:  # also a choice for a stretch
        ranges = [(one["start"], one["end"]) for one in value["ranges"]]
        if not ranges or any(type(one) not in (int, float) for pair in ranges for one in pair):
            raise NotUnderstood(1, "a range without the numbers of its first and last frame")
        times = [Times(str(first - 1), str(last), True, rate) for first, last in ranges]
    elif kind == "labels" or "start" in value:
        times = [Times(str(value["start"]), str(value["end"]))]
    labels = value[kind]
    if not isinstance(labels, list) or not all(isinstance(one, str | int) for one in labels):
        raise NotUnderstood(1, f"{kind} are not a list of names")
    yield from (Entry(0, (), ";".join(map(str, labels)), times=one) for one in times)


def _is_path(text: str) -> bool:
    return is_video(names_of(text)[0]) or "/" in text


def _is_video(text: str, page: Page) -> bool:
    names = names_of(text)
    return is_video(names[-1]) or any(map(page.find, names))


def _rate(value: Any) -> float:
    with suppress(TypeError, ValueError):
        if 0 < float(value) < 1000:
            return float(value)
    raise NotUnderstood(1, f"frame rate {value!r}: expected frames a second, as 24")


def _parse_xml(page: Page) -> ElementTree.Element:
    """Returns the root of an XML file; each element's attribute `_LINE` has its line.

    Raises:
        NotUnderstood: no XML; or it defines what else to read or to put in (entities), which no
            export does, and which could fill the memory.
    """
    builder, parser = ElementTree.TreeBuilder(), expat.ParserCreate("utf-8")

    def start(tag: str, about: dict[str, str]) -> None:
        builder.start(tag, {**about, _LINE: str(parser.CurrentLineNumber)})

    def refuse(*_: object) -> None:
        why = "a DOCTYPE, which no export has: take it out, or export again"
        raise NotUnderstood(parser.CurrentLineNumber, why)

    parser.buffer_text = True
    parser.StartElementHandler, parser.EndElementHandler = start, builder.end
    parser.CharacterDataHandler, parser.StartDoctypeDeclHandler = builder.data, refuse
    try:
        parser.Parse(page.text.lstrip("\ufeff").encode("utf-8", "surrogateescape"), True)
    except expat.ExpatError as error:
        raise NotUnderstood(error.lineno, f"no XML: {error}; expected a whole export") from None
    return builder.close()


def _line_of(element: ElementTree.Element) -> int:
    return int(element.get(_LINE, "1"))


def read_cvat(page: Page, match: re.Match[str]) -> list[Entry] | None:
    """Reads `CVAT for video 1.1` and `CVAT for images 1.1` (docs.cvat.ai: XML annotation format).

    A tag is of one frame, and tags of neighbouring frames are one stretch; a track is one wherever
    it is not `outside`. Frames count from 0, in the video. The shape of a track is passed over.
    """
    root = _parse_xml(page)
    version = root.findtext("version")
    if root.tag != "annotations" or version != "1.1":
        why = f"version {version} of CVAT's XML: expected 1.1, as CVAT 1 and 2 export it"
        raise NotUnderstood(1, why)
    if page.tier is not None:
        raise NotUnderstood(1, "CVAT's labels are in no tiers: leave --tier out")
    tasks = {task.findtext("id"): _cvat_task(task) for task in root.iter("task")}
    if len(tasks) < 2:  # what is labelled names no task then
        tasks[None] = _cvat_task(root)

    labels = {label.findtext("name") for label in root.iter("label")}
    entries: list[Entry] = []
    frames: dict[tuple[str | None, str], dict[int, int]] = {}  # of tags: the line of each frame

    def read_tag(parent: ElementTree.Element, tag: ElementTree.Element) -> Iterator[Entry]:
        task = tag.get("task_id") or parent.get("task_id")
        _check_names(tasks, task, labels, tag.get("label"))
        frame = _frame(tag.get("frame") or parent.get("id") or "")
        frames.setdefault((task, tag.get("label", "")), {}).setdefault(frame, _line_of(tag))
        return iter(())

    def read_track(track: ElementTree.Element) -> Iterator[Entry]:
        task = track.get("task_id")
        _check_names(tasks, task, labels, track.get("label"))
        video, step = tasks[task]
        marks = {_frame(s.get("frame", "")): s.get("outside") != "1" for s in track}
        parts = list(_cvat_parts(marks, step))
        if not parts:
            raise NotUnderstood(1, "shown on no frame")
        for start, end in parts:
            yield _cvat_entry(_line_of(track), video, track.get("label", ""), start, end)

    for parent in [root, *root.iter("image")]:
        for tag in parent.findall("tag"):
            text = f"tag {tag.get('label')!r}"
            entries += _read_item(_line_of(tag), text, partial(read_tag, parent, tag))
    for track in root.iter("track"):
        text = f"track {track.get('label')!r}"
        entries += _read_item(_line_of(track), text, partial(read_track, track))
    for (task, label), lines in frames.items():
        video, step = tasks[task]
        for start, end in _runs(sorted(lines), step):
            entries.append(_cvat_entry(lines[start], video, label, start, end))
    if not entries:
        raise NotUnderstood(1, "no tag and no track in it: label some frames, and export again")
    return _of_one_tier(page, entries, "tier")


def _check_names(
    tasks: Mapping[str | None, Any], task: str | None, labels: set[str | None], label: str | None
) -> None:
    """Raises NotUnderstood for a task or a label that the file does not have."""
    if task not in tasks:
        known = ", ".join(map(str, filter(None, tasks)))
        raise NotUnderstood(1, f"task {task}: expected one of the file's tasks, {known}")
    if label and labels and label not in labels:
        known = ", ".join(map(str, sorted(filter(None, labels))))
        raise NotUnderstood(1, f"label {label!r} is none of the file's own: {known}")


def _cvat_entry(line: int, video: str, label: str, start: int, end: int) -> Entry:
    text, times = f"{label} from frame {start} of {video}", Times(str(start), str(end), True)
    return Entry(line, names_of(video), label, "", text, times)


def _frame(text: str) -> int:
    if not re.fullmatch("[0-9]{1,9}", text):
        raise NotUnderstood(1, f"frame {text!r}: expected a number from 0 on")
    return int(text)


def _cvat_task(task: ElementTree.Element) -> tuple[str, int]:
    """Returns the name of a task's video, and the step from one of its frames to the next."""
    names = [e.text for tag in ("source", "name") for e in task.iter(tag) if e.text]
    rule = re.search(r"[1-9]\d{0,8}", task.findtext(".//frame_filter") or "")
    return names[0] if names else "", int(rule[0]) if rule else 1


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
    root = _parse_xml(page)
    version = root.get("FORMAT", "3.0")  # the schema's default
    if root.tag != "ANNOTATION_DOCUMENT" or not re.fullmatch(ELAN_FORMATS, version):
        raise NotUnderstood(1, f"format {version} of ELAN: expected 2.0 to 3.0; save it as EAF 2.8")
    header = root.find("HEADER")
    units = "" if header is None else header.get("TIME_UNITS", "milliseconds")
    if header is None or units != "milliseconds":
        raise NotUnderstood(1, f"times in {units or 'no HEADER'}: expected milliseconds")
    media = [
        (one.get("RELATIVE_MEDIA_URL") or one.get("MEDIA_URL") or "", one)
        for one in header.iter("MEDIA_DESCRIPTOR")
    ]
    path, video = next((one for one in media if is_video(names_of(one[0])[-1])), ("", header))
    if not path:
        raise NotUnderstood(_line_of(header), "it names no video: link it in ELAN (Linked Files)")
    origin = _milliseconds(video.get("TIME_ORIGIN", "0"))
    slots = {s.get("TIME_SLOT_ID"): s.get("TIME_VALUE", "") for s in root.iter("TIME_SLOT")}
    entries: list[Entry] = []
    for tier in root.iter("TIER"):
        for one in tier.iter("ALIGNABLE_ANNOTATION"):
            label = (one.findtext("ANNOTATION_VALUE") or "").strip()
            text = f"annotation {one.get('ANNOTATION_ID')}, {label!r}"
            about = Entry(0, names_of(path), label, tier=str(tier.get("TIER_ID")))
            read = partial(_elan_entry, about, one, slots, origin)
            entries += _read_item(_line_of(one), text, read, about.tier)
    return _of_one_tier(page, entries, "tier")


def _elan_entry(
    about: Entry, annotation: ElementTree.Element, slots: dict[str | None, str], origin: float
) -> Iterator[Entry]:
    ends = [slots[annotation.get(f"TIME_SLOT_REF{n}")] for n in (1, 2)]
    start, end = (str((_milliseconds(time) + origin) / 1000) for time in ends)
    yield about._replace(times=Times(start, end))


def _milliseconds(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise NotUnderstood(1, f"time {text!r}: expected milliseconds") from None


def read_via(page: Page, match: re.Match[str]) -> list[Entry] | None:
    """Reads the CSV of VIA 3 (its own first lines say what its columns are).

    A row with two temporal coordinates is a stretch, one with none the whole video, of the label
    that its metadata names: an option of the attribute, or its text. Rows of a still frame or a
    region are passed over.
    """
    found = re.search(r"^# ATTRIBUTES? = (\{.*\})", page.text, re.M)
    columns = re.search(r"^# CSV_HEADER = (\S+)", page.text, re.M)
    attributes = parse_json(found[1]) if found else {}
    if not attributes or columns is None or columns[1] != VIA_COLUMNS:
        raise NotUnderstood(1, "not the columns or no attribute of VIA 3: export it from 3.0.5 on")
    entries: list[Entry] = []
    for line, cells in page.rows(","):
        entries += _read_item(line, " ".join(cells)[:100], partial(_via_entries, cells, attributes))
    return _of_one_tier(page, entries, "attribute")


def _via_entries(cells: list[str], attributes: dict[str, Any]) -> Iterator[Entry]:
    """Yields the labels of a row that is of a video or of a stretch."""
    files, _, times, region, metadata = (parse_json(cell) for cell in cells[1:])
    if list(map(float, region)) or (len(times) == 1 and isinstance(times[0], int | float)):
        return
    start, end = times or (None, None)
    where, video = Times(str(start), str(end)) if times else None, names_of(files[0])
    if not metadata:
        raise NotUnderstood(1, NO_LABEL)
    for key, value in metadata.items():
        about = attributes.get(key)
        about = {"aname": about} if isinstance(about, str) else about  # of 3.0.0
        if not isinstance(about, dict):
            raise NotUnderstood(1, f"attribute {key!r}, which the file's first lines do not have")
        options, name = about.get("options") or {}, str(about.get("aname", key))
        is_text = about.get("type") == VIA_TEXT or not options
        chosen = [str(value)] if is_text else str(value).split(",")
        unknown = [one for one in chosen if one and not is_text and one not in options]
        known = f"{name} has {', '.join(map(str, options))}"[:100]
        fault = f"option {unknown[0]!r}: {known}" if unknown else ""
        labels = [one if is_text else str(options.get(one, "")) for one in chosen]
        text = f"{files[0]} {times}"
        yield Entry(0, video, ";".join(labels), "", text, where, tier=name, fault=fault)
