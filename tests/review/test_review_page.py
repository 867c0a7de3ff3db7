"""The page of a review, driven in Chromium: tools, keys, touch, and what remains after a kill."""

import json
import re
import signal
import time

import numpy as np
import pytest
from pages import CHROMIUM
from reviewing import CLASSES, HEIGHT, IMAGES, WIDTH, drawn, served

from runs import SMOKE
from selftrain import verdicts

playwright = pytest.importorskip("playwright.sync_api")
expect = playwright.expect
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")


@pytest.fixture(scope="module")
def chromium():
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "review"


@pytest.fixture
def address(folder):
    with served(drawn(folder)) as (found, _):
        yield found


class Page:
    """A page that is open on a review: points are pixels of its image."""

    def __init__(self, browser, address, **context):
        self.context = browser.new_context(viewport={"width": 900, "height": 700}, **context)
        self.page = self.context.new_page()
        self.faults, self.elsewhere = [], []
        self.page.on("pageerror", lambda error: self.faults.append(str(error)))
        self.page.on(
            "request",
            lambda asked: None if asked.url.startswith(address) else self.elsewhere.append(asked.url),
        )
        self.page.goto(address)
        self.saved()

    def saved(self, verdict=None):
        if verdict:
            expect(self.page.locator("#verdict")).to_have_text(verdict)
        expect(self.page.locator("#status")).to_have_text("saved")

    def at(self, x, y):
        box = self.page.locator("#stage").bounding_box()
        scale = min(box["width"] / WIDTH, box["height"] / HEIGHT)
        left, top = (
            box["x"] + (box["width"] - WIDTH * scale) / 2,
            box["y"] + (box["height"] - HEIGHT * scale) / 2,
        )
        return left + x * scale, top + y * scale

    def drag(self, *points):
        self.page.mouse.move(*self.at(*points[0]))
        self.page.mouse.down()
        for point in points[1:]:
            self.page.mouse.move(*self.at(*point), steps=4)
        self.page.mouse.up()

    def keys(self, *keys):
        for key in keys:
            self.page.keyboard.press(key)


@pytest.fixture
def page(chromium, address):
    found = Page(chromium, address)
    yield found
    assert not found.faults and not found.elsewhere
    found.context.close()


def on_disk(folder, image=IMAGES[0]):
    """(verdict, ids, known) of an image as training reads them."""
    review = verdicts.read(folder)
    row = review.rows[image]
    planes = verdicts.decoded(review.masks[row.mask], row.mask, len(CLASSES)) if row.mask else (None, None)
    return row.verdict, *planes


def test_strokes_are_saved_at_once_and_undone_by_the_keyboard(page, folder):
    page.keys("2", "[", "[", "[", "[")  # the second class, a radius of 4 pixels
    page.drag((10.6, 5.6), (20.6, 5.6))
    page.saved("corrected in part")
    verdict, ids, known = on_disk(folder)
    assert verdict == "correct" and (ids[known] == 1).all() and not ids[~known].any()
    ys, xs = np.nonzero(known)
    assert (ys.min(), ys.max(), xs.min(), xs.max()) == (2, 9, 7, 24)  # 5.6 ± 4, from 10.6 - 4 to 20.6 + 4
    page.keys("z")
    page.saved("open")
    assert on_disk(folder)[0] == "open"
    page.keys("Shift+Z")
    page.saved("corrected in part")
    assert (on_disk(folder)[2] == known).all()
    page.page.mouse.move(*page.at(30, 20))
    page.page.mouse.down()
    page.page.mouse.move(*page.at(35, 20))
    page.page.reload()  # the page ends within a stroke, and loses this one
    page.page.mouse.up()
    page.saved("corrected in part")
    assert (on_disk(folder)[2] == known).all()
    page.keys("e", "Control+z")  # a new page has no history, and nothing changes
    expect(page.page.locator("#undo")).to_be_disabled()
    page.drag((10.5, 5.5), (14.5, 5.5))  # the eraser
    page.saved()
    assert on_disk(folder)[2].sum() < known.sum()


def test_everything_can_be_done_with_the_keyboard_alone(page, folder):
    # the cursor begins in the middle, (20, 15), and Shift with an arrow moves it by two pixels at this zoom
    page.keys(
        "3", "p", "Space", *["Shift+ArrowRight"] * 5, "Space", *["Shift+ArrowDown"] * 5, "Space", "Enter"
    )
    page.saved("corrected in part")
    _, ids, known = on_disk(folder)
    assert 40 < known.sum() < 60 and (ids[known] == 2).all() and known[17, 28] and not known[14].any()
    page.keys("f", "i", "Home", "Space")  # fills what lies around the triangle
    page.saved()
    page.keys("a")  # the rest is right, and the next image is shown
    page.saved("open")
    verdict, ids, known = on_disk(folder)
    assert verdict == "correct" and known.all() and (ids == 255).any()
    page.keys("a")
    page.saved("open")
    page.keys("r")
    page.saved("rejected")  # the last image stays
    assert [on_disk(folder, name)[0] for name in IMAGES[1:]] == ["accept", "reject"]
    page.keys("u")
    page.saved("open")
    page.keys("?")
    expect(page.page.locator("#keys")).to_be_visible()
    page.keys("Escape", ",")
    page.saved("accepted")


@pytest.mark.slow
def test_refinement_snaps_a_sketch_to_the_edges(page, folder):
    page.keys("2", "p")
    for point in [(10, 10), (26, 10), (26, 24), (10, 24), (10, 10)]:  # the square is at (12, 8) to (28, 22)
        page.page.mouse.click(*page.at(*point))
    page.saved("corrected in part")
    sketched = on_disk(folder)[1]
    page.keys("x")
    page.drag((6, 4), (34, 28))
    expect(page.page.locator("#redo")).to_be_disabled()
    page.page.wait_for_timeout(50)
    page.saved("corrected in part")
    square = np.zeros((HEIGHT, WIDTH), np.uint8)
    square[8:22, 12:28] = 1
    found = on_disk(folder)[1]
    assert (found != square).sum() < (sketched != square).sum() / 4


def test_two_reviewers_cannot_overwrite_each_other(page, chromium, address, folder):
    other = Page(chromium, address)
    page.drag((10.5, 5.5), (20.5, 5.5))
    page.saved("corrected in part")
    mine = on_disk(folder)
    other.drag((30.5, 25.5), (35.5, 25.5))
    expect(other.page.locator("#notice")).to_contain_text("Another reviewer changed raw/a")
    other.saved("corrected in part")
    assert all(np.array_equal(a, b) for a, b in zip(mine, on_disk(folder), strict=True))
    other.drag((30.5, 25.5), (35.5, 25.5))  # once more, on what the first reviewer painted
    other.saved()
    assert on_disk(folder)[2].sum() > mine[2].sum()
    other.context.close()


def test_fingers_paint_and_zoom(chromium, address, folder):
    page = Page(chromium, address, has_touch=True, is_mobile=True)
    page.page.touchscreen.tap(*page.at(20, 15))
    page.saved("corrected in part")
    before = on_disk(folder)[2]
    assert before[15, 20] and 150 < before.sum() < 250  # a disc with a radius of 8
    fingers = page.context.new_cdp_session(page.page)
    for kind, apart in [("touchStart", 2), ("touchMove", 4), ("touchMove", 8), ("touchEnd", 0)]:
        points = (
            [dict(zip("xy", page.at(20 + side * apart, 15), strict=True)) for side in (-1, 1)]
            if apart
            else []
        )
        fingers.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
    page.page.touchscreen.tap(*page.at(36, 15))  # beside the disc, but now nearer to the middle
    page.page.wait_for_timeout(50)
    page.saved()
    after = on_disk(folder)[2]
    assert before.sum() < after.sum() and after[15, 25] and not after[15, 36]
    page.context.close()


def test_a_page_waits_for_its_server_and_sends_its_last_stroke_again(chromium, folder):
    with served(drawn(folder)) as (address, port):
        page = Page(chromium, address)
    page.drag((10, 5), (20, 5))
    expect(page.page.locator("#status")).to_contain_text("the server does not answer")
    page.drag((10, 25), (20, 25))
    expect(page.page.locator("#notice")).to_contain_text("nothing more is painted")
    with served(drawn(folder), port):
        page.saved("corrected in part")
        known = on_disk(folder)[2]
        assert known[5, 15] and not known[25, 15]
        page.context.close()


@pytest.mark.slow
@pytest.mark.parametrize("at", ["mask", "journal"])
def test_a_server_killed_while_it_saves_loses_nothing_and_the_review_trains(
    zygote, run, chromium, tmp_path, at
):
    out = tmp_path / "run"
    small = [*SMOKE, f"out={out}", "train.steps=2", "labels.crf.enabled=false"]
    assert run(*small, "generations=[{}]")[0] == 0

    def start(**more):
        server = zygote.start(
            "review", str(out), "-n", "1", door="cli", SELFTRAIN_FAULT_ROOT=str(out), **more
        )
        said, deadline = server.folder / "stdout", time.monotonic() + 60
        while not (said.exists() and (found := re.search(r"http://\S+/\s", said.read_text()))):
            assert time.monotonic() < deadline, (server.folder / "stderr").read_text()
            time.sleep(0.02)
        return server, found[0].strip()

    faults = {
        "mask": {"do": "kill_below", "folder": "review/masks"},
        "journal": {"do": "kill", "at": ["fsync", "review/journal.jsonl"], "when": "after"},
    }
    server, address = start(fault=faults[at])
    page = Page(chromium, address)
    page.drag((10, 10), (20, 10))
    expect(page.page.locator("#status")).to_contain_text("the server does not answer")
    assert server.wait().code == -signal.SIGKILL
    left = verdicts.read(out / "review").rows
    assert len(left) == (at == "journal")  # whole, or not there
    server, again = start()
    assert again == address
    page.saved("corrected in part")  # the page sends its last stroke again
    page.keys(".")
    page.saved("open")
    page.keys("r")
    page.saved()
    server.send(signal.SIGINT)
    assert server.wait().code == 0
    rows = verdicts.read(out / "review").rows
    assert [row.version for row in rows.values()] == [1, 1]
    code, _, err = run(*small, "generations=[{},{}]", f"data.reviewed={out / 'review'}")
    assert code == 0, err
    used = json.loads((out / "gen1/report.json").read_text())["reviewed"]
    counts = {"accept": 0, "correct": 1, "partial": 1, "reject": 1}
    assert used == {"sha256": verdicts.read(out / "review").sha256, **counts}
    page.context.close()
