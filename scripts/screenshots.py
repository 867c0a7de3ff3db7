"""Make the pictures of selftrain's pages in docs/images, from runs on drawn images. Needs chromium.

    python scripts/screenshots.py report review next compare      all of them, into docs/images
    python scripts/screenshots.py report --run runs/first -o DIR   of a finished run

Two runs are trained for them, one if `compare` is not asked for. That takes about five minutes on two cores.
"""

import argparse
import io
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, Page, expect, sync_playwright

ROOT = Path(__file__).resolve().parent.parent
IMAGES = ROOT / "docs" / "images"
LARGEST = 200_000  # bytes of a picture
SETTINGS = [
    "recipe=pseudo_label", "model.encoder=tu-resnet10t", "model.weights=null", "model.decoder_channels=[64,32,16,16]",
    "data.size=[128,128]", "train.crop=[128,128]", "train.labelled_batch=6", "train.unlabelled_batch=6", "train.precision=none",
    "data.shapes={labelled: 24, unlabelled: 40, val: 16, test: 8}", "train.lr=0.003", "train.warmup=5", "train.eval_every=20",
    "export.onnx=false",
]  # fmt: skip
RUNS = {  # by their names on the pages
    "runs/first": "generations=[{steps: 160}, {steps: 80, init: teacher}]",
    "runs/second": "generations=[{steps: 160}]",
}
KEPT = {  # the sections of a page that its picture shows
    "report": ["generations", "labels", "predictions"],
    "compare": ["runs", "curves"],
}
Size = tuple[int, int]  # width, height


def main(words: list[str] | None = None) -> None:
    arguments = parser().parse_args(words)
    arguments.output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as driver:
        runs = made(Path(folder), arguments.run, both="compare" in arguments.names)
        browser = driver.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        for name in arguments.names:
            with PAGES[name](runs, Path(folder)) as address:
                for suffix, page in opened(browser, address, SIZES[name], everything=arguments.all):
                    shorten(page, KEPT.get(name))
                    READY.get(name, lambda page: None)(page)
                    save(page, arguments.output / f"{name}{suffix}.png", whole=name != "review")
                    DONE.get(name, lambda page: None)(page)
        browser.close()


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="+", choices=PAGES, metavar="NAME", help=f"some of {', '.join(PAGES)}")
    parser.add_argument("-o", "--output", type=Path, default=IMAGES, metavar="DIR")
    parser.add_argument("--run", type=Path, help="a finished run (default: one that is trained now)")
    parser.add_argument("--all", action="store_true", help="also dark, and as wide as a phone")
    return parser


def made(folder: Path, run: Path | None, *, both: bool) -> list[str]:
    """The names of the runs in `folder`: a copy of `run`, since no picture may change a review, or new ones."""
    names = list(RUNS)[: 2 if both else 1]
    for name in names:
        if run:
            shutil.copytree(run, folder / name, ignore=shutil.ignore_patterns("review"))
            run = None
        else:
            said(folder, "selftrain.run", *SETTINGS, RUNS[name], f"out={name}")
    return names


def started(folder: Path, module: str, *words: str) -> subprocess.Popen:
    """A command of selftrain in `folder`, so that pages show names of runs instead of their places."""
    command, environment = [sys.executable, "-m", module, *words], os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.PIPE, text=True)


def said(folder: Path, module: str, *words: str) -> str:
    """What a command of selftrain prints. Raises SystemExit if it fails."""
    process = started(folder, module, *words)
    printed = process.communicate()[0]
    if process.returncode:
        sys.exit(f"{module} {' '.join(words)}: exit code {process.returncode}")
    return printed


@contextmanager
def report(runs: list[str], folder: Path) -> Iterator[str]:
    """The address of the report of a run."""
    yield (folder / runs[0] / "report.html").as_uri()


@contextmanager
def review(runs: list[str], folder: Path) -> Iterator[str]:
    """The address of the page of `selftrain review`, while it is served."""
    server = started(folder, "selftrain.cli", "review", runs[0])
    assert server.stdout
    try:
        yield next(found[0] for line in server.stdout if (found := re.search(r"http://\S+", line)))
    finally:
        server.send_signal(signal.SIGINT)
        server.wait(timeout=60)


@contextmanager
def proposed(runs: list[str], folder: Path) -> Iterator[str]:
    """The address of the gallery of `selftrain next`."""
    said(folder, "selftrain.cli", "next", runs[0], "-n", "4", "-o", "next")
    yield (folder / "next" / "next.html").as_uri()


@contextmanager
def compared(runs: list[str], folder: Path) -> Iterator[str]:
    """The address of the page of `selftrain compare`."""
    said(folder, "selftrain.cli", "compare", *runs, "-o", "compare.html")
    yield (folder / "compare.html").as_uri()


def opened(browser: Browser, address: str, size: Size, *, everything: bool) -> Iterator[tuple[str, Page]]:
    """The page in the light colours, or in both and at both widths, each with the end of its name."""
    width, height = size
    for suffix, wide in (("", width), ("-phone", 390))[: 2 if everything else 1]:
        for scheme in ("light", "dark")[: 2 if everything else 1]:
            viewport = {"width": wide, "height": height}
            page = browser.new_page(viewport=viewport, color_scheme=scheme)
            page.goto(address)
            yield suffix + ("-dark" if scheme == "dark" else ""), page
            page.close()


def shorten(page: Page, kept: list[str] | None) -> None:
    """Leave some sections of a page, and the first pictures of each; None: the whole page."""
    if kept:
        page.evaluate(SHORTEN, kept)


SHORTEN = """(kept) => {
  const drop = (selector) => document.querySelectorAll(selector).forEach((one) => one.remove());
  for (const section of document.querySelectorAll("main > section"))
    if (!kept.includes(section.getAttribute("aria-labelledby"))) section.remove();
  drop("[aria-labelledby=generations] :is(.plots, .key, .note), [aria-labelledby=labels] :is(.plots, .scroll, .key)");
  drop(".wipe ~ *, article ~ article, h2 + .note, footer");
}"""


def paint(page: Page) -> None:
    """Draw a stroke of the second class on the page of a review."""
    expect(page.locator("#status")).to_have_text("saved", timeout=60_000)
    box = page.locator("#stage").bounding_box()
    assert box
    page.keyboard.press("2")
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x - 30, y)
    page.mouse.down()
    page.mouse.move(x + 40, y + 60, steps=8)
    page.mouse.up()
    expect(page.locator("#verdict")).to_have_text("corrected in part")
    expect(page.locator("#status")).to_have_text("saved")


def undo(page: Page) -> None:
    """Take the stroke back, so that the next picture begins as this one did."""
    page.keyboard.press("u")
    expect(page.locator("#status")).to_have_text("saved")


def save(page: Page, path: Path, *, whole: bool) -> None:
    """Write the picture in 256 colours. Raises SystemExit if it is larger than LARGEST."""
    picture = Image.open(io.BytesIO(page.screenshot(full_page=whole))).convert("RGB")
    content = io.BytesIO()
    picture.quantize(256, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE).save(
        content, "PNG", optimize=True
    )
    size = content.tell()
    if size > LARGEST:
        sys.exit(f"{path.name} would have {size} bytes; at most {LARGEST} belong into the repository")
    path.write_bytes(content.getvalue())
    print(f"{path}: {picture.width}x{picture.height}, {size} bytes")


PAGES: dict[str, Callable] = {"report": report, "review": review, "next": proposed, "compare": compared}
SIZES: dict[str, Size] = {
    "report": (1040, 800),
    "review": (1200, 800),
    "next": (600, 800),
    "compare": (900, 800),
}
READY: dict[str, Callable[[Page], None]] = {"review": paint}
DONE: dict[str, Callable[[Page], None]] = {"review": undo}


if __name__ == "__main__":
    main()
