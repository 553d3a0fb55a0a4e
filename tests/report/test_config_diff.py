import pytest
from conftest import STOCK

from mmact_tiny.checkpoints.config_text import config_from_text
from mmact_tiny.compat.configs import read_config
from mmact_tiny.report.config_diff import differences, stock_difference


def test_the_stock_config_does_not_differ_from_itself() -> None:
    dump = config_from_text(read_config(STOCK).pretty_text)
    assert stock_difference(dump | dict(stock_base=[STOCK]))["rows"] == []


def test_what_was_changed_is_listed_with_stocks_value() -> None:
    dump = config_from_text(read_config(STOCK).pretty_text)
    dump |= dict(stock_base=[STOCK], work_dir="somewhere", initial_weights="random")
    dump["model"]["cls_head"]["num_classes"] = 2
    dump["train_dataloader"].pop("num_workers")
    assert stock_difference(dump)["rows"] == [
        dict(key="initial_weights", stock="(not set)", ours="'random'"),
        dict(key="model.cls_head.num_classes", stock="400", ours="2"),
        dict(key="train_dataloader.num_workers", stock="8", ours="(not set)"),
    ]


@pytest.mark.parametrize(
    ("config", "note"),
    [
        ({}, "does not name a stock config"),
        (dict(stock_base=["mmaction::recognition/tsn/gone.py"]), "no config mmaction::"),
    ],
)
def test_without_a_stock_config_it_says_so(config: dict, note: str) -> None:
    found = stock_difference(config)
    assert found["rows"] == []
    assert note in found["note"]


def test_runs_differ_in_keys_that_one_may_not_have() -> None:
    one = dict(a=dict(b=1, c=(1, 2)), work_dir="x", only=True)
    other = dict(a=dict(b=2, c=[1, 2]), work_dir="y")
    assert differences([one, other, None]) == [
        dict(key="a.b", values=["1", "2", "(no config)"]),
        dict(key="only", values=["True", "(not set)", "(no config)"]),
    ]
