"""What labelling tools export gives literal stretches; what is wrong with it is told and fixed."""

import csv
import json
from fractions import Fraction
from pathlib import Path

import pytest
from pattern_videos import make_video
from video_files import write_video

from mmact_tiny.errors import UserError
from mmact_tiny.prepare.prepare import prepare_data
from mmact_tiny.prepare.sources import find_source
from mmact_tiny.prepare.types import Settings


def region(label: str, start: object, end: object, control: str = "actions") -> dict:
    value = {"ranges": [{"start": start, "end": end}], "timelinelabels": [label]}
    return {"from_name": control, "to_name": "video", "type": "timelinelabels", "value": value}


def choice(*labels: str) -> dict:
    return {"from_name": "kind", "type": "choices", "value": {"choices": [*labels]}}


def label_studio(*tasks: tuple[str, list[dict]], **data: object) -> str:
    """Returns tasks of a video and its results, as Label Studio 1.x exports them."""
    return json.dumps(
        [
            {
                "id": number,
                "data": {"video": video, **data},
                "annotations": [{"id": 9, "was_cancelled": False, "result": results}],
                "predictions": [{"result": [region("guessed", 1, 9)]}],
            }
            for number, (video, results) in enumerate(tasks, 1)
        ]
    )


BOX = {
    "from_name": "box",
    "type": "videorectangle",
    "value": {"framesCount": 50, "labels": ["car"], "sequence": [{"frame": 1}]},
}
RELATION = {"from_id": "a", "to_id": "b", "type": "relation", "direction": "right"}
OF_STRETCH = {"ranges": [{"start": 1, "end": 25}], "choices": ["run"]}
UPLOAD = "/data/upload/3/0a1b2c3d-a.mp4"
RUN_SIT = [("a.mp4", "run", "0", "25"), ("b c.mp4", "sit", "25", "50")]
CVAT = "<?xml version='1.0'?><annotations><version>{}</version><meta>{}</meta>{}</annotations>"
TASK = "<task><id>7</id><name>my task</name>{}</task><source>in/a.mp4</source>"
PROJECT = "<project><tasks>{}</tasks></project>".format(
    "".join(
        f"<task><id>{n}</id><source>{name}</source></task>"
        for n, name in ((1, "a.mp4"), (2, "b c.mp4"))
    )
)


def boxes(*marks: tuple[int, int], label: str = "run", **more: str) -> str:
    shapes = "".join(f'<box frame="{f}" outside="{o}" xtl="1" keyframe="1"/>' for f, o in marks)
    rest = "".join(f' {key}="{value}"' for key, value in more.items())
    return f'<track id="0" label="{label}"{rest}>{shapes}</track>'


def tags(label: str, *frames: object) -> str:
    return "".join(f'<tag label="{label}" frame="{frame}"></tag>' for frame in frames)


def images(label: str, *frames: int) -> str:
    name = "frame_0000{:02}"
    inner = f'<tag label="{label}" source="manual"></tag>'
    return "".join(f'<image id="{f}" name="{name.format(f)}">{inner}</image>' for f in frames)


EAF = (
    '<?xml version="1.0"?>\n<ANNOTATION_DOCUMENT FORMAT="3.0" VERSION="3.0">'
    '<HEADER TIME_UNITS="milliseconds"><MEDIA_DESCRIPTOR MEDIA_URL="file:///x/a.wav"/>'
    '<MEDIA_DESCRIPTOR MEDIA_URL="file:///C:/x/a.mp4" RELATIVE_MEDIA_URL="./a.mp4"{}/></HEADER>'
    '<TIME_ORDER><TIME_SLOT TIME_SLOT_ID="ts1" TIME_VALUE="0"/>'
    '<TIME_SLOT TIME_SLOT_ID="ts2" TIME_VALUE="1250"/><TIME_SLOT TIME_SLOT_ID="ts3"/></TIME_ORDER>'
    '<TIER TIER_ID="act"><ANNOTATION><ALIGNABLE_ANNOTATION ANNOTATION_ID="a1" '
    'TIME_SLOT_REF1="ts1" TIME_SLOT_REF2="ts2"><ANNOTATION_VALUE>run</ANNOTATION_VALUE>'
    "</ALIGNABLE_ANNOTATION></ANNOTATION></TIER>{}</ANNOTATION_DOCUMENT>"
)
TIER = EAF[EAF.index("<TIER") : EAF.index("{}</ANN")].replace("act", "other").replace("ts2", "ts3")
VIA = (
    "# Exported using VGG Image Annotator (http://www.robots.ox.ac.uk/~vgg/software/via)\n"
    '# ATTRIBUTE = {"1":{"aname":"act","type":4,"options":{"0":"run","1":"sit"}}}\n'
    "# CSV_HEADER = metadata_id,file_list,flags,temporal_coordinates,spatial_coordinates,metadata\n"
)
VIA_ROW = '"1_x{}","[""{}""]",0,"{}","{}","{{""1"":""{}""}}"\n'
BOMB = (
    '<?xml version="1.0"?>\n<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;">'
    '<!ENTITY c SYSTEM "file:///etc/hostname">]>\n<annotations>&b;&c;</annotations>'
)
MIN = {"id": 4, "annotator": 1, "annotation_id": 5, "lead_time": 3.2, "video": UPLOAD}
EXPORTS = {
    "Label Studio": (
        "x.json",
        label_studio(
            (UPLOAD, [region("run", 1, 25), BOX]),
            ("s3://bucket/in/b%20c.mp4", [region("sit", 26, 50)]),
        ),
        RUN_SIT,
    ),
    "Label Studio, local files": (
        "x.json",
        label_studio(("/data/local-files/?d=in/a.mp4", [region("run", 1, 25)]), fps="50"),
        [("a.mp4", "run", "0", "25")],
    ),
    "Label Studio, a choice for a stretch": (
        "x.json",
        label_studio((UPLOAD, [RELATION, choice("run") | {"value": OF_STRETCH}]), fps=50),
        [("a.mp4", "run", "0", "25")],
    ),
    "Label Studio, JSON-MIN": (
        "x.json",
        json.dumps([MIN | {"actions": [region("run", 1, 25)["value"]]}]),
        RUN_SIT[:1],
    ),
    "Label Studio, choices": (
        "x.json",
        label_studio((UPLOAD, [choice("run")]), ("b_c.mp4", [choice("sit")])),
        [("a.mp4", "run", None, None), ("b c.mp4", "sit", None, None)],
    ),
    "Label Studio, choices, JSON-MIN": (
        "x.json",
        json.dumps(
            [MIN | {"kind": "run"}, MIN | {"video": "b c.mp4", "kind": {"choices": ["sit"]}}]
        ),
        [("a.mp4", "run", None, None), ("b c.mp4", "sit", None, None)],
    ),
    "CVAT, tracks": (
        "annotations.xml",
        CVAT.format("1.1", TASK.format(""), boxes((0, 0), (24, 0), (25, 1), (30, 0), (39, 0))),
        [("a.mp4", "run", "0", "25"), ("a.mp4", "run", "30", "40")],
    ),
    "CVAT, tags": (
        "annotations.xml",
        CVAT.format("1.1", TASK.format(""), tags("run", 3, 4, 5, 9, 10) + tags("sit", 20, 21)),
        [("a.mp4", "run", "3", "6"), ("a.mp4", "run", "9", "11"), ("a.mp4", "sit", "20", "22")],
    ),
    "CVAT, every second frame": (
        "annotations.xml",
        CVAT.format(
            "1.1",
            TASK.format("<frame_filter>step=2</frame_filter>"),
            images("run", 4, 6, 8, 12),
        ),
        [("a.mp4", "run", "4", "10"), ("a.mp4", "run", "12", "14")],
    ),
    "CVAT, a project": (
        "annotations.xml",
        CVAT.format(
            "1.1",
            PROJECT,
            boxes((0, 0), (25, 1), task_id="1") + boxes((25, 0), (50, 1), label="sit", task_id="2"),
        ),
        RUN_SIT,
    ),
    "ELAN": ("x.eaf", EAF.format("", ""), [("a.mp4", "run", "0.0", "1.25")]),
    "ELAN, a video that begins later": (
        "x.eaf",
        EAF.format(' TIME_ORIGIN="500"', ""),
        [("a.mp4", "run", "0.5", "1.75")],
    ),
    "VIA": (
        "via.csv",
        VIA
        + VIA_ROW.format("1", "a.mp4", "[0.1,1.25]", "[]", "0")
        + VIA_ROW.format("2", "a.mp4", "[0.4]", "[2,1,1,9,9]", "1")
        + VIA_ROW.format("3", "b c.mp4", "[1,1.5]", "[]", "1"),
        [("a.mp4", "run", "0.1", "1.25"), ("b c.mp4", "sit", "1", "1.5")],
    ),
    "VIA, a whole video": (
        "via.csv",
        VIA.replace("ATTRIBUTE = ", "ATTRIBUTES = ").replace('{"aname":"act",', '{"aname":"x",')
        + VIA_ROW.format("1", "a.mp4", "[]", "[]", "0"),
        [("a.mp4", "run", None, None)],
    ),
    "TSV": (
        "x.tsv",
        "video\tstart\tend\tlabel\na.mp4\t0\t1.25\trun\nb c.mp4\t0.5\t1\tsit\n",
        [("a.mp4", "run", "0", "1.25"), ("b c.mp4", "sit", "0.5", "1")],
    ),
}


def write(tmp_path: Path, name: str, text: str) -> tuple[Path, Settings]:
    """Writes an export, and two empty videos in a folder elsewhere."""
    for video in ("in/a.mp4", "b c.mp4"):
        path = tmp_path / "videos" / video
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (tmp_path / "export").mkdir()
    (tmp_path / "export" / name).write_text(text, encoding="utf-8")
    return tmp_path / "export" / name, Settings(videos=tmp_path / "videos")


@pytest.mark.parametrize("name", EXPORTS)
def test_what_tools_export_is_read(tmp_path, name, caplog):
    file, text, expected = EXPORTS[name]
    source, settings = write(tmp_path, file, text)
    for src in (source, source.parent):  # the file, or the folder of several
        found = find_source(src, settings=settings)
        assert found.layout in (name.split(",")[0], "table")
        assert [
            (
                Path(one.path).name,
                one.written,
                *((one.times.start, one.times.end) if one.times else (None, None)),
            )
            for one in found.listed
        ] == expected
    rates = dict.fromkeys(
        ("Label Studio, local files", "Label Studio, a choice for a stretch"), 50.0
    )
    unnamed = ("Label Studio", "Label Studio, JSON-MIN")
    rates |= dict.fromkeys(unnamed, 24.0)
    assert ("counts frames at 24 a second" in caplog.text) == (name in unnamed)
    assert {one.times.rate for one in found.listed if one.times} <= {rates.get(name)}
    assert {one.times.in_frames for one in found.listed if one.times} <= {
        file[-4:] in ("json", ".xml")
    }


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("x.json", "[7]", "of a known format; or Label Studio 1"),
        ("x.json", label_studio((UPLOAD, [])), "no label in it: label some"),
        ("x.json", '[{"data":{},"completions":[]}]', "before 1.0: export it from 1.0 or later"),
        (
            "x.json",
            label_studio((UPLOAD, [region("run", 1, 9), choice("sit")])),
            "labels of several controls, actions, kind: name one by --tier",
        ),
        ("x.xml", CVAT.format("1.0", "", ""), "version 1.0 of CVAT's XML: expected 1.1"),
        ("x.xml", CVAT.format("1.1", TASK.format(""), ""), "no tag and no track in it"),
        ("x.xml", "<annotations><version>1.1", "no XML: no element found"),
        ("x.xml", "<annotation><folder/></annotation>", "of Pascal VOC"),
        ("x.eaf", EAF.format("", TIER), "labels of several tiers, act, other: name one by --tier"),
        (
            "x.eaf",
            EAF.replace("milliseconds", "NTSC-frames").format("", ""),
            "times in NTSC-frames",
        ),
        ("x.eaf", EAF.replace("a.mp4", "a.wav").format("", ""), "names no video: link it in ELAN"),
        ("x.eaf", EAF.format(' TIME_ORIGIN="soon"', ""), "time 'soon': expected milliseconds"),
        ("x.xml", BOMB, "x.xml:2: a DOCTYPE, which no export has"),
        ("x.xml", CVAT.format("1.1", TASK.format(""), tags("run", "soon")), "frame 'soon'"),
        ("x.csv", VIA, "no label in it: label some"),
        ("x.csv", VIA + "1,2\n", "4: 1 2: not as the tool writes it"),
        ("x.csv", "path,start,label\na.mp4,1,run\n", "start or end alone"),
    ],
)
def test_another_tool_or_version_is_told(tmp_path, file, text, message):
    source, settings = write(tmp_path, file, text)
    with pytest.raises(UserError, match=message):
        find_source(source, settings=settings)


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """Six videos of two seconds, each with its own pictures."""
    folder = tmp_path_factory.mktemp("videos")
    for index, name in enumerate("abcdef"):
        write_video(folder / f"p{index % 2}_{name}.mp4", seed=index)
    return folder


def prepare(tmp_path: Path, videos: Path, lines: str, **settings: object) -> dict[str, list[str]]:
    """Prepares a CSV of stretches; returns the lists that are written."""
    (tmp_path / "x.csv").write_text("video,start,end,label,who\n" + lines)
    chosen = Settings(videos=videos, num_workers=1, val=0.34, **settings)
    prepare_data(tmp_path / "x.csv", tmp_path / "out", chosen)
    lists = (*(tmp_path / "out").glob("*.csv"), *(tmp_path / "out").glob("*.txt"))
    return {path.name: path.read_text().splitlines() for path in lists}


GOOD = "".join(
    f"p{i % 2}_{name}.mp4,{start},{start + 1},{label},w{i % 3}\n"
    for i, name in enumerate("abcdef")
    for start, label in ((0, "run"), (1, "sit"))
)


def sides(lists: dict[str, list[str]]) -> list[set[str]]:
    """Returns the videos of which training has stretches, and those of validation."""
    rows = (lists["train.csv"], lists["val.csv"])
    return [{row.split(",")[0] for row in of_split[1:]} for of_split in rows]


def test_a_dataset_of_stretches(tmp_path, videos, capsys):
    lists = prepare(tmp_path, videos, GOOD)
    assert lists["train.csv"][:3] == [
        "path,start,end,label",
        "videos/p0_a.mp4,0.0,1.0,0",
        "videos/p0_a.mp4,1.0,2.0,1",
    ]
    train, val = sides(lists)
    assert (len(train), len(val)) == (4, 2)
    assert not train & val, "the stretches of a video are in one split"
    assert "groups.csv" in lists and "train.txt" not in lists
    said = capsys.readouterr().out
    assert "12 stretches listed (table), 6 read now" in said and "counts twice" not in said
    prepare(tmp_path, videos, GOOD.replace("\n", "\n", 1))
    assert "12 stretches listed (table), 0 read now" in capsys.readouterr().out


BAD = {
    "p0_a.mp4,1,3.5,run,": ("outside the video", "which ends at 2.0 s"),
    "p0_a.mp4,-1,1,run,": ("not a stretch", "expected a start of 0 or more"),
    "p0_a.mp4,1.5,1,run,": ("not a stretch", "an end after it"),
    "p0_a.mp4,soon,1,run,": ("not a time", "expected numbers"),
    "p0_a.mp4,1.5,1.55,sit,": ("too short", "at least 3 frames are sampled"),
    "p0_a.mp4,0.5,0.9,sit,": ("contradicting labels", "p0_a.mp4 [0.5 s to 0.9 s] is 'sit'"),
    "p0_a.mp4,1,2,sit,": ("duplicate", "x.csv:3 already"),
}


@pytest.mark.parametrize("line", BAD)
def test_a_bad_stretch_is_left_out_and_told(tmp_path, videos, line):
    kind, message = BAD[line]
    prepare(tmp_path, videos, GOOD + line + "\n")
    problems = json.loads((tmp_path / "out" / "summary.json").read_text())["problems"]
    (told,) = [one for one in problems if one["kind"] == kind and one["where"].endswith("x.csv:14")]
    assert message in told["message"] and told["message"].endswith("left out")


@pytest.mark.parametrize(
    ("rule", "groups"),
    [
        (None, 6),
        (r"p(\d)_", 2),
        ("who", 3),
        ("folder", 1),
    ],
)
def test_groups_stay_together(tmp_path, videos, rule, groups):
    settings = {} if rule is None else {"group": rule}
    if groups == 1:
        with pytest.raises(UserError, match="--group folder: 12 samples in one group"):
            prepare(tmp_path, videos, GOOD, **settings)
        return
    lists = prepare(tmp_path, videos, GOOD, **settings)
    group_of = dict(csv.reader(lists["groups.csv"][1:]))
    assert len(set(group_of.values())) == groups
    train, val = ({group_of[video] for video in side} for side in sides(lists))
    assert train and val and not train & val


def test_a_group_on_both_sides_and_rules_that_fit_nothing(tmp_path, videos):
    source = tmp_path / "src"
    source.mkdir()
    for split, names in (("train", "ab"), ("val", "cd")):
        rows = [f"{next(videos.glob(f'*_{n}.mp4'))},{i}" for i, n in enumerate(names)]
        (source / f"{split}.csv").write_text("\n".join(["path,label", *rows]) + "\n")
    with pytest.raises(UserError, match="group in two splits"):
        prepare_data(source, tmp_path / "out", Settings(group=r"p(\d)_", num_workers=1))
    for rule, message in (("x(", "not a pattern"), ("nobody", "no video's path has such a part")):
        with pytest.raises(UserError, match=message):
            prepare_data(source, tmp_path / "out", Settings(group=rule, num_workers=1))


def test_the_rest_of_the_videos_is_the_background(tmp_path, videos):
    names = [path.name for path in sorted(videos.iterdir())]
    lines = "".join(f"{name},0.5,1,{'run' if name < 'p1' else 'sit'},\n" for name in names)
    lists = prepare(tmp_path, videos, lines, background="nothing")
    assert lists["label_map.txt"] == ["nothing", "run", "sit"]
    rows = [row.split(",") for split in ("train", "val") for row in lists[f"{split}.csv"][1:]]
    rest = [row for row in rows if row[3] == "0"]
    assert len(rest) == 6 and {(row[1], row[2]) for row in rest} == {("0.0", "0.5")}
    full = lines.replace(f"{names[0]},0.5,1,", f"{names[0]},0,2,")
    prepare(tmp_path, videos, full, background="nothing")
    problems = json.loads((tmp_path / "out" / "summary.json").read_text())["problems"]
    (told,) = [one for one in problems if one["kind"] == "no background"]
    assert "has no gap of 0.5 s, the median stretch: none of it is 'nothing'" in told["message"]
    (tmp_path / "x.csv").write_text("video,label\np0_a.mp4,run\np1_b.mp4,sit\n")
    for setting, message in (
        ({"background": "no"}, "--background: nothing lists stretches"),
        ({"frame_rate": 24.0}, "--frame-rate: nothing lists stretches"),
        ({"tier": "a"}, "--tier a: .*x.csv is no export of a labelling tool"),
    ):
        with pytest.raises(UserError, match=message):
            prepare_data(tmp_path / "x.csv", tmp_path / "o", Settings(videos=videos, **setting))


def test_a_label_of_a_task_that_is_not_there_is_left_out(tmp_path):
    for name in ("a.mp4", "b c.mp4"):
        write_video(tmp_path / name)
    marks = [boxes((0, 0), (25, 1), **more) for more in ({}, {"task_id": "1"}, {"task_id": "77"})]
    marks += ['<tag label="runn" frame="9" task_id="1"/><tag label="run" frame="3" task_id="78"/>']
    labels = "<labels><label><name>run</name></label><label><name>sit</name></label></labels>"
    (tmp_path / "x.xml").write_text(CVAT.format("1.1", PROJECT + labels, "".join(marks)))
    found = find_source(tmp_path / "x.xml", settings=Settings(videos=tmp_path))
    assert [one.path for one in found.listed] == [str(tmp_path / "a.mp4")]
    told = [one.message for one in found.problems if " of the file's " in one.message]
    assert "label 'runn' is none of the file's own: run, sit" in told.pop(0)
    for number, message in zip((78, None, 77), told, strict=True):
        assert f"task {number}: expected one of the file's tasks, 1, 2" in message


def test_a_result_that_is_not_whole_costs_itself(tmp_path):
    write_video(tmp_path / "a.mp4")
    bad = [region("run", 1, 9) | {"from_name": None}, region("run", 1, 9)]
    bad[1]["value"] = bad[1]["value"] | {"ranges": []}
    (tmp_path / "x.json").write_text(label_studio(("a.mp4", [*bad, region("run", 2, 8)])))
    found = find_source(tmp_path / "x.json", settings=Settings(videos=tmp_path))
    assert len(found.listed) == 1
    told = [one.message for one in found.problems if one.kind == "not understood"]
    assert [any(word in one for word in ("from_name", "a range")) for one in told] == [True, True]


def test_a_dataset_is_not_written_beside_its_videos(videos, tmp_path):
    (tmp_path / "x.csv").write_text("path,start,end,label\n")
    with pytest.raises(UserError, match="is the folder of the videos: give another folder"):
        prepare_data(tmp_path / "x.csv", videos, Settings(videos=videos / "../" / videos.name))


def test_frames_are_those_of_the_video_or_of_a_rate(tmp_path):
    """Frames are at 0, 0.1, ... 0.9 s, and then at 1, 2, ... 10 s."""
    pts = [*range(0, 100, 10), *range(100, 1100, 100)]
    make_video(tmp_path / "a.mp4", size=(96, 64), num_frames=20, fps=Fraction(100), pts=pts)
    write_video(tmp_path / "b.mp4", frames=30)
    text = label_studio(*((f"{name}.mp4", [region("run", 25, 48)]) for name in "ab"))
    (tmp_path / "x.json").write_text(text)
    tasks = "".join(f"<task><id>{n}</id><source>{n}.mp4</source></task>" for n in "ab")
    marks = "".join(
        f'<tag label="run" task_id="{n}" frame="{f}"/>' for n in "ab" for f in range(10, 15)
    )
    project = f"<project><tasks>{tasks}</tasks></project>"
    (tmp_path / "x.xml").write_text(CVAT.format("1.1", project, marks))
    for file, rate, expected in (
        ("x.xml", None, "1.0,6.0"),
        ("x.json", None, "1.0,2.0"),
        ("x.json", 20.0, "1.2,2.4"),
    ):
        out = tmp_path / f"out-{file}-{rate}"
        settings = Settings(frame_rate=rate, num_workers=1, min_frames=1)
        prepare_data(tmp_path / file, out, settings)
        lines = [(out / f"{split}.csv").read_text().splitlines()[1] for split in ("train", "val")]
        assert f"videos/a.mp4,{expected},0" in lines


def test_several_labels_a_video(tmp_path, videos):
    """Lines of one video are joined, and stretches are cut where the labels change."""
    names = [path.name for path in sorted(videos.iterdir())]
    lines = "".join(f"{name},run;sit\n{name},jump\n" for name in names[:3])
    (tmp_path / "a.csv").write_text(
        "video,label\n" + lines + "".join(f"{name},run\n" for name in names[3:])
    )
    settings = {"videos": videos, "num_workers": 1, "val": 0.34}
    prepare_data(tmp_path / "a.csv", tmp_path / "a", Settings(multi_label=True, **settings))
    texts = [(tmp_path / "a" / f"{split}.txt").read_text() for split in ("train", "val")]
    labels = dict(line.split(" ", 1) for text in texts for line in text.splitlines())
    assert labels == {f"videos/{n}": "0 1 2" if n in names[:3] else "1" for n in names}

    lines = "".join(f"{name},0,1.25,run\n{name},0.75,2,sit\n" for name in names)
    (tmp_path / "b.csv").write_text("video,start,end,label\n" + lines)
    prepare_data(tmp_path / "b.csv", tmp_path / "b", Settings(multi_label=True, **settings))
    rows = (tmp_path / "b" / "val.csv").read_text().splitlines()[1:4]
    assert [row.split(",", 1)[1] for row in rows] == ["0.0,0.75,0", "0.75,1.25,0;1", "1.25,2.0,1"]

    (tmp_path / "c.csv").write_text("video,label\n" + "".join(f"{name},run\n" for name in names))
    with pytest.raises(UserError, match="no video or stretch has several labels: leave it out"):
        prepare_data(tmp_path / "c.csv", tmp_path / "c", Settings(multi_label=True, **settings))


ONE = "".join(f"p{i % 2}_{name}.mp4,{{}}\n" for i, name in enumerate("abcdef"))
FLAGS = {  # lines, settings, and the one line that names the flag
    "a;b in a list": (
        "video,label\n" + ONE.format(*["run;sit"] * 6),
        {},
        r"x.csv:2: labels 'run;sit': --multi-label takes several",
    ),
    "a;b of stretches": (
        "video,start,end,label\n" + ONE.format(*["0,1,run;sit"] * 6),
        {},
        r"x.csv:2: labels 'run;sit': --multi-label takes several",
    ),
    "stretches that do not overlap": (
        "video,start,end,label\n" + ONE.format(*["0,1,run", "1,2,sit"] * 3),
        {"multi_label": True},
        "--multi-label: no video or stretch has several labels: leave it out",
    ),
    "a background that is a class": (
        "video,start,end,label\n" + ONE.format(*["0,1,run", "1,2,sit"] * 3),
        {"background": "sit"},
        "--background sit: 3 samples, as .*x.csv:3, have that label: choose another",
    ),
    "a background that is no name": (
        "video,start,end,label\n" + ONE.format(*["0,1,run", "1,2,sit"] * 3),
        {"background": "no\nthing"},
        "--background 'no.*thing': expected the name of a class, in one line",
    ),
    "no gap": (
        "video,start,end,label\n" + ONE.format(*["0,1.5,run", "0.25,2,sit"] * 3),
        {"background": "nothing"},
        "--background nothing: no video has a gap of 1.6 s, the median stretch: leave it out",
    ),
    "one video alone": (
        "video,start,end,label\np0_a.mp4,0,1,run\np0_a.mp4,1,2,sit\n",
        {},
        "all are of one video: 2 samples in one group, .*p0_a.mp4', .* so none is for validation",
    ),
    "a group of all": (
        "video,label,who\n" + ONE.format(*["run,w1", "sit,w1"] * 3),
        {"group": "who"},
        "--group who: 6 samples in one group, 'w1', .*: add others, choose another --group",
    ),
    "a video in two splits": (
        "video,start,end,label,split\np0_a.mp4,0,1,run,train\np0_a.mp4,1,2,sit,val\n",
        {},
        "no dataset written: leak",
    ),
}


@pytest.mark.parametrize("name", FLAGS)
def test_a_flag_that_does_not_fit_is_one_line(tmp_path, videos, name, capsys):
    lines, settings, message = FLAGS[name]
    (tmp_path / "x.csv").write_text(lines)
    with pytest.raises(UserError, match=message) as error:
        settings = Settings(videos=videos, num_workers=1, **settings)
        prepare_data(tmp_path / "x.csv", tmp_path / "out", settings)
    assert len(str(error.value).splitlines()) == 1
    assert not (tmp_path / "out" / "dataset.json").exists()
    if name == "a video in two splits":
        said = f"p0_a.mp4 (byte for byte), in train ({tmp_path / 'x.csv'}:2)"
        assert f"{tmp_path / 'x.csv'}:3: " in (told := capsys.readouterr().out) and said in told


def test_a_class_may_have_a_semicolon_where_a_label_map_says_so(tmp_path, videos):
    (tmp_path / "x.csv").write_text("video,label\n" + ONE.format(*["run;sit", "fly"] * 3))
    (tmp_path / "label_map.txt").write_text("run;sit\nfly\n")
    settings = Settings(videos=videos, num_workers=1, val=0.34)
    assert prepare_data(tmp_path / "x.csv", tmp_path / "out", settings)["videos"]["train"] == 4


def test_an_option_that_via_does_not_have_costs_its_row(tmp_path):
    rows = [VIA_ROW.format(n, "a.mp4", f"[{n},{n + 1}]", "[]", n % 2 or 7) for n in range(3)]
    source, settings = write(tmp_path, "via.csv", VIA + "".join(rows))
    found = find_source(source, settings=settings)
    assert [one.written for one in found.listed] == ["sit"]
    told = [one for one in found.problems if one.kind == "not understood"]
    assert [one.message for one in told] == ["option '7': act has 0, 1: left out"] * 2
    assert "via.csv:4 (a.mp4 [0, 1])" in told[0].where


def test_two_videos_of_one_name_are_an_error(tmp_path, videos):
    """Where the export has no path that tells them apart."""
    for folder in ("one", "two"):
        (tmp_path / "videos" / folder).mkdir(parents=True)
        (tmp_path / "videos" / folder / "a.mp4").symlink_to(next(videos.iterdir()))
    (tmp_path / "x.json").write_text(label_studio((UPLOAD, [region("run", 1, 9)])))
    settings = Settings(videos=tmp_path / "videos")
    findings = find_source(tmp_path / "x.json", settings=settings)
    (told,) = [one for one in findings.problems if one.kind == "several files"]
    assert told.fatal and "one/a.mp4" in told.message and "two/a.mp4" in told.message
    (tmp_path / "x.json").write_text(label_studio(("two/a.mp4", [region("run", 1, 9)])))
    (found,) = find_source(tmp_path / "x.json", settings=settings).listed
    assert found.name == "two/a.mp4"
