import pytest

from mmact_tiny.report.page import interval, number, percent, seconds, short


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
