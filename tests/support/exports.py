"""Writes the exports of labelling tools, of the same stretches."""

import json
from collections.abc import Sequence
from xml.etree import ElementTree
from xml.sax.saxutils import quoteattr

import jsonschema

RATE = 12  # of `video_files.write_video`
Stretch = tuple[str, object, object, str]  # video, start and end in seconds, label


def _frame(seconds: object) -> object:
    return round(seconds * RATE) if isinstance(seconds, float | int) else seconds


def label_studio(rows: Sequence[Stretch], version: str = "") -> str:
    """Returns a task for each stretch; the version is that of before 1.0."""
    tasks = []
    for number, (video, start, end, label) in enumerate(rows, 1):
        first = _frame(start)
        ranges = [{"start": first + 1 if isinstance(first, int) else first, "end": _frame(end)}]
        value = {"ranges": ranges, "timelinelabels": [label]}
        result = [{"id": "r", "from_name": "act", "type": "timelinelabels", "value": value}]
        done = [{"id": 9, "was_cancelled": False, "result": result}]
        key = "completions" if version else "annotations"
        tasks.append({"id": number, "data": {"video": video, "fps": RATE}, key: done})
    return json.dumps(tasks, indent=1)


def label_studio_min(rows: Sequence[Stretch], version: str = "") -> str:
    tasks = json.loads(label_studio(rows, version))
    for task in tasks:
        done = task.pop("annotations", None) or task.pop("completions")
        task |= task.pop("data") | {"act": [done[0]["result"][0]["value"]], "annotation_id": 9}
        if version:
            task["completions"] = []
    return json.dumps(tasks, indent=1)


def cvat(rows: Sequence[Stretch], version: str = "1.1") -> str:
    """Returns the tracks of a project's tasks."""
    videos = sorted({row[0] for row in rows})
    tasks = "".join(
        f"<task><id>{number}</id><source>{video}</source></task>\n"
        for number, video in enumerate(videos)
    )
    tracks = "".join(
        f"<track id='{number}' task_id='{videos.index(video)}' label={quoteattr(label)}>\n"
        f"<box frame='{_frame(start)}' outside='0'/><box frame='{_frame(end)}' outside='1'/>"
        "</track>\n"
        for number, (video, start, end, label) in enumerate(rows)
    )
    about = f"<version>{version}</version>\n<meta><project><tasks>{tasks}</tasks></project></meta>"
    return f"<?xml version='1.0' encoding='utf-8'?>\n<annotations>{about}\n{tracks}</annotations>"


def elan(rows: Sequence[Stretch], version: str = "3.0") -> str:
    """Returns the annotations of one video, that of the first stretch."""
    slots, annotations = "", ""
    for number, (_, start, end, label) in enumerate(rows):
        times = [t if isinstance(t, str) else round(t * 1000) for t in (start, end)]
        slots += "".join(
            f"<TIME_SLOT TIME_SLOT_ID='{which}{number}' TIME_VALUE='{time}'/>\n"
            for which, time in zip("ab", times, strict=True)
        )
        annotations += (
            f"<ANNOTATION><ALIGNABLE_ANNOTATION ANNOTATION_ID='n{number}' "
            f"TIME_SLOT_REF1='a{number}' TIME_SLOT_REF2='b{number}'>"
            f"<ANNOTATION_VALUE>{label}</ANNOTATION_VALUE></ALIGNABLE_ANNOTATION></ANNOTATION>\n"
        )
    media = f"<MEDIA_DESCRIPTOR MEDIA_URL='file:///x/{rows[0][0] if rows else 'p0_a.mp4'}'/>"
    return (
        f"<?xml version='1.0'?>\n<ANNOTATION_DOCUMENT FORMAT='{version}' VERSION='{version}'>\n"
        f"<HEADER TIME_UNITS='milliseconds'>{media}</HEADER><TIME_ORDER>{slots}</TIME_ORDER>\n"
        f"<TIER TIER_ID='act'>{annotations}</TIER></ANNOTATION_DOCUMENT>"
    )


def via(rows: Sequence[Stretch], version: str = "3") -> str:
    """Returns the rows of a choice among options; version 2 has other columns."""
    options = {str(number): label for number, label in enumerate(sorted({r[3] for r in rows}))}
    columns = "metadata_id,file_list,flags,temporal_coordinates,spatial_coordinates,metadata"
    columns = columns if version == "3" else "metadata_id,file_list,start,end,metadata"
    attribute = {"1": {"aname": "act", "type": 4, "options": options}}
    lines = [f"# ATTRIBUTE = {json.dumps(attribute)}", f"# CSV_HEADER = {columns}"]
    for video, start, end, label in rows:
        chosen = {"1": next(number for number, name in options.items() if name == label)}
        cells = ["1_x", json.dumps([video]), "0", json.dumps([start, end]), "[]"]
        cells.append(json.dumps(chosen))
        lines.append(",".join('"' + cell.replace('"', '""') + '"' for cell in cells))
    return "\n".join(lines) + "\n"


def table(rows: Sequence[Stretch], version: str = "") -> str:
    header = "path,begin,label" if version else "path,start,end,label"
    return "\n".join([header, *(",".join(map(str, row)) for row in rows)]) + "\n"


EXPORTS = {  # the name of the file, and what writes it
    "Label Studio": ("x.json", label_studio),
    "JSON-MIN": ("x.json", label_studio_min),
    "CVAT": ("x.xml", cvat),
    "ELAN": ("x.eaf", elan),
    "VIA": ("x.csv", via),
    "CSV": ("x.csv", table),
}


_TEXT = {"type": "string", "minLength": 1}


def _object(optional: dict, **required: object) -> dict:
    properties = required | optional
    about = {"properties": properties, "required": [*required], "additionalProperties": False}
    return {"type": "object", **about}


def _list(item: object) -> dict:
    return {"type": "array", "minItems": 1, "items": item}


def _result(kind: str, **value: object) -> dict:
    names = {"id": _TEXT, "from_name": _TEXT, "to_name": _TEXT, "type": {"const": kind}}
    score = {"score": {"type": "number", "minimum": 0, "maximum": 1}}
    return _object(score, value=_object({}, **value), **names)


_FRAME = {"type": "integer", "minimum": 1}
# After labelstud.io/guide/predictions and labelstud.io/tags/timelinelabels, /tags/choices.
LABEL_STUDIO_TASKS = _list(
    _object(
        {},
        data=_object({"fps": {"type": "number", "exclusiveMinimum": 0}}, video=_TEXT),
        predictions=_list(
            _object(
                {"model_version": _TEXT, "score": {"type": "number"}},
                result={
                    "type": "array",
                    "items": {
                        "oneOf": [
                            _result(
                                "timelinelabels",
                                ranges=_list(_object({}, start=_FRAME, end=_FRAME)),
                                timelinelabels=_list(_TEXT),
                            ),
                            _result("choices", choices=_list(_TEXT)),
                        ]
                    },
                },
            )
        ),
    )
)
# After docs.cvat.ai (XML annotation format), without shapes: an element's children, the attributes
# that the importer reads, and those that it may have besides.
CVAT_ELEMENTS = {
    "annotations": ("version meta image", "", ""),
    "version": ("", "", ""),
    "meta": ("task", "", ""),
    "task": ("id name size mode source frame_filter", "", ""),
    "source": ("", "", ""),
    "image": ("tag", "id name", "width height"),
    "tag": ("attribute", "label", "source group_id"),
}


def check_label_studio(text: str) -> None:
    """Raises where tasks are not as Label Studio imports them; no two results have one id."""
    tasks = json.loads(text)
    jsonschema.validate(tasks, LABEL_STUDIO_TASKS)
    results = [one for task in tasks for part in task["predictions"] for one in part["result"]]
    assert len({one["id"] for one in results}) == len(results)


def check_cvat(text: str) -> None:
    """Raises where XML is not as CVAT imports it."""
    root = ElementTree.fromstring(text)
    assert root.tag == "annotations" and [one.tag for one in root[:2]] == ["version", "meta"]
    assert root.findtext("version") == "1.1"
    for element in root.iter():
        children, needed, allowed = map(str.split, CVAT_ELEMENTS[element.tag])
        assert {child.tag for child in element} <= set(children), element.tag
        assert set(needed) <= element.attrib.keys() <= {*needed, *allowed}, element.attrib
    numbers = [int(image.get("id")) for image in root.iter("image")]
    assert numbers == sorted(set(numbers)) and min(numbers, default=0) >= 0
    assert {tag.get("source", "auto") for tag in root.iter("tag")} <= {"auto", "manual"}
