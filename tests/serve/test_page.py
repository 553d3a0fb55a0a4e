"""The page in a real Chromium, without a display: a clip goes in, five labels come out."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi", reason="the web extra is not installed")

from chromium import VIEWS, chromium, opened
from web_site import CLASSES, CLIP, Served, serving

BEST: list[dict] = []  # what the JSON endpoint answers
FLAGS = [
    "--use-fake-device-for-media-stream",  # a camera that shows a clock
    "--use-fake-ui-for-media-stream",  # and the permission to use it
]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(Path(__file__).parents[2])
        with serving(tmp_path_factory.mktemp("site")) as served:
            # The reader's process is forked now: later it would hold the driver's pipe open.
            status, answer = served.ask(CLIP.read_bytes())
            assert status == 200
            BEST.extend(answer["predictions"])
            yield served


@pytest.fixture(scope="module")
def browser(served: Served) -> Iterator[Any]:
    with chromium(*FLAGS) as browser:
        yield browser


@pytest.fixture(params=VIEWS)
def page(served: Served, browser: Any, request: pytest.FixtureRequest) -> Iterator[Any]:
    """The page, loaded."""
    with opened(browser, f"http://127.0.0.1:{served.port}/", request.param) as page:
        page.wait_for_selector("#examples img")
        yield page
    assert served.is_clean()


def labels(page: Any) -> list[str]:
    page.wait_for_selector("#result:not([hidden])")
    return page.locator("#bars .label").all_inner_texts()


def test_a_clip_gets_five_labels_and_rubbish_a_message(page: Any) -> None:
    page.set_input_files("#file", CLIP)
    assert labels(page) == [best["label"] for best in BEST]
    scores = page.locator("#bars .score").all_inner_texts()
    assert scores == [f"{100 * best['score']:.1f} %" for best in BEST]
    assert page.inner_text("#status") == f"falling_rain1.mp4: {BEST[0]['label']}"
    widths = page.evaluate(
        "[...document.querySelectorAll('#frames img')].map((image) => image.naturalWidth)"
    )
    assert widths == [48, 48, 48]
    assert "Computing" in page.inner_text("#times")
    rubbish = dict(name="<i>rubbish</i>.mp4", mimeType="video/mp4", buffer=b"rubbish" * 99)
    page.set_input_files("#file", rubbish)
    page.wait_for_selector("#status.bad")
    assert "it is not a video that can be read" in page.inner_text("#status")
    assert page.is_hidden("#result") and page.is_hidden("#cancel")


def test_an_example_by_keyboard(page: Any) -> None:
    names = page.locator("#examples button").all_inner_texts()
    assert names == CLASSES[:4]
    page.locator("#examples button").first.focus()
    page.keyboard.press("Enter")
    assert sorted(labels(page))[0] == "<b>bold</b> & co"  # shown as it is, not as HTML
    assert page.locator("b").count() == 0


def test_a_recording(page: Any) -> None:
    page.click("#record")
    page.wait_for_selector("#record.on")
    page.wait_for_timeout(1500)
    page.click("#record")
    assert len(labels(page)) == 5
    assert page.inner_text("#status").startswith("The recording: ")


def test_a_dropped_file_that_is_too_large(page: Any) -> None:
    page.evaluate(
        """() => {
            const transfer = new DataTransfer();
            transfer.items.add(new File([new Uint8Array(1000001)], "large.mp4"));
            document.dispatchEvent(new DragEvent("drop", { dataTransfer: transfer }));
        }"""
    )
    page.wait_for_selector("#status.bad")
    assert page.inner_text("#status") == "large.mp4 is larger than 1 MB."


def test_waiting_and_cancelling(served: Served, page: Any) -> None:
    import threading

    done = threading.Event()
    served.site.queue.join(lambda: done.wait(20))
    page.set_input_files("#file", CLIP)
    page.locator("#status", has_text="Waiting").wait_for()
    assert page.inner_text("#status") == "Waiting: 1 video ahead of this one."
    page.click("#cancel")
    page.wait_for_selector("#cancel", state="hidden")
    assert page.inner_text("#status") == "Cancelled."
    done.set()
    page.wait_for_timeout(300)  # for the server to see that the client is gone
