"""The page of a live source: its labels now, and its newest picture."""

import http.client
import io
import time

import numpy as np
import pytest
from live_servers import read_clock, serving
from PIL import Image

pytest.importorskip("fastapi", reason="the web extra is not installed")

import web_site

from mmact_tiny.live import Settings, open_reader, open_watch


@pytest.fixture(scope="module")
def page(tmp_path_factory, tiny_checkpoint):
    """A running server of the page with a stream on it, and the stream's camera."""
    folder = tmp_path_factory.mktemp("live")
    with serving("rtsp", folder) as (source, camera, _):
        secret = source.replace("rtsp://", "rtsp://user:secret@")
        settings = dict(checkpoint=tiny_checkpoint, protocol="val")
        how = Settings(window=0.8, stride=0.2, threshold=0.01)
        watch = open_watch(open_reader(secret), settings, how)
        watch.start()
        with web_site.serving(folder, live=watch) as served:
            yield served, camera, source
        watch.close()


def test_its_labels_and_its_picture(page):
    served, _, source = page
    assert served.ask(address="/api/health", method="GET")[1]["is_live"] is True
    web_site.wait_until(lambda: served.ask(address="/api/live", method="GET")[1]["predictions"])
    state = served.ask(address="/api/live", method="GET")[1]
    assert state["source"] == source and state["events"][0].startswith("class ")
    assert [sorted(one) for one in state["predictions"]] == [["label", "score"]] * 4
    assert (state["lost"], state["error"], state["has_ended"]) == (None, "", False)
    connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=20)
    connection.request("GET", "/api/live/picture")
    response = connection.getresponse()
    assert response.getheader("Content-Type") == "image/jpeg"
    picture = np.asarray(Image.open(io.BytesIO(response.read())))
    assert abs(time.monotonic() - read_clock(picture) / 1000) < 1


def test_the_page_shows_it(page):
    from chromium import chromium, opened

    served, camera, source = page
    with (
        chromium() as browser,
        opened(browser, f"http://127.0.0.1:{served.port}/", "phone") as shown,
    ):
        shown.wait_for_selector("#live-bars .label")
        assert shown.inner_text("#live-name") == f"Live: {source}"
        assert shown.locator("#live-bars .label").count() == 4
        assert shown.evaluate("document.querySelector('#live-picture').naturalWidth") > 100
        camera.cut(1.0)
        shown.wait_for_function("document.body.innerText.includes('Lost: ')")
