"""The page in headless Chromium: orientation, scrolling, steps, windows, no request, no message on the console."""

from __future__ import annotations

import io
import time

import numpy as np
import pytest
from PIL import Image

from ctvlm.visualization.viewer import PageStep, page_html
from tests.chromium import CHROMIUM, needs_chromium

from .conftest import BRIGHT, HOSTILE, SHAPE, attention_on, example_page

# Software rendering is slow on a busy machine.
TIMEOUT = 120_000
SOFTWARE_GL = ("--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader")
pytestmark = [pytest.mark.slow, needs_chromium]


@pytest.fixture(scope="module")
def browser():
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as playwright:
        yield lambda *flags: playwright.chromium.launch(executable_path=CHROMIUM, args=[*SOFTWARE_GL, *flags])


class Opened:
    """A page, with everything it requested or wrote to the console."""

    def __init__(self, browser, path, *flags: str, bypass_csp: bool = True) -> None:
        self.chromium = browser(*flags)
        # Evaluating scripts from a test needs eval, which the policy of the page forbids.
        context = self.chromium.new_context(viewport=dict(width=900, height=620), bypass_csp=bypass_csp)
        context.set_default_timeout(TIMEOUT)
        self.page, self.messages, self.requests = context.new_page(), [], []
        self.page.on("console", lambda message: self.messages.append(message.text))
        self.page.on("pageerror", lambda error: self.messages.append(str(error)))
        context.route("**/*", self._route)
        self.page.goto(path.as_uri())
        self.page.wait_for_selector("body[data-ready]", state="attached", timeout=TIMEOUT)

    def _route(self, route) -> None:
        if route.request.url.startswith("file:"):
            route.continue_()
        else:
            self.requests.append(route.request.url)
            route.abort()

    def picture(self) -> np.ndarray:
        """Pixels of the stage without the layer of outlines and letters."""
        self.page.evaluate("document.getElementById('overlay').style.visibility = 'hidden'")
        png = self.page.locator("#stage").screenshot(timeout=TIMEOUT, animations="disabled")
        self.page.evaluate("document.getElementById('overlay').style.visibility = ''")
        return np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).astype(int)

    def picture_when(self, shown) -> np.ndarray:
        """The picture as soon as ``shown(picture)`` is true, or after ``TIMEOUT``: maps are loaded meanwhile."""
        end = time.monotonic() + TIMEOUT / 1000
        while True:
            picture = self.picture()
            if shown(picture) or time.monotonic() > end:
                return picture
            self.page.wait_for_timeout(100)

    def click(self, selector: str) -> None:
        self.page.evaluate("selector => document.querySelector(selector).click()", selector)
        self.page.wait_for_timeout(800)

    def key(self, key: str) -> None:
        self.page.keyboard.press(key)
        self.page.wait_for_timeout(300)

    def axial(self) -> tuple[float, float, float, float]:
        """Centre and extent of the bright voxels in the axial plane, as parts of its tile (the left 60%)."""
        picture = self.picture_when(lambda picture: (picture > 240).all(axis=2).sum() > 100 and not has_map(picture))
        tile = picture[:, : int(0.6 * picture.shape[1])]
        rows, columns = np.nonzero((tile > 240).all(axis=2))
        return columns.mean() / tile.shape[1], rows.mean() / tile.shape[0], len(rows), tile.mean()


def coloured(picture: np.ndarray, level: int = 30) -> np.ndarray:
    """Which pixels are not grey: those of an attention map."""
    return np.ptp(picture, axis=2) > level


def has_map(picture: np.ndarray) -> bool:
    return coloured(picture).any()


@pytest.fixture(scope="module")
def opened(browser, tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "page.html"
    path.write_text(page_html(example_page()), encoding="utf-8")
    opened = Opened(browser, path)
    yield opened
    opened.chromium.close()


def test_step_moves_to_its_slice_and_shows_its_attention(opened):
    opened.click(".step")
    readout = opened.page.inner_text("#readout")
    assert "1500 HU" in readout and "liver" in readout
    assert opened.page.input_value("#slice") == str(BRIGHT[2])
    with_attention = opened.picture_when(lambda picture: coloured(picture).sum() > 200)
    opened.key("a")
    without = opened.picture_when(lambda picture: not has_map(picture))
    found = coloured(with_attention)
    assert found.sum() > 200 and not has_map(without)
    # The patch with the attention contains the bright block, which is right and in front: on the left, at the top.
    rows, columns = np.nonzero(found[:, : int(0.6 * found.shape[1])])
    assert columns.mean() < 0.3 * found.shape[1] and rows.mean() < 0.5 * found.shape[0]
    opened.key("a")
    opened.key("Escape")


def test_the_patients_right_is_on_the_left_and_the_front_at_the_top(opened):
    opened.click(".step")
    opened.key("Escape")
    opened.key("2")
    x, y, count, _ = opened.axial()
    assert count > 100
    assert x == pytest.approx(1 - (BRIGHT[0] + 0.5) / SHAPE[2], abs=0.03)
    assert y < 0.45


def test_quick_changes_show_one_map(opened):
    opened.click(".step")
    opened.key("Escape")
    for _ in range(5):  # without waiting
        opened.page.keyboard.press("a")
        opened.page.evaluate("document.querySelector('.step').click()")
    opened.page.wait_for_timeout(2000)
    assert opened.page.evaluate("document.querySelector('.step').getAttribute('aria-pressed')") == "true"
    # Switched off by the odd number of keys.
    assert not has_map(opened.picture_when(lambda picture: not has_map(picture)))
    opened.key("a")
    assert coloured(opened.picture_when(lambda picture: coloured(picture).sum() > 200)).sum() > 200
    opened.key("Escape")


def test_without_attention_no_pixel_is_coloured(opened):
    """Attention of 0 is transparent, not the first colour."""
    opened.click(".step")

    def some(picture):
        return 0.001 < coloured(picture, 8).mean() < 0.2

    assert some(opened.picture_when(some))
    opened.key("Escape")


def test_the_policy_allows_the_page_itself(browser, tmp_path):
    path = tmp_path / "page.html"
    path.write_text(page_html(example_page()), encoding="utf-8")
    opened = Opened(browser, path, bypass_csp=False)
    assert opened.page.locator("body[data-ready]").count() == 1 and opened.messages == []
    opened.chromium.close()


def test_scrolling_moves_to_other_slices(opened):
    opened.click(".step")
    opened.key("Escape")
    before = opened.picture_when(lambda picture: not has_map(picture))
    opened.page.mouse.move(200, 300)
    for _ in range(10):
        opened.page.mouse.wheel(0, 60)
    opened.page.wait_for_function(f"document.getElementById('slice').value === '{BRIGHT[2] - 10}'")

    def moved(picture):
        return (before != picture).mean() > 0.01

    assert moved(opened.picture_when(moved))


def test_windows_change_the_picture(opened):
    names = opened.page.locator("#windows button").all_inner_texts()
    means = []
    for number in range(len(names)):
        opened.key(str(number + 1))
        means.append(round(opened.picture_when(lambda picture: round(picture.mean(), 2) not in means).mean(), 2))
        assert opened.page.locator("#windows button").nth(number).get_attribute("aria-checked") == "true"
    assert len(set(means)) == len(names) > 1


def test_legend_hides_a_region(opened):
    outlines = "document.getElementById('overlay').toDataURL()"
    opened.click(".step")
    opened.key("Escape")
    shown = opened.page.evaluate(outlines)
    opened.click("[data-region]")
    assert opened.page.evaluate(outlines) != shown
    opened.click("[data-region]")
    assert opened.page.evaluate(outlines) == shown


def test_no_request_and_nothing_on_the_console(opened):
    assert opened.requests == [] and opened.messages == []


def test_texts_do_not_run(browser, tmp_path):
    path = tmp_path / "page.html"
    step = PageStep(HOSTILE, ["liver"], 0.5, attention_on(example_page().ct))
    hostile = dict(case_id=HOSTILE, steps=[step], impression=HOSTILE, findings={HOSTILE: 0.5}, remark=HOSTILE)
    path.write_text(page_html(example_page(**hostile)), encoding="utf-8")
    opened = Opened(browser, path)
    assert opened.page.title() != "owned" and opened.page.locator("img").count() == 0
    assert opened.page.locator(".step .text").text_content() == HOSTILE
    assert opened.messages == []
    opened.chromium.close()


def test_without_webgl_the_page_says_so_and_shows_slices(browser, tmp_path):
    path = tmp_path / "page.html"
    path.write_text(page_html(example_page()), encoding="utf-8")
    opened = Opened(browser, path, "--disable-3d-apis")
    assert "WebGL" in opened.page.inner_text("#notice")
    opened.click(".step")
    x, y, count, _ = opened.axial()
    assert count > 100 and x < 0.4 and y < 0.45
    # Sagittal plane, below on the right: the front is on the left, as NiiVue draws it.
    picture = opened.picture()
    tile = picture[picture.shape[0] // 2 :, int(0.62 * picture.shape[1]) :]
    columns = np.nonzero((tile > 240).all(axis=2))[1]
    assert len(columns) > 10 and columns.mean() < 0.5 * tile.shape[1]
    opened.chromium.close()
