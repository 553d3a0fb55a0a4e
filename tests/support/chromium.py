"""A real Chromium without a display, for tests that look at pages."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

playwright = pytest.importorskip(
    "playwright.sync_api", reason="playwright, which drives Chromium, is not installed"
)
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
if CHROMIUM is None:
    pytest.skip("no chromium on the PATH", allow_module_level=True)

VIEWS = {"desktop": (1280, "light"), "phone": (390, "dark")}
# Each text whose contrast with what lies behind it is below what WCAG 2.1 asks for (1.4.3).
FAINT = """() => {
  const parse = (text) => {
    const [r, g, b, a = 1] = text.match(/[\\d.]+/g).map(Number);
    return [r, g, b, a];
  };
  const over = ([r, g, b, a], under) =>
    [r, g, b].map((value, i) => value * a + under[i] * (1 - a)).concat(1);
  const light = (color) => {
    const [r, g, b] = color.map((value) => {
      const part = value / 255;
      return part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = (element) => {
    const layers = [];
    for (let at = element; at; at = at.parentElement)
      layers.unshift(parse(getComputedStyle(at).backgroundColor));
    return layers.reduce((under, layer) => over(layer, under), [255, 255, 255, 1]);
  };
  const faint = [];
  for (const element of document.querySelectorAll("body *")) {
    const own = [...element.childNodes].some((n) => n.nodeType === 3 && n.data.trim());
    if (!own || !element.checkVisibility()) continue;
    const style = getComputedStyle(element);
    const paper = behind(element);
    const ink = element.closest("svg") ? style.fill : style.color;
    const [a, b] = [light(over(parse(ink), paper)), light(paper)];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    const large = parseFloat(style.fontSize) >= 24;
    if (ratio < (large ? 3 : 4.5)) faint.push(`${element.textContent.trim()}: ${ratio}`);
  }
  return faint;
}"""


@contextmanager
def chromium(*flags: str) -> Iterator[Any]:
    """Yields a running browser."""
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", *flags])
        yield browser
        browser.close()


@contextmanager
def opened(browser: Any, address: str, view: str) -> Iterator[Any]:
    """Yields a page; afterwards nothing went wrong in it, nothing is wider, no text is faint.

    Args:
        browser: From `chromium`.
        address: Of the page.
        view: A name of `VIEWS`.
    """
    width, scheme = VIEWS[view]
    context = browser.new_context(
        viewport=dict(width=width, height=800), color_scheme=scheme, reduced_motion="reduce"
    )
    context.set_default_timeout(30_000)
    page = context.new_page()
    wrong: list[str] = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", lambda message: wrong.append(message.text))
    page.goto(address)
    yield page
    needed = page.evaluate("document.documentElement.scrollWidth")
    assert needed == width, f"{needed} pixels wide"
    faint = page.evaluate(FAINT)
    assert not faint, faint
    wrong = [text for text in wrong if "(Unprocessable" not in text]
    assert not wrong, wrong
    context.close()
