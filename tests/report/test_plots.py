import re
import xml.etree.ElementTree as ET

import pytest

from mmact_tiny.report.plots import as_svg, plot_curves, plot_reliability, plot_time

CURVE = plot_curves([([1, 2, 3], [3.0, 2.0, 1.0])], "x", "y")
ACCURACY = plot_curves(
    [([1, 2], [0.5, None]), ([1, 2], [0.25, 1.0])],
    "epoch",
    "accuracy",
    percent=True,
    band=[dict(x=1, low=0.1, high=0.4), dict(x=2, low=0.5, high=1.0)],
)
TIME = plot_time([dict(epoch=3, data=1.0, device=2.0, validation=0.5, checkpoint=0.5)])
RELIABILITY = plot_reliability([dict(score=0.9, accuracy=0.5, low=0.24, high=0.76)])


def rates(*values: float) -> object:
    return plot_curves([([1, 2], values)], "epoch", "lr", log=True)


@pytest.mark.parametrize(
    ("figure", "texts", "colors"),
    [
        (ACCURACY, {"epoch", "accuracy", "0%", "100%"}, 2),
        (rates(0.0, 0.1), {"0.02", "0.04"}, 1),  # zero cannot be on a logarithmic scale
        (rates(1e-4, 1e-2), {"0.001", "0.005"}, 1),
        (TIME, {"3", "seconds"}, 4),
        (RELIABILITY, {"score of the first label", "right answers", "0%", "100%"}, 1),
    ],
)
def test_a_plot_takes_its_colours_and_its_font_from_the_page(
    figure: object, texts: set[str], colors: int
) -> None:
    svg = as_svg(figure, "one")
    ET.fromstring(svg.replace("xlink:", ""))
    assert texts <= set(re.findall(r">([^<>\n]+)</text>", svg))
    assert set(re.findall(r"var\(--c(\d)\)", svg)) == set("1234"[:colors])
    assert "currentColor" in svg and "DejaVu" not in svg
    # No colour of matplotlib's own is left, which one of the two pages could not show.
    assert not re.findall(r"(?:fill|stroke): *(?:#|black|white)", svg)


def test_ids_of_two_plots_do_not_meet() -> None:
    svgs = [as_svg(CURVE, name) for name in ("one", "other")]
    one, other = (set(re.findall(r'id="([^"]+)"', svg)) for svg in svgs)
    assert one and other and not one & other
    assert set(re.findall(r'(?:url\(|href=")#([^)"]+)', svgs[0])) <= one


def test_what_was_not_logged_has_no_plot() -> None:
    assert plot_curves([([1, 2], [None, None])], "epoch", "lr") is None
    assert plot_time([]) is None
