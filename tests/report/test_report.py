"""Reports through the tool, on runs of all kinds; one real job is in test_end_to_end."""

import json
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT
from run_folders import scored, write_run, write_test

from mmact_tiny.errors import EXIT_ERROR, EXIT_OK
from mmact_tiny.report.page import interval, number, percent, seconds, short
from mmact_tiny.report.report import try_report
from tools import report

CLIPS = [str(path) for path in sorted((ROOT / "data" / "tiny" / "val").glob("*.mp4"))]


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


def written(folder: Path, name: str = "report") -> tuple[Page, dict[str, Any]]:
    """Returns the page and the data; the JSON is one that every reader takes."""

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    data = json.loads((folder / f"{name}.json").read_text("utf-8"), parse_constant=refuse)
    return Page((folder / f"{name}.html").read_text("utf-8")), data


def made(folder: Path) -> tuple[Page, dict[str, Any]]:
    """Has the tool write the report of one run; returns the page and that run's data."""
    assert report.main([str(folder)]) == EXIT_OK
    page, data = written(folder)
    return page, data["runs"][0]


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
    ):
        assert words in page.text, words
    pictures = page.all("img")
    assert len(pictures) == 2 * 8
    assert all(attrs["src"].startswith("data:image/jpeg;base64,") for attrs in pictures)
    assert all(attrs["alt"].startswith("Frame ") for attrs in pictures)
    assert len(page.all("svg")) == 5  # loss, accuracy, learning rate, time, reliability
    assert (folder / "report.html").stat().st_size < 500_000


def test_the_page_needs_nothing_and_is_well_formed(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "job")
    write_test(folder, [scored(CLIPS[0], 0, 0.9, 0.1), scored(CLIPS[1], 1, 0.7, 0.3)])
    page, _ = made(folder)
    assert not page.all("script") and not page.all("link") and not page.all("iframe")
    links = [value for _, attrs in page.tags for key, value in attrs.items() if "href" in key]
    assert links and all(link.startswith("#") for link in links)
    ids = [attrs["id"] for _, attrs in page.tags if "id" in attrs]
    assert len(ids) == len(set(ids))
    assert {link[1:] for link in links} <= set(ids)
    assert page.all("html")[0]["lang"] == "en"
    assert len(page.all("h1")) == len(page.all("title")) == 1
    for attrs in page.all("th"):
        assert attrs["scope"] in ("row", "col")
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
    assert names[2] not in page.text and "x" * 100 + "..." in page.text


@pytest.mark.parametrize(
    ("epochs", "words"),
    [
        (2, "Not tested yet, so there are no scores: python tools/test.py --work-dir "),
        (0, "No iteration of a training is logged here."),
    ],
)
def test_a_run_that_is_not_tested(tmp_path: Path, epochs: int, words: str) -> None:
    page, run = made(write_run(tmp_path / "job", epochs=epochs))
    assert words in page.text
    assert run["test"] is None
    assert len(run["log"]["train"]) == epochs


def test_training_that_was_killed_in_its_first_epoch(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "job", epochs=0)
    line = dict(lr=0.1, loss=float("nan"), epoch=1, iter=2, step=2)
    (folder / "20260101_000000" / "vis_data" / "scalars.json").write_text(json.dumps(line) + "\n")
    page, run = made(folder)
    assert run["log"]["train"][0]["loss"] is None
    assert "No epoch was validated yet" in page.text


def test_a_test_without_a_run(tmp_path: Path) -> None:
    """As test.py leaves it for a checkpoint from elsewhere."""
    write_test(tmp_path / "job", [scored("a.mp4", 0, 0.9, 0.1), scored("b.mp4", 1, 0.8, 0.2)])
    page, run = made(tmp_path / "job")
    assert run["test"]["num_videos"] == 2
    assert "Nothing of a training is logged here." in page.text
    assert "No frames: the config of the test is not there." in page.text


def test_a_test_of_unreadable_videos_only(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "job")
    write_test(folder, [dict(video="x.mp4", error="no such file")])
    page, run = made(folder)
    assert run["test"]["num_videos"] == 0
    assert "No video has scores." in page.text and "no such file" in page.text


def test_a_run_that_was_moved_with_its_videos_and_lists_gone(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "job")
    write_test(folder, [scored(str(tmp_path / "gone.mp4"), 0, 0.9, 0.1)])
    shutil.rmtree(folder / "data")
    moved = folder.rename(tmp_path / "else where")
    page, run = made(moved)
    assert run["name"] == "else where"
    assert "cannot read annotation file" in run["data"]["splits"]["train"]["error"]
    assert "cannot read annotation file" in page.text
    assert run["best"]["value"] == 1.0 and "low" not in run["best"]


def test_a_config_of_wrong_types_costs_only_what_it_would_tell(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "job")
    with (folder / "job.py").open("a") as file:
        file.write("train_dataloader = 3\noptim_wrapper = 'x'\ntrain_cfg = None\n")
        file.write("stock_base = 5\nrandomness = [7]\ntest_dataloader = dict(dataset=dict())\n")
    page, run = made(folder)
    assert (run["seed"], run["max_epochs"], run["config"]["base"]) == (None, None, [])
    assert list(run["data"]["splits"]) == ["val"]
    assert "The config does not name a stock config" in page.text


def test_four_hundred_classes_stay_readable(tmp_path: Path) -> None:
    names = [f"class {i}" for i in range(400)]
    folder = write_run(tmp_path / "job", classes=names)
    rows = [
        scored(f"{i}.mp4", i, *(0.6 if j == (i + i % 2) % 400 else 0.4 / 399 for j in range(400)))
        for i in range(400)
    ]
    write_test(folder, rows, classes=names)
    page, run = made(folder)
    assert len(run["test"]["confusion"]["counts"]) == 16
    assert "Of 400 classes the 15 that are mixed up most are shown" in page.text
    assert "lowest accuracy, of 400 that have videos" in page.text
    assert (folder / "report.html").stat().st_size < 500_000


def test_a_test_of_its_own_list_is_no_optimistic_one(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "job")
    write_test(folder, [scored("a.mp4", 0, 1.0, 0.0)], ann_file="test.txt")
    assert "The test read the validation list" not in made(folder)[0].text


def test_another_checkpoint_than_the_tested_is_named(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "job")
    (folder / "best_acc_top1_epoch_2.pth").write_bytes(b"abc")
    write_test(folder, [scored("a.mp4", 0, 1.0, 0.0)], checkpoint="old.pth", checkpoint_sha256="0")
    page, run = made(folder)
    assert run["checkpoint"]["sha256"].startswith("ba7816bf8f01cfea")  # FIPS 180-2, example B.1
    assert "The test was of old.pth, which is not the best checkpoint" in page.text


def test_several_runs_side_by_side(tmp_path: Path) -> None:
    one = write_run(tmp_path / "one", lr=0.01)
    other = write_run(tmp_path / "other", lr=0.05, classes=("walk", "run", "<jump>"), epochs=1)
    write_test(one, [scored("a.mp4", 0, 0.9, 0.1)])
    out = tmp_path / "both.html"
    assert report.main([str(one), str(other), "--out", str(out)]) == EXIT_OK
    page, data = written(tmp_path, "both")
    changed = {row["key"]: row["values"] for row in data["comparison"]["differences"]}
    assert changed["optim_wrapper.optimizer.lr"] == ["0.01", "0.05"]
    assert changed["model.cls_head.num_classes"] == ["2", "3"]
    assert data["comparison"]["warnings"][0] == "Without a test: other."
    assert "optim_wrapper.optimizer.lr" in page.text and "not tested" in page.text
    assert len(page.all("svg")) == 2


def test_runs_of_the_same_name_are_told_apart(tmp_path: Path) -> None:
    folders = [str(write_run(tmp_path / name / "job")) for name in ("a", "b")]
    assert report.main([*folders, "--out", str(tmp_path / "two.html")]) == EXIT_OK
    assert written(tmp_path, "two")[1]["comparison"]["names"] == folders


def test_the_newest_run_is_the_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert report.main([]) == EXIT_ERROR
    write_run(tmp_path / "work_dirs" / "job")
    assert report.main([]) == EXIT_OK
    assert (tmp_path / "work_dirs" / "job" / "report.html").is_file()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["absent"], "no run in absent: no such folder"),
        (["job", "--out", "report.pdf"], "--out report.pdf: expected a file named *.html"),
        (["job", "--out", "file/report.html"], "cannot write file/report"),
    ],
)
def test_what_cannot_be_done_is_said(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    words: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    write_run(tmp_path / "job")
    (tmp_path / "file").touch()
    assert report.main(arguments) == EXIT_ERROR
    assert words in capsys.readouterr().err


def test_a_report_that_cannot_be_made_is_one_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
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
        (short("a" * 100), "a" * 100),
        (short("a" * 101), "a" * 100 + "..."),
    ],
)
def test_how_a_value_is_said(said: str, text: str) -> None:
    assert said == text
