"""Reports through the tool, on runs of all kinds; one real job is in test_end_to_end."""

import json
import shutil
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT
from run_folders import scored, write_run, write_test

from mmact_tiny.errors import EXIT_ERROR, EXIT_OK
from mmact_tiny.report.report import interval, number, percent, seconds, try_report
from tools import report

CLIPS = [str(path) for path in sorted((ROOT / "data" / "tiny" / "val").glob("*.mp4"))]
RIGHT = scored("a.mp4", 0, 0.9, 0.1)


class Page(HTMLParser):
    """What a reader meets: elements with their attributes, ids, and the text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, Any]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def all(self, tag: str) -> list[dict[str, Any]]:
        return [attrs for name, attrs in self.tags if name == tag]


def made(*folders: Path, out: Path | None = None) -> tuple[Page, dict[str, Any]]:
    """Has the tool write a report; returns the page, and the data: JSON that every reader takes."""

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    assert report.main([*map(str, folders), *(["--out", str(out)] if out else [])]) == EXIT_OK
    page = out or folders[0] / "report.html"
    assert page.stat().st_size < 500_000
    data = json.loads(page.with_suffix(".json").read_text("utf-8"), parse_constant=refuse)
    return Page(page.read_text("utf-8")), data if out else data["runs"][0]


def test_a_tested_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_run(tmp_path / "job")
    rows = [
        scored(CLIPS[0], 0, 0.9, 0.1),
        scored(CLIPS[5], 1, 0.7, 0.3),
        scored(str(tmp_path / "gone.mp4"), 1, 0.4, 0.6),
        dict(video="broken.mp4", error="moov atom not found"),
    ]
    write_test(folder, rows, command="python tools/test.py job.py", started="today")
    page, run = made(folder)
    assert capsys.readouterr().out == f"{folder / 'report.html'}\n{folder / 'report.json'}\n"
    assert run["test"]["confusion"]["counts"] == [[1, 0], [1, 1]]
    assert run["best"] == dict(
        metric="acc/top1", value=1.0, at=2, videos=2, low=pytest.approx(0.3424, abs=5e-5), high=1.0
    )
    for words in (
        "66.7%",
        "2 of 3 videos",
        "moov atom not found",
        "python tools/test.py job.py",
        "8 evenly chosen of the 25 sampled frames",
        "The network saw 10 crops of each",
        "No frames: the video cannot be shown: no such file.",
        "The test read the validation list",
        "mmaction::recognition/tsn/tsn_imagenet-pretrained-r50",
        "model.cls_head.num_classes",
        "training, the last batch",
        "validation, with its 95% interval",
        "top-1, epoch 2; 95% interval 34% to 100%",
    ):
        assert words in page.text, words
    pictures = page.all("img")
    assert len(pictures) == 2 * 8
    assert all(attrs["src"].startswith("data:image/jpeg;base64,") for attrs in pictures)
    assert all(attrs["alt"].startswith("Frame ") for attrs in pictures)
    assert len(page.all("svg")) == 5  # loss, accuracy, learning rate, time, reliability
    # The page needs nothing else and is well formed.
    assert not page.all("script") and not page.all("link") and not page.all("iframe")
    links = [value for _, attrs in page.tags for key, value in attrs.items() if "href" in key]
    ids = [attrs["id"] for _, attrs in page.tags if "id" in attrs]
    assert links and set(links) <= {f"#{name}" for name in ids} and len(ids) == len(set(ids))
    assert page.all("html")[0]["lang"] == "en"
    assert len(page.all("h1")) == len(page.all("title")) == 1
    assert {attrs["scope"] for attrs in page.all("th")} == {"row", "col"}
    assert len(page.all("table")) == len(page.all("caption"))


def test_names_are_text_whatever_they_hold(tmp_path: Path) -> None:
    names = ["<script>alert(1)</script>", "打字 🏋️", "x" * 3000, "{{ 7 * 7 }}", "a & \"b\" 'c'"]
    folder = write_run(tmp_path / "<b>&job", classes=names)
    rows = [scored(f"<i>{i}.mp4", i % 5, *[0.2] * 5) for i in range(7)]
    write_test(folder, [*rows, dict(video="\udcff.mp4", error="<nothing>")], classes=names)
    page, run = made(folder)
    assert run["test"]["classes"] == names
    assert not page.all("script")
    for words in (names[0], names[1], names[3], names[4], "<b>&job", "<i>0.mp4", "<nothing>"):
        assert words in page.text, words
    assert names[2] not in page.text and "x" * 97 + "..." in page.text


def killed(folder: Path) -> None:
    line = dict(lr=0.1, loss=float("nan"), epoch=1, iter=2, step=2)
    log = write_run(folder, epochs=0) / "20260101_000000" / "vis_data" / "scalars.json"
    log.write_text(json.dumps(line) + "\n")


def without_lists(folder: Path) -> None:
    old = folder.with_name("old")
    write_test(write_run(old), [scored("gone.mp4", 0, 0.9, 0.1)])
    shutil.rmtree(old / "data")
    old.rename(folder)


def damaged(folder: Path) -> None:
    with (write_run(folder) / "job.py").open("a") as file:
        file.write("train_dataloader = 3\noptim_wrapper = 'x'\ntrain_cfg = None\n")
        file.write("stock_base = 5\nrandomness = [7]\ntest_dataloader = dict(dataset=dict())\n")


def of_another_checkpoint(folder: Path) -> None:
    (write_run(folder) / "best_acc_top1_epoch_2.pth").write_bytes(b"abc")
    write_test(folder, [RIGHT], checkpoint="old.pth", checkpoint_sha256="0")


FIPS_180_2_B_1 = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # of abc
KINDS: dict[str, tuple[Callable[[Path], object], list[str], dict[str, Any]]] = {
    "not tested": (
        lambda folder: write_run(folder, epochs=2),
        ["Not tested yet, so there are no scores: python tools/test.py --work-dir "],
        {"test": None},
    ),
    "nothing logged": (
        lambda folder: write_run(folder, epochs=0),
        ["No iteration of a training is logged here."],
        {"log": dict(train=[], val=[], unit="epoch")},
    ),
    "killed": (killed, ["No epoch was validated yet"], {"best": None}),
    "test only": (  # as test.py leaves it for a checkpoint from elsewhere
        lambda folder: write_test(folder, [RIGHT, scored("b.mp4", 1, 0.8, 0.2)]),
        [
            "Nothing of a training is logged here.",
            "No frames: the config of the test is not there.",
        ],
        {"starts": []},
    ),
    "unreadable": (
        lambda folder: write_test(write_run(folder), [dict(video="x.mp4", error="no such file")]),
        ["No video has scores.", "no such file"],
        {},
    ),
    "moved": (
        without_lists,
        ["cannot read annotation file"],
        {"name": "moved", "best": dict(metric="acc/top1", value=1.0, at=2, videos=None)},
    ),
    "damaged": (
        damaged,
        ["The config does not name a stock config"],
        {"seed": None, "max_epochs": None},
    ),
    "other checkpoint": (
        of_another_checkpoint,
        ["The test was of old.pth, which is not the best checkpoint"],
        {"checkpoint": dict(name="best_acc_top1_epoch_2.pth", bytes=3, sha256=FIPS_180_2_B_1)},
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_runs_of_all_kinds(tmp_path: Path, kind: str) -> None:
    make, words, values = KINDS[kind]
    make(tmp_path / kind)
    page, run = made(tmp_path / kind)
    for said in words:
        assert said in page.text
    assert {key: run[key] for key in values} == values


def test_four_hundred_classes_stay_readable(tmp_path: Path) -> None:
    names = [f"class {i}" for i in range(400)]
    folder = write_run(tmp_path / "job", classes=names)
    rows = [
        scored(f"{i}.mp4", i, *(0.6 if j == (i + i % 2) % 400 else 0.4 / 399 for j in range(400)))
        for i in range(400)
    ]
    write_test(folder, rows, classes=names, ann_file="test.txt")
    page, run = made(folder)
    assert len(run["test"]["confusion"]["counts"]) == 16
    assert "Of 400 classes the 15 that are mixed up most are shown" in page.text
    assert "lowest accuracy, of 400 that have videos" in page.text
    assert "The test read the validation list" not in page.text  # it has a list of its own


def test_several_runs_side_by_side(tmp_path: Path) -> None:
    one = write_run(tmp_path / "one", lr=0.01)
    other = write_run(tmp_path / "other", lr=0.05, classes=("walk", "run", "<jump>"), epochs=1)
    write_test(one, [RIGHT])
    page, data = made(one, other, out=tmp_path / "both.html")
    comparison = data["comparison"]
    changed = {row["key"]: row["values"] for row in comparison["differences"]}
    assert changed["optim_wrapper.optimizer.lr"] == ["0.01", "0.05"]
    assert changed["model.cls_head.num_classes"] == ["2", "3"]
    assert comparison["warnings"][0] == "Without a test: other."
    assert "optim_wrapper.optimizer.lr" in page.text and "not tested" in page.text
    assert len(page.all("svg")) == 2
    assert comparison["names"] == ["one", "other"]
    same = write_run(tmp_path / "more" / "one")
    _, data = made(one, same, out=tmp_path / "same.html")
    assert data["comparison"]["names"] == [str(one), str(same)]


def test_the_newest_run_is_the_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert report.main([]) == EXIT_ERROR
    write_run(tmp_path / "work_dirs" / "job")
    assert report.main([]) == EXIT_OK
    assert (tmp_path / "work_dirs" / "job" / "report.html").is_file()


def test_what_cannot_be_done_is_said(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.chdir(tmp_path)
    write_run(tmp_path / "job")
    (tmp_path / "file").touch()
    for arguments, words in (
        ("absent", "no run in absent: no such folder"),
        ("job ./job", "job is named twice: expected different runs to compare"),
        ("job --out report.pdf", "--out report.pdf: expected a file named *.html"),
        ("job --out file/report.html", "cannot write file/report"),
    ):
        assert report.main(arguments.split()) == EXIT_ERROR
        assert words in capsys.readouterr().err
    with caplog.at_level("WARNING", logger="mmact_tiny"):
        try_report(tmp_path / "absent")
    (record,) = caplog.records
    assert record.getMessage().startswith("no report: UserError: no run in ")
    assert "\n" not in record.getMessage()


@pytest.mark.parametrize(
    ("said", "text"),
    [
        (percent(0.9375), "93.8%"),
        (percent(0.5, 2), "50.00%"),
        (percent(None), "-"),
        (number(0.0003125), "0.0003125"),
        (number(31), "31"),
        (number(None), "-"),
        (number("cpu"), "cpu"),
        (seconds(8.14), "8.1 s"),
        (seconds(59.99), "1 min 00 s"),
        (seconds(260), "4 min 20 s"),
        (seconds(11100), "3 h 05 min"),
        (interval(dict(low=0.2366, high=0.7634)), "24% to 76%"),
        (interval(dict(low=None, high=None)), "-"),
        (interval({}), "-"),
    ],
)
def test_how_a_value_is_said(said: str, text: str) -> None:
    assert said == text
