"""Lists of each known format give literal videos, classes and splits; others are an error."""

import re
from pathlib import Path

import pytest

from mmact_tiny.errors import UserError
from mmact_tiny.prepare.sources import find_source
from mmact_tiny.prepare.types import Findings, Settings
from mmact_tiny.video.files import Walk, find_videos

AB = {"a.mp4": "", "b.mp4": ""}
RUN_SIT = [("a.mp4", "run", "train"), ("b.mp4", "sit", "val")]
ZERO_ONE = [("a.mp4", "0", "train"), ("b.mp4", "1", "val")]


def make(root: Path, files: dict[str, str | bytes]) -> Path:
    """Writes files; what looks like a video is not opened here."""
    for name, data in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return root


def triples(findings: Findings) -> list[tuple[str, str, str | None]]:
    return [(video.name, video.written, video.split) for video in findings.listed]


def pair(train: str, val: str, suffix: str = "txt", **others: str) -> dict[str, str | bytes]:
    return {f"train.{suffix}": train, f"val.{suffix}": val, **AB, **others}


KINETICS = "label,youtube_id,time_start,time_end,split\n"
K_CLASS, U, D = "riding a bike", "UCF-101", "ucfTrainTestlist"
SS = "20bn-something-something-v2"
SS_RECORD = '{"id":"%s","label":"holding a cup","template":"Holding [something]"}'
FORMATS = {
    "UTF-16 with BOM": (
        {
            "train.txt": "a.mp4 0\r\n".encode("utf-16"),
            "val.txt": "b.mp4 1\n".encode("utf-16"),
            **AB,
        },
        ZERO_ONE,
    ),
    "UTF-16 without BOM": (
        {
            "train.txt": "a.mp4 跑\n".encode("utf-16-le"),
            "val.csv": "b.mp4,1".encode("utf-16-be"),
            **AB,
        },
        [("a.mp4", "跑", "train"), ("b.mp4", "1", "val")],
    ),
    "UTF-32": ({"train.txt": "a.mp4 0\n".encode("utf-32"), **AB}, ZERO_ONE[:1]),
    "GBK": (
        {"train.txt": "跑步.mp4 跑\n".encode("gbk"), "跑步.mp4": ""},
        [("跑步.mp4", "跑", "train")],
    ),
    "Latin-1": (
        {"val.txt": "café.mp4,ça va\n".encode("latin-1"), "café.mp4": ""},
        [("café.mp4", "ça va", "val")],
    ),
    "label first": (pair("run a.mp4\n", "sit b.mp4\n"), RUN_SIT),
    "label first, comma": (pair("run,a.mp4\n", "sit,b.mp4\n", "csv"), RUN_SIT),
    "label first, header": (pair("class;file\nrun;a.mp4\n", "class\tfile\nsit\tb.mp4\n"), RUN_SIT),
    "bars": (pair("a.mp4|run\n", "b.mp4|sit\n"), RUN_SIT),
    "split in spaces": ({"all.txt": "a.mp4 run train\nb.mp4 sit val\n", **AB}, RUN_SIT),
    "SlowFast": (pair("a.mp4 0\n", "b.mp4 1\n", "csv"), ZERO_ONE),
    "VideoMAE, of another machine": (
        {"train.csv": "/data/k/train/x y.mp4 3\n", "test.csv": "/data/k/test/z.mp4 3\n"}
        | {"train/x y.mp4": "", "test/z.mp4": ""},
        [("test/z.mp4", "3", "test"), ("train/x y.mp4", "3", "train")],
    ),
    "raw frames": (pair("a 163 0\n", "b.mp4 98 1\n"), ZERO_ONE),
    "name and number in columns of labels": (
        {"x.csv": "file,label,class_name,mode\na.mp4,0,run,train\nb.mp4,1,sit,val\n", **AB},
        RUN_SIT,
    ),
    "comments": (pair("// mine\na.mp4 run\n", "# mine\nb.mp4 sit\n"), RUN_SIT),
    "name and number": ({"x.csv": "a.mp4,run,0,train\nb.mp4,sit,1,val\n", **AB}, RUN_SIT),
    "no label, class folders": (
        {"train.txt": "run/a.mp4\n", "dev.txt": "run/b.mp4\n", "run/a.mp4": "", "run/b.mp4": ""},
        [("run/b.mp4", "run", "val"), ("run/a.mp4", "run", "train")],
    ),
    "UCF101": (
        {f"{U}/Run/v_g{n}.avi": "" for n in "123"}
        | {f"{D}/classInd.txt": "1 Run\n2 Sit\n", f"{D}/trainlist01.txt": "Run/v_g1.avi 1\n"}
        | {f"{D}/testlist01.txt": "Run/v_g2.avi\nRun/v_g3.avi\n"}
        | {f"{D}/trainlist02.txt": "Run/v_g2.avi 1\n", f"{D}/testlist02.txt": "Run/v_g1.avi\n"},
        [(f"{U}/Run/v_g{n}.avi", "Run", "train" if n == "1" else "test") for n in "231"],
    ),
    "HMDB51": (
        {f"wave/{n}.avi": "" for n in "abc"}
        | {"splits/wave_test_split1.txt": "a.avi 1 \nb.avi 2 \nc.avi 0 \n"}
        | {"splits/wave_test_split2.txt": "a.avi 2 \nb.avi 1 \nc.avi 0 \n"},
        [("wave/a.avi", "wave", "train"), ("wave/b.avi", "wave", "test")],
    ),
    "Kinetics": (
        {"annotations/train.csv": f'{KINETICS}"{K_CLASS}",-x,1,11,train\n{K_CLASS},b-,8,18,train'}
        | {"annotations/validate.csv": f"{KINETICS}{K_CLASS},_v,100,110,validate\n"}
        | {"annotations/test.csv": "youtube_id,time_start,time_end,split\nt,1,2,test\n"}
        | {"train/-x_000001_000011.mp4": "", "train/b-.mp4": "", f"val/{K_CLASS}/_v.mkv": ""},
        [
            ("train/-x_000001_000011.mp4", K_CLASS, "train"),
            ("train/b-.mp4", K_CLASS, "train"),
            (f"val/{K_CLASS}/_v.mkv", K_CLASS, "val"),
        ],
    ),
    "Something-Something V1": (
        {"something-something-v1-train.csv": "7;Turning a cup\n", "7.webm": "", "8.webm": ""}
        | {"something-something-v1-validation.csv": "8;Moving\n", "jester-v1-labels.csv": "Moving"}
        | {"something-something-v1-test.csv": "9\n"},
        [("7.webm", "Turning a cup", "train"), ("8.webm", "Moving", "val")],
    ),
    "Something-Something V2": (
        {f"{SS}/{n}.webm": "" for n in (70, 80)}
        | {
            "labels/train.json": f"[{SS_RECORD % 70}]",
            "labels/validation.json": f"[{SS_RECORD % 80}]",
        }
        | {"labels/test.json": '[{"id":"90"}]', "labels/labels.json": '{"Holding something":"0"}'},
        [(f"{SS}/{n}.webm", "Holding something", s) for n, s in ((70, "train"), (80, "val"))],
    ),
    "Diving48": (
        {"Diving48_V2_train.json": '[{"vid_name": "x_01", "label": 4, "start_frame": 0}]'}
        | {"Diving48_V2_test.json": '[\n{"vid_name": "x_02", "label": 0}]'}
        | {"Diving48_vocab.json": '[["Back", "FREE"], ["b"], ["c"], ["d"], ["e"]]'}
        | {"rgb/x_01.mp4": "", "rgb/x_02.mp4": ""},
        [("rgb/x_02.mp4", "0", "test"), ("rgb/x_01.mp4", "4", "train")],
    ),
    "ActivityNet": (
        {
            "activity_net.v1-3.min.json": """{"taxonomy": [], "version": "1", "database": {
"p": {"subset": "training", "annotations": [{"label": "Ski", "segment": [0, 1]}]},
"q": {"subset": "validation", "annotations": [{"label": "Ski"}, {"label": "Ski"}]},
"r": {"subset": "testing", "annotations": []}}}"""
        }
        | {"v_p.mp4": "", "q.mkv": "", "v_r.mp4": ""},
        [("v_p.mp4", "Ski", "train"), ("q.mkv", "Ski", "val")],
    ),
    "Moments in Time": (
        {"trainingSet.csv": "run/y_1.mp4,run,5,0\n", "validationSet.csv": "sit/z.mp4,sit,4,1\n"}
        | {"moments_categories.txt": "run,0\nsit,1\n"}
        | {"training/run/y_1.mp4": "", "validation/sit/z.mp4": ""},
        [("training/run/y_1.mp4", "run", "train"), ("validation/sit/z.mp4", "sit", "val")],
    ),
    "raw frames by name": (
        {"train.txt": "a 9 0\nb 3 12\n", **AB},
        [*ZERO_ONE[:1], ("b.mp4", "12", "train")],
    ),
    "JSON by name": (
        {"all.json": '{"a.mp4": {"label": "run", "split": "train"}}', **AB},
        RUN_SIT[:1],
    ),
    "JSON by split": (
        {"all.json": '{"train": [{"path": "a.mp4", "label": "run"}], "val": {"b": "sit"}}', **AB},
        RUN_SIT,
    ),
    "classes with splits in a folder around all": (
        {
            f"my set/videos/{c}/{s}/day1/{c}.mp4": ""
            for c in "ab"
            for s in ("Training", "Validation")
        },
        [
            ("my set/videos/a/Training/day1/a.mp4", "a", "train"),
            ("my set/videos/a/Validation/day1/a.mp4", "a", "val"),
            ("my set/videos/b/Training/day1/b.mp4", "b", "train"),
            ("my set/videos/b/Validation/day1/b.mp4", "b", "val"),
        ],
    ),
    "train_videos": (
        {"train_videos/run/a.mp4": "", "val_videos/run/a.mp4": "", "x/run/a.mp4": ""},
        [("train_videos/run/a.mp4", "run", "train"), ("val_videos/run/a.mp4", "run", "val")],
    ),
    "videos/training-set": (
        {"videos/training-set/run/a.mp4": "", "videos/my_dev/run/a.mp4": ""},
        [
            ("videos/my_dev/run/a.mp4", "run", "val"),
            ("videos/training-set/run/a.mp4", "run", "train"),
        ],
    ),
    "other languages": (
        {"训练集/run/a.mp4": "", "验证/run/a.mp4": "", "Prueba/run/a.mp4": ""},
        [
            ("Prueba/run/a.mp4", "run", "test"),
            ("训练集/run/a.mp4", "run", "train"),
            ("验证/run/a.mp4", "run", "val"),
        ],
    ),
    "lists in other languages": (
        {"entraînement.txt": "a.mp4 run\n", "валидация.csv": "b.mp4,sit\n", **AB},
        RUN_SIT,
    ),
    "far below": (
        {"my/data/v1/train/run/a.mp4": "", "my/data/v1/val/run/a.mp4": ""},
        [(f"my/data/v1/{split}/run/a.mp4", "run", split) for split in ("train", "val")],
    ),
    "class/camera/train": (
        {"run/left/train/a.mp4": "", "run/left/val/b.mp4": ""},
        [("run/left/train/a.mp4", "run", "train"), ("run/left/val/b.mp4", "run", "val")],
    ),
    "classes with a split's word, as in Kinetics-400": (
        {"train/training_dog/a.mp4": "", "val/training dog/b.mp4": ""},
        [
            ("train/training_dog/a.mp4", "training_dog", "train"),
            ("val/training dog/b.mp4", "training dog", "val"),
        ],
    ),
    "Something-Something V2 with answers": (
        {"labels/train.json": f"[{SS_RECORD % 70}]", "labels/test.json": '[{"id":"80"}]'}
        | {"labels/test-answers.csv": "80;Holding something\n", "70.webm": "", "80.webm": ""},
        [("80.webm", "Holding something", "test"), ("70.webm", "Holding something", "train")],
    ),
    "Excel's first line": (pair("sep=;\na.mp4;run\n", "sep=,\nb.mp4,sit\n", "csv"), RUN_SIT),
    "lists without a suffix": ({"train": "a.mp4 run\n", "val": "b.mp4 sit\n", **AB}, RUN_SIT),
    "class/train": (
        {"run/train/a.mp4": "", "run/val/b.mp4": "", "sit/Test/c.mp4": ""},
        [
            ("run/train/a.mp4", "run", "train"),
            ("run/val/b.mp4", "run", "val"),
            ("sit/Test/c.mp4", "sit", "test"),
        ],
    ),
}


@pytest.mark.parametrize("name", FORMATS)
def test_what_is_known_is_read(tmp_path: Path, name: str) -> None:
    files, expected = FORMATS[name]
    assert triples(find_source(make(tmp_path, files))) == expected


@pytest.mark.parametrize(
    "files, message",
    [
        ({"train.txt": "run:a.mp4:0\n"}, r"train.txt:1: 'run:a.mp4:0'"),
        ({"train.txt": "a.mp4 1 3\nb.mp4 2\n"}, r"train.txt:1: .*several labels"),
        ({"train.txt": "a.mp4 0\n", "val.txt": "\n\nwhat?\n"}, r"val.txt:3: 'what\?'"),
        ({"train.csv": "a.mp4,3,4\nb.mp4,9,1\n"}, r"train.csv:1: .*which of 2 columns"),
        ({"train.csv": "file,frames\na.mp4,9\n"}, r"train.csv:1: no column for path and label"),
        ({"train.txt": "a.mp4\nb.mp4\n"}, r"train.txt:1: no label beside 'a.mp4'"),
        ({"train.txt": "a.mp4 0\nb.mp4 caf\u00e9\n".encode("latin-1")}, r"train.txt:2: not UTF-8"),
        (
            {"labels.csv": "标签,文件\n跑,a.mp4\n跳,b.mp4\n".encode("gbk")},
            r"labels.csv:1: not UTF-8",
        ),
        ({"train.txt": b"a.mp4 0\nb\x01\x02 1\n"}, r"train.txt:2: no text"),
        ({"train.json": '[{"path": "a.mp4",\n}]'}, r"train.json:2: no JSON"),
        ({"train.xlsx": b"PK", "val.xlsx": b"PK"}, r"train.xlsx:1: .*save it as CSV"),
        ({"frames/v1/1.jpg": "", "train.txt": "frames/v1 9 0\n"}, r"train.txt:1: .*frames"),
        ({"train/a.mp4": "", "val/b.mp4": ""}, r"train is named like a split"),
        ({"train_val/run/a.mp4": ""}, r"\(train and val\)"),
        ({"a.csv": "path,start_frame,label\na.mp4,0,run\n"}, r"a.csv:1: parts .*start_frame.*cut"),
        ({"a.csv": "path,label,is_train\na.mp4,run,1\n"}, r"a.csv:1: column 'is_train'"),
        ({"my_train/a.mp4": "", "my_val/b.mp4": ""}, r"my_train is named like a split"),
        ({"车/a.mp4": "", "训练/b.mp4": ""}, r"训练 is named like a split"),
        ({"run/a.mp4": "", "train/val_set/b.mp4": ""}, r"val_set is named like a split"),
        ({"train.pkl": b"\x80", "val.csv": "a.mp4,run\n"}, r"train.pkl:1: .pkl is not read"),
        ({"train": "what?\n", "run/a.mp4": ""}, r"train:1: 'what\?'"),
    ],
)
def test_what_is_not_understood_is_an_error(
    tmp_path: Path, files: dict[str, str | bytes], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        find_source(make(tmp_path, AB | files))


@pytest.mark.parametrize(
    "files, kind, where, message",
    [
        ({"list.txt": "a.mp4\n"}, "list not read", "list.txt:1", "the folders are followed"),
        (
            {"train.txt": "run/a.mp4 0", "x.csv": "run/a.mp4,1"},
            "list not read",
            "x.csv",
            "train.txt",
        ),
        (
            {"labels.csv": "subject,score\n1,2\n7,3\n"},
            "list not read",
            "labels.csv:1",
            "neither a list",
        ),
        (
            {"x.json": '{"train": {"run": ["run/a.mp4"]}}'},
            *("list not read", "x.json:1", "a path and a label, .* the folders are followed"),
        ),
        ({"train.yaml": "a: 1"}, "list not read", "train.yaml:1", "the folders are followed"),
        (
            {"training_dog/d.mp4": ""},
            *("class like a split", "training_dog", "named like a split .* taken for a class"),
        ),
        (
            {"run/x/a.mp4": "", "sit/x/a.mp4": ""},
            *("folders in each class", ".", "a folder 'x', which says nothing"),
        ),
        ({"labels.xlsx": "PK"}, "list not read", "labels.xlsx:1", "save it as CSV"),
        (
            {"train.txt": "run/a.mp4 sit\nsit/b.mp4 sit\nrun/c.mp4 run"},
            *("list against folders", "train.txt:1", "class 'sit', but .* the list is followed"),
        ),
        (
            {"train.txt": "/x/y/run/a.mp4 0"},
            "not where the list says",
            "",
            "1 paths .* by their ends",
        ),
    ],
)
def test_what_is_not_followed_is_said(
    tmp_path: Path, files: dict[str, str], kind: str, where: str, message: str
) -> None:
    videos = {"run/a.mp4": "", "sit/b.mp4": "", "run/c.mp4": ""}
    problems = find_source(make(tmp_path, videos | files)).problems
    (problem,) = (one for one in problems if one.kind == kind)
    assert problem.where == where and re.search(message, problem.message)


def test_another_official_split_is_chosen(tmp_path: Path) -> None:
    source = make(tmp_path, FORMATS["HMDB51"][0])
    findings = find_source(source, settings=Settings(split=2))
    assert triples(findings) == [("wave/a.avi", "wave", "test"), ("wave/b.avi", "wave", "train")]
    assert (findings.layout, findings.problems) == ("HMDB51, split 2", [])
    assert findings.left_out["in neither set of the lists"] == 1
    with pytest.raises(UserError, match=r"--split 3: the lists there are of 1, 2"):
        find_source(source, settings=Settings(split=3))


def test_all_tools_walk_alike(tmp_path: Path) -> None:
    """Loops end, links to folders elsewhere are followed, and what is left out is counted."""
    make(tmp_path / "else", {"jump/j.mp4": "", "more/m.mp4": ""})
    source = make(
        tmp_path / "src",
        {"run/a.mp4": "", "run/._a.mp4": "", "run/Thumbs.db": "", "sit/b.mp4/c.mp4": ""}
        | {"__MACOSX/run/._a.mp4": "", "run/.git/x.mp4": "", "sit/old.zip": ""},
    )
    for link, target in {
        "run/up": source,
        "run/over": tmp_path,
        "run/to_sit": source / "sit",
        "run/more": tmp_path / "else/more",
        "jump": tmp_path / "else/jump",
        "hop": tmp_path / "else/jump",
        "again": source / "run",
    }.items():
        (source / link).symlink_to(target)
    (tmp_path / "else/jump/loop").symlink_to(tmp_path / "else")
    walk = Walk(source)
    found = [str(path.relative_to(source)) for path in walk.videos()]
    assert found == ["hop/j.mp4", "run/a.mp4", "run/more/m.mp4", "sit/b.mp4/c.mp4"]
    assert [str(path.relative_to(source)) for path in find_videos([source])] == found
    findings = find_source(source)
    assert [v[:2] for v in triples(findings)] == [("hop/j.mp4", "hop"), ("jump/j.mp4", "jump")] + [
        (name, name.split("/")[0]) for name in found[1:]
    ]
    assert findings.left_out == {
        "of the system": 1,
        "links to folders of the same source": 2,
        "links in a circle": 4,
        "hidden": 2,
        "not videos by name or content": 1,
        "folders named like videos, searched as folders": 1,
        "archives, not unpacked": 1,
    }


def test_an_archive_is_refused(tmp_path: Path) -> None:
    make(tmp_path, {"videos.zip": b"PK\x03\x04"})
    for function in (find_source, lambda path: find_videos([path])):
        with pytest.raises(UserError, match=r"videos.zip is an archive: unpack it"):
            function(tmp_path / "videos.zip")
