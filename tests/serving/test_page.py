"""The page in a real browser, without a network."""

import io
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vitpose_jax.data.synthetic.scene import render_scene
from vitpose_jax.inference.estimator import PoseEstimator

pytest.importorskip("fastapi")
uvicorn = pytest.importorskip("uvicorn")
pytest.importorskip("playwright")

from playwright.sync_api import Page, sync_playwright  # noqa: E402

from vitpose_jax.serving.app import make_app  # noqa: E402

CHROMIUM = next(
    (p for p in map(Path, ("/usr/bin/chromium", "/usr/bin/google-chrome")) if p.exists()), None
)
SWITCHES = ["--no-sandbox", "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]


@pytest.fixture(scope="module")
def address(exported: Callable[..., Path]) -> Iterator[str]:
    estimator = PoseEstimator.from_exported(exported("classic", "onnx"), keep_heatmaps=True)
    app = make_app({"one": estimator, "two": estimator}, None)
    server = uvicorn.Server(uvicorn.Config(app, log_level="error"))
    listening = socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=server.run, args=([listening],))
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    server.should_exit = True
    thread.join()


@pytest.fixture
def page(address: str) -> Iterator[Page]:
    """The page as a phone shows it; fails on any error in it and any request elsewhere."""
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=SWITCHES)
        page = browser.new_page(viewport={"width": 390, "height": 800})
        errors: list[str] = []
        page.on("pageerror", lambda error: errors.append(str(error)))
        asked: set[str] = set()
        page.on("request", lambda request: asked.add(request.url))
        page.goto(address)
        yield page
        browser.close()
        assert not errors
        assert all(url.startswith((address, "data:", "blob:")) for url in asked), asked


def shown_people(page: Page, models: int = 1) -> None:
    page.wait_for_function(f"document.querySelectorAll('canvas').length === {models}")
    page.wait_for_function("document.getElementById('status').textContent.includes('person')")


def test_from_a_picture_to_its_keypoints(page: Page, tmp_path: Path) -> None:
    pixels = render_scene(np.random.default_rng(0)).pixels
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    page.set_input_files(
        "#file", {"name": "a.png", "mimeType": "image/png", "buffer": buffer.getvalue()}
    )
    shown_people(page)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")  # fits a phone
    before = page.evaluate("state.views[0].points.length")
    page.evaluate(
        "byId('threshold').value = 0; byId('threshold').dispatchEvent(new Event('input'))"
    )
    assert page.evaluate("state.views[0].points.length") == 17 >= before

    # By keyboard, then by pointer: name and score of a joint.
    page.focus("canvas")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    assert "left_eye, score" in page.text_content("figcaption")
    point = page.evaluate(
        """() => {
            const view = state.views[0], at = view.points[9];
            const box = view.canvas.getBoundingClientRect(), scale = box.width / view.canvas.width;
            return [box.left + at.x * scale, box.top + at.y * scale];
        }"""
    )
    page.mouse.move(*point)
    assert "score" in page.text_content("figcaption")

    page.check("#heatmaps")
    page.wait_for_function("state.answers[0].people[0].heatmap")
    page.select_option("#compare", "two")
    shown_people(page, models=2)
    with page.expect_download() as download:
        page.click("#download")
    answers = json.loads(Path(download.value.path()).read_text())
    assert [answer["model"] for answer in answers] == ["one", "two"]
    assert len(answers[0]["people"][0]["keypoints"]) == 17
    assert download.value.suggested_filename == "a.json"
    assert page.locator("tbody tr, table tr").count() == 1 + 2 * 17


def test_the_camera(page: Page) -> None:
    page.click("#camera")
    page.wait_for_function("document.getElementById('video').videoWidth > 0")
    page.click("#shoot")
    shown_people(page)
    page.click("#camera")
    assert page.is_hidden("#video")


def test_a_file_that_is_no_picture_is_told(page: Page) -> None:
    page.set_input_files("#file", {"name": "a.txt", "mimeType": "text/plain", "buffer": b"no"})
    page.wait_for_function("document.getElementById('status').className === 'wrong'")
    page.wait_for_function(
        "document.getElementById('status').textContent.includes('not a picture')"
    )
