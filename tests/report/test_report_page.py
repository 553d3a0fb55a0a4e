"""The report in a real Chromium: it needs nothing else, and is to be read on any screen."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from chromium import VIEWS, chromium, opened
from conftest import ROOT
from run_folders import scored, write_run, write_test

from mmact_tiny.report.report import write_report

CLASSES = ["走路 " * 30, "<b>run</b> " + "x" * 200]
CLIPS = [str(path) for path in sorted((ROOT / "data" / "tiny" / "val").glob("*.mp4"))]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A report of a tested run with long names, and one of two runs."""
    runs = [
        write_run(tmp_path_factory.mktemp(name) / name, classes=CLASSES, lr=lr)
        for name, lr in (("first", 0.01), ("other" * 20, 0.02))
    ]
    rows = [scored(CLIPS[0], 0, 0.9, 0.1), scored(CLIPS[5], 1, 0.7, 0.3)]
    write_test(runs[0], rows, classes=CLASSES)
    several = tmp_path_factory.mktemp("both") / "both.html"
    return {"one": write_report(runs[:1]), "several": write_report(runs, several)}


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize(
    ("name", "plots", "values", "frames"), [("one", 5, 20, [8, 8]), ("several", 2, 10 + 7 * 2, [])]
)
def test_a_report_in_a_browser(
    browser: Any,
    reports: dict[str, Path],
    view: str,
    name: str,
    plots: int,
    values: int,
    frames: list,
) -> None:
    with opened(browser, reports[name].as_uri(), view) as page:
        page.evaluate("document.querySelectorAll('details').forEach((one) => one.open = true)")
        asked = page.evaluate("performance.getEntriesByType('resource').map((one) => one.name)")
        assert [address for address in asked if not address.startswith("data:")] == []
        assert page.locator("svg").count() == plots
        # What is wider than the screen can be moved, in a region of its own.
        assert not page.evaluate(
            """[...document.querySelectorAll('main *')].filter((one) =>
                one.getBoundingClientRect().right > innerWidth && !one.closest('.scroll, .hide')
            ).map((one) => one.outerHTML.slice(0, 99))"""
        )
        # Each value of the config is on the screen.
        ends = page.evaluate(
            """[...document.querySelectorAll('.stack td')].map(
                (one) => one.getBoundingClientRect().right)"""
        )
        assert len(ends) >= values and max(ends) <= VIEWS[view][0]
        tops = page.evaluate(
            """[...document.querySelectorAll('.frames')].map((frames) =>
                [...frames.children].map((image) => image.getBoundingClientRect().top))"""
        )
        assert [len(of_video) for of_video in tops] == frames
        assert {len(set(of_video)) for of_video in tops} <= {2}, "four landscape frames in a row"
