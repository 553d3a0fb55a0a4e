import re
import xml.etree.ElementTree as ET

from mmact_tiny.report.plots import as_svg, plot_curves, plot_reliability, plot_time


def texts(svg: str) -> list[str]:
    return re.findall(r">([^<>\n]+)</text>", svg)


def test_a_plot_takes_its_colours_and_its_font_from_the_page() -> None:
    figure = plot_curves(
        [([1, 2], [0.5, None]), ([1, 2], [0.25, 1.0])],
        "epoch",
        "accuracy",
        percent=True,
        band=[(0.1, 0.4), (0.5, 1.0)],
    )
    svg = as_svg(figure, "acc")
    ET.fromstring(svg.replace("xlink:", ""))
    assert {"epoch", "accuracy", "0%", "100%"} <= set(texts(svg))
    assert "var(--c1)" in svg and "var(--c2)" in svg and "currentColor" in svg
    # No colour of matplotlib's own is left, which one of the two pages could not show.
    assert not re.findall(r"(?:fill|stroke): *(?:#|black|white)", svg)
    assert "DejaVu" not in svg


def test_ids_of_two_plots_do_not_meet() -> None:
    curve = [([1, 2, 3], [3.0, 2.0, 1.0])]
    one, other = (
        set(re.findall(r'id="([^"]+)"', as_svg(plot_curves(curve, "x", "y"), n)))
        for n in ("one", "other")
    )
    assert one and other and not one & other
    svg = as_svg(plot_curves(curve, "x", "y"), "one")
    assert set(re.findall(r'(?:url\(|href=")#([^)"]+)', svg)) <= one


def test_a_rate_of_zero_is_not_put_on_a_logarithmic_scale() -> None:
    for rates, ticks in (([0.0, 0.1], {"0.02", "0.04"}), ([1e-4, 1e-2], {"0.001", "0.005"})):
        svg = as_svg(plot_curves([([1, 2], rates)], "epoch", "lr", log=True), "lr")
        ET.fromstring(svg.replace("xlink:", ""))
        assert ticks <= set(texts(svg))


def test_what_was_not_logged_has_no_plot() -> None:
    assert plot_curves([([1, 2], [None, None])], "epoch", "lr") is None
    assert plot_time([]) is None


def test_the_parts_of_an_epoch_are_stacked() -> None:
    row = dict(epoch=3, data=1.0, device=2.0, validation=0.5, checkpoint=0.5)
    svg = as_svg(plot_time([row]), "time")
    assert all(f"var(--c{number})" in svg for number in range(1, 5))
    assert "3" in texts(svg) and "seconds" in texts(svg)


def test_the_reliability_diagram() -> None:
    svg = as_svg(plot_reliability([dict(score=0.9, accuracy=0.5, low=0.24, high=0.76)]), "r")
    assert "score of the first label" in texts(svg) and "right answers" in texts(svg)
