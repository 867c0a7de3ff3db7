"""The page in Chromium, with scripts disabled: on a phone and a desk, light and dark, with its sliders."""

import io
from dataclasses import replace

import numpy as np
import pytest
from pages import (
    ALL_AROUND,
    CHROMIUM,
    render,
    some_facts,
    some_gallery,
    some_metrics,
    some_rows,
    three,
    with_all,
)
from PIL import Image
from playwright.sync_api import sync_playwright

from selftrain.report.palette import palette

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs chromium on the PATH")
LEAST = 4.5  # contrast of text, by WCAG 2 level AA


@pytest.fixture(scope="module")
def browser():
    with sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "report.html"
    facts = some_facts([some_gallery(), some_gallery(under=True)])
    around = replace(
        ALL_AROUND, labels={0: facts}, failures=some_gallery(under=True), running="Written at 12:00."
    )
    path.write_text(render(with_all(three()), metrics=some_metrics(), rows=some_rows(), surroundings=around))
    return path.as_uri()


@pytest.fixture
def shown(browser, address):
    """shown(**settings) -> the page in a new context, and what the browser asked for or complained about."""
    contexts = []

    def shown(width=1200, scheme="light"):
        size = {"width": width, "height": 800}
        contexts.append(browser.new_context(java_script_enabled=False, viewport=size, color_scheme=scheme))
        page, said = contexts[-1].new_page(), []
        page.on("request", lambda request: said.append(request.url) if request.url[:5] != "data:" else None)
        page.on("console", lambda message: said.append(message.text))
        page.goto(address)
        return page, said

    yield shown
    for context in contexts:
        context.close()


def contrast(page, selector):
    """The contrast of the text of an element and the background of the page."""
    text, ground = (
        page.evaluate(f"getComputedStyle(document.querySelector('{where}')).{what}")
        for where, what in ((selector, "color"), ("body", "backgroundColor"))
    )
    lights = [light([int(part) for part in colour.strip("rgb()").split(",")]) for colour in (text, ground)]
    return (max(lights) + 0.05) / (min(lights) + 0.05)


def light(colour):
    """The relative luminance of WCAG 2."""
    shares = np.array(colour) / 255
    linear = np.where(shares <= 0.04045, shares / 12.92, ((shares + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_fits_a_phone_and_can_be_read_in_light_and_dark(shown, address, scheme):
    page, said = shown(390, scheme)
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    widths = "all => all.map(one => one.getBoundingClientRect().right)"
    assert max(page.locator("p, caption, .stops, .plot, .mini, .pairs figure").evaluate_all(widths)) <= 390
    for selector in ("p", ".note", "h4", ".pairs strong", ".pairs figcaption", ".stops label"):
        assert contrast(page, selector) >= LEAST, selector
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (light([int(part) for part in ground.strip("rgb()").split(",")]) > 0.5) == (scheme == "light")
    targets = page.locator(".stops label").evaluate_all(
        "all => all.map(one => one.getBoundingClientRect().height)"
    )
    assert min(targets) >= 44  # a finger can touch them
    assert said == [address]  # no further request, no complaint


def covered(page, stack):
    """The classes that the columns of a stack show: road, tree or None; in the middle there is a line."""
    pixels = np.asarray(Image.open(io.BytesIO(stack.screenshot())).convert("RGB")).astype(float)
    row = pixels[len(pixels) // 2]
    seen = [row[int(share * len(row))] for share in (0.1, 0.4, 0.6, 0.9)]
    colours = 0.66 * palette(3)[:2] + 0.34 * 255  # over a white image
    return [next((k for k, one in enumerate(colours) if np.abs(one - at).max() < 4), None) for at in seen]


def test_a_slider_moves_by_the_keyboard_from_the_image_to_the_label(shown):
    page, _ = shown()
    gallery = page.locator(".wipe").filter(has=page.locator("#labels0-1"))
    stacks = gallery.locator(".stack")
    assert [covered(page, stack) for stack in stacks.all()] == [[0, 0, None, None]] * 2
    gallery.locator("input.p50").focus()
    page.keyboard.press("ArrowRight")
    assert gallery.locator("input.p75").is_checked() and covered(page, stacks.first) == [0, 0, 0, None]
    page.keyboard.press("ArrowRight")
    assert covered(page, stacks.first) == [0, 0, 0, 0]
    gallery.locator("label").first.click()
    assert covered(page, stacks.first) == [None] * 4
    other = page.locator(".wipe").filter(has=page.locator("#labels0-2"))
    assert covered(page, other.locator(".stack").first) == [0, 0, 1, 1]  # it has not moved


def test_a_slider_between_two_labels_begins_with_the_image(shown):
    page, _ = shown(390)
    gallery = page.locator(".wipe").filter(has=page.locator("#labels0-2"))
    stops = gallery.locator("label")
    found = []
    for number in range(stops.count()):
        stops.nth(number).click()
        found.append(covered(page, gallery.locator(".stack").first))
    assert found == [[None] * 4, [1] * 4, [0, 0, 1, 1], [0] * 4]


def test_tables_fit_a_window_of_1100_pixels(browser, tmp_path):
    report = with_all(three())
    for g in report["generations"]:
        g["model"] |= {"arch": "deeplabv3plus", "encoder": "tu-tf_efficientnet_lite0"}
        g |= {"online": "unimatch_v2", "teacher": 0, "exact": False, "steps": 40_000, "seconds": 12_345.0}
        g["val"]["kappa"] = 0.5  # a score of the user's own has a column
    (tmp_path / "report.html").write_text(render(report, metrics=some_metrics(), rows=some_rows()))
    page = browser.new_page(viewport={"width": 1100, "height": 800})
    page.goto((tmp_path / "report.html").as_uri())
    assert page.evaluate("document.documentElement.scrollWidth") == 1100
    regions = page.locator(".scroll").evaluate_all(
        "all => all.map(one => [one.getAttribute('aria-label'), one.scrollWidth - one.clientWidth])"
    )
    page.close()
    assert ["Table of the generations", 0] in regions and all(beyond == 0 for _, beyond in regions), regions
