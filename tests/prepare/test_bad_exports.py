"""No export, however wrong, is a traceback or passed over in silence: each is a line with a fix."""

import json
import re
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from xml.etree import ElementTree

import pytest
from exports import EXPORTS, elan, label_studio
from video_files import write_video

from mmact_tiny.errors import UserError
from mmact_tiny.prepare.prepare import prepare_data
from mmact_tiny.prepare.sources import find_source
from mmact_tiny.prepare.types import Settings
from tools import prepare_data as tool

GOOD = [("p0_a.mp4", 0.0, 1.0, "run"), ("p0_a.mp4", 1.0, 1.6, "sit")]
LEFT_OUT = "left out"


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """Three videos of two seconds, and a label map."""
    folder = tmp_path_factory.mktemp("videos")
    for name in "abc":
        write_video(folder / f"p0_{name}.mp4", seed=ord(name))
    (folder / "label_map.txt").write_text("run\nsit\n")
    return folder


# What is wrong with a stretch, the kind that counts it, and what its line says.
FAULTS = {
    "unknown label": ((0.2, 0.9, "fly"), "unknown label", "the label map has 2 classes, correct"),
    "outside": ((1.0, 3.6, "sit"), "outside the video", r"which ends at 2\.0 s"),
    "not a number": (("soon", 1.6, "sit"), "not (a time|understood)", "soon|numbers of its first"),
    "end before start": ((1.6, 1.2, "sit"), "not a stretch", "an end after it"),
    "two labels": ((0.0, 1.0, "sit"), "contradicting labels", "--multi-label takes both"),
    "twice": ((0.0, 1.0, "run"), "duplicate", "already"),
    "a page": ((1.6, 2.0, "run" * 400), "no label", "a label of 1200 characters"),
    "no label": ((1.6, 2.0, ""), "no label", "is not a path and a label"),
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("tool_name", EXPORTS)
def test_a_bad_item_is_left_out_with_its_line_and_the_fix(tmp_path, videos, tool_name, fault):
    """The rest is written; CVAT's tracks are sets of frames, which cannot end before they begin."""
    (start, end, label), kind, message = FAULTS[fault]
    file, write = EXPORTS[tool_name]
    if tool_name == "CVAT" and fault == "end before start":
        return
    others = [[(f"p0_{name}.mp4", *rest) for _, *rest in GOOD] for name in "bc"]
    rows = [*GOOD, ("p0_a.mp4", start, end, label)]
    if tool_name == "ELAN":  # has an export for each video
        for name, of_video in zip("bc", others, strict=True):
            (tmp_path / f"{name}.eaf").write_text(elan(of_video))
        others = []
    (tmp_path / file).write_text(write([*rows, *(row for one in others for row in one)]))
    source, out = tmp_path if tool_name == "ELAN" else tmp_path / file, tmp_path / "out"
    prepare_data(source, out, Settings(videos=videos, num_workers=1, val=0.5))
    problems = json.loads((out / "summary.json").read_text())["problems"]
    (told, *others) = [one for one in problems if re.fullmatch(kind, one["kind"])]
    assert len(others) == (fault == "two labels")
    assert re.search(message, told["message"]) and told["message"].endswith("left out")
    assert re.search(rf"{file}:\d+", told["where"])


@pytest.mark.parametrize("tool_name", EXPORTS)
def test_an_empty_export_and_another_version_write_nothing(tmp_path, videos, tool_name, capsys):
    file, write = EXPORTS[tool_name]
    version = {"CVAT": "1.0", "ELAN": "4.0", "VIA": "2"}.get(tool_name, "old")
    fixes = r"label some|export it from|expected"
    headed = ["path,start,end,label\n"] if file.endswith(".csv") else []
    empty = ["", "\n\n", "[]", "{\n}", *headed]
    for text in (write([]), write(GOOD, version), *empty, "<a/>", "hello\n"):
        (tmp_path / file).write_text(text)
        for source in (tmp_path / file, tmp_path):
            words = [str(source), "--videos", str(videos), "--out", str(tmp_path / "out")]
            assert tool.main(words) == 2, text
            said = capsys.readouterr().err.strip()
            assert "Traceback" not in said and len(said.splitlines()) <= 2, said
            assert re.search(rf"{file}:\d+", said) and re.search(fixes, said), said
            assert (": empty: expected a path and a label" in said) == (text in empty), said
            assert not (tmp_path / "out").exists()


FOREIGN = {
    "x.json": [
        ('{"project": {"pid": "1", "vid_list": ["1"]}, "metadata": {}}', "a project of VIA 3"),
        ('{"images": [], "annotations": [], "categories": [{"id": 1}]}', "COCO's format"),
        ('{"_via_settings": {}, "_via_img_metadata": {"a.jpg": {}}}', "VIA 2"),
        ('[{"version": 0, "tracks": [{"frame": 0, "label_id": 1}]}]', "CVAT, but not its XML"),
    ],
    "x.xml": [("<annotation><folder>a</folder></annotation>", "Pascal VOC")],
    "x.csv": [("filename,file_size,region_shape_attributes\na.jpg,1,{}\n", "VIA 2")],
}


@pytest.mark.parametrize("file", FOREIGN)
def test_files_of_other_tools_are_told_by_name(tmp_path, videos, file):
    for text, message in FOREIGN[file]:
        (tmp_path / file).write_text(text)
        with pytest.raises(UserError, match=message):
            find_source(tmp_path / file, settings=Settings(videos=videos))


def test_one_bad_file_among_exports_is_a_line(tmp_path, videos):
    (tmp_path / "a.json").write_text(label_studio(GOOD))
    two = elan([("p0_b.mp4", 0.0, 1.0, "run")])
    tier = two[two.index("<TIER") : two.index("</ANNOTATION_DOC")].replace("act", "mood")
    (tmp_path / "b.eaf").write_text(two.replace("</ANNOTATION_DOC", tier + "</ANNOTATION_DOC"))
    (tmp_path / "c.xml").write_text("<annotation/>")
    found = find_source(tmp_path, settings=Settings(videos=videos))
    assert len(found.listed) == 2
    told = {Path(one.where).name: one.message for one in found.problems}
    assert "labels of several tiers, act, mood: name one by --tier" in told["b.eaf:1"]
    assert "Pascal VOC" in told["c.xml:1"]
    (tmp_path / "b.eaf").write_text(two.replace("'act'", "'mood'"))
    found = find_source(tmp_path, settings=Settings(videos=videos))
    told = [one.message for one in found.problems if one.kind == "several tiers"]
    assert told == ["labels are of act in a.json, mood in b.eaf: --tier takes one alone"]
    (tmp_path / "b.eaf").write_text(two.replace("</ANNOTATION_DOC", tier + "</ANNOTATION_DOC"))
    (tmp_path / "a.json").unlink()
    with pytest.raises(UserError, match=r"(?s)b.eaf:1: labels of several tiers.*c.xml:1"):
        find_source(tmp_path, settings=Settings(videos=videos))


def test_a_quote_that_is_not_closed_is_told_with_its_line(tmp_path, videos):
    lines = ["path,start,end,label", "p0_a.mp4,0,1,run", 'p0_a.mp4,1,2,"sit', "p0_b.mp4,0,1,run"]
    for text in ("\n".join(lines), "\n".join([*lines, "x" * 200_000])):
        (tmp_path / "x.csv").write_text(text)
        with pytest.raises(UserError, match=r"x.csv:3: .*a quote"):
            find_source(tmp_path / "x.csv", settings=Settings(videos=videos))


ODD = (None, "", [], {}, [[]], True, -1, 10**30, 1e999, float("nan"), "\ud800", "1.5", ["a", 1])


def wrong_json(text: str) -> Iterator[str]:
    """Yields a JSON text with each of its values replaced by each odd one, or taken out."""

    def places(value: object, way: tuple) -> Iterator[tuple]:
        yield way
        inner = enumerate(value) if isinstance(value, list) else ()
        for key, one in value.items() if isinstance(value, dict) else inner:
            yield from places(one, (*way, key))

    whole = json.loads(text)
    for *way, last in list(places(whole, ()))[1:]:
        for odd in (*ODD, *["take it out"] * bool(way)):
            changed = deepcopy(whole)
            around = changed
            for key in way:
                around = around[key]
            if odd == "take it out":
                del around[last]
            else:
                around[last] = odd
            yield json.dumps(changed)


ITEMS = ("track", "ANNOTATION", "ALIGNABLE_ANNOTATION")


def wrong_xml(text: str) -> Iterator[str]:
    """Yields an XML text with each attribute and text replaced or taken out, or each element.

    One without a whole item cannot be known from an export of fewer.
    """
    for place in range(len(list(ElementTree.fromstring(text).iter()))):
        for odd in (None, "", "-1", "soon", "1e999", "nan", "\u0663", "9" * 400):
            root = ElementTree.fromstring(text)
            element = list(root.iter())[place]
            for name in list(element.attrib):
                kept = element.attrib.pop(name)
                if odd is not None:
                    element.set(name, odd)
                yield ElementTree.tostring(root, "unicode")
                element.set(name, kept)
            if odd is not None:
                element.text = odd
                yield ElementTree.tostring(root, "unicode")
        for parent in root.iter():
            if element in list(parent) and element.tag not in ITEMS:
                parent.remove(element)
                yield ElementTree.tostring(root, "unicode")


def wrong_via(text: str) -> Iterator[str]:
    *head, row = text.splitlines()[:3]
    for odd in map(json.dumps, ODD):
        cells = ["1_x", '["p0_a.mp4"]', "0", "[0.0, 1.0]", "[]", '{"1": "0"}']
        for place in range(6):
            changed = [*cells[:place], odd, *cells[place + 1 :]]
            quoted = ",".join('"' + cell.replace('"', '""') + '"' for cell in changed)
            yield "\n".join([*head, row, quoted]) + "\n"
    for line in range(2):
        for odd in ("", "# ATTRIBUTE = [1]", '# ATTRIBUTE = {"1": 3}', "# ATTRIBUTE = {"):
            yield "\n".join([*head[:line], odd, *head[line + 1 :], row, row]) + "\n"


def broken(text: str) -> Iterator[str]:
    """Yields texts that are cut, doubled, of other line ends, or where characters are others."""
    for part in range(1, 20):
        yield text[: len(text) * part // 20]
        yield text[len(text) * part // 20 :]
    yield from (text + text, "\ufeff" + text, text.replace("\n", "\r\n"), text.replace('"', "'"))
    yield from ("[" * 100_000, '{"a":' * 100_000, "<a>" * 100_000, "<annotations>" * 100_000, '"')
    yield from (text.replace("0", "\u0663"), text.upper(), text.replace("p0_a", "p0\u00e4" * 300))


@pytest.mark.parametrize("tool_name", EXPORTS)
def test_whatever_is_wrong_is_a_line(tmp_path, videos, tool_name):
    """Each change of a good export gives as many stretches, or something is told, or an error."""
    file, write = EXPORTS[tool_name]
    wrong = {".json": wrong_json, ".xml": wrong_xml, ".eaf": wrong_xml}.get(file[1:])
    wrong = wrong_via if tool_name == "VIA" else wrong
    text = write(GOOD)
    texts = [*broken(text), *(wrong(text) if wrong else ())]
    settings, silent, told = Settings(videos=videos), [], 0
    for changed in texts:
        (tmp_path / file).write_text(changed, encoding="utf-8", errors="surrogatepass")
        try:
            found = find_source(tmp_path / file, settings=settings)
        except UserError as error:
            told += 1
            assert re.search(rf"{file}:\d+", str(error)), str(error)[:300]
            continue
        kinds = {one.kind for one in found.problems} - {"not listed", "not where the list says"}
        is_less = len(found.listed) < 2 and not text.startswith(changed)
        silent += [changed] if is_less and not kinds else []
    assert len(texts) > 40 and told > 10
    assert silent == [], (len(silent), silent[:5])
