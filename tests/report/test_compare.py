"""Configs compared with stock's and with each other; why runs cannot be compared."""

from typing import Any

import pytest
from conftest import STOCK

from mmact_tiny.checkpoints.config_text import config_from_text, read_config
from mmact_tiny.report.compare import compare_runs, differences, stock_difference


def test_what_was_changed_is_listed_with_stocks_value() -> None:
    dump = config_from_text(read_config(STOCK).pretty_text) | dict(stock_base=[STOCK])
    assert stock_difference(dump)["rows"] == []
    dump |= dict(work_dir="somewhere", initial_weights="random")
    dump["model"]["cls_head"]["num_classes"] = 2
    dump["train_dataloader"].pop("num_workers")
    assert stock_difference(dump)["rows"] == [
        dict(key="initial_weights", stock="(not set)", ours="'random'"),
        dict(key="model.cls_head.num_classes", stock="400", ours="2"),
        dict(key="train_dataloader.num_workers", stock="8", ours="(not set)"),
    ]


def test_without_a_stock_config_it_says_so() -> None:
    for bases, note in (
        ({}, "does not name a stock config"),
        (dict(stock_base=["mmaction::recognition/tsn/gone.py"]), "no config mmaction::"),
    ):
        found = stock_difference(bases)
        assert found["rows"] == [] and note in found["note"]


def test_runs_differ_in_keys_that_one_may_not_have() -> None:
    one = dict(a=dict(b=1, c=(1, 2)), work_dir="x", only=True)
    other = dict(a=dict(b=2, c=[1, 2]), work_dir="y")
    assert differences([one, other, None]) == [
        dict(key="a.b", values=["1", "2", "(no config)"]),
        dict(key="only", values=["True", "(not set)", "(no config)"]),
    ]


def run(name: str, *, classes: str = "ab", **test: Any) -> dict[str, Any]:
    """Returns what a comparison reads of a run with a test of two videos."""
    test = dict(ann_file="val.txt", protocol="full", num_videos=2) | test
    return dict(name=name, folder=f"runs/{name}", data=dict(classes=list(classes)), test=test)


REASON = "their accuracies do not compare"
SIZES = f"The runs have different numbers of classes (one: 2; other: 3): {REASON}."


@pytest.mark.parametrize(
    ("other", "warnings"),
    [
        ({}, []),
        (dict(classes="abc"), [SIZES]),
        (dict(classes="ax"), [f"The runs have classes of different names: {REASON}."]),
        (
            dict(ann_file="test.txt", protocol="val", num_videos=3),
            [
                "The tests have different lists of videos (one: val.txt; other: test.txt).",
                "The tests have different protocols (one: full; other: val).",
                "The tests have different numbers of scored videos (one: 2; other: 3).",
            ],
        ),
    ],
)
def test_what_forbids_a_comparison_is_said(other: dict, warnings: list[str]) -> None:
    runs: Any = [run("one"), run("other", **other)]
    assert compare_runs(runs, [None, None], [None, None])["warnings"] == warnings
